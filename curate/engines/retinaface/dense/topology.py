"""The mesh topology that all faces of the dense branch share: triangles, a mean face, and levels of detail.

Levels count from the coarsest. Axes: x to the right of the image, y up, z out of the face towards the viewer; any
origin and unit. Triangles are counter-clockwise as seen from outside, which defines the outside for shading.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError

_FEWEST_VERTICES = 3
_LARGEST_EXTENT = 1e100  # its square is finite


@dataclass(frozen=True, eq=False)
class UpSampling:
    """A sparse matrix that computes the vertices of a level from those of the coarser one.

    Attributes:
        rows: (n,) int64, vertices of the finer level.
        columns: (n,) int64, vertices of the coarser level.
        weights: (n,) float64; entries with the same row and column are added.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    weights: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MeshTopology:
    """The mesh for which a decoder computes shapes and colours.

    Attributes:
        sizes: Number of vertices of each level.
        edges: For each level (n, 2) int64, the two vertices of each edge, in either order.
        up_samplings: One fewer than levels; the first computes level 1 from level 0.
        vertices: (v, 3) float64, the mean shape on the finest level.
        colours: (v, 3) float64 in 0..1, red, green, blue of the mean face's albedo.
        triangles: (t, 3) int64 on the finest level.

    Raises:
        DataError: A shape, type or value breaks these rules; the place is the array's name in a mesh file.
    """

    sizes: tuple[int, ...]
    edges: tuple[NDArray[np.int64], ...]
    up_samplings: tuple[UpSampling, ...]
    vertices: NDArray[np.float64]
    colours: NDArray[np.float64]
    triangles: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < _FEWEST_VERTICES:
            rule = f"one level or more, each with {_FEWEST_VERTICES} vertices or more"
            raise DataError("too few levels or vertices", place="sizes", got=list(self.sizes), expected=rule)
        if len(self.edges) != len(self.sizes) or len(self.up_samplings) != len(self.sizes) - 1:
            raise DataError(
                "the numbers of levels, edge arrays and up-samplings do not match",
                place="sizes",
                got=f"{len(self.sizes)}, {len(self.edges)} and {len(self.up_samplings)}",
                expected="one edge array per level, and one up-sampling fewer",
            )
        self._check_finest()
        for level, (edges, size) in enumerate(zip(self.edges, self.sizes, strict=True)):
            _check_indices(f"edges_{level}", edges, (None, 2), size)
            if (edges[:, 0] == edges[:, 1]).any():
                raise DataError("an edge connects a vertex with itself", place=f"edges_{level}")
        for level, up_sampling in enumerate(self.up_samplings):
            _check_up_sampling(f"up_{level}", up_sampling, self.sizes[level], self.sizes[level + 1])

    def _check_finest(self) -> None:
        size = self.sizes[-1]
        _check_numbers("vertices", self.vertices, (size, 3))
        _check_numbers("colours", self.colours, (size, 3))
        if self.colours.min() < 0 or self.colours.max() > 1:
            extremes = f"{self.colours.min():g} to {self.colours.max():g}"
            raise DataError("colours out of range", place="colours", got=extremes, expected="0 to 1")
        with np.errstate(over="ignore"):
            extent = np.ptp(self.vertices, axis=0).max()
        if not 0 < extent < _LARGEST_EXTENT:
            raise DataError(
                "the extent of the shape is out of range",
                place="vertices",
                got=f"{extent:g}",
                expected=f"over 0, below {_LARGEST_EXTENT:g}",
            )
        _check_indices("triangles", self.triangles, (None, 3), size)


def edges_of(triangles: NDArray[np.int64]) -> NDArray[np.int64]:
    """The edges of (t, 3) triangles: (n, 2), without duplicates, the smaller vertex first."""
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return np.unique(np.sort(sides, axis=1), axis=0)


def _check_up_sampling(name: str, matrix: UpSampling, coarse: int, fine: int) -> None:
    count = len(matrix.rows) if matrix.rows.ndim else None
    _check_indices(f"{name}_rows", matrix.rows, (count,), fine)
    _check_indices(f"{name}_columns", matrix.columns, (count,), coarse)
    _check_numbers(f"{name}_weights", matrix.weights, (count,))
    empty = np.setdiff1d(np.arange(fine), matrix.rows)
    if len(empty):
        raise DataError("a vertex has no row", place=f"{name}_rows", got=f"no row {empty[0]}")


def _check_indices(name: str, array: NDArray[np.int64], shape: tuple[int | None, ...], count: int) -> None:
    _check_shape(name, array, shape)
    if array.dtype.kind not in "iu":
        raise DataError("not integers", place=name, got=array.dtype, expected="an integer type")
    if array.min() < 0 or array.max() >= count:
        worst = array.min() if array.min() < 0 else array.max()
        raise DataError("there is no such vertex", place=name, got=worst, expected=f"0 to {count - 1}")


def _check_numbers(name: str, array: NDArray[np.float64], shape: tuple[int | None, ...]) -> None:
    _check_shape(name, array, shape)
    if array.dtype.kind not in "fiu":
        raise DataError("not numbers", place=name, got=array.dtype, expected="a real type")
    if not np.isfinite(array).all():
        raise DataError("a value is not finite", place=name, got=array[~np.isfinite(array)][0])


def _check_shape(name: str, array: NDArray[np.generic], shape: tuple[int | None, ...]) -> None:
    fits = array.ndim == len(shape) and all(
        side > 0 if rule is None else side == rule for side, rule in zip(array.shape, shape, strict=True)
    )
    if not fits:
        rule = f"({', '.join('n' if side is None else str(side) for side in shape)}{',' * (len(shape) == 1)})"
        raise DataError("wrong shape", place=name, got=array.shape, expected=rule)
