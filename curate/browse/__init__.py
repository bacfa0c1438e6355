"""Looking at a dataset and at mistakes: plots, and later pages and the FiftyOne app."""
