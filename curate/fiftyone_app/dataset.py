"""The FiftyOne side of the app: a dataset with our mistakes in it, its saved views, colours and workspace.

The only module that knows FiftyOne's API. Everything else here is for inside of `connected`.
"""

import atexit
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeAlias

from curate.errors import MissingError, UsageError
from curate.fiftyone_app.documents import (
    DETECTION_FIELDS,
    FALSE_POSITIVE,
    FOUND,
    IGNORED,
    IMAGE_FIELDS,
    MISSED,
    PROPOSALS,
    RIGHT,
    SIZES_FIELD,
    TRUTH,
    TRUTH_FIELDS,
    JudgedRun,
)
from curate.fiftyone_app.mongo import GET_FIFTYONE, URI_VARIABLE
from curate.fiftyone_app.views import (
    FALSE_COLOUR,
    FOUND_COLOUR,
    IGNORED_COLOUR,
    MISSED_COLOUR,
    RIGHT_COLOUR,
    AppView,
)
from curate.progress import Progress

FoDataset: TypeAlias = Any  # FiftyOne's types say nothing of their documents' fields
FoView: TypeAlias = Any

_BATCH = 1000
_OURS = "curate"  # key in a FiftyOne dataset's info: what is ours of it
_SETTINGS = {
    "FIFTYONE_DATABASE_VALIDATION": "false",
    "FIFTYONE_DO_NOT_TRACK": "true",
    "FIFTYONE_SHOW_PROGRESS_BARS": "false",
    "FIFTYONE_LOGGING_LEVEL": "ERROR",
    "FIFTYONE_SERVER": "1",  # what it shows is to be read from the database, not remembered
    "FIFTYONE_EXECUTION_STORE_NOTIFICATION_SERVICE_DISABLED": "true",
}
_CLASS_COLOURS = ["#4c78a8", "#f2cf5b", "#b279a2", "#72b7b2", "#9d755d", "#ff9da6", "#54a24b", "#d67195"]


@contextmanager
def connected(uri: str) -> Iterator[None]:
    """Import FiftyOne with the database that `mongo.running_database` gave; it reads its settings at import only.

    Raises:
        MissingError: it does not load.
        UsageError: this process has another database open.
    """
    named = os.environ.get(URI_VARIABLE)
    os.environ.update({URI_VARIABLE: uri} | _SETTINGS)
    try:
        import fiftyone as fo
        import fiftyone.core.odm.database as database
    except ImportError as error:
        raise MissingError("FiftyOne does not load", place="view", got=str(error), remedy=GET_FIFTYONE) from error
    finally:
        if named is None:  # it is not the person who named it
            del os.environ[URI_VARIABLE]
    if fo.config.database_uri != uri:  # FiftyOne keeps its connection, and can have one a process
        raise UsageError("another database is open", place="view", remedy="Use one a process.")  # a URI holds secrets
    try:
        yield
    finally:
        # FiftyOne would do this when Python ends, and wait for a server that is gone by then
        atexit.unregister(database._delete_non_persistent_datasets_if_allowed)
        database._delete_non_persistent_datasets_if_allowed()


