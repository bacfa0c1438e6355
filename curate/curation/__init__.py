"""Pure functions on datasets: merge classes, split, count."""
