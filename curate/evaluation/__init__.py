"""How good a detector is: `scores` (COCO's numbers), `matching` (who found what), `mistakes` (what went wrong).

`judging` tells all that is told at one operating point: what mistakes cost, what was confused, which score to cut at.
"""
