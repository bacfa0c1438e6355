"""What every import does after its reader: classes, media, joining, one version of the dataset, and the result.

A new importer is a reader that returns `Incoming`, and a command that passes it to `ingest`. Nothing here depends on a
format.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.card import Card, read_card
from curate.dataset import Dataset
from curate.errors import DataError, StrictImportError, UsageError, closest
from curate.formats.import_notes import note_incomplete, note_refused_names, note_similar_names
from curate.formats.incoming import Incoming, Problem, in_file_order
from curate.formats.joining import Joined, class_ids_by_name, join, match_images, resolve_names
from curate.formatting import count_of, listed
from curate.media import ImagePlacer
from curate.plain_text import check_name
from curate.progress import Progress
from curate.result import Result
from curate.store import Store
from curate.versions import find_card

_REPORT_EVERY = 200
_MOST_NAMES = 10  # in a message


@dataclass(frozen=True)
class ImportResult(Result):
    """The result of an import.

    Attributes:
        dataset: The dataset folder.
        version: The new version; None if `strict` refused the import.
        images, boxes, classes: What the dataset has now; proposals of models are not counted.
        added, updated, unchanged: Images of this import.
        repaired, quarantined: Boxes of this import.
        problems: All faults; `file` is a path that the caller can open.
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
    """The class names that an import accepts.

    Attributes:
        names: In order; boxes of other classes are quarantined. None: all names.
        card_file: The card in force, if there is one.
        card: Its content; an import compares its counts.
    """

    names: tuple[str, ...] | None
    card_file: Path | None
    card: Card | None


def find_allowed_classes(
    store: Store, names: Sequence[str] | None = None, card: str | os.PathLike[str] | None = None
) -> AllowedClasses:
    """The names that the caller gives, else those of the card that the caller gives, else of the dataset's own card.

    Raises:
        DataError: The card cannot be read, or a class in it has an invisible character.
        UsageError: A given name has an invisible character.
    """
    card_file = Path(card) if card is not None else find_card(store.root)
    content = read_card(card_file) if card_file else None
    declared = tuple(names) if names is not None else (content.classes or None if content else None)
    for name in declared or ():
        if names is not None:
            check_name(name, "--classes", "class")
        else:
            check_name(name, card_file, "class", error=DataError)
    return AllowedClasses(declared, card_file, content)


