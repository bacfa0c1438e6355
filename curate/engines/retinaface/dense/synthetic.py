"""A synthetic mesh for tests and first trials: half an ellipsoid with the colours of a simple face."""

import numpy as np
from numpy.typing import NDArray

from curate.engines.retinaface.dense.topology import MeshTopology, UpSampling, edges_of

_PROPORTIONS = (0.75, 1.0, 0.7)  # of a head: half its width, height, depth
_SKIN, _LIPS, _EYES = (0.8, 0.6, 0.5), (0.7, 0.25, 0.25), (0.15, 0.1, 0.1)
_MOUTH = (0.0, -0.45)
_EYE_PAIR = ((-0.35, 0.3), (0.35, 0.3))


def synthetic_face(levels: int = 5) -> MeshTopology:
    """Build half an ellipsoid by repeated subdivision of the front of an octahedron.

    Args:
        levels: 1 gives 4 triangles and 5 vertices, 5 gives 1024 and 545.

    Example:
        >>> synthetic_face(levels=3).sizes
        (5, 13, 41)
    """
    points = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [0, 0, 1]], dtype=np.float64)
    triangles = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    sizes, edges, up_samplings = [len(points)], [edges_of(triangles)], []
    for _ in range(levels - 1):
        up_sampling, triangles = _subdivide(triangles, edges[-1], len(points))
        finer = np.zeros((len(points) + len(edges[-1]), 3))
        np.add.at(finer, up_sampling.rows, up_sampling.weights[:, None] * points[up_sampling.columns])
        points = finer / np.linalg.norm(finer, axis=1, keepdims=True)
        up_samplings.append(up_sampling)
        edges.append(edges_of(triangles))
        sizes.append(len(points))
    return MeshTopology(
        tuple(sizes), tuple(edges), tuple(up_samplings), points * _PROPORTIONS, _face_colours(points), triangles
    )


def _subdivide(
    triangles: NDArray[np.int64], edges: NDArray[np.int64], size: int
) -> tuple[UpSampling, NDArray[np.int64]]:
    """Divide each triangle into four by a new vertex in the middle of each edge."""
    middle = {(int(a), int(b)): size + index for index, (a, b) in enumerate(edges)}
    finer = []
    for a, b, c in triangles.tolist():
        ab, bc, ca = (middle[min(pair), max(pair)] for pair in ((a, b), (b, c), (c, a)))
        finer += [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
    rows = np.concatenate([np.arange(size), np.repeat(np.arange(size, size + len(edges)), 2)])
    columns = np.concatenate([np.arange(size), edges.ravel()])
    weights = np.concatenate([np.ones(size), np.full(2 * len(edges), 0.5)])
    return UpSampling(rows, columns, weights), np.array(finer)


def _face_colours(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(v, 3) colours of points on the unit sphere."""
    colours = np.tile(_SKIN, (len(points), 1))
    for spots, colour, width, height in (((_MOUTH,), _LIPS, 0.3, 0.12), (_EYE_PAIR, _EYES, 0.16, 0.1)):
        for x, y in spots:
            distance2 = ((points[:, 0] - x) / width) ** 2 + ((points[:, 1] - y) / height) ** 2
            share = np.exp(-distance2)[:, None]
            colours = (1 - share) * colours + share * colour
    return colours
