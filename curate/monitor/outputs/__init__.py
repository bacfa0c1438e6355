"""Where a watch writes: event log, detections, annotated video, window, dataset."""
