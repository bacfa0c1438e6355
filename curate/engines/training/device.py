"""Where the torchvision engine computes, and how."""

import gc
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from curate.errors import MissingError, TrainingError, UsageError

_PARTS = ("backbone", "rpn.head", "roi_heads.box_head", "head")  # where a torchvision detector has them


class _InBfloat16:
    """Put before a module's class: computes in bfloat16, answers in float32."""

    def forward(self, *inputs: Any) -> Any:
        device = next(self.parameters()).device.type  # pyright: ignore[reportAttributeAccessIssue]
        with torch.autocast(device, torch.bfloat16):
            answer = super().forward(*inputs)  # pyright: ignore[reportAttributeAccessIssue]
        return _as_float32(answer)


def compute_in_bfloat16(network: nn.Module) -> None:
    """Let the large parts of a torchvision detector compute in bfloat16; names of tensors stay."""
    for name, module in list(network.named_modules()):
        kind = type(module)
        if name in _PARTS and not isinstance(module, _InBfloat16):
            module.__class__ = type(kind.__name__, (_InBfloat16, kind), {})  # pyright: ignore[reportAttributeAccessIssue]


def _as_float32(answer: Any) -> Any:
    if isinstance(answer, Tensor):
        return answer.float()
    if isinstance(answer, dict):
        return type(answer)((name, _as_float32(value)) for name, value in answer.items())
    return type(answer)(_as_float32(value) for value in answer)


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


_AMPERE = 8  # compute capability


def device_named(name: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "cuda:1"; "auto" is the first GPU, else the CPU.

    Raises:
        UsageError: no such name.
        MissingError: there is no such GPU.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UsageError("unknown device", place="--device", got=repr(name), expected="auto, cpu, cuda or cuda:N")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise MissingError(
            "there is no such GPU",
            place=name,
            expected=f"one of the {count} that torch sees",
            remedy="Use --device auto.",
        )
    return device


def placed(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network. On a GPU channels go last, and it computes in mixed precision where the GPU is made for it.

    On two CPU cores channels at the end cost 15 to 30 %.
    """
    network = network.to(device)
    if has_bfloat16(device):
        compute_in_bfloat16(network)
    return network.to(memory_format=torch.channels_last) if device.type == "cuda" else network  # pyright: ignore[reportCallIssue]


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16, which needs no scaling of the loss: GPUs from Ampere on; others emulate it."""
    return device.type == "cuda" and torch.cuda.get_device_properties(device).major >= _AMPERE


def gpu_name() -> str | None:
    """The first GPU's name; None where there is none."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
