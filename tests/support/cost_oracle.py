"""A slow oracle for the costs of mistakes: loops for the rules, pycocotools for the AP.

For each cost it scores a dataset with every object in an image of its own. A true positive has the box of its object, a
false positive is in an empty image, so that no overlap can cause another match.
"""

import numpy as np
from evaluation_oracle import build_predictions, build_truth, oracle, oracle_numbers
from pycocotools import mask

from curate.boxes import shorter_side, xyxy_to_xywh

BOX = (100.0, 100.0, 140.0, 150.0)


def oracle_costs(truth, predictions, min_side_px=0):
    """AP50, and the cost of each kind of mistake; crowds are not supported."""
    scene = Scene(truth, predictions, min_side_px)
    before = scene.ap(scene.right, scene.wrong, scene.counting)
    worlds = {
        "missed": (scene.right, scene.wrong, scene.found | set(scene.explained)),
        "false_positives": (scene.right, [], scene.counting),
        "false_negatives": (scene.right, scene.wrong, scene.found),
    }
    for kind in ("class", "localisation", "both", "duplicate", "background"):
        mended = {by: one for one, by in scene.explained.items() if scene.kinds[by] == kind}
        rest = [detection for detection in scene.wrong if scene.kinds[detection] != kind]
        worlds[kind] = ({**scene.right, **mended}, rest, scene.counting)
    after = {kind: scene.ap(*world) for kind, world in worlds.items()}
    costs = {kind: None if None in (ap, before) else ap - before for kind, ap in after.items()}
    return before, costs


class Scene:
    """Truth and detections with matches and explanations; objects and detections are row numbers."""

    def __init__(self, truth, predictions, min_side_px):
        self.truth, self.predictions = truth, predictions
        self.classes = truth.boxes["class_id"].tolist()
        self.guesses = predictions.boxes["class_id"].tolist()
        scores, images = predictions.boxes["score"].tolist(), predictions.boxes["image_id"].tolist()
        self.ranked = sorted(range(len(scores)), key=lambda row: (-scores[row], images[row], row))
        in_range = (shorter_side(truth.boxes_xyxy) >= min_side_px).tolist()
        self.counting = {row for row, inside in enumerate(in_range) if inside}
        self.iou = self._overlaps()
        self.right, ignored = self._match(in_range)
        small = shorter_side(predictions.boxes_xyxy) < min_side_px
        self.wrong = [row for row in self.ranked if row not in self.right and row not in ignored and not small[row]]
        self.found = set(self.right.values())
        self.kinds, self.explained = {}, {}
        for row in self.wrong:
            self.kinds[row], decided_on = self._kind(row)
            if decided_on in self.counting - self.found:
                self.explained.setdefault(decided_on, row)

    def _overlaps(self):
        boxes, others = (xyxy_to_xywh(one.boxes_xyxy).tolist() for one in (self.predictions, self.truth))
        if not len(boxes) or not len(others):
            return np.zeros((len(boxes), len(others)))
        same = self.predictions.boxes["image_id"].to_numpy()[:, None] == self.truth.boxes["image_id"].to_numpy()
        return np.asarray(mask.iou(boxes, others, [0] * len(others))) * same

    def _match(self, in_range):
        right, ignored, taken = {}, set(), set()
        for row in self.ranked:
            for inside in (True, False):  # what counts comes before what is ignored
                free = [
                    (overlap, one)
                    for one, overlap in enumerate(self.iou[row].tolist())
                    if overlap >= 0.5
                    and self.classes[one] == self.guesses[row]
                    and one not in taken
                    and in_range[one] == inside
                ]
                if free:
                    taken.add(max(free)[1])
                    if inside:
                        right[row] = max(free)[1]
                    else:
                        ignored.add(row)
                    break
        return right, ignored

    def _kind(self, row):
        """The kind of a false positive, and the object that it would find if fixed."""
        own, other = (0.0, None), (0.0, None)
        for one, overlap in enumerate(self.iou[row].tolist()):
            if self.classes[one] == self.guesses[row]:
                own = (overlap, one) if overlap > own[0] else own
            else:
                other = (overlap, one) if overlap > other[0] else other
        if 0.1 <= own[0] < 0.5:
            return "localisation", own[1]
        if other[0] >= 0.5:
            return "class", other[1]
        if own[0] >= 0.5:
            return "duplicate", None
        return ("background" if max(own[0], other[0]) <= 0.1 else "both"), None

    def ap(self, right, wrong, objects):
        """AP50 with these true positives (row → object), false positives and objects."""
        place = {row: position for position, row in enumerate(self.ranked, 1)}  # image ids keep ties in order
        image = {one: place[row] for row, one in right.items()}
        image.update({one: len(self.ranked) + 1 + one for one in objects if one not in image})
        boxes = [(image[one], self.classes[one], *BOX) for one in sorted(objects)]
        scores = self.predictions.boxes["score"].tolist()
        found = [(place[row], self.classes[one], *BOX, scores[row]) for row, one in right.items()]
        found += [(place[row], self.guesses[row], *BOX, scores[row]) for row in wrong]
        images = range(1, len(self.ranked) + len(self.classes) + 2)
        world = build_truth(boxes, images=images, classes=self.truth.classes)
        return oracle_numbers(oracle(world, build_predictions(found)))["ap50"]


def without_crowds(truth):
    """The same truth with crowds as ordinary objects."""
    return truth.replace(boxes=truth.boxes.assign(crowd=False))
