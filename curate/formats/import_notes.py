"""Sentences at the end of an import: what does not count and why, and class names that may be misspelt."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from curate.columns import causes_of_incomplete
from curate.dataset import Dataset
from curate.formats.incoming import Incoming
from curate.formatting import count_of, curate_command, listed

_MOST_NAMES = 5  # one sentence each
_SHORTEST_NAME = 4  # shorter names are often one letter apart
_FEW_BOXES = 3  # a misspelt class has no more, or 1 % of the other's
_TELLING = "#%&*@"  # marks that tell classes apart: c, c#
_RARE = 1 / 100
_RARE_SHORT = 1 / 20  # of names of four letters


def note_incomplete(incoming: Incoming) -> tuple[str, ...]:
    """A sentence on incomplete images: the boxes that were lost, the other boxes that do not count, and where."""
    is_incomplete = (incoming.images["label_state"] == "incomplete").to_numpy(dtype=bool)
    if not is_incomplete.any():
        return ()
    faults = [problem for problem in incoming.problems if problem.action == "quarantined"]
    lost = len({(problem.file, problem.object) for problem in faults if problem.object})
    others = int(is_incomplete[incoming.boxes["image"].to_numpy(dtype=int)].sum())
    images = count_of(int(is_incomplete.sum()), "image") + (f" with {count_of(others, 'box')}" if others else "")
    lost_boxes = count_of(lost, "other box" if others else "box")
    reason = f"{lost_boxes} could not be taken" if lost else "the annotations have faults"
    rows = ((problem.file, problem.kind, problem.object is not None) for problem in faults)
    shown = listed(file for file, _ in causes_of_incomplete(rows))
    return (
        f"Incomplete: {images}, left out of training, evaluation, split and stats, because {reason} ({shown}). "
        "Correct the annotations and import again.",
    )


def note_refused_names(
    dataset: Dataset, before: Incoming, after: Incoming, declared: Sequence[str] | None
) -> tuple[str, ...]:
    """A sentence for each class that is not allowed and may be an allowed one, misspelt.

    Args:
        dataset: Names that were merged, renamed or dropped in it are known.
        before: As the reader returned it.
        after: Without the boxes that are left out.
        declared: The allowed classes; None: all.
    """
    if declared is None:
        return ()
    known = set(after.boxes["name"].unique()) | dataset.aliases.keys()
    counts = Counter(name for name in before.boxes["name"].tolist() if name not in known)
    near = [(name, other) for name in sorted(counts) for other in declared if _is_similar(_plain(name), _plain(other))]
    return tuple(
        f"The class {name!r} ({count_of(counts[name], 'box')}) is not allowed; did you mean {other!r}?"
        for name, other in near[:_MOST_NAMES]
    )


def note_similar_names(dataset: Dataset, imported: set[str]) -> tuple[str, ...]:
    """A sentence for each class of an import that may be another class, misspelt; with the command that joins them.

    Names that differ in case, spaces, punctuation and invisible marks only are always listed. Names that differ in one
    letter, or in a plural, are listed if one of them is rare: classes that were meant have more boxes. Names that
    differ in a digit are not.

    Args:
        dataset: With the import.
        imported: Class names in the import.
    """
    likeliest: dict[str, tuple[str, int, str, int]] = {}  # of several, the one with most boxes
    for pair in sorted(_similar_names(dataset, imported), key=lambda pair: pair[3]):
        likeliest[pair[0]] = pair
    pairs = sorted(likeliest.values())
    root = dataset.root
    notes = [
        f"The classes {rare!r} ({count_of(number, 'box')}) and {usual!r} ({count_of(more, 'box')}) may be one: "
        f"{curate_command('merge-classes', root, rare, '--into', usual)} joins them."
        for rare, number, usual, more in pairs[:_MOST_NAMES]
    ]
    if len(pairs) > _MOST_NAMES:
        notes.append(f"Similar names: {count_of(len(pairs) - _MOST_NAMES, 'more pair')} of classes.")
    return tuple(notes)


def _similar_names(dataset: Dataset, imported: set[str]) -> Iterator[tuple[str, int, str, int]]:
    """Pairs as (rarer name, its boxes, other name, its boxes)."""
    counts = dataset.class_counts()
    forms = {name: _plain(name) for name in counts}
    for one, other in combinations(counts, 2):
        if not (one in imported or other in imported) or not _is_similar(forms[one], forms[other]):
            continue
        # of equally frequent names, the one that was declared first stays
        rare, usual = (one, other) if counts[one] < counts[other] else (other, one)
        shortest = min(len(forms[one]), len(forms[other]))
        if counts[usual] and (forms[one] == forms[other] or _is_rare(counts[rare], counts[usual], shortest)):
            yield rare, counts[rare], usual, counts[usual]


def _is_rare(number: int, others: int, letters: int) -> bool:
    """Whether a class has so few boxes beside another that it may be its misspelt name."""
    if letters <= _SHORTEST_NAME and number > others * _RARE_SHORT:
        return False
    return 0 < number <= max(_FEW_BOXES, others * _RARE) and number * 2 <= others


def _is_similar(one: str, other: str) -> bool:
    """Whether plain forms of names are equal, or differ in one letter or a plural, but in no digit."""
    short, long = (one, other) if len(one) <= len(other) else (other, one)
    if one == other or len(long) - len(short) > len("es") or len(short) < _SHORTEST_NAME - 1:
        return one == other
    if long in (f"{short}s", f"{short}es"):
        return True
    if len(short) < _SHORTEST_NAME:
        return len(short) == len(long) and sorted(short) == sorted(long) and _is_one_edit(short, long)
    if not _is_one_edit(short, long):
        return False
    return re.sub(r"\d", "", short) != re.sub(r"\d", "", long)  # class1, class2


def _is_one_edit(short: str, long: str) -> bool:
    """Whether one letter was added, left out, replaced or exchanged with the next."""
    start = next((place for place, pair in enumerate(zip(short, long, strict=False)) if pair[0] != pair[1]), len(short))
    if len(long) == len(short) + 1:
        return long[start + 1 :] == short[start:]
    if len(long) != len(short):
        return False
    swapped = short[start : start + 2][::-1] == long[start : start + 2] and short[start + 2 :] == long[start + 2 :]
    return swapped or short[start + 1 :] == long[start + 1 :]


def _plain(name: str) -> str:
    """A name without case, spaces, punctuation and marks that are not seen; full-width letters become plain ones.

    Between digits some mark stays: 1.5 is not 15.
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    marked = "".join("_" if _is_mark(letter) else letter for letter in text)
    return re.sub(r"_+", "", re.sub(r"(?<=\d)_+(?=\d)", ".", marked)) or name


def _is_mark(letter: str) -> bool:
    kind = unicodedata.category(letter)
    return letter not in _TELLING and (kind[0] in "ZP" or kind in ("Cc", "Cf") or letter == "`")
