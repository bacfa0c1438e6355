"""`verify`: compare every file of a dataset with what was written."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from curate.errors import CurateError, DataError, StoreError
from curate.files import open_regular
from curate.paths import is_inside
from curate.progress import Progress, silent
from curate.result import Result
from curate.store import Store, card_digest
from curate.table_files import read_table, read_table_file
from curate.versions import VersionFiles

_PUT_BACK = "Remove damaged images; importing their source again puts missing ones back. Copy frames of videos back."
_CARD = "the card is another one than when version {} was made: it was edited, or it is damaged."


@dataclass(frozen=True)
class Finding:
    """A file that is not what was written.

    Attributes:
        kind: head, redo, version, table, image or video.
        file: POSIX, relative to the dataset folder.
        detail: What is wrong with it.
    """

    kind: str
    file: str
    detail: str


@dataclass(frozen=True)
class VerifyResult(Result):
    """What was compared, and what differs.

    Attributes:
        version: The current version; None if HEAD is damaged.
        versions, tables, images, videos: Numbers of files that were compared.
        unchecked: Number of images and videos of which the dataset has no hash; they are there.
        findings: Files that are missing or damaged.
    """

    version: int | None
    versions: int
    tables: int
    images: int
    videos: int
    unchecked: int
    findings: tuple[Finding, ...]


def verify(dataset: str | os.PathLike[str], *, progress: Progress = silent) -> VerifyResult:
    """Compare the history of a dataset, its tables, and the images and videos of all versions with their hashes.

    Where versions have different content under one path, as after an image was replaced, the current version's counts,
    then the newest one's. Nothing is changed.

    Args:
        dataset: The dataset folder.
        progress: Called as files are read.

    Raises:
        StoreError: The folder has no dataset.
    """
    root, store, files = Path(dataset), Store(dataset), VersionFiles(Path(dataset))
    files.require()
    findings: list[Finding] = []
    head = None
    try:
        head = store.head()
    except StoreError as error:
        findings.append(Finding("head", "HEAD", error.fact))
    damaged: list[StoreError] = []
    versions = store.all_versions(damaged, replaced=True)
    for error in damaged:
        file = Path(str(error.place)).relative_to(root).as_posix()
        findings.append(Finding("redo" if file == "REDO" else "version", file, error.fact))
    versions.sort(key=lambda entry: (entry.version != head, -entry.version))
    tables = list(dict.fromkeys(file for entry in versions for file in entry.tables.values()))
    broken = set(_broken_tables(root, tables, findings, progress))
    if versions and versions[0].version == head and not broken & set(versions[0].tables.values()):
        try:
            store.load(head)
        except CurateError as error:  # its tables are as written, but not by curate
            file = files.file(versions[0].version).relative_to(root).as_posix()
            findings.append(Finding("version", file, error.fact))
            broken |= set(versions[0].tables.values())
    media = _media(root, [table for table in tables if table not in broken], findings)
    unchecked = _compare_media(root, media, findings, progress)
    current = next((entry for entry in versions if entry.version == head), None)
    is_other_card = current is not None and current.card is not None and current.card != card_digest(root)
    kinds = [kind for kind, _ in media.values()]
    notes = [_CARD.format(head)] if is_other_card else []
    if any(finding.kind == "image" for finding in findings):
        notes.append(_PUT_BACK)
    return VerifyResult(
        version=head,
        versions=len(files.numbers()),
        tables=len(tables),
        images=kinds.count("image"),
        videos=kinds.count("video"),
        unchecked=unchecked,
        findings=tuple(findings),
        notes=tuple(notes),
    )


def _broken_tables(root: Path, tables: list[str], findings: list[Finding], progress: Progress) -> Iterator[str]:
    for done, table in enumerate(tables):
        progress("tables", done, len(tables))
        try:
            read_table_file(root, table)
        except DataError as error:
            got = f" (got {error.got}; expected {error.expected})" if error.got else ""
            findings.append(Finding("table", table, error.fact + got))
            yield table
    progress("tables", len(tables), len(tables))


def _media(root: Path, tables: list[str], findings: list[Finding]) -> dict[str, tuple[str, str]]:
    """Path → kind and hash, of the images and videos of these tables; the first table that has a path counts."""
    media: dict[str, tuple[str, str]] = {}
    for kind, prefix in (("image", "tables/images-"), ("video", "tables/videos-")):
        for table in tables:
            if not table.startswith(prefix):
                continue
            try:
                rows = read_table(root, table)
                hashes = rows["sha256"] if "sha256" in rows else repeat("")
                for path, digest in zip(rows["path"], map(str, hashes), strict=False):
                    if not isinstance(path, str):
                        raise ValueError("a path is missing")
                    media.setdefault(path, (kind, digest))
            except (CurateError, LookupError, TypeError, ValueError) as error:
                findings.append(Finding("table", table, f"it is no table of {kind}s: {error}"))
    return media


def _compare_media(root: Path, media: dict[str, tuple[str, str]], findings: list[Finding], progress: Progress) -> int:
    """Compare files with their hashes; returns how many have none."""
    unchecked = 0
    with ThreadPoolExecutor() as threads:  # hashing and reading release the lock of the interpreter
        try:
            results = threads.map(lambda path: _differs(root, path, media[path][1]), media)
            for done, (path, fault) in enumerate(zip(media, results, strict=True), 1):
                if fault:
                    findings.append(Finding(media[path][0], path, fault))
                unchecked += fault is None
                progress("images and videos", done, len(media))
        except BaseException:
            threads.shutdown(cancel_futures=True)  # after an interruption, the files that wait are not read
            raise
    return unchecked


def _differs(root: Path, path: str, expected: str) -> str | None:
    """What is wrong with a file: "" if nothing is, None if it is there and its hash is not known."""
    if not is_inside(path):
        return "the path leaves the dataset folder"
    try:
        with open_regular(root / path) as file:
            if not expected:
                return None
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"the file cannot be read: {error.strerror or error}"
    return (
        ""
        if found == expected
        else f"its content is not what was imported (got hash {found[:20]}; expected {expected[:20]})"
    )
