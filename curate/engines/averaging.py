"""The running average of a network's weights, which is steadier than the weights themselves."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_EARLY = 10  # steps after which the average may look further back than a few steps


class Average:
    """An exponential moving average of all floating-point tensors of a network.

    In step s the average keeps min(decay, (1 + s) / (10 + s)) of itself, so that it forgets the random start soon
    (as tf.train.ExponentialMovingAverage with `num_updates`).

    Args:
        network: what is averaged.
        decay: 0 averages nothing.
        kept: the average of a checkpoint, to go on from.
    """

    def __init__(self, network: nn.Module, decay: float, kept: Mapping[str, Tensor] | None = None) -> None:
        self._decay = decay
        own = network.state_dict()
        self._names = [name for name, value in own.items() if decay and value.is_floating_point()]
        start = kept or own
        self._tensors = [start[name].detach().to(own[name].device, copy=True) for name in self._names]

    @torch.no_grad()
    def follow(self, network: nn.Module, step: int) -> None:
        """Move the average towards the weights after `step`, counted from 0."""
        if not self._names:
            return
        own = network.state_dict()
        share = 1 - min(self._decay, (2 + step) / (_EARLY + 1 + step))
        for name, tensor in zip(self._names, self._tensors, strict=True):
            tensor.lerp_(own[name], share)

    def weights(self, network: nn.Module) -> dict[str, Tensor]:
        """The averaged tensors, and those that are not averaged, by name."""
        return {**network.state_dict(), **dict(zip(self._names, self._tensors, strict=True))}
