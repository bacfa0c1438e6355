"""Convolution on a graph by a truncated Chebyshev polynomial of its Laplacian.

    y = Σ_{k<K} T_k(L~) x Θ_k + b,  T_0 = 1, T_1 = L~, T_k = 2 L~ T_{k−1} − T_{k−2},  L~ = 2 L / λ_max − 1,  L = D − E

Defferrard, Bresson, Vandergheynst: Convolutional Neural Networks on Graphs with Fast Localized Spectral Filtering, NIPS
2016, arXiv 1606.09375, section 2.1. L = D − E (degrees minus adjacency) is RetinaFace's choice (arXiv 1905.00641).
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_EIGENVALUE_STEPS, _EIGENVALUE_TOLERANCE = 100, 1e-4  # enough for convolutions; more is slow on fine meshes


def scaled_laplacian(edges: NDArray[np.int64], size: int) -> tuple[Tensor, Tensor]:
    """The entries of L~ of an undirected graph; its eigenvalues are in −1..1, within 0.001.

    Args:
        edges: (n, 2) pairs of different vertices; duplicates and reversed duplicates count once.
        size: Number of vertices, 3 or more.

    Returns:
        (2, m) int64 rows and columns, sorted, each pair once, and (m,) float64 values.
    """
    pairs = np.unique(np.sort(edges, axis=1), axis=0)
    degrees = np.bincount(pairs.ravel(), minlength=size).astype(np.float64)
    vertices = np.arange(size)
    rows = np.concatenate([pairs[:, 0], pairs[:, 1], vertices])
    columns = np.concatenate([pairs[:, 1], pairs[:, 0], vertices])
    values = np.concatenate([np.full(2 * len(pairs), -1.0), degrees])
    laplacian = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([rows, columns])), torch.from_numpy(values), (size, size), check_invariants=False
    ).coalesce()
    scale = 2 / _largest_eigenvalue(laplacian)
    indices = laplacian.indices()
    return indices, laplacian.values() * scale - (indices[0] == indices[1]).double()


def _largest_eigenvalue(laplacian: Tensor) -> float:
    size = laplacian.shape[0]
    start = torch.randn(size, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values, _ = torch.lobpcg(laplacian, X=start, niter=_EIGENVALUE_STEPS, tol=_EIGENVALUE_TOLERANCE, largest=True)
    return float(values[0])


def sparse_product(indices: Tensor, values: Tensor, rows: int, features: Tensor) -> Tensor:
    """A sparse (rows, v) matrix times each of (p, v, c) features: (p, rows, c).

    Args:
        indices: (2, m), sorted, without duplicates.
        values: (m,)
        rows: Of the matrix.
        features: (p, v, c)
    """
    count, size, channels = features.shape
    matrix = torch.sparse_coo_tensor(indices, values, (rows, size), check_invariants=False, is_coalesced=True)
    flat = features.transpose(0, 1).reshape(size, count * channels)
    return torch.sparse.mm(matrix, flat).reshape(rows, count, channels).transpose(0, 1)


class ChebyshevConvolution(nn.Module):
    """K polynomials of the graph, each with its own matrix from input to output channels.

    Args:
        order: K; the output of a vertex depends on others up to K − 1 edges away.
    """

    def __init__(self, in_channels: int, out_channels: int, order: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(order, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        bound = math.sqrt(6 / (order * in_channels + out_channels))  # Glorot's, with K inputs per channel
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, features: Tensor, indices: Tensor, values: Tensor) -> Tensor:
        """(p, v, in_channels) → (p, v, out_channels), on the graph of `scaled_laplacian`'s entries."""
        previous, current = features, features
        result = self.bias + features @ self.weight[0]
        for order in range(1, len(self.weight)):
            stepped = sparse_product(indices, values, features.shape[1], current)
            previous, current = current, stepped if order == 1 else 2 * stepped - previous
            result = result + current @ self.weight[order]
        return result
