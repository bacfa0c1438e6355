"""A trained model on a file, camera or stream: tracks, triggers, output."""
