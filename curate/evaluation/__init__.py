"""How good a detector is: `scores` (COCO's numbers), `matching` (who found what), `mistakes` (what went wrong)."""
