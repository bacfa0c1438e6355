"""Triggers: which detections make an event."""
