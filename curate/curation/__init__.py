"""Pure functions on datasets: merge classes, split, count. None reads or writes a file."""
