"""Every detection that counts, as a Parquet table."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from curate.columns import CORNERS
from curate.errors import DataError
from curate.files import TEMPORARY
from curate.monitor.detections import NO_TRACK
from curate.monitor.outputs.thread import Shown

_ROWS_AT_ONCE = 20_000
_FIELDS = [
    ("frame_index", pa.int64()),
    ("timestamp_s", pa.float64()),
    ("track_id", pa.int64()),  # null: of no track
    ("class", pa.string()),
    ("score", pa.float64()),
    *((corner, pa.float64()) for corner in CORNERS),
]


class DetectionTable:
    """Writes rows as they come; the file is there when it is closed.

    Args:
        path: of the file.
        class_names: by class index.
        with_source: whether a last column tells the source, where several are watched.

    Attributes:
        source: what that column says from now on.
    """

    wants_boxes = False

    def __init__(self, path: Path, class_names: Sequence[str], *, with_source: bool = False) -> None:
        self.source = ""
        self._path, self._part = path, path.with_name(path.name + TEMPORARY)
        self._names = class_names
        self._schema = pa.schema([*_FIELDS, *([("source", pa.string())] if with_source else [])])
        self._rows: list[tuple[object, ...]] = []
        self._writer: ParquetWriter | None = ParquetWriter(self._part, self._schema)

    def take(self, shown: Shown) -> None:
        """Add what was seen in a frame."""
        seen = shown.seen
        for index, score, track, box in zip(
            seen.class_indices.tolist(), seen.scores.tolist(), seen.track_ids.tolist(), seen.boxes_xyxy.tolist(),
            strict=True,
        ):  # fmt: skip
            row = (seen.frame_index, seen.timestamp_s, None if track == NO_TRACK else track, self._names[index], score)
            self._rows.append((*row, *box, self.source)[: len(self._schema)])
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._write()

    def close(self) -> None:
        """Write the rest and move the file to its place. May be called again.

        Raises:
            DataError: the disk is full, say.
        """
        if self._writer is None:
            return
        self._write()
        writer, self._writer = self._writer, None
        try:
            writer.close()
            os.replace(self._part, self._path)
        except OSError as error:
            raise self._failed(error) from error

    def _write(self) -> None:
        if self._writer is None:
            return
        columns = list(zip(*self._rows, strict=True)) or [()] * len(self._schema)
        self._rows = []
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        try:
            self._writer.write_table(pa.table(arrays, schema=self._schema))
        except OSError as error:
            writer, self._writer = self._writer, None
            with suppress(OSError):
                writer.close()
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> DataError:
        return DataError(f"the table cannot be written: {error.strerror or error}", place=self._path)