def _as_it_is(dataset: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    return dataset, ()


def ingest(
    store: Store,
    dataset: str,
    incoming: Incoming,
    allowed: AllowedClasses,
    operation: tuple[str, Mapping[str, Any]],
    *,
    strict: bool,
    progress: Progress,
    link: bool = False,
    complete: Callable[[Dataset], tuple[Dataset, tuple[str, ...]]] = _as_it_is,
) -> ImportResult:
    """Join a source to a dataset as one version; the dataset is created if it does not exist.

    Args:
        store: The dataset's store.
        dataset: The dataset folder as the caller named it.
        incoming: What the reader returned.
        allowed: The accepted class names.
        operation: The command and its arguments, for the history.
        strict: Whether to make no version if a box, image or file is repaired or quarantined.
        progress: Callback for progress.
        link: Whether images become hard links instead of copies.
        complete: What the same version does beside; called under the dataset's lock with the joined dataset, returns it
            changed, and notes.

    Raises:
        StrictImportError: `strict`, and something was repaired or quarantined; carries the result.
        UsageError: No box has an allowed class.
    """
    incoming = _complete_problems(incoming, store.root)
    known = store.load() if store.exists() else Dataset(store.root)
    _refuse_other_classes(known, incoming, allowed)
    report = _Report(store, dataset, incoming, allowed)
    if strict:
        report.refuse_faults(resolve_names(known, incoming, declared=allowed.names)[1].problems)
    placer = ImagePlacer(store.root, incoming.folder, incoming.image_folder, link=link)
    relative = os.path.relpath(incoming.folder.resolve(), store.root.resolve())
    source_folder = os.fsencode(relative).decode(errors="backslashreplace")
    placed = _place_new_images(known, incoming, placer, progress)

    def change(before: Dataset) -> Dataset:
        settled, named = resolve_names(before, incoming, declared=allowed.names)
        if strict:
            report.refuse_faults(named.problems)
        paths = _complete_paths(before, named, placed, placer)
        notes = [*_note_other_names(named, placer)]
        # The card describes its own source: it is compared if no other source came before, or if the import covers all
        # images, as when all frames have been labelled.
        if (before.images["source"] == placer.source).all() or set(before.images["path"]) <= set(paths):
            notes += report.compare_with_card(named)
        named = replace(named, problems=(*named.problems, *notes))
        report.remarks = (*note_incomplete(named), *note_refused_names(settled, incoming, named, allowed.names))
        joined = join(settled, named, paths, source=placer.source, folder=source_folder)
        report.remarks += note_similar_names(joined.dataset, set(named.boxes["name"].unique()))
        if placer.put_back:
            report.remarks += (f"Put back: {count_of(len(placer.put_back), 'image')} whose file was missing.",)
        completed, report.more_notes = complete(joined.dataset)
        report.joined = replace(joined, dataset=completed)
        return completed

    version, _ = store.commit(*operation, change)
    return report.result(version)


class _Report:
    """Collects what goes into the result, across the commit."""

    def __init__(self, store: Store, dataset: str, incoming: Incoming, allowed: AllowedClasses) -> None:
        self._store = store
        self._dataset = dataset
        self._folder = incoming.folder
        self._notes, self._reads = incoming.notes, tuple(incoming.reads)
        # files that problems name whole, not relative to the folder
        self._whole = (f"{incoming.image_folder}/",) if incoming.image_folder != incoming.folder else ()
        self._card_file = str(allowed.card_file)
        self._card = allowed.card
        self.joined: Joined | None = None
        self.remarks: tuple[str, ...] = ()
        self.more_notes: tuple[str, ...] = ()

    def _as_given(self, file: str) -> str:
        """The file of a problem as a path that the caller can open."""
        return file if file.startswith(self._whole) or file == self._card_file else f"{self._folder}/{file}"

    def refuse_faults(self, problems: Sequence[Problem]) -> None:
        """Raise for the first problem that is more than a note."""
        faults = [problem for problem in problems if problem.action != "noted"]
        if faults:
            first = faults[0]
            raise StrictImportError(
                f"{count_of(len(faults), 'fault')} in the annotations, the first: {first.kind}",
                place=self._as_given(first.file) + (f", object {first.object}" if first.object else ""),
                got=first.detail,
                remedy="Nothing was imported. Correct the files, or import without --strict.",
                result=self._describe(
                    self._store.load() if self._store.exists() else Dataset(self._store.root), problems, None
                ),
            )

    def compare_with_card(self, incoming: Incoming) -> list[Problem]:
        """A note for every count that differs from the card."""
        if self._card is None:
            return []
        repaired, quarantined = _count_boxes(incoming.problems)
        counts = {
            "images": len(incoming.images),
            "boxes": len(incoming.boxes),
            "classes": Counter(incoming.boxes["name"].to_list()),
            "repaired": repaired,
            "quarantined": quarantined,
        }
        differences = self._card.differences(counts)
        return [Problem(self._card_file, None, None, "card_count", text, "noted") for text in differences]

    def result(self, version: int) -> ImportResult:
        if self.joined is None:
            raise DataError("the import was not joined", place=self._dataset)
        return self._describe(self.joined.dataset, self.joined.problems, version)

    def _describe(self, dataset: Dataset, problems: Sequence[Problem], version: int | None) -> ImportResult:
        repaired, quarantined = _count_boxes(problems)
        differences = [one.detail for one in problems if one.kind == "card_count"]
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
            problems=tuple(problem._asdict() | {"file": self._as_given(problem.file)} for problem in problems),
            notes=(
                *(f"A count differs from the card: {text}." for text in differences),
                *self._notes,
                *self.remarks,
                *self.more_notes,
            ),
            reads=self._reads,
        )


