"""What each kind of mistake costs: how much AP would gain, were all mistakes of that kind mended and nothing else.

The definitions are TIDE's dAP (Bolya, Foley, Hays, Hoffman, ECCV 2020, arXiv 2008.08115, section 2.3; where the paper
leaves a choice, its published code, dbolya/tide). AP is over all scores, so mistakes of all scores are mended:

    class            the detection gets the object's class; it is right, if it explains the object (`mistakes`)
    localisation     the detection gets the object's box; likewise
    both, duplicate, background
                     the detection is taken away
    missed           the object is taken away, if no class or localisation error explains it
    false_positives  all false positives are taken away
    false_negatives  all objects that were not found are taken away

A class or localisation error on an object that is found already, that another error explains, or that does not count,
is taken away too: mended, it would be a duplicate, or be ignored.

AP is COCO's, at the operating point's IoU and in the range of interest. Its mean goes over the classes that have
objects; TIDE's also goes over detected classes that have none. A class leaves the mean when all of its objects are
taken away; where no class remains, the cost is not defined.
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
    """The contract's `errors`: the counts at the operating point, and what each kind costs over all scores.

    Attributes:
        ap_cost: kind → AP gained by mending it, 0 to 1; all of `COSTS` are there, None where it is not defined.
    """

    ap_cost: Mapping[str, float | None]


def ap_costs(mistakes: Mistakes, outcomes: Outcomes) -> dict[str, float | None]:
    """The AP that mending each kind of mistake would gain.

    Args:
        mistakes: over all scores.
        outcomes: ranked from the same matches.
    """
    mended = {kind: _mend_detections(mistakes, outcomes, kind) for kind in KINDS if kind != "missed"}
    unexplained = mistakes.missed[mistakes.missed["kind"] == "missed"]
    mended["missed"] = _forget_objects(outcomes, unexplained["class_id"].tolist())
    mended[FALSE_POSITIVES] = outcomes.where(outcomes.right)
    mended[FALSE_NEGATIVES] = _forget_objects(outcomes, mistakes.missed["class_id"].tolist())
    before = outcomes.ap()
    after = {kind: mended[kind].ap() for kind in COSTS}
    return {kind: None if ap is None or before is None else ap - before for kind, ap in after.items()}


def _mend_detections(mistakes: Mistakes, outcomes: Outcomes, kind: str) -> Outcomes:
    """Make right what explains a missed object by this kind; take away the other false positives of the kind."""
    wrong, missed = mistakes.false_positives, mistakes.missed
    explained = missed[missed["kind"] == kind]
    place = np.full(len(mistakes.matches.kept), -1)
    place[outcomes.row] = np.arange(len(outcomes.row))
    found = place[explained["detection"].to_numpy(dtype=np.int64)]
    class_id, right = outcomes.class_id.copy(), outcomes.right.copy()
    class_id[found] = explained["class_id"].to_numpy()
    right[found] = True
    of_kind = np.isin(outcomes.row, wrong.loc[wrong["kind"] == kind, "detection"].to_numpy(dtype=np.int64))
    return replace(outcomes, class_id=class_id, right=right).where(right | ~of_kind)


def _forget_objects(outcomes: Outcomes, class_ids: list[int]) -> Outcomes:
    fewer = Counter(class_ids)
    return replace(outcomes, objects={id_: count - fewer[id_] for id_, count in outcomes.objects.items()})
