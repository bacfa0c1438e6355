"""A trained model on images: detections, predictions, and how they are judged."""
