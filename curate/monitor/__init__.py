"""A trained model on a video, camera or stream: tracks, triggers, outputs."""
