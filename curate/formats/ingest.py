"""What every import does with what its reader found: classes, media, joining, one version, and what to tell of it."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.card import Card, find_card, read_card
from curate.dataset import Dataset
from curate.errors import DataError, StrictImportError
from curate.formats.incoming import Incoming, Problem
from curate.formats.joining import Joined, join, match_images, resolve_names
from curate.media import ImagePlacer
from curate.progress import Progress
from curate.result import Result
from curate.store import Store

_REPORT_EVERY = 200
_WITHOUT_ANNOTATION = frozenset({"image_without_xml", "image_not_listed"})  # kinds of problems


@dataclass(frozen=True)
class ImportResult(Result):
    """What an import did.

    Attributes:
        dataset, version: where the result is; `version` is None when `strict` refused it.
        images, boxes, classes: what the dataset holds now; boxes that a model proposed do not count.
        added, updated, unchanged: images of this import.
        repaired, quarantined: boxes of this import.
        problems: every fault, with `file` as the caller can open it.
    """

    dataset: str
    version: int | None
    images: int
    boxes: int
    classes: dict[str, int]
    added: int
    updated: int
    unchanged: int
    repaired: int
    quarantined: int
    problems: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class AllowedClasses:
    """Which class names a source may have.

    Attributes:
        names: in order; boxes of others are quarantined. None: any.
        card_file, card: the card that applies, with counts to check, if there is one.
    """

    names: tuple[str, ...] | None
    card_file: Path | None
    card: Card | None


def find_allowed(
    store: Store, names: Sequence[str] | None = None, card: str | os.PathLike[str] | None = None
) -> AllowedClasses:
    """The names that the caller gives, else those of the card that the caller gives, else of the dataset's own.

    Raises:
        DataError: the card cannot be read.
    """
    card_file = Path(card) if card is not None else find_card(store.root)
    the_card = read_card(card_file) if card_file else None
    declared = tuple(names) if names is not None else (the_card.classes or None if the_card else None)
    return AllowedClasses(declared, card_file, the_card)


def take_in(
    store: Store,
    dataset: str,
    incoming: Incoming,
    allowed: AllowedClasses,
    operation: tuple[str, Mapping[str, Any]],
    *,
    strict: bool,
    progress: Progress,
) -> ImportResult:
    """Join what a reader found to a dataset, as one version; the dataset is created where it is not there.

    Args:
        store: of the dataset.
        dataset: its folder as the caller named it.
        incoming: what was found.
        allowed: the class names.
        operation: the command and its arguments, for the history.
        strict: make no version where anything was repaired or quarantined.
        progress: told how many images are linked.

    Raises:
        StrictImportError: `strict`, and something needed mending; carries the result.
    """
    incoming = _without_waiting(incoming, store.root)
    outcome = _Outcome(store, dataset, incoming, allowed)
    if strict:
        known = store.load() if store.exists() else Dataset(store.root)
        outcome.refuse_mended(resolve_names(known, incoming, declared=allowed.names)[1].problems)
    placer = ImagePlacer(store.root, incoming.folder, incoming.image_folder)
    relative = os.path.relpath(incoming.folder.resolve(), store.root.resolve())
    here = os.fsencode(relative).decode(errors="backslashreplace")
    placed = _place_new_images(store, incoming, placer, progress)

    def change(before: Dataset) -> Dataset:
        settled, named = resolve_names(before, incoming, declared=allowed.names)
        if strict:
            outcome.refuse_mended(named.problems)
        places = _complete_paths(before, named, placed, placer)
        notes = [*_note_other_names(named, placer)]
        # the card speaks of its own source, not of what came since; or of frames, when XML comes for all of them
        if (before.images["source"] == placer.source).all() or set(before.images["path"]) <= set(places):
            notes += outcome.differences_from_card(named)
        named = replace(named, problems=(*named.problems, *notes))
        outcome.joined = join(settled, named, places, source=placer.source, origin=here)
        return outcome.joined.dataset

    version, _ = store.commit(*operation, change)
    return outcome.result(version)


class _Outcome:
    """Gathers what an import tells, across the commit."""

    def __init__(self, store: Store, dataset: str, incoming: Incoming, allowed: AllowedClasses) -> None:
        self._store = store
        self._dataset = dataset
        self._folder = incoming.folder
        self._reads = tuple(incoming.reads)
        # files that are named whole, not relative to the folder
        self._whole = (f"{incoming.image_folder}/",) if incoming.image_folder != incoming.folder else ()
        self._card_file = str(allowed.card_file)
        self._card = allowed.card
        self.joined: Joined | None = None

    def _as_given(self, file: str) -> str:
        """A problem's file as the caller can open it."""
        return file if file.startswith(self._whole) or file == self._card_file else f"{self._folder}/{file}"

    def refuse_mended(self, problems: Sequence[Problem]) -> None:
        """Raise for the first import fault that is more than a note."""
        mended = [problem for problem in problems if problem.action != "noted"]
        if mended:
            first = mended[0]
            raise StrictImportError(
                f"{len(mended)} fault{'s' if len(mended) > 1 else ''} in the annotations, the first: {first.kind}",
                place=self._as_given(first.file) + (f", object {first.object}" if first.object else ""),
                got=first.detail,
                remedy="Nothing was imported. Mend the files, or import without --strict.",
                result=self._describe(
                    self._store.load() if self._store.exists() else Dataset(self._store.root), problems, None
                ),
            )

    def differences_from_card(self, incoming: Incoming) -> list[Problem]:
        """A note for every count that the card has otherwise."""
        if self._card is None:
            return []
        repaired, quarantined = _count_boxes(incoming.problems)
        found = {
            "images": len(incoming.images),
            "boxes": len(incoming.boxes),
            "classes": Counter(incoming.boxes["name"].to_list()),
            "repaired": repaired,
            "quarantined": quarantined,
        }
        return [Problem(self._card_file, None, None, "card_count", text) for text in self._card.differences(found)]

    def result(self, version: int) -> ImportResult:
        if self.joined is None:
            raise DataError("the import was not joined", place=self._dataset)
        return self._describe(self.joined.dataset, self.joined.problems, version)

    def _describe(self, dataset: Dataset, problems: Sequence[Problem], version: int | None) -> ImportResult:
        repaired, quarantined = _count_boxes(problems)
        kinds = Counter(problem.kind for problem in problems)
        notes = [f"The counts are not those of the card: {one.detail}." for one in problems if one.kind == "card_count"]
        if kinds["image_without_xml"]:
            notes.append(f"{kinds['image_without_xml']} images have no XML and were left out (--with-unlabelled).")
        if unlisted := kinds["image_not_listed"]:
            notes.append(f"{unlisted} image{'s are' if unlisted > 1 else ' is'} not in the list; left out.")
        if proposals := kinds["untouched_proposal"]:
            notes.append(
                f"{proposals} XML file{'s are proposals' if proposals > 1 else ' is a proposal'} that nobody has saved;"
                " left out (--accept-proposals takes them as labelled)."
            )
        return ImportResult(
            dataset=self._dataset,
            version=version,
            images=len(dataset.images),
            boxes=len(dataset.drawn_boxes),
            classes=dataset.class_counts(),
            added=self.joined.added if self.joined else 0,
            updated=self.joined.updated if self.joined else 0,
            unchanged=self.joined.unchanged if self.joined else 0,
            repaired=repaired,
            quarantined=quarantined,
            problems=tuple(
                problem._asdict() | {"file": self._as_given(problem.file), "action": problem.action}
                for problem in problems
            ),
            notes=tuple(notes),
            reads=self._reads,
        )


