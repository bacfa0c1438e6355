"""`view`: the FiftyOne app on a dataset, with what runs missed and mistook, by size, one click each."""

import hashlib
import os
import threading
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from curate.curation.splits import VAL
from curate.dataset import Dataset
from curate.errors import DataError, UsageError
from curate.evaluation.mistakes import find_mistakes
from curate.fiftyone_app.documents import JudgedRun, make_documents, run_fields
from curate.fiftyone_app.mongo import check_fiftyone, has_database, running_database
from curate.fiftyone_app.server import DEFAULT_PORT, AppServer, media_of
from curate.fiftyone_app.views import EVERYTHING, AppView, list_views
from curate.inference.evaluations import kept_name, read_terms
from curate.inference.judge import IOU, Terms, choose_split, find_with_run
from curate.progress import Progress, silent
from curate.result import Result
from curate.run_folder.folder import RunFolder
from curate.serving.address import LOOPBACK, is_loopback, take_port
from curate.sizes import RangeOfInterest
from curate.store import Store

_FORM = "2"  # of what is in the app: a newer one is built anew


@dataclass(frozen=True)
class ViewLink:
    """A saved view: how many images it shows, how many objects or detections they are, and where it opens.

    `patches` says whether each of these is shown alone.
    """

    name: str
    patches: bool
    images: int
    objects: int | None
    link: str


