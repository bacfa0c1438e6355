"""What a person adds to a FiftyOne dataset in the app: tags, saved views, workspaces. Needs `dataset.connected`."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from curate.fiftyone_app.dataset import FACTS_KEY, FoDataset, workspace_name


def read_tags(name: str) -> dict[int, tuple[datetime, list[str]]]:
    """Image id → time of the last change in the app, tags."""
    import fiftyone as fo

    dataset: FoDataset = fo.load_dataset(name)
    ids, times, tags = dataset.values(["image_id", "last_modified_at", "tags"])
    return dict(zip(ids, zip(times, tags, strict=True), strict=True))


def write_tags(name: str, tags: Mapping[int, Sequence[str]]) -> None:
    """Set the tags of all images, to none for images that are not in `tags`; unchanged images keep their time."""
    import fiftyone as fo
    from fiftyone import ViewField as F

    dataset: FoDataset = fo.load_dataset(name)
    current = {image_id: own for image_id, (_, own) in read_tags(name).items()}
    changed = {id_: list(tags.get(id_, ())) for id_, own in current.items() if set(own) != set(tags.get(id_, ()))}
    for sample in dataset.match(F("image_id").is_in(list(changed))):
        sample.tags = changed[sample["image_id"]]
        sample.save()


def has_user_content(name: str) -> bool:
    """Whether it has tags, views or workspaces of a person."""
    import fiftyone as fo

    dataset: FoDataset = fo.load_dataset(name)
    views = set(dataset.list_saved_views()) - set(dataset.info[FACTS_KEY].get("views", ()))
    workspaces = set(dataset.list_workspaces()) - {workspace_name(name)}
    return bool(views or workspaces or any(own for _, own in read_tags(name).values()))


def remove_tags(name: str, tags: Sequence[str]) -> None:
    """Remove tags from all images."""
    import fiftyone as fo

    fo.load_dataset(name).match_tags(list(tags)).untag_samples(list(tags))


def copy_user_content(old: str, new: str) -> list[str]:
    """Copy a person's views and workspaces into another FiftyOne dataset.

    Returns:
        Names of views that use a field that the new dataset does not have.
    """
    import fiftyone as fo

    source: FoDataset = fo.load_dataset(old)
    target: FoDataset = fo.load_dataset(new)
    lost = []
    for name in source.list_saved_views():
        if name in source.info[FACTS_KEY].get("views", ()) or name in target.list_saved_views():
            continue
        try:
            view = target.view()
            for stage in source.load_saved_view(name)._all_stages:
                view = view.add_stage(stage)
            target.save_view(name, view)
        except (ValueError, KeyError):  # it uses a field that does not exist
            lost.append(name)
    for name in source.list_workspaces():
        if name != workspace_name(old) and name not in target.list_workspaces():
            target.save_workspace(name, source.load_workspace(name))
    return lost
