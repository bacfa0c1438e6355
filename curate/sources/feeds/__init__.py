"""Frames for a detector: every frame of a recording, the latest frame of a camera or stream."""
