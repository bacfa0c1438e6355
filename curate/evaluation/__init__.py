"""Detector quality: COCO's scores, matches, mistakes by size and kind, confusion and curves.

`judgement` computes all of it for one operating point; `scores` and `matching` are the two computations below it.
"""
