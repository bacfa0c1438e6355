"""A disk that is full, inside a process: files cannot grow beyond a size."""

import resource
from contextlib import contextmanager


@contextmanager
def files_up_to(size):
    """Let no file of this process grow beyond `size` bytes: a write stops there, and the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
