"""Life cycle of curate's FiftyOne datasets: built once per content, shared, replaced, deleted.

Each is named by its content, so that two `view`s of the same content share one, and others do not interfere. A process
holds a lock on the FiftyOne dataset that it shows. One that nobody shows is deleted when a newer one of the same
dataset replaces it; tags, views and workspaces of a person are carried over.
"""

import getpass
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from curate.fiftyone_app import dataset as fiftyone_dataset
from curate.fiftyone_app.dataset import FACTS_KEY, FoDataset, workspace_name
from curate.fiftyone_app.locks import LockMode, file_lock, try_file_lock
from curate.fiftyone_app.mongo import URI_VARIABLE, database_folder, default_folder

logger = logging.getLogger(__name__)

Identity = Mapping[str, Any]


def identity_of(root: Path, mark: str | None) -> dict[str, Any]:
    """What the FiftyOne datasets of one dataset and one user have in common, and no others."""
    owner = getpass.getuser()
    if os.environ.get(URI_VARIABLE):  # several machines may share a server
        owner += f"@{socket.gethostname()}"
    return {"owner": owner, "root": str(root.resolve()), "dataset": mark}


def app_name(root: Path, content: str) -> str:
    """Name of a FiftyOne dataset: that of the folder in characters for a link, and 10 digits of the content's hash."""
    plain = re.sub(r"[^a-z0-9]+", "-", root.resolve().name.lower()).strip("-")
    return f"{plain or 'dataset'}-{content[:10]}"


@contextmanager
def hold(name: str, identity: Identity, build: Callable[[], None]) -> Iterator[list[str]]:
    """Hold a FiftyOne dataset for showing it; build it if it does not exist, and delete those that it replaces.

    Args:
        name: From `app_name`.
        identity: From `identity_of`.
        build: Builds it with this identity.

    Yields:
        Notes on saved views that could not be carried over.
    """
    lock = _lock_file(name)
    while True:
        with file_lock(lock, LockMode.SHARED):
            if _is_complete(name, identity):
                _write_tags(name, read_all_tags(identity))
                yield _replace_older(name, identity)
                return
        with file_lock(lock, LockMode.EXCLUSIVE):
            if not _is_complete(name, identity):
                logger.info("building the FiftyOne dataset %s", name)
                build()


def read_all_tags(identity: Identity) -> dict[int, list[str]]:
    """Tags of all FiftyOne datasets of a dataset: image id → tags. Of different ones the latest apply."""
    latest: dict[int, tuple[datetime, list[str]]] = {}
    complete = [name for name, facts in _related(identity).items() if facts["whole"]]
    for name in complete:
        for image_id, (time, tags) in _read_tags(name).items():
            if image_id not in latest or latest[image_id][0] < time:
                latest[image_id] = time, tags
    return {image_id: tags for image_id, (_, tags) in latest.items() if tags}


def remove_all_tags(identity: Identity, tags: Sequence[str]) -> None:
    """Remove these tags from all images in all FiftyOne datasets of a dataset."""
    for name, facts in _related(identity).items():
        if facts["whole"]:
            _remove_tags(name, tags)


def _related(identity: Identity) -> dict[str, dict[str, Any]]:
    """FiftyOne datasets of the dataset in its folder, or in a former folder that no longer exists: name → facts."""
    candidates = fiftyone_dataset.find_own({"owner": identity["owner"], "dataset": identity["dataset"]})
    return {
        name: facts
        for name, facts in candidates.items()
        if facts["root"] == identity["root"] or not Path(facts["root"]).is_dir()
    }


def _is_complete(name: str, identity: Identity) -> bool:
    return name in fiftyone_dataset.find_own({**identity, "whole": True})


def _replace_older(name: str, identity: Identity) -> list[str]:
    """Delete unused FiftyOne datasets: older ones of the dataset, and those of deleted folders without own content."""
    lost: list[str] = []
    related = _related(identity)
    for old, facts in fiftyone_dataset.find_own({"owner": identity["owner"]}).items():
        if old == name or (old not in related and Path(facts["root"]).is_dir()):
            continue
        with try_file_lock(_lock_file(old), LockMode.EXCLUSIVE) as is_unused:
            if not is_unused or (old not in related and facts["whole"] and _has_user_content(old)):
                continue
            if old in related and facts["whole"]:
                lost += _copy_user_content(old, name)
            logger.info("deleting the FiftyOne dataset %s, which is not in use", old)
            fiftyone_dataset.delete(old)
            _lock_file(old).unlink(missing_ok=True)
    return [f"The saved view {view!r} was left out: it uses a field that no longer exists." for view in lost]


def _read_tags(name: str) -> dict[int, tuple[datetime, list[str]]]:
    """Image id → time of the last change in the app, tags."""
    import fiftyone as fo

    dataset: FoDataset = fo.load_dataset(name)
    ids, times, tags = dataset.values(["image_id", "last_modified_at", "tags"])
    return dict(zip(ids, zip(times, tags, strict=True), strict=True))


def _write_tags(name: str, tags: Mapping[int, Sequence[str]]) -> None:
    """Set the tags of all images, to none for images that are not in `tags`; unchanged images keep their time."""
    import fiftyone as fo
    from fiftyone import ViewField as F

    dataset: FoDataset = fo.load_dataset(name)
    current = {image_id: own for image_id, (_, own) in _read_tags(name).items()}
    changed = {id_: list(tags.get(id_, ())) for id_, own in current.items() if set(own) != set(tags.get(id_, ()))}
    for sample in dataset.match(F("image_id").is_in(list(changed))):
        sample.tags = changed[sample["image_id"]]
        sample.save()


def _has_user_content(name: str) -> bool:
    """Whether it has tags, views or workspaces of a person."""
    import fiftyone as fo

    dataset: FoDataset = fo.load_dataset(name)
    views = set(dataset.list_saved_views()) - set(dataset.info[FACTS_KEY].get("views", ()))
    workspaces = set(dataset.list_workspaces()) - {workspace_name(name)}
    return bool(views or workspaces or any(own for _, own in _read_tags(name).values()))


def _remove_tags(name: str, tags: Sequence[str]) -> None:
    """Remove tags from all images."""
    import fiftyone as fo

    fo.load_dataset(name).match_tags(list(tags)).untag_samples(list(tags))


def _copy_user_content(old: str, new: str) -> list[str]:
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


def _lock_file(name: str) -> Path:
    """Lock file next to the database; for a named server in the default folder, shared by all processes of a user."""
    folder = (default_folder() if os.environ.get(URI_VARIABLE) else database_folder()) / "shown"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
