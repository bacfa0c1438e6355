"""LabelImg and Pascal VOC XML."""
