"""FiftyOne datasets of the app: connection, content, saved views, colours and workspace.

Only this module, `registry` and `server` use FiftyOne's API. All functions but `connected` need its connection.
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

FoDataset: TypeAlias = Any  # FiftyOne's types do not declare the fields of documents
FoView: TypeAlias = Any

_BATCH = 1000
FACTS_KEY = "curate"  # in the info of a FiftyOne dataset, for the facts about it
_SETTINGS = {
    "FIFTYONE_DATABASE_VALIDATION": "false",
    "FIFTYONE_DO_NOT_TRACK": "true",
    "FIFTYONE_SHOW_PROGRESS_BARS": "false",
    "FIFTYONE_LOGGING_LEVEL": "ERROR",
    "FIFTYONE_SERVER": "1",  # reads from the database instead of a cache
    "FIFTYONE_EXECUTION_STORE_NOTIFICATION_SERVICE_DISABLED": "true",
}
_CLASS_COLOURS = ["#4c78a8", "#f2cf5b", "#b279a2", "#72b7b2", "#9d755d", "#ff9da6", "#54a24b", "#d67195"]


@contextmanager
def connected(uri: str) -> Iterator[None]:
    """Import FiftyOne with the database of `mongo.running_database`; it reads its settings at import only.

    Raises:
        MissingError: FiftyOne cannot be imported.
        UsageError: This process uses another database already.
    """
    named = os.environ.get(URI_VARIABLE)
    os.environ.update({URI_VARIABLE: uri} | _SETTINGS)
    try:
        import fiftyone as fo
        import fiftyone.core.odm.database as database
    except ImportError as error:
        raise MissingError("FiftyOne cannot be imported", place="view", got=str(error), remedy=GET_FIFTYONE) from error
    finally:
        if named is None:  # the variable stands for a server that the user named
            del os.environ[URI_VARIABLE]
    if fo.config.database_uri != uri:  # FiftyOne has one connection per process
        # a URI can contain a password, so the message has none
        raise UsageError("this process uses another database already", place="view", remedy="Start a new process.")
    try:
        yield
    finally:
        # FiftyOne would do this at exit, and wait for a server that has ended by then
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
    """Build a FiftyOne dataset, replacing one of that name.

    Args:
        name: Its name, which is also its slug.
        documents: From `documents.make_documents`.
        total: Number of documents.
        runs: Runs whose fields the documents have.
        has_proposals: Whether the documents have a field for proposals.
        views: Views to save.
        facts: Facts about it, for `find_own`.
        progress: Callback for progress.
    """
    import fiftyone as fo

    delete(name)
    dataset: FoDataset = fo.Dataset(name, persistent=True)
    dataset.info[FACTS_KEY] = dict(facts) | {"whole": False}
    dataset.media_type = "image"
    dataset.save()
    _declare_fields(dataset, runs, has_proposals)
    _insert(dataset, documents, total, progress)
    _colour(dataset, runs)
    _order_sidebar(dataset, runs)
    for number, view in enumerate(views):
        progress("saving views", number, len(views))
        dataset.save_view(view.name, _make_view(dataset, view, runs), description=view.about, color=view.colour)
    progress("saving views", len(views), len(views))
    _save_workspace(dataset, runs)
    dataset.info[FACTS_KEY] = dict(facts) | {"whole": True, "views": [view.name for view in views]}
    dataset.save()


def find_own(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """FiftyOne datasets that `build` made with these facts: name → all facts, and whether it is complete (`whole`)."""
    import fiftyone.core.odm as odm

    query = {f"info.{FACTS_KEY}.{key}": value for key, value in facts.items()}
    datasets = odm.get_db_conn().datasets.find(query, {"name": 1, f"info.{FACTS_KEY}": 1})
    return {document["name"]: document["info"][FACTS_KEY] for document in datasets}


def slug(name: str) -> str:
    """FiftyOne's form of a view's name in a link."""
    import fiftyone.core.utils as utils

    return utils.to_slug(name)


def workspace_name(name: str) -> str:
    """Name of the workspace of a FiftyOne dataset; it contains the name, since slugs are looked up in all datasets."""
    return f"sizes {name}"


def delete(name: str) -> None:
    """Delete a FiftyOne dataset, and the datasets of patches that FiftyOne generated for its saved views."""
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

    field_types = {str: fo.StringField, int: fo.IntField, float: fo.FloatField, bool: fo.BooleanField}

    def declare(fields: Mapping[str, type], under: str = "") -> None:
        for field, kind in fields.items():
            dataset.add_sample_field(under + field, field_types[kind])

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


def _make_view(dataset: FoDataset, view: AppView, runs: Sequence[JudgedRun]) -> FoView:
    from fiftyone import ViewField as F

    made = dataset.view()
    for field, values in view.match:
        made = made.match(F(field).is_in(list(values)))
    if view.counted is not None:
        made = made.match(F(view.counted) > 0).sort_by(view.counted, reverse=True)
    if view.grouped_by is not None:
        made = made.sort_by(view.grouped_by)
    if view.field is not None:
        conditions = [F(attribute) == value for attribute, value in view.where]
        condition = conditions[0]
        for more in conditions[1:]:
            condition &= more
        made = made.filter_labels(view.field, condition)
        if view.as_patches:
            counts = [field for run in runs for field in run.count_fields]
            made = made.to_patches(view.field, other_fields=[*IMAGE_FIELDS, *counts, *_size_fields(runs)])
            _set_sizes_of_patches(made, view.field, runs)
            if view.largest_first is not None:
                made = made.sort_by(view.largest_first, reverse=True)
    return made


def _size_fields(runs: Sequence[JudgedRun]) -> list[str]:
    return [SIZES_FIELD, *(field for run in runs for field in (run.missed_sizes_field, run.false_sizes_field))]


def _set_sizes_of_patches(patches: FoView, field: str, runs: Sequence[JudgedRun]) -> None:
    """Replace the sizes of the whole image, which a patch has, by its own size; histograms count each object once."""
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
    """Missed red, false positive orange, found green; the first of several runs colours the objects."""
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
    """Put the fields that people filter by first; FiftyOne's own order begins with the metadata of files."""
    import fiftyone as fo

    defaults: Any = fo.DatasetAppConfig.default_sidebar_groups(dataset)
    groups = {group.name: group for group in defaults}
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
    """Save the images with two histograms next to them: sizes of missed objects above, of false positives below."""
    import fiftyone as fo

    def space(name: str, *children: Any, **more: Any) -> fo.Space:
        # FiftyOne requires the name of the child in front
        return fo.Space(
            children=list(children), component_id=name, active_child=children[0].component_id, sizes=None, **more
        )

    def histogram(place: int, path: str) -> fo.Panel:
        return fo.Panel(type="Histograms", component_id=f"histogram{place}", state={"path": path})

    # only fields that patches have too: a histogram shows an error without its field
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
    dataset.save_workspace(workspace_name(dataset.name), root, description="images and histograms")
