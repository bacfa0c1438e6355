"""Frames on their way to a detector: of files every one, of cameras and streams the newest."""
