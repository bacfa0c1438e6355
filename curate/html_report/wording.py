"""The words and numbers of a report: figures as they are read, and sentences that say no more than the numbers do."""

from collections.abc import Collection, Mapping
from typing import Any

from curate.evaluation.error_table import MISSED
from curate.formatting import UNDEFINED, count, score
from curate.html_report.gallery import Crop
from curate.sizes import LARGE_FROM_PX2, MEDIUM_FROM_PX2, SIZES

_LONGEST_NAME = 80

KIND_WORDS: Mapping[str, str] = {
    "missed": "not found at all",
    "class": "found, under another class",
    "localisation": "right class, box too far off",
    "both": "another class, and the box too far off",
    "duplicate": "found already by a better detection",
    "background": "nothing is there",
}
_MEDIUM_FROM, _LARGE_FROM = (f"{bound**0.5:g}²" for bound in (MEDIUM_FROM_PX2, LARGE_FROM_PX2))
SIZE_WORDS: Mapping[str, str] = {
    "small": f"area < {_MEDIUM_FROM} px",
    "medium": f"{_MEDIUM_FROM} to {_LARGE_FROM} px",
    "large": f"≥ {_LARGE_FROM} px",
}


def points_gained(now: float | None, before: float | None) -> str:
    """The difference of two metrics in points, of what is printed: 0.479, 0.422 → "+5.7"."""
    if now is None or before is None:
        return UNDEFINED
    return _signed(round(100 * now, 1) - round(100 * before, 1), ".1f")


def count_gained(now: int, before: int) -> str:
    """The difference of two counts, with its sign."""
    return _signed(now - before, ",d")


def _signed(difference: float, form: str) -> str:
    text = format(abs(difference), form)
    if not text.strip("0.,"):
        return text
    return f"+{text}" if difference > 0 else f"−{text}"


def duration(seconds: float) -> str:
    """2833.5 → "47 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def moment(time: str) -> str:
    """An ISO 8601 time in UTC, to the minute."""
    return f"{time[:10]} {time[11:16]} UTC" if time[10:11] == "T" else time


def short(name: str) -> str:
    """A name of at most 80 letters."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def range_words(evaluation: Mapping[str, Any]) -> str:
    """Which objects count."""
    interest = evaluation["range_of_interest"]
    return f"shorter side ≥ {interest['min_side_px']:g} px" if interest else "all objects"


def own_word(word: str, names: Collection[str]) -> str:
    """A word of the page that stands among names of classes, told apart from a class of that name."""
    return f"{word} (no class)" if word in names else word


def miss_sentence(missed: Mapping[str, int], objects: Mapping[str, int], which: str) -> str:
    """How many objects were missed, of which sizes, and what follows from that alone.

    Args:
        missed: size → missed objects.
        objects: size → objects that count.
        which: these are, from `range_words`.
    """
    total, lost = sum(objects.values()), sum(missed.values())
    if not total:
        return f"There is no object to find ({which})."
    if not lost:
        return f"{'The one object was' if total == 1 else f'All {count(total)} objects were'} found ({which})."
    sizes = ", ".join(f"{count(missed[size])} {size}" for size in reversed(SIZES))
    of = f"{count(total)} objects" if total > 1 else "the one object"
    sentences = [f"Of {of} ({which}), {count(lost)} {'are' if lost > 1 else 'is'} missed: {sizes}."]
    most = max(SIZES, key=lambda size: missed[size])
    if 2 * missed[most] > lost > 1:
        sentences.append(f"More than half of the misses are {most}.")
    if untouched := [size for size in SIZES if objects[size] and not missed[size]]:
        sentences.append(f"No {' and no '.join(untouched)} object was missed.")
    return " ".join(sentences)


def false_positive_sentence(errors: Mapping[str, Any], score_from: float) -> str:
    """How many detections that count are false, and of which kinds."""
    wrong = sum(errors["false_positives"].values())
    if not wrong:
        return f"No detection from score {score_from:g} on is false."
    kinds = sorted(
        ((number, kind) for kind, number in errors["kinds"].items() if number and kind != "missed"),
        key=lambda one: -one[0],
    )
    listed = ", ".join(f"{count(number)} {kind}" for number, kind in kinds)
    verb = "detections are" if wrong > 1 else "detection is"
    return f"From score {score_from:g} on, {count(wrong)} {verb} false: {listed}."


def crop_words(crop: Crop, mistake: str, size: str) -> str:
    """All that a picture of a mistake shows, for those who do not see it."""
    name = short(crop.class_name)
    box = f"{size}, {crop.width_px:.0f} × {crop.height_px:.0f} pixels"
    why = reason(crop, mistake)
    if mistake == MISSED:
        return f"Missed {name}, {box}{f', {why}' if why else ''}, in {crop.path}"
    return f"False positive {name}, score {score(crop.score)}, {box}, {why}, in {crop.path}"


def reason(crop: Crop, mistake: str) -> str:
    """Why it is a mistake, in few words."""
    other = short(crop.confused_with) if crop.confused_with is not None else None
    if mistake == MISSED:
        return {"class": f"taken for {other}", "localisation": "box too far off"}.get(crop.kind, "")
    return {"class": f"is {other}", "both": f"overlaps {other}", "localisation": "box too far off"}.get(
        crop.kind, crop.kind
    )
