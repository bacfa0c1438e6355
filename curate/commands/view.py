"""`view`: the FiftyOne app on a dataset, with a saved view for each kind and size of mistake of a run."""

import hashlib
import os
import threading
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from curate.curation.splits import VAL
from curate.dataset import Dataset
from curate.errors import DataError, UsageError
from curate.evaluation.judgement import EvaluationOptions
from curate.evaluation.mistakes import find_mistakes
from curate.fiftyone_app.documents import JudgedRun, make_documents, run_fields
from curate.fiftyone_app.mongo import check_fiftyone, has_database, running_database
from curate.fiftyone_app.server import DEFAULT_PORT, AppServer, media_of
from curate.fiftyone_app.views import EVERYTHING, AppView, list_views
from curate.inference.evaluations import evaluation_name, read_options
from curate.inference.judge import choose_split, predict_with_run
from curate.progress import Progress, silent
from curate.result import Result
from curate.run_folder.folder import RunFolder
from curate.serving.address import LOOPBACK, is_loopback, take_port
from curate.sizes import RangeOfInterest
from curate.store import Store

_FORM = "2"  # form of the app's datasets; with another number they are rebuilt


@dataclass(frozen=True)
class ViewLink:
    """A saved view.

    Attributes:
        name: Name in the app.
        patches: Whether it shows each object by itself.
        images: Number of images.
        objects: Number of objects or detections; None for a view of images.
        link: Address that opens it.
    """

    name: str
    patches: bool
    images: int
    objects: int | None
    link: str


@dataclass(frozen=True)
class ViewResult(Result):
    """The app, ready for use.

    Attributes:
        dataset: Dataset folder.
        version: Version of the dataset.
        runs: In the given order; the first one colours the objects.
        split: Split on which the runs are evaluated; None without runs.
        min_side_px, score: Range of interest and lowest score for mistakes.
        port: Port of the server.
        link: Address that opens the app, with its access token.
        images: Number of images in the app.
        views: All saved views, including empty ones.
    """

    dataset: str
    version: int
    runs: tuple[str, ...]
    split: str | None
    min_side_px: float | None
    score: float
    port: int
    link: str
    images: int
    views: tuple[ViewLink, ...]


@dataclass(frozen=True, eq=False)
class _Content:
    store: Store
    current: Dataset
    runs: tuple[JudgedRun, ...]
    split: str | None
    options: EvaluationOptions
    views: tuple[AppView, ...]
    notes: tuple[str, ...]


def view(
    dataset: str | os.PathLike[str],
    *,
    run: Sequence[str] = (),
    split: str = "val",
    min_side: float | None = None,
    score: float | None = None,
    port: int | None = None,
    address: str = LOOPBACK,
    browser: bool = True,
    on_ready: Callable[[ViewResult], None] = lambda _: None,
    progress: Progress = silent,
) -> ViewResult:
    """Show the dataset in the FiftyOne app until SIGINT or SIGTERM.

    Mistakes are those of `evaluate` with the same options. Without `min_side` and `score`, the options of the first
    run's last evaluation apply; difficult objects always count as they did there. Tags and views that a person saves in
    the app are kept for the next time.

    Args:
        dataset: Dataset folder.
        run: Names in `DATASET/runs`, or paths with a slash; their detections are shown with the truth.
        split: Split on which the runs are evaluated.
        min_side: Range of interest: smallest shorter side in pixels.
        score: Lowest score of a detection that is shown.
        port: Port of the server. Default: 5151 if it is free, else any free port.
        address: Address to bind; anything but loopback is reachable from the network, by those who have the link.
        browser: Open a browser.
        on_ready: Called once, when the app can be opened.
        progress: Callback for progress.

    Raises:
        UsageError: No such run or split; the port is in use.
        DataError: The dataset has no image.
        MissingError: FiftyOne or its database is missing.
    """
    check_fiftyone()
    server = AppServer(take_port(address, port, usual=DEFAULT_PORT), address)
    content = _read(Store(dataset), run, split, min_side, score, progress)
    with running_database() as uri:
        progress("starting FiftyOne", 0, 1)
        from curate.fiftyone_app import dataset as fiftyone_dataset
        from curate.fiftyone_app import registry as fiftyone_registry

        root = content.store.root
        identity = fiftyone_registry.identity_of(root, content.store.mark)
        name = fiftyone_registry.app_name(root, _hash(content, identity["owner"]))
        build = partial(_build, name, identity, content, progress)
        with fiftyone_dataset.connected(uri), fiftyone_registry.hold(name, identity, build) as lost:
            progress("starting FiftyOne", 1, 1)
            workspace = fiftyone_dataset.slug(fiftyone_dataset.workspace_name(name))
            link = partial(server.link, name, workspace=workspace)
            all_images = fiftyone_dataset.slug(EVERYTHING)
            result = ViewResult(
                dataset=str(dataset),
                version=content.store.head(),
                runs=tuple(run.name for run in content.runs),
                split=content.split,
                min_side_px=content.options.interest.min_side_px if content.options.interest else None,
                score=content.options.point.score,
                port=server.port,
                link=link(view=all_images),
                images=len(content.current.images),
                views=tuple(
                    ViewLink(
                        one.name, one.as_patches, one.images, one.objects, link(view=fiftyone_dataset.slug(one.name))
                    )
                    for one in content.views
                ),
                notes=(*content.notes, *lost, *_network_note(address)),
            )

            def ready() -> None:
                on_ready(result)
                if browser:  # in a thread, because some browsers block until their window is closed
                    place = link(view=all_images, once=True)
                    threading.Thread(target=webbrowser.open, args=(place,), daemon=True).start()

            server.serve(media_of(_image_files(content.current)), ready, has_database)
    return result


