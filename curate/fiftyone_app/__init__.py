"""The FiftyOne app: datasets, saved views, server, and the MongoDB behind it."""
