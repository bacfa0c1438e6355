"""bfloat16 where it is fast and harmless: in the large convolutions, and nowhere near a coordinate.

torchvision makes its anchors in the type of the feature maps, and bfloat16 tells pixels above 256 apart by twos only.
So the parts that are all arithmetic compute in it and hand on float32; anchors, boxes and losses never see it.
"""

from typing import Any

import torch
from torch import Tensor, nn

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
