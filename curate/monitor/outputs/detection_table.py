"""`watch --detections`: a Parquet table with one row per detection."""

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
from curate.monitor.outputs.thread import WatchedFrame

_BUFFERED_ROWS = 20_000
_FIELDS = [
    ("frame_index", pa.int64()),
    ("timestamp_s", pa.float64()),
    ("track_id", pa.int64()),  # null without a track
    ("class", pa.string()),
    ("score", pa.float64()),
    *((corner, pa.float64()) for corner in CORNERS),
]


class DetectionTable:
    """Writes rows to a temporary file, which `close` moves to its place.

    Args:
        path: Of the file.
        class_names: By class index.
        with_source: Whether to add the column `source`.

    Attributes:
        source: Value of that column in the following rows.
    """

    wants_boxes = False

    def __init__(self, path: Path, class_names: Sequence[str], *, with_source: bool = False) -> None:
        self.source = ""
        self._path, self._part = path, path.with_name(path.name + TEMPORARY)
        self._class_names = class_names
        self._schema = pa.schema([*_FIELDS, *([("source", pa.string())] if with_source else [])])
        self._rows: list[tuple[object, ...]] = []
        self._writer: ParquetWriter | None = ParquetWriter(self._part, self._schema)

    def take(self, frame: WatchedFrame) -> None:
        """Add the detections of a frame."""
        detections = frame.detections
        for index, score, track, box in zip(
            detections.class_indices.tolist(), detections.scores.tolist(), detections.track_ids.tolist(),
            detections.boxes_xyxy.tolist(), strict=True,
        ):  # fmt: skip
            track_id = None if track == NO_TRACK else track
            row = (detections.frame_index, detections.timestamp_s, track_id, self._class_names[index], score)
            self._rows.append((*row, *box, self.source)[: len(self._schema)])
        if len(self._rows) >= _BUFFERED_ROWS:
            self._write()

    def close(self) -> None:
        """Write buffered rows and move the file to its place. May be called again.

        Raises:
            DataError: The file cannot be written, as on a full disk.
        """
        if self._writer is None:
            return
        self._write()
        writer, self._writer = self._writer, None
        try:
            writer.close()
            os.replace(self._part, self._path)
        except OSError as error:
            raise self._write_error(error) from error

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
            raise self._write_error(error) from error

    def _write_error(self, error: OSError) -> DataError:
        return DataError(f"cannot write the table: {error.strerror or error}", place=self._path)
