"""The cost of each kind of mistake: the AP gained if all mistakes of that kind, and nothing else, were fixed.

The definitions are TIDE's dAP (Bolya, Foley, Hays, Hoffman, ECCV 2020, arXiv 2008.08115, section 2.3; where the paper
leaves a choice, its published code, dbolya/tide). AP is over all scores, so mistakes of all scores are fixed:

    class            the detection gets the object's class, and is correct if it explains the object (`mistakes`)
    localisation     the detection gets the object's box, and is correct if it explains the object
    both, duplicate, background
                     the detection is removed
    missed           the object is removed if no class or localisation error explains it
    false_positives  all false positives are removed
    false_negatives  all missed objects are removed

A class or localisation error is also removed where its object is found already, is explained by another error, or does
not count: once fixed, it would be a duplicate or ignored.

AP is COCO's, at the IoU of the operating point and in the range of interest. Its mean is over the classes that have
objects; TIDE's mean also includes detected classes without objects. A class leaves the mean when all of its objects are
removed; where no class remains, the cost is undefined.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from curate.evaluation.curves import Outcomes
from curate.evaluation.mistakes import KINDS, MistakeCounts, Mistakes

FALSE_POSITIVES, FALSE_NEGATIVES = "false_positives", "false_negatives"
COSTS = (*KINDS, FALSE_POSITIVES, FALSE_NEGATIVES)


@dataclass(frozen=True)
class MistakeSummary(MistakeCounts):
    """The contract's `errors`: counts at the operating point, and the cost of each kind over all scores.

    Attributes:
        ap_cost: Kind → AP gained by fixing it, 0 to 1, with all of `COSTS` as keys; None where it is undefined.
    """

    ap_cost: Mapping[str, float | None]


def ap_costs(mistakes: Mistakes, outcomes: Outcomes) -> dict[str, float | None]:
    """The AP that fixing each kind of mistake would gain.

    Args:
        mistakes: Over all scores.
        outcomes: Ranked from the same matches.
    """
    fixed = {kind: _fix_detections(mistakes, outcomes, kind) for kind in KINDS if kind != "missed"}
    unexplained = mistakes.missed[mistakes.missed["kind"] == "missed"]
    fixed["missed"] = _remove_objects(outcomes, unexplained["class_id"].tolist())
    fixed[FALSE_POSITIVES] = outcomes.where(outcomes.correct)
    fixed[FALSE_NEGATIVES] = _remove_objects(outcomes, mistakes.missed["class_id"].tolist())
    before = outcomes.ap()
    after = {kind: fixed[kind].ap() for kind in COSTS}
    return {kind: None if ap is None or before is None else ap - before for kind, ap in after.items()}


def _fix_detections(mistakes: Mistakes, outcomes: Outcomes, kind: str) -> Outcomes:
    """Correct the detections of this kind that explain a missed object; remove its other false positives."""
    wrong, missed = mistakes.false_positives, mistakes.missed
    explained = missed[missed["kind"] == kind]
    place = np.full(len(mistakes.matches.kept), -1)
    place[outcomes.row] = np.arange(len(outcomes.row))
    explaining = place[explained["detection"].to_numpy(dtype=np.int64)]
    class_id, correct = outcomes.class_id.copy(), outcomes.correct.copy()
    class_id[explaining] = explained["class_id"].to_numpy()
    correct[explaining] = True
    of_kind = np.isin(outcomes.row, wrong.loc[wrong["kind"] == kind, "detection"].to_numpy(dtype=np.int64))
    return replace(outcomes, class_id=class_id, correct=correct).where(correct | ~of_kind)


def _remove_objects(outcomes: Outcomes, class_ids: list[int]) -> Outcomes:
    removed = Counter(class_ids)
    return replace(outcomes, objects={id_: count - removed[id_] for id_, count in outcomes.objects.items()})
