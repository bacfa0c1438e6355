"""Annotation formats: one module or package each, and what all of them share.

A reader never touches a dataset. It returns an `Incoming`: what the files say, mended, with every fault listed.
"""
