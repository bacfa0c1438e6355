"""Videos: download them, decode them, choose and save frames, read live streams."""