def _refuse_other_classes(dataset: Dataset, incoming: Incoming, allowed: AllowedClasses) -> None:
    """Refuse an import in which every box has a class that is not allowed: the names are misspelt, or another set's."""
    names = incoming.boxes["name"].value_counts()
    known = class_ids_by_name(dataset).keys() | set(allowed.names or ())
    if allowed.names is None or not len(names) or known & set(names.index):
        return
    is_from_card = allowed.card is not None and allowed.names == allowed.card.classes
    found = sorted(names.index)
    similar = next((one for name in allowed.names if (one := closest(name, found)) is not None), None)
    raise UsageError(
        "no box has an allowed class",
        place=allowed.card_file if is_from_card else "--classes",
        got=f"boxes of {listed(map(repr, found), _MOST_NAMES)}",
        expected=f"one of {', '.join(allowed.names)}",
        remedy=f"Did you mean {similar!r}?" if similar else "Name the classes as the annotations do.",
    )


def _complete_problems(incoming: Incoming, root: Path) -> Incoming:
    """Add images without annotation to the problems and notes, unless they are inside the dataset; sort by file."""
    is_inside = incoming.image_folder.resolve().is_relative_to(root.resolve())
    unannotated = () if is_inside else incoming.unannotated
    return replace(
        incoming,
        problems=in_file_order([*incoming.problems, *unannotated]),
        notes=(*([incoming.unannotated_note] if unannotated else ()), *incoming.notes),
    )


def _count_boxes(problems: Sequence[Problem]) -> tuple[int, int]:
    """Number of repaired and of quarantined boxes; a box with two faults counts once."""
    boxes = {
        action: {(one.file, one.object) for one in problems if one.object and one.action == action}
        for action in ("repaired", "quarantined")
    }
    return len(boxes["repaired"] - boxes["quarantined"]), len(boxes["quarantined"])


def _place_new_images(
    dataset: Dataset, incoming: Incoming, placer: ImagePlacer, progress: Progress
) -> list[str | None]:
    """Put images that the dataset does not have, or whose files are missing, into its folder, before the lock is taken.

    Returns:
        Path of each incoming image; None if the dataset has its content already. (n,)
    """
    known: dict[str, list[str]] = {}
    for path, digest in zip(dataset.images["path"].tolist(), dataset.images["sha256"].tolist(), strict=True):
        known.setdefault(digest, []).append(path)
    paths: list[str | None] = []
    total = len(incoming.images)
    for file, digest in zip(incoming.images["file"].tolist(), incoming.images["sha256"].tolist(), strict=True):
        if len(paths) % _REPORT_EVERY == 0:
            progress("copying images", len(paths), total)
        for path in known.get(digest, ()):
            placer.put_back_missing(file, path)
        paths.append(None if digest in known else placer.place(file, digest))
    progress("copying images", total, total)
    return paths


def _note_other_names(incoming: Incoming, placer: ImagePlacer) -> Iterator[Problem]:
    """A note for every image stored under another name, because a different image has its own."""
    prefix = f"{incoming.image_folder}/" if incoming.image_folder != incoming.folder else ""
    for file, path in placer.renamed.items():
        detail = f"{placer.target_path(file)} is another image; this one is {path}"
        yield Problem(f"{prefix}{file}", None, None, "same_name", detail, "noted")


def _complete_paths(
    dataset: Dataset, incoming: Incoming, placed: Sequence[str | None], placer: ImagePlacer
) -> list[str]:
    """The path of every incoming image, with the dataset as it is now, under the lock."""
    if all(placed):
        return [path for path in placed if path]
    files, digests = incoming.images["file"].tolist(), incoming.images["sha256"].tolist()
    digest_of = dict(zip(dataset.images["path"].tolist(), dataset.images["sha256"].tolist(), strict=True))
    hints = []
    for path, file, digest in zip(placed, files, digests, strict=True):
        target = path or placer.target_path(file)
        hints.append(target if path or digest_of.get(target) == digest else None)
    rows = match_images(dataset.images, incoming.images.assign(path=hints))
    known = dataset.images["path"].to_numpy(dtype=object)
    return [
        path or (known[row] if row >= 0 else placer.place(file, digest))
        for path, row, file, digest in zip(placed, rows, files, digests, strict=True)
    ]