@dataclass(frozen=True)
class ViewResult(Result):
    """The app, ready.

    Attributes:
        dataset: its folder.
        version: of the dataset.
        runs: in the order given; the first colours the objects.
        split: that the runs were judged on; None without runs.
        min_side_px, score: that mistakes are counted at.
        link: opens the app. It holds the token that lets one in.
        images: in the app.
        views: all saved views, also empty ones.
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
    """What the app is to show."""

    store: Store
    current: Dataset
    runs: tuple[JudgedRun, ...]
    split: str | None
    terms: Terms
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
    """Show the dataset in the FiftyOne app until SIGINT or SIGTERM comes.

    A run's mistakes are those of `evaluate` at the same terms. Where none are given, they are those of the first run's
    last evaluation. What was tagged in the app, and views that a person saved there, come back the next time.

    Args:
        dataset: the dataset folder.
        run: names in `DATASET/runs`, or paths with a slash; their detections are shown beside the truth.
        split: that the runs are judged on.
        min_side: the range of interest, shorter side of at least so many pixels.
        score: detections below it are not shown.
        port: to be reached at; without it 5151, or any that is free.
        address: to listen on. Another than the loopback is for all who reach this machine and have the link.
        browser: open a browser.
        on_ready: told once when the app can be opened.
        progress: told how far the loading is.

    Raises:
        UsageError: no such run or split; the port is taken.
        DataError: the dataset has no image.
        MissingError: FiftyOne or its database is missing.
    """
    check_fiftyone()
    server = AppServer(take_port(address, port, usual=DEFAULT_PORT), address)
    content = _read(Store(dataset), run, split, min_side, score, progress)
    with running_database() as uri:
        progress("starting FiftyOne", 0, 1)
        from curate.fiftyone_app import dataset as fiftyone_views
        from curate.fiftyone_app import registry as app_datasets

        root = content.store.root
        facts = app_datasets.facts_of(root, content.store.mark)
        name = app_datasets.app_name(root, _hash(content, facts["owner"]))
        build = partial(_build, name, facts, content, progress)
        with fiftyone_views.connected(uri), app_datasets.shown(name, facts, build) as lost:
            progress("starting FiftyOne", 1, 1)
            workspace = fiftyone_views.slug(fiftyone_views.workspace_name(name))
            link = partial(server.link, name, workspace=workspace)
            everything = fiftyone_views.slug(EVERYTHING)
            result = ViewResult(
                dataset=str(dataset),
                version=content.store.head(),
                runs=tuple(run.name for run in content.runs),
                split=content.split,
                min_side_px=content.terms.interest.min_side_px if content.terms.interest else None,
                score=content.terms.score,
                port=server.port,
                link=link(view=everything),
                images=len(content.current.images),
                views=tuple(
                    ViewLink(
                        one.name, one.as_patches, one.images, one.objects, link(view=fiftyone_views.slug(one.name))
                    )
                    for one in content.views
                ),
                notes=(*content.notes, *lost, *_warn_of(address)),
            )

            def ready() -> None:
                on_ready(result)
                if browser:  # some browsers end only when their window does
                    place = link(view=everything, once=True)
                    threading.Thread(target=webbrowser.open, args=(place,), daemon=True).start()

            server.serve(media_of(_image_files(content.current)), ready, has_database)
    return result


def _read(
    store: Store, names: Sequence[str], split: str, min_side: float | None, score: float | None, progress: Progress
) -> _Content:
    current = store.load()
    if not len(current.images):
        raise DataError("there is no image in the dataset", place=store.root, remedy="Import or sample some first.")
    folders = [RunFolder.named(store.root, name) for name in names]
    if len({folder.path.resolve() for folder in folders}) < len(folders):
        raise UsageError("a run is named twice", place="--run", got=", ".join(names))
    if not folders:
        if score is not None or split != VAL:
            raise UsageError("only runs are judged", place="view", expected="--run with --split and --score")
        terms = Terms(RangeOfInterest(min_side) if min_side is not None else None)
        return _Content(store, current, (), None, terms, tuple(list_views(current, (), terms.interest)), ())
    split, truth, notes = choose_split(current, split)
    if min_side is None and score is None:
        kept = read_terms(folders[0], kept_name(folders[0], store, split))
        min_side, score = kept.get("min_side"), kept.get("score")
    terms = Terms.of_options(min_side=min_side, score=0.5 if score is None else score)
    runs = []
    for folder, name, field in zip(folders, names, run_fields(names), strict=True):
        found, more = find_with_run(folder, split, truth, store, current, progress)
        mistakes = find_mistakes(truth, found, IOU, terms.score, terms.interest)
        runs.append(JudgedRun(name, field, truth, found, mistakes))
        notes += more
    return _Content(
        store, current, tuple(runs), split, terms, tuple(list_views(current, runs, terms.interest)), tuple(notes)
    )


def _build(name: str, facts: dict[str, object], content: _Content, progress: Progress) -> None:
    from curate.fiftyone_app import dataset as fiftyone_views
    from curate.fiftyone_app import registry as app_datasets

    tags = app_datasets.read_all_tags(facts)
    fiftyone_views.build(
        name,
        make_documents(content.current, content.runs, content.terms.interest, tags),
        len(content.current.images),
        content.runs,
        has_proposals=len(content.current.drawn_boxes) < len(content.current.boxes),
        views=content.views,
        facts=facts,
        progress=progress,
    )


def _warn_of(address: str) -> list[str]:
    if is_loopback(address):
        return []
    return [
        f"The app listens on {address}: whoever reaches this machine and has the link sees all images. "
        "Nothing is encrypted on the way."
    ]


def _image_files(current: Dataset) -> frozenset[str]:
    return frozenset(str(current.image_file(path).absolute()) for path in current.images["path"])


def _hash(content: _Content, owner: str) -> str:
    """Equal for what looks equal in the app, to one person: a server may be that of several."""
    terms = (content.terms.interest, content.terms.score)
    digest = hashlib.sha256(f"{_FORM} {owner} {content.store.root.resolve()} {content.store.mark}".encode())
    digest.update(f" {content.store.head()} {content.split} {terms}".encode())
    for run in content.runs:
        digest.update(f"{run.name} {run.field}".encode())
        columns = ["image_id", "class_id", "x0", "y0", "x1", "y1", "score"]
        digest.update(run.predictions.boxes[columns].to_numpy(dtype=float).tobytes())
    return digest.hexdigest()