def build(
    name: str,
    documents: Iterable[Mapping[str, Any]],
    total: int,
    runs: Sequence[JudgedRun],
    has_proposals: bool,
    views: Sequence[AppView],
    facts: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Make the FiftyOne dataset of that name anew.

    Args:
        name: of the FiftyOne dataset; it is its slug too.
        documents: from `app_content.make_documents`.
        total: how many.
        runs: whose fields they have.
        has_proposals: whether they have that field.
        views: to be saved.
        facts: whose dataset it is, and what it holds; found again by `find_own`.
        progress: told how many images are in.
    """
    import fiftyone as fo

    delete(name)
    dataset: FoDataset = fo.Dataset(name, persistent=True)
    dataset.info[_OURS] = dict(facts) | {"whole": False}
    dataset.media_type = "image"
    dataset.save()
    _declare_fields(dataset, runs, has_proposals)
    _insert(dataset, documents, total, progress)
    _colour(dataset, runs)
    _order_sidebar(dataset, runs)
    for place, view in enumerate(views):
        progress("saving views", place, len(views))
        dataset.save_view(view.name, _as_fiftyone(dataset, view, runs), description=view.about, color=view.colour)
    progress("saving views", len(views), len(views))
    _save_workspace(dataset, runs)
    dataset.info[_OURS] = dict(facts) | {"whole": True, "views": [view.name for view in views]}
    dataset.save()


def find_own(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """FiftyOne datasets that `build` made with these facts: name → all their facts, and whether they are `whole`."""
    import fiftyone.core.odm as odm

    wanted = {f"info.{_OURS}.{key}": value for key, value in facts.items()}
    found = odm.get_db_conn().datasets.find(wanted, {"name": 1, f"info.{_OURS}": 1})
    return {document["name"]: document["info"][_OURS] for document in found}


def read_tags(name: str) -> dict[int, tuple[datetime, list[str]]]:
    """What a person tagged in the app, and when the image was touched last: image id → time, tags."""
    import fiftyone as fo

    dataset: FoDataset = fo.load_dataset(name)
    ids, times, tags = dataset.values(["image_id", "last_modified_at", "tags"])
    return dict(zip(ids, zip(times, tags, strict=True), strict=True))


def write_tags(name: str, tags: Mapping[int, Sequence[str]]) -> None:
    """Let images have these tags, and those that are not named none; what is so already is not touched."""
    import fiftyone as fo
    from fiftyone import ViewField as F

    dataset: FoDataset = fo.load_dataset(name)
    there = {image_id: own for image_id, (_, own) in read_tags(name).items()}
    different = {id_: list(tags.get(id_, ())) for id_, own in there.items() if set(own) != set(tags.get(id_, ()))}
    view = dataset.match(F("image_id").is_in(list(different)))
    for sample in view:
        sample.tags = different[sample["image_id"]]
        sample.save()


def has_own_things(name: str) -> bool:
    """Whether a person tagged or saved something in it."""
    import fiftyone as fo

    dataset: FoDataset = fo.load_dataset(name)
    views = set(dataset.list_saved_views()) - set(dataset.info[_OURS].get("views", ()))
    places = set(dataset.list_workspaces()) - {workspace_name(name)}
    return bool(views or places or any(own for _, own in read_tags(name).values()))


def remove_tags(name: str, tags: Sequence[str]) -> None:
    """Take tags from all images."""
    import fiftyone as fo

    fo.load_dataset(name).match_tags(list(tags)).untag_samples(list(tags))


def copy_saved(old: str, new: str) -> list[str]:
    """Save views and workspaces that a person made in one dataset in another; names of views that do not fit it."""
    import fiftyone as fo

    source: FoDataset = fo.load_dataset(old)
    target: FoDataset = fo.load_dataset(new)
    lost = []
    for name in source.list_saved_views():
        if name in source.info[_OURS].get("views", ()) or name in target.list_saved_views():
            continue
        try:
            view = target.view()
            for stage in source.load_saved_view(name)._all_stages:
                view = view.add_stage(stage)
            target.save_view(name, view)
        except (ValueError, KeyError):  # it looks at a field that is no more
            lost.append(name)
    for name in source.list_workspaces():
        if name != workspace_name(old) and name not in target.list_workspaces():
            target.save_workspace(name, source.load_workspace(name))
    return lost


def slug(name: str) -> str:
    """What FiftyOne makes of a view's name in a link."""
    import fiftyone.core.utils as utils

    return utils.to_slug(name)


def workspace_name(name: str) -> str:
    """The workspace of a FiftyOne dataset; the server looks slugs up without the dataset, so it bears its name."""
    return f"sizes {name}"


def delete(name: str) -> None:
    """Delete a FiftyOne dataset with all that was saved of it.

    The patches of a saved view are a dataset of their own, which FiftyOne deletes only when it ends alone.
    """
    import fiftyone as fo
    from fiftyone.core.patches import PatchesView

    if not fo.dataset_exists(name):
        return
    dataset: FoDataset = fo.load_dataset(name)
    views = [dataset.load_saved_view(view) for view in dataset.list_saved_views()]
    patches = {view._dataset.name for view in views if isinstance(view, PatchesView)}
    fo.delete_dataset(name)
    for generated in patches:
        fo.delete_dataset(generated)


def _declare_fields(dataset: FoDataset, runs: Sequence[JudgedRun], has_proposals: bool) -> None:
    import fiftyone as fo

    kinds = {str: fo.StringField, int: fo.IntField, float: fo.FloatField, bool: fo.BooleanField}

    def declare(fields: Mapping[str, type], under: str = "") -> None:
        for field, kind in fields.items():
            dataset.add_sample_field(under + field, kinds[kind])

    dataset.add_sample_field("metadata", fo.EmbeddedDocumentField, embedded_doc_type=fo.ImageMetadata)
    declare(IMAGE_FIELDS)
    labels: dict[str, Mapping[str, type]] = {TRUTH: TRUTH_FIELDS}
    if has_proposals:
        labels[PROPOSALS] = TRUTH_FIELDS
    for run in runs:
        labels[TRUTH] = {**labels[TRUTH], **run.truth_fields}
        labels[run.field] = DETECTION_FIELDS
        declare(dict.fromkeys(run.count_fields, int))
    for field in _size_fields(runs):
        dataset.add_sample_field(field, fo.ListField, subfield=fo.StringField)
    for field, attributes in labels.items():
        dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
        declare(attributes, f"{field}.detections.")


def _insert(dataset: FoDataset, documents: Iterable[Mapping[str, Any]], total: int, progress: Progress) -> None:
    import fiftyone.core.odm as odm

    collection = odm.get_db_conn()[dataset._sample_collection_name]
    own = {"_dataset_id": dataset._doc.id}
    done = 0
    for batch in _batches(documents):
        now = datetime.now(UTC)
        stamps = {"created_at": now, "last_modified_at": now}
        collection.insert_many([{**document, **own, **stamps} for document in batch], ordered=False)
        done += len(batch)
        progress("loading images into FiftyOne", done, total)


def _batches(documents: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    pending = iter(documents)
    while batch := list(islice(pending, _BATCH)):
        yield batch


def _as_fiftyone(dataset: FoDataset, view: AppView, runs: Sequence[JudgedRun]) -> FoView:
    from fiftyone import ViewField as F

    found = dataset.view()
    for field, values in view.match:
        found = found.match(F(field).is_in(list(values)))
    if view.counted is not None:
        found = found.match(F(view.counted) > 0).sort_by(view.counted, reverse=True)
    if view.grouped_by is not None:
        found = found.sort_by(view.grouped_by)
    if view.field is not None:
        conditions = [F(attribute) == value for attribute, value in view.where]
        condition = conditions[0]
        for more in conditions[1:]:
            condition &= more
        found = found.filter_labels(view.field, condition)
        if view.as_patches:
            counts = [field for run in runs for field in run.count_fields]
            found = found.to_patches(view.field, other_fields=[*IMAGE_FIELDS, *counts, *_size_fields(runs)])
            _tell_sizes_of_patches(found, view.field, runs)
            if view.largest_first is not None:
                found = found.sort_by(view.largest_first, reverse=True)
    return found


def _size_fields(runs: Sequence[JudgedRun]) -> list[str]:
    return [SIZES_FIELD, *(field for run in runs for field in (run.missed_sizes_field, run.false_sizes_field))]


def _tell_sizes_of_patches(patches: FoView, field: str, runs: Sequence[JudgedRun]) -> None:
    """Let a patch have its own size alone; it has those of its whole image, and histograms would count them again."""
    import fiftyone.core.odm as odm

    own = [f"${field}.size"]
    sizes: dict[str, Any] = {name: [] for name in _size_fields(runs)}
    if field == TRUTH:
        sizes[SIZES_FIELD] = own
        for run in runs:
            is_missed = {"$eq": [f"${TRUTH}.{run.field}", MISSED]}
            sizes[run.missed_sizes_field] = {"$cond": [is_missed, own, []]}
    for run in runs:
        if field == run.field:
            sizes[run.false_sizes_field] = own
    odm.get_db_conn()[patches._dataset._sample_collection_name].update_many({}, [{"$set": sizes}])


def _colour(dataset: FoDataset, runs: Sequence[JudgedRun]) -> None:
    """Missed red, false positive orange, found green; of several runs, the first colours the objects."""
    import fiftyone as fo

    def by(attribute: str, path: str, colours: Mapping[str, str]) -> dict[str, Any]:
        values = [{"value": value, "color": colour} for value, colour in colours.items()]
        return {"path": path, "colorByAttribute": attribute, "valueColors": values, "fieldColor": IGNORED_COLOUR}

    fields = [
        by("outcome", run.field, {FALSE_POSITIVE: FALSE_COLOUR, RIGHT: RIGHT_COLOUR, IGNORED: IGNORED_COLOUR})
        for run in runs
    ]
    if runs:
        objects = {MISSED: MISSED_COLOUR, FOUND: FOUND_COLOUR, IGNORED: IGNORED_COLOUR}
        fields.insert(0, by(runs[0].field, TRUTH, objects))
    dataset.app_config.color_scheme = fo.ColorScheme(color_by="value", color_pool=_CLASS_COLOURS, fields=fields)
    dataset.app_config.active_fields = fo.ActiveFields(paths=[TRUTH, *(run.field for run in runs)])


def _order_sidebar(dataset: FoDataset, runs: Sequence[JudgedRun]) -> None:
    """What a person filters by comes first; FiftyOne begins with the files' metadata."""
    import fiftyone as fo

    found: Any = fo.DatasetAppConfig.default_sidebar_groups(dataset)
    groups = {group.name: group for group in found}
    counted = [*(name for run in runs for name in run.count_fields), *_size_fields(runs)]
    named = [name for name in IMAGE_FIELDS if name != "image_id"]
    rest = [name for name in groups.pop("primitives").paths if name not in {*counted, *named}]
    metadata = groups.pop("metadata")
    metadata.expanded = False
    others = fo.SidebarGroupDocument(name="other", paths=rest, expanded=False)
    ours = [("mistakes", counted), ("image", named)]
    dataset.app_config.sidebar_groups = [
        *(groups.pop(name) for name in ("tags", "labels")),
        *(fo.SidebarGroupDocument(name=name, paths=paths) for name, paths in ours if paths),
        *groups.values(),
        metadata,
        others,
    ]


def _save_workspace(dataset: FoDataset, runs: Sequence[JudgedRun]) -> None:
    """The images, and beside them histograms: sizes of what was missed above, of what is false below."""
    import fiftyone as fo

    def space(name: str, *children: Any, **more: Any) -> fo.Space:
        # FiftyOne needs to be told which child is in front
        return fo.Space(
            children=list(children), component_id=name, active_child=children[0].component_id, sizes=None, **more
        )

    def histogram(place: int, path: str) -> fo.Panel:
        return fo.Panel(type="Histograms", component_id=f"histogram{place}", state={"path": path})

    # fields that patches have too: without its field, a histogram shows an error
    above = [*(run.missed_sizes_field for run in runs), SIZES_FIELD]
    below = [*(run.false_sizes_field for run in runs), *(run.mistakes_field for run in runs), "source"]
    samples = space("images", fo.Panel(type="Samples", component_id="samples", pinned=True))
    parts = [
        space(f"histograms{number}", *(histogram(10 * number + place, path) for place, path in enumerate(paths)))
        for number, paths in enumerate((above, below))
    ]
    beside = space("histograms", *parts, orientation="vertical")
    root = space("root", samples, beside, orientation="horizontal")
    root.sizes, beside.sizes = [0.68, 0.32], [0.5, 0.5]
    dataset.save_workspace(workspace_name(dataset.name), root, description="images beside histograms")
