"""Outputs of a watch: annotated video, detection table, event log, window, dataset."""
