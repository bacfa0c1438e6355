"""Annotation formats: one module a format, each with `read_…` and `write_…`, and what all of them share.

A reader never touches a dataset. It returns an `Incoming`: what the files say, mended, with every fault listed.
"""