def _read(
    store: Store, names: Sequence[str], split: str, min_side: float | None, score: float | None, progress: Progress
) -> _Content:
    current = store.load()
    if not len(current.images):
        raise DataError("the dataset has no image", place=store.root, remedy="Import images or sample frames.")
    folders = [RunFolder.named(store.root, name) for name in names]
    if len({folder.path.resolve() for folder in folders}) < len(folders):
        raise UsageError("a run is given twice", place="--run", got=", ".join(names))
    if not folders:
        if score is not None or split != VAL:
            raise UsageError("--split and --score need --run", place="view")
        options = EvaluationOptions(RangeOfInterest(min_side) if min_side is not None else None)
        return _Content(store, current, (), None, options, tuple(list_views(current, (), options.interest)), ())
    split, truth, notes = choose_split(current, split)
    given: dict[str, Any] = {"min_side": min_side, "score": score}
    last = read_options(folders[0], evaluation_name(folders[0], store, split))
    if min_side is None and score is None:
        given = {name: last.get(name) for name in ("min_side", "iou", "score")}
    options = EvaluationOptions.from_command(**given, ignore_difficult=last.get("ignore_difficult"))
    truth = options.mark(truth)
    runs = []
    for folder, name, field in zip(folders, names, run_fields(names), strict=True):
        detections, more, _ = predict_with_run(folder, split, truth, store, current, progress)
        mistakes = find_mistakes(truth, detections, options.point, options.interest)
        runs.append(JudgedRun(name, field, truth, detections, mistakes))
        notes += more
    return _Content(
        store, current, tuple(runs), split, options, tuple(list_views(current, runs, options.interest)), tuple(notes)
    )


def _build(name: str, identity: dict[str, object], content: _Content, progress: Progress) -> None:
    from curate.fiftyone_app import dataset as fiftyone_dataset
    from curate.fiftyone_app import registry as fiftyone_registry

    tags = fiftyone_registry.read_all_tags(identity)
    fiftyone_dataset.build(
        name,
        make_documents(content.current, content.runs, content.options.interest, tags),
        len(content.current.images),
        content.runs,
        has_proposals=len(content.current.drawn_boxes) < len(content.current.boxes),
        views=content.views,
        facts=identity,
        progress=progress,
    )


def _network_note(address: str) -> list[str]:
    if is_loopback(address):
        return []
    return [
        f"The app is reachable from the network at {address}: anyone with the link can see all images. "
        "The connection is not encrypted."
    ]


def _image_files(current: Dataset) -> frozenset[str]:
    return frozenset(str(current.image_file(path).absolute()) for path in current.images["path"])


def _hash(content: _Content, owner: str) -> str:
    """Hash of everything that the app shows, and of its user, since several people may share a database server."""
    terms = (content.options.interest, content.options.point, content.options.ignore_difficult)
    digest = hashlib.sha256(f"{_FORM} {owner} {content.store.root.resolve()} {content.store.mark}".encode())
    digest.update(f" {content.store.head()} {content.split} {terms}".encode())
    for run in content.runs:
        digest.update(f"{run.name} {run.field}".encode())
        columns = ["image_id", "class_id", "x0", "y0", "x1", "y1", "score"]
        digest.update(run.predictions.boxes[columns].to_numpy(dtype=float).tobytes())
    return digest.hexdigest()
