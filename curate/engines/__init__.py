"""Detectors behind one protocol. Only this package imports torch; `base` does not."""
