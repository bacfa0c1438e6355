"""Mesh files: a `MeshTopology` as a NumPy archive (.npz), as `numpy.savez` writes it.

| array | shape, type | holds |
|---|---|---|
| `sizes` | (levels,) integers | number of vertices of each level, coarsest first |
| `edges_0`, `edges_1`, … | (n, 2) integers | the two vertices of each edge of that level |
| `up_0_rows`, `up_0_columns`, `up_1_…` | (n,) integers | indices of the sparse matrix from level 0 to level 1, … |
| `up_0_weights`, `up_1_weights`, … | (n,) reals | its values |
| `vertices` | (v, 3) reals | mean shape on the last level; x right, y up, z out of the face; any origin and unit |
| `colours` | (v, 3) reals in 0..1 | mean albedo: red, green, blue |
| `triangles` | (t, 3) integers | on the last level, counter-clockwise as seen from outside |

Indices count from 0. Other arrays are ignored.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.engines.retinaface.dense.topology import MeshTopology, UpSampling
from curate.errors import DataError, UsageError
from curate.files import read_regular, write_atomically

_LARGEST_BYTES = 1 << 30  # of the file, and of its arrays
_REMEDY = "docs/retinaface.md describes mesh files."


def read_topology(path: Path) -> MeshTopology:
    """Read a mesh file, without running any code that it may hold.

    Raises:
        UsageError: There is no such file.
        DataError: Not a NumPy archive, an array is missing, or one breaks a rule of `MeshTopology`.
    """
    if not path.exists():
        raise UsageError("there is no such mesh file", place=path, expected="an .npz file", remedy=_REMEDY)
    try:
        arrays = _read_arrays(path)
        return _topology(arrays)
    except DataError as error:
        place = f"{path}, {error.place}" if error.place else path
        raise DataError(error.fact, place=place, got=error.got, expected=error.expected, remedy=_REMEDY) from error


def write_topology(topology: MeshTopology, path: Path) -> None:
    """Write a mesh file; a kill leaves the old file or the new one."""
    arrays: dict[str, Any] = {"sizes": np.array(topology.sizes, dtype=np.int64)}
    arrays |= {f"edges_{level}": edges for level, edges in enumerate(topology.edges)}
    for level, up_sampling in enumerate(topology.up_samplings):
        arrays |= {f"up_{level}_{part}": values for part, values in vars(up_sampling).items()}
    arrays |= {"vertices": topology.vertices, "colours": topology.colours, "triangles": topology.triangles}
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        data = io.BytesIO(read_regular(path, _LARGEST_BYTES))
        with zipfile.ZipFile(data) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
        if total > _LARGEST_BYTES:
            raise DataError("the mesh is too large", got=f"{total:,} bytes", expected=f"{_LARGEST_BYTES:,} or fewer")
        data.seek(0)
        content = np.load(data, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise DataError("a single array, not an archive", expected="an .npz file")
        with content:
            return {name: content[name] for name in content.files if _is_mesh_array(name)}
    except DataError:
        raise
    except Exception as error:  # damaged files raise anything
        raise DataError("not a readable mesh file", got=type(error).__name__) from error


def _is_mesh_array(name: str) -> bool:
    return name in ("sizes", "vertices", "colours", "triangles") or name.startswith(("edges_", "up_"))


def _topology(arrays: Mapping[str, NDArray[Any]]) -> MeshTopology:
    sizes = _integers(arrays, "sizes")
    if sizes.ndim != 1:
        raise DataError("wrong shape", place="sizes", got=sizes.shape, expected="(levels,)")
    levels = len(sizes)
    return MeshTopology(
        sizes=tuple(sizes.tolist()),
        edges=tuple(_integers(arrays, f"edges_{level}") for level in range(levels)),
        up_samplings=tuple(
            UpSampling(
                _integers(arrays, f"up_{level}_rows"),
                _integers(arrays, f"up_{level}_columns"),
                _reals(arrays, f"up_{level}_weights"),
            )
            for level in range(levels - 1)
        ),
        vertices=_reals(arrays, "vertices"),
        colours=_reals(arrays, "colours"),
        triangles=_integers(arrays, "triangles"),
    )


def _integers(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.int64]:
    array = _array(arrays, name)
    if array.dtype.kind not in "iu":
        raise DataError("not integers", place=name, got=array.dtype, expected="an integer type")
    return array.astype(np.int64)  # overflow gives negative numbers, which are refused as indices


def _reals(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.float64]:
    array = _array(arrays, name)
    if array.dtype.kind not in "fiu":
        raise DataError("not numbers", place=name, got=array.dtype, expected="a real type")
    return array.astype(np.float64)


def _array(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in arrays:
        raise DataError("an array is missing", place=name)
    return arrays[name]
