"""RetinaFace: a single-shot detector of faces, or of a dataset's own classes, that trains and runs on a laptop."""
