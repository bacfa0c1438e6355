"""The folder of a run: its configuration, record, metrics, checkpoints and rounds."""
