"""Marks for tests that need an optional package. They look for it without importing it: torch alone takes seconds."""

from importlib.util import find_spec

import pytest


def needs(*packages, remedy):
    """Skip where one of these top-level packages is not installed."""
    missing = [name for name in packages if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: {remedy}")


needs_torch = needs("torch", "torchvision", "timm", remedy="pip install 'curate-vision[train]'")
needs_page = needs("hypercorn", "starlette", remedy="pip install 'curate-vision[watch]'")
needs_fiftyone = needs("fiftyone", remedy="pip install 'curate-vision[view]'")
needs_pymongo = needs("bson", "pymongo", remedy="FiftyOne brings it: pip install 'curate-vision[view]'")