def _without_waiting(incoming: Incoming, root: Path) -> Incoming:
    """Of images inside the dataset that are not annotated nothing is said: they are its own and wait for a label."""
    if not incoming.image_folder.resolve().is_relative_to(root.resolve()):
        return incoming
    problems = tuple(problem for problem in incoming.problems if problem.kind not in _WITHOUT_ANNOTATION)
    return replace(incoming, problems=problems)


def _count_boxes(problems: Sequence[Problem]) -> tuple[int, int]:
    """How many boxes were repaired, and how many quarantined; a box with two faults counts once."""
    boxes = {
        action: {(one.file, one.object) for one in problems if one.object and one.action == action}
        for action in ("repaired", "quarantined")
    }
    return len(boxes["repaired"] - boxes["quarantined"]), len(boxes["quarantined"])


def _place_new_images(store: Store, incoming: Incoming, placer: ImagePlacer, progress: Progress) -> list[str | None]:
    """Link what the dataset does not hold into its folder, before the lock is taken. None: it is there already."""
    held = set(store.load().images["sha256"].tolist()) if store.exists() else set()
    paths: list[str | None] = []
    total = len(incoming.images)
    for file, digest in zip(incoming.images["file"].tolist(), incoming.images["sha256"].tolist(), strict=True):
        if len(paths) % _REPORT_EVERY == 0:
            progress("linking images", len(paths), total)
        paths.append(None if digest in held else placer.place(file, digest))
    progress("linking images", total, total)
    return paths


def _note_other_names(incoming: Incoming, placer: ImagePlacer) -> Iterator[Problem]:
    """A note for every image whose name another one has: an image that was edited is another image."""
    apart = f"{incoming.image_folder}/" if incoming.image_folder != incoming.folder else ""
    for file, path in placer.renamed.items():
        detail = f"{placer.wanted_path(file)} is another image; this one is {path}"
        yield Problem(f"{apart}{file}", None, None, "same_name", detail)


def _complete_paths(
    dataset: Dataset, incoming: Incoming, placed: Sequence[str | None], placer: ImagePlacer
) -> list[str]:
    """The place of every incoming image in the dataset as it is now, under the lock."""
    if all(placed):
        return [path for path in placed if path]
    files, digests = incoming.images["file"].tolist(), incoming.images["sha256"].tolist()
    held = dict(zip(dataset.images["path"].tolist(), dataset.images["sha256"].tolist(), strict=True))
    hints = []
    for path, file, digest in zip(placed, files, digests, strict=True):
        wanted = path or placer.wanted_path(file)
        hints.append(wanted if path or held.get(wanted) == digest else None)
    rows = match_images(dataset.images, incoming.images.assign(path=hints))
    known = dataset.images["path"].to_numpy(dtype=object)
    return [
        path or (known[row] if row >= 0 else placer.place(file, digest))
        for path, row, file, digest in zip(placed, rows, files, digests, strict=True)
    ]
