"""Batch norms as part of the convolutions before them: the same numbers in fewer passes, for a network that is used."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_norms(network: nn.Module) -> None:
    """Change a network in place, which then cannot be trained any more.

    Only neighbours in an `nn.Sequential` are sure to follow one another.
    """
    network.eval()
    for chain in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for (place, first), (next_place, second) in pairwise(list(chain.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(chain, place, fuse_conv_bn_eval(first, second))
                setattr(chain, next_place, nn.Identity())
