"""The mesh decoder: from a code of 128 numbers to a coloured mesh, by graph convolutions on increasingly fine meshes.

A joint decoder of shape and texture like that of Zhou, Deng, Kotsia, Zafeiriou (arXiv 1904.03525), with the layers of
Ranjan, Bolkart, Sanyal, Black (CoMA, arXiv 1807.10267): a linear layer to the coarsest level, then for each finer level
up-sampling, Chebyshev convolution and ReLU, and a last convolution to six channels.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from curate.engines.retinaface.dense.chebyshev import ChebyshevConvolution, scaled_laplacian, sparse_product
from curate.engines.retinaface.dense.topology import MeshTopology, UpSampling

CODE = 128
FARTHEST_OFFSET = 0.4  # of the mean shape's radius, along each axis
_COLOUR_MARGIN = 0.02  # keeps logits of the mean colours finite
_INIT_SCALE = 0.1  # of the last layer: training starts near the mean face


class MeshDecoder(nn.Module):
    """Decodes codes to vertices around a mean face with centre 0 and radius 1.

    The output is bounded, so the camera sees the mesh of any code: vertices are within `FARTHEST_OFFSET` of the mean
    on each axis, colours within 0..1.

    Args:
        topology: Its mean shape may have any origin and unit.
        width: Channels on all levels but the coarsest, which has twice as many (CoMA: 16).
        order: K of the convolutions (CoMA: 6).
    """

    def __init__(self, topology: MeshTopology, width: int = 16, order: int = 6) -> None:
        super().__init__()
        self._sizes = topology.sizes
        self._coarse_channels = 2 * width
        self.start = nn.Linear(CODE, self._sizes[0] * self._coarse_channels)
        finer = len(self._sizes) - 1
        inputs = [self._coarse_channels, *[width] * finer]
        outputs = [*[width] * finer, 6]
        self.convolutions = nn.ModuleList(map(ChebyshevConvolution, inputs, outputs, [order] * len(inputs)))
        with torch.no_grad():
            self.convolutions[-1].get_parameter("weight").mul_(_INIT_SCALE)
        # not in checkpoints, because they come from the mesh file
        for level, matrix in enumerate(topology.up_samplings):
            self._register(f"up_{level}", *_entries(matrix, self._sizes[level + 1], self._sizes[level]))
        for level, (edges, size) in enumerate(zip(topology.edges, self._sizes, strict=True)):
            self._register(f"graph_{level}", *scaled_laplacian(edges, size))
        self.register_buffer("mean_shape", _unit_shape(topology), persistent=False)
        colours = torch.from_numpy(topology.colours).clamp(_COLOUR_MARGIN, 1 - _COLOUR_MARGIN)
        self.register_buffer("mean_colour_logits", colours.logit().float(), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """(p, 128) → (p, v, 6): x, y, z, red, green, blue."""
        features = functional.relu(self.start(codes)).view(-1, self._sizes[0], self._coarse_channels)
        for level, convolution in enumerate(self.convolutions):
            is_last = level == len(self._sizes) - 1
            if not is_last:
                finer = self._sizes[level + 1]
                features = sparse_product(*self._matrix(f"up_{level}"), finer, features)
            graph = self._matrix(f"graph_{level if is_last else level + 1}")
            features = convolution(features, *graph)
            features = features if is_last else functional.relu(features)
        vertices = self.get_buffer("mean_shape") + FARTHEST_OFFSET * torch.tanh(features[..., :3])
        return torch.cat([vertices, torch.sigmoid(self.get_buffer("mean_colour_logits") + features[..., 3:])], dim=-1)

    def _register(self, name: str, indices: Tensor, values: Tensor) -> None:
        """Register a sparse matrix as two dense buffers: not everything that handles networks supports sparse ones."""
        self.register_buffer(f"{name}_indices", indices, persistent=False)
        self.register_buffer(f"{name}_values", values.float(), persistent=False)

    def _matrix(self, name: str) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"{name}_indices"), self.get_buffer(f"{name}_values")


def _entries(matrix: UpSampling, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    indices = torch.from_numpy(np.stack([matrix.rows, matrix.columns]).astype(np.int64))
    values = torch.from_numpy(matrix.weights.astype(np.float64))
    coalesced = torch.sparse_coo_tensor(indices, values, (rows, columns), check_invariants=False).coalesce()
    return coalesced.indices(), coalesced.values()


def _unit_shape(topology: MeshTopology) -> Tensor:
    """The mean shape with the centre of its bounding box at 0 and its farthest vertex at distance 1."""
    low, high = topology.vertices.min(axis=0), topology.vertices.max(axis=0)
    centred = topology.vertices - (low + high) / 2
    return torch.from_numpy(centred / np.linalg.norm(centred, axis=1).max()).float()
