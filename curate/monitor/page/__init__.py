"""The page with the live picture and the events."""
