"""RetinaFace: a single-shot detector of faces, or of a dataset's classes, which trains and runs on a laptop."""
