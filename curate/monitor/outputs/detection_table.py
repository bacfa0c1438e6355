"""`watch --detections`: a Parquet table with one row per detection.

Until it is closed its rows are in `.NAME.part.arrows`, as Arrow streams one behind the other. What a kill leaves of
these can be read, while a Parquet file without its end is lost.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from curate.columns import CORNERS
from curate.errors import DataError
from curate.growing_files import PartFile, append_whole, free_name
from curate.monitor.detections import NO_TRACK
from curate.monitor.outputs.thread import WatchedFrame
from curate.monitor.problems import Problems

_BUFFERED_ROWS = 20_000
_BUFFERED_S = 10.0  # what a kill can cost
_MOST_ROWS = 200_000  # that wait in memory while the disk of a live source is full
_LOST = ("detection lost", "detections lost")
_PART_SUFFIX = ".arrows"
_FIELDS = [
    ("frame_index", pa.int64()),
    ("timestamp_s", pa.float64()),
    ("track_id", pa.int64()),  # null without a track
    ("class", pa.string()),
    ("score", pa.float64()),
    *((corner, pa.float64()) for corner in CORNERS),
]


class DetectionTable:
    """Writes rows to a part beside the table, which `close` turns into the table. Without a frame there is none.

    Args:
        path: Of the file.
        class_names: By class index.
        problems: Gets what an earlier watch left when it was killed, and rows that cannot be written.
        with_source: Whether to add the column `source`.
        replace: Whether a file at its place is replaced; otherwise the table gets a name beside it.

    Attributes:
        source: Value of that column in the following rows.
        must_be_whole: Whether rows that cannot be written are an error. Otherwise they wait in memory.
    """

    wants_boxes = False

    def __init__(
        self,
        path: Path,
        class_names: Sequence[str],
        problems: Problems,
        *,
        with_source: bool = False,
        replace: bool = True,
    ) -> None:
        self.source, self.must_be_whole = "", True
        self._path, self._class_names, self._problems, self._replace = path, class_names, problems, replace
        self._schema = pa.schema([*_FIELDS, *([("source", pa.string())] if with_source else [])])
        self._rows: list[tuple[object, ...]] = []
        self._part: PartFile | None = None
        self._written_s, self._due_rows = time.monotonic(), _BUFFERED_ROWS
        self._has_frames = False

    def take(self, frame: WatchedFrame) -> None:
        """Add the detections of a frame.

        Raises:
            DataError: The table of a recording cannot be written, as on a full disk.
        """
        self._has_frames = True
        detections = frame.detections
        for index, score, track, box in zip(
            detections.class_indices.tolist(), detections.scores.tolist(), detections.track_ids.tolist(),
            detections.boxes_xyxy.tolist(), strict=True,
        ):  # fmt: skip
            track_id = None if track == NO_TRACK else track
            row = (detections.frame_index, detections.timestamp_s, track_id, self._class_names[index], score)
            self._rows.append((*row, *box, self.source)[: len(self._schema)])
        now_s = time.monotonic()
        if self._rows and (now_s - self._written_s >= _BUFFERED_S or len(self._rows) >= self._due_rows):
            self._written_s = now_s
            self._write(is_last=False)
            self._due_rows = len(self._rows) + _BUFFERED_ROWS

    def close(self) -> None:
        """Write the table. May be called again.

        Raises:
            DataError: The file cannot be written, as on a full disk.
        """
        if not self._has_frames:
            return
        self._has_frames = False
        try:
            self._write(is_last=True)
            part, self._part = self._part, None
            if part is None:
                return
            if not os.fstat(part.descriptor).st_size:
                part.discard()
                return  # all rows are lost, and told
            try:
                _write_parquet(part.path, part.place if self._replace else free_name(part.place), self._schema)
            except (OSError, pa.ArrowException) as error:
                part.close()
                remedy = f"Its rows are in {part.path}; the next watch with this name turns them into a table."
                raise self._write_error(error, remedy) from error
            part.discard()
        finally:
            if self._part is not None:
                self._part.close()

    def _write(self, *, is_last: bool) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(self._schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema) as stream:
            stream.write_table(pa.table(arrays, schema=self._schema))
        try:
            self._part = self._part or self._open_part()
            append_whole(self._part.descriptor, sink.getvalue().to_pybytes())
        except (OSError, DataError) as error:
            if self.must_be_whole:
                raise (error if isinstance(error, DataError) else self._write_error(error)) from error
            reason = error.fact if isinstance(error, DataError) else error.strerror or str(error)
            self._problems.add(f"{self._path}: detections wait in memory: {reason}.")
            if is_last or len(self._rows) >= _MOST_ROWS:
                self._problems.count(str(self._path), _LOST, reason, len(self._rows))
                self._rows = []
            return
        self._rows = []

    def _open_part(self) -> PartFile:
        part = PartFile(self._path, suffix=_PART_SUFFIX, beside=not self._replace)
        if part.place != self._path:
            self._problems.report_moved(self._path, part.place)
        if part.kept is not None:
            self._problems.report_kept(self._rescue(part.kept))
        return part

    def _rescue(self, kept: Path) -> Path:
        """Turn what a killed watch left into a table; return its path, or that of the rows if it cannot be written."""
        table = free_name(kept.with_suffix(self._path.suffix))
        try:
            _write_parquet(kept, table, self._schema)
        except (OSError, pa.ArrowException):
            return kept
        kept.unlink()
        return table

    def _write_error(self, error: Exception, remedy: str | None = None) -> DataError:
        number = getattr(error, "errno", None)  # pyarrow's own text is long
        reason = error if number is None else os.strerror(number)
        return DataError(f"cannot write the table: {reason}", place=self._path, remedy=remedy)


def _write_parquet(rows: Path, table: Path, schema: pa.Schema) -> None:
    """Write rows as a Parquet file, as far as they are whole."""
    temporary = table.with_name(f".{table.stem}.part{table.suffix}")
    try:
        with ParquetWriter(temporary, schema) as writer:
            waiting: list[pa.RecordBatch] = []
            for batch in _read_batches(rows):
                waiting.append(batch)
                if sum(one.num_rows for one in waiting) >= _BUFFERED_ROWS:
                    writer.write_table(pa.Table.from_batches(waiting, schema))
                    waiting = []
            writer.write_table(pa.Table.from_batches(waiting, schema))
        os.replace(temporary, table)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _read_batches(rows: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(rows)) as file:
        while file.tell() < file.size():
            try:
                yield from pa.ipc.open_stream(file)
            except (OSError, pa.ArrowException):
                return  # cut off by a kill
