"""Sentences and labels of the report."""

from collections.abc import Collection, Mapping

from curate.evaluation.error_table import MISSED
from curate.evaluation.judgement import EvaluateResult
from curate.evaluation.mistakes import MistakeCounts
from curate.formatting import UNDEFINED, count, score
from curate.html_report.gallery import Crop
from curate.sizes import LARGE_FROM_PX2, MEDIUM_FROM_PX2, SIZES

_LONGEST_NAME = 80

KIND_WORDS: Mapping[str, str] = {
    "missed": "missed, and no other mistake explains it",
    "class": "detected as another class",
    "localisation": "correct class, inaccurate box",
    "both": "another class and inaccurate box",
    "duplicate": "a better detection has the object",
    "background": "no object there",
}
_MEDIUM_FROM, _LARGE_FROM = (f"{bound**0.5:g}²" for bound in (MEDIUM_FROM_PX2, LARGE_FROM_PX2))
SIZE_WORDS: Mapping[str, str] = {
    "small": f"area < {_MEDIUM_FROM} px",
    "medium": f"{_MEDIUM_FROM} to {_LARGE_FROM} px",
    "large": f"≥ {_LARGE_FROM} px",
}


def points_difference(own: float | None, other: float | None) -> str:
    """Difference of two metrics as printed: 0.479, 0.422 → "+5.7"."""
    if own is None or other is None:
        return UNDEFINED
    return _signed(round(100 * own, 1) - round(100 * other, 1), ".1f")


def count_difference(own: int, other: int) -> str:
    """Difference of two counts: 3, 1 → "+2"."""
    return _signed(own - other, ",d")


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


def date_and_time(time: str) -> str:
    """An ISO 8601 time in UTC, to the minute."""
    return f"{time[:10]} {time[11:16]} UTC" if time[10:11] == "T" else time


def short(name: str) -> str:
    """A name cut to 80 characters."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def range_words(evaluation: EvaluateResult) -> str:
    """The objects that count: "shorter side ≥ 24 px", or "all objects"."""
    interest = evaluation.range_of_interest
    words = f"shorter side ≥ {interest.min_side_px:g} px" if interest else "all objects"
    return f"{words}, without difficult ones" if evaluation.ignore_difficult else words


def distinct_name(word: str, names: Collection[str]) -> str:
    """A label that stands among class names, marked if a class has the same name."""
    return f"{word} (no class)" if word in names else word


def miss_sentence(missed: Mapping[str, int], objects: Mapping[str, int], which: str) -> str:
    """Number of missed objects by size.

    Args:
        missed: Size → missed objects.
        objects: Size → objects that count.
        which: The objects that count, from `range_words`.
    """
    total, lost = sum(objects.values()), sum(missed.values())
    if not total:
        return f"There is no object to find ({which})."
    if not lost:
        return f"{'The only object was' if total == 1 else f'All {count(total)} objects were'} found ({which})."
    sizes = ", ".join(f"{count(missed[size])} {size}" for size in reversed(SIZES))
    of = f"{count(total)} objects" if total > 1 else "1 object"
    sentences = [f"Of {of} ({which}), {count(lost)} {'are' if lost > 1 else 'is'} missed: {sizes}."]
    if all_found := [size for size in SIZES if objects[size] and not missed[size]]:
        sentences.append(f"No {' and no '.join(all_found)} object was missed.")
    return " ".join(sentences)


def false_positive_sentence(errors: MistakeCounts, min_score: float) -> str:
    """Number of false positives by kind."""
    total = sum(errors.false_positives.values())
    if not total:
        return f"No detection with a score of {min_score:g} or more is a false positive."
    kinds = sorted(
        ((number, kind) for kind, number in errors.kinds.items() if number and kind != "missed"),
        key=lambda one: -one[0],
    )
    listed = ", ".join(f"{count(number)} {kind}" for number, kind in kinds)
    detections = f"{count(total)} detections are false positives" if total > 1 else "1 detection is a false positive"
    return f"With a score of {min_score:g} or more, {detections}: {listed}."


def crop_words(crop: Crop, mistake: str, size: str) -> str:
    """Description of a picture of a mistake, for people who cannot see it."""
    name = short(crop.class_name)
    box = f"{size}, {crop.width_px:.0f} × {crop.height_px:.0f} pixels"
    why = reason(crop, mistake)
    if mistake == MISSED:
        return f"Missed {name}, {box}{f', {why}' if why else ''}, in {crop.path}"
    return f"False positive {name}, score {score(crop.score)}, {box}, {why}, in {crop.path}"


def reason(crop: Crop, mistake: str) -> str:
    """Why it is a mistake, in a few words; empty for an object that is missed without an explanation."""
    other = short(crop.confused_with) if crop.confused_with is not None else None
    if mistake == MISSED:
        return {"class": f"detected as {other}", "localisation": "inaccurate box"}.get(crop.kind, "")
    words = {"class": f"is {other}", "both": f"overlaps {other}", "localisation": "inaccurate box"}
    return words.get(crop.kind, crop.kind)
