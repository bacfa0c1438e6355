"""Which modules are looked through for examples: those that have one.

Others are not imported only to find nothing in them. A module with an example that cannot be imported is an error;
`--doctest-ignore-import-errors` would make it a skip.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent / "curate"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Skip modules of the package without a `>>>`."""
    if collection_path.suffix == ".py" and _PACKAGE in collection_path.parents:
        return True if ">>> " not in collection_path.read_text(encoding="utf-8") else None
    return None
