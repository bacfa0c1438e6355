"""Detectors behind one protocol. Only this folder imports torch; `base` and `runs` do not."""
