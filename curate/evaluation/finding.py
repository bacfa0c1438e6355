"""What an evaluation found, in a few sentences: AP, the misses by size, the mistake that costs most, what to do next.

The terminal and the report begin with them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from curate.formatting import count, count_of, points
from curate.operating_point import OperatingPoint
from curate.sizes import SIZES

_SMALLEST_COST = 0.0005  # in AP; less is 0.0 in print

_WHERE = "(`curate view`, or --errors FILE)"  # the app shows runs alone, the table also predictions of other tools


class Confused(NamedTuple):
    """The classes that are confused most often: `truth` is detected as `detected`, so many times."""

    truth: str
    detected: str
    times: int


def describe_finding(document: Mapping[str, Any]) -> list[str]:
    """Sentences on an evaluation, the most important first; `document` is the JSON document of `evaluate`."""
    if not document["truth"]:
        return ["There is no object to find, so there is no AP."]
    return [_ap(document), _misses(document), *describe_cause(document)]


def _ap(document: Mapping[str, Any]) -> str:
    sentence = f"AP {points(document['ap'])} on {document['split']}"
    if other := document.get("against"):
        sentence += f" ({points(other['ap'])} with {other['run']})"
    if interest := document["range_of_interest"]:
        sentence += f"; {points(interest['ap'])} in range (shorter side ≥ {interest['min_side_px']:g} px)"
    return f"{sentence}."


def _misses(document: Mapping[str, Any]) -> str:
    missed = document["errors"]["missed"]
    interest, lost = document["range_of_interest"], sum(missed.values())
    total = interest["truth"] if interest else document["truth"]
    objects = f"{count(total)} {'object' if total == 1 else 'objects'}{' in range' if interest else ''}"
    at = f"at score ≥ {document['operating_point']['score']:g}"
    if not total:
        return "There is no object in range."
    if not lost:
        return f"{'The only object' if total == 1 else f'All {objects}'} {'was' if total == 1 else 'were'} found {at}."
    sizes = ", ".join(f"{count(missed[size])} {size}" for size in SIZES)
    return f"{count(lost)} of {objects} {'is' if lost == 1 else 'are'} missed {at}: {sizes}."


def describe_cause(document: Mapping[str, Any]) -> list[str]:
    """Sentences on what costs most AP, and what to do about it; none where nothing does.

    Without any detection that counts, these come before the kinds of mistakes, which are over all scores.
    """
    if _nothing_detected(document):
        if not document["detections"]:
            return ["There are no detections."]
        score = f"{document['operating_point']['score']:g}"
        return [
            f"No detection that counts has a score of {score} or more.",
            "Next: use a lower --score (--full shows the best for each class); or train longer.",
        ]
    kind = costliest_kind(document)
    if kind is None:
        return []
    costs = document["errors"]["ap_cost"][kind]
    what = f"{OperatingPoint(**document['operating_point']).ap_name}, {points(costs)} points"
    return [f"The mistake that costs most {what}: {_kind_words(kind, document)}.", _next_step(kind, document)]


def _nothing_detected(document: Mapping[str, Any]) -> bool:
    """Whether objects are missed, and no detection at the operating point counts."""
    errors, interest = document["errors"], document["range_of_interest"]
    total = interest["truth"] if interest else document["truth"]
    return 0 < total == sum(errors["missed"].values()) and not sum(errors["false_positives"].values())


def costliest_kind(document: Mapping[str, Any]) -> str | None:
    """The kind of mistake whose fix would gain most AP; None if none would."""
    costs = document["errors"]["ap_cost"]
    known = {kind: costs[kind] for kind in document["errors"]["kinds"] if costs.get(kind) is not None}
    kind = max(known, key=lambda kind: known[kind], default=None)
    return kind if kind is not None and known[kind] >= _SMALLEST_COST else None


def most_confused(document: Mapping[str, Any]) -> Confused | None:
    """The pair of classes that is confused most often at the operating point."""
    names, matrix = document["confusion"]["classes"][:-1], document["confusion"]["matrix"]
    pairs = [
        Confused(truth, detected, matrix[row][column])
        for row, truth in enumerate(names)
        for column, detected in enumerate(names)
        if row != column
    ]
    most = max(pairs, key=lambda pair: pair.times, default=None)
    return most if most is not None and most.times else None


def _kind_words(kind: str, document: Mapping[str, Any]) -> str:
    if kind == "class":
        pair = most_confused(document)
        most = f", most often {pair.truth} detected as {pair.detected} ({count_of(pair.times, 'time')})" if pair else ""
        return f"confused classes{most}"
    return {
        "missed": "objects that are not detected at all",
        "localisation": "boxes of the correct class that fit badly",
        "both": "boxes of another class that fit badly",
        "duplicate": "second boxes on objects that are found already",
        "background": "detections where no object is",
    }[kind]


def _next_step(kind: str, document: Mapping[str, Any]) -> str:
    if kind in ("class", "both"):
        pair = most_confused(document)
        which = f"{pair.truth} and {pair.detected}" if pair else "these classes"
        # two classes merged would leave one, and nothing to tell apart
        merge = ", or merge them (`curate merge-classes`)" if len(document["classes"]) > 2 else ""
        return f"Next: look at them {_WHERE}; label more of {which}{merge}."
    if kind == "missed":
        missed = document["errors"]["missed"]
        size = max(SIZES, key=lambda size: missed[size])
        if size == "small":
            side = "a larger --min-side" if document["range_of_interest"] else "--min-side"
            return (
                f"Next: label more small objects, train with a larger --image-size; or set {side}, if small objects "
                "do not matter."
            )
        return f"Next: look at them {_WHERE}, and label more {size} objects."
    return {
        "localisation": f"Next: look whether the labelled boxes fit {_WHERE}; then train longer.",
        "duplicate": "Next: train longer, or use a higher score (--full shows the best for each class).",
        "background": f"Next: look whether labels are missing there {_WHERE}; add images without objects, or "
        "use a higher score (--full shows the best for each class).",
    }[kind]


def missed_words(document: Mapping[str, Any]) -> str:
    """Why there are more misses than mistakes of the kind "missed"; empty if there are not."""
    errors = document["errors"]
    lost, unexplained = sum(errors["missed"].values()), errors["kinds"]["missed"]
    if lost == unexplained:
        return ""
    return (
        f"Missed: {count_of(lost, 'object')}. {count(unexplained)} of them not detected; "
        f"{count(lost - unexplained)} detected with another class or an inaccurate box, and counted as that."
    )
