"""The Detectron2 engine."""
