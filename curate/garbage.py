"""Python's garbage collector, out of the way while many small values are built."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep the collector off inside the block (or the decorated function).

    What a block builds and keeps, the collector would scan again and again without finding anything to free; that
    costs a third of an import. Values are still freed when their last reference goes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
