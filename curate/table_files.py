"""The tables of a dataset as Parquet files that are named by the hash of their bytes, and never change."""

import hashlib
import os
from pathlib import Path

import pandas as pd

from curate.errors import DataError
from curate.files import read_regular, sync_folder, temporary_file
from curate.paths import make_folder
from curate.versions import TABLE_FILE

TABLES_FOLDER = "tables"


def read_table(root: Path, file: str) -> pd.DataFrame:
    """Read a table; what is read is what was written.

    Args:
        root: The dataset folder.
        file: As a version file has it.

    Raises:
        DataError: The file cannot be read, or its bytes are not those that it is named after.
    """
    import pyarrow as pa
    from pyarrow import parquet

    data = read_table_file(root, file)
    try:
        return parquet.ParquetFile(pa.BufferReader(data)).read().to_pandas()
    except Exception as error:  # its bytes are as written, but not by us: pyarrow and pandas raise nearly all kinds
        words = str(error).splitlines()
        raise DataError(
            f"it is no table of curate: {words[0] if words else type(error).__name__}", place=file
        ) from error


def read_table_file(root: Path, file: str) -> bytes:
    """The bytes of a table's file, compared with its name.

    Raises:
        DataError: The file cannot be read, or has other bytes.
    """
    match = TABLE_FILE.fullmatch(file)
    if match is None:
        raise DataError("this is no name of a table", place=file)
    try:
        data = read_regular(root / file)
    except OSError as error:
        raise DataError(error.strerror or str(error), place=file) from error
    if (found := _digest(data)) != match[2]:
        raise DataError("its content is not what was written", place=file, got=f"hash {found}", expected=match[2])
    return data


def write_table(root: Path, name: str, table: pd.DataFrame) -> str:
    """Write a table, fsync it, and return its file, relative to the dataset folder."""
    import pyarrow as pa
    from pyarrow import parquet

    folder = make_folder(root, TABLES_FOLDER)
    with temporary_file(folder) as out:
        parquet.write_table(pa.Table.from_pandas(table, preserve_index=False), out, compression="zstd")
        out.flush()
        os.fsync(out.fileno())
        out.seek(0)
        file = f"{TABLES_FOLDER}/{name}-{hashlib.file_digest(out, 'sha256').hexdigest()[:20]}.parquet"
        os.replace(out.name, root / file)
    sync_folder(folder)
    return file


def existing_tables(root: Path) -> list[str]:
    """The files of tables in a dataset folder, relative to it; not what else lies beside them."""
    names = (f"{TABLES_FOLDER}/{file.name}" for file in (root / TABLES_FOLDER).glob("*.parquet") if file.is_file())
    return sorted(name for name in names if TABLE_FILE.fullmatch(name))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:20]
