"""Where the memory ends: telling that it did, and finding the batch that fits."""

import gc
from collections.abc import Callable

import torch

from curate.errors import TrainingError

_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, or of Python, says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def largest_that_fits(batch: int, attempt: Callable[[int], None]) -> int:
    """The largest of batch/2, batch/4, … that `attempt` gets through; 0 where even one image does not fit.

    Args:
        batch: images in the batch that did not fit.
        attempt: does a step's work on so many images, and throws the result away.
    """
    size = batch // 2
    while size:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            size //= 2
        else:
            return size
    return 0


def too_large(batch: int, fits: int, device: object) -> TrainingError:
    """The error that names the batch that fits."""
    return TrainingError(
        f"the memory of {device} does not hold a batch of {batch} images",
        place="--batch",
        got=batch,
        expected=f"{fits}, which fitted when it was tried" if fits else "smaller images: not even one of them fits",
        remedy=f"Begin again with --batch {fits} --overwrite." if fits else "Begin again with a smaller --image-size.",
    )
