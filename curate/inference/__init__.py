"""A trained model on images: load it, predict, judge the predictions."""
