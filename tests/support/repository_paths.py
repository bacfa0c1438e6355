"""Where the repository lies, and the data that are shared beside it."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SUPPORT = Path(__file__).parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
