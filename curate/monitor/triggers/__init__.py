"""Triggers: which detections are an event."""
