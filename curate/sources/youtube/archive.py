"""What was fetched before: one record file per video, so that nothing is fetched twice or overwritten."""

import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from curate.documents.json_reader import read_json
from curate.errors import DataError
from curate.files import write_atomically
from curate.media import VIDEOS
from curate.paths import is_name
from curate.sources.youtube.links import Clip, FetchRequest

_MAX_ID_CHARACTERS = 80


@dataclass(frozen=True)
class Key:
    """Identifies a file: two requests with the same key are the same.

    Attributes:
        extractor: The site in lower case.
        id: The site's ID of the video; the link for generic pages, where IDs repeat.
        clip: "START-END" in seconds; None for the whole video.
        max_height: As requested, in pixels.
    """

    extractor: str
    id: str
    clip: str | None
    max_height: int

    @property
    def digest(self) -> str:
        """A short hash for file names."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Record:
    """A finished file.

    Attributes:
        key: What was requested.
        links: Links that lead to it; a known link needs no network.
        size: Size in bytes; a file of another size is not the one that was fetched.
        whole_s: Duration of the whole video in seconds; None where unknown.
        site_id: ID for the JSON contract.
        row: Row of the videos table.
    """

    key: Key
    links: tuple[str, ...]
    size: int
    whole_s: float | None
    site_id: str
    row: Mapping[str, Any]

    @property
    def path(self) -> str:
        """Path of the file, relative to the dataset folder."""
        return str(self.row["path"])


class Archive:
    """The records of one dataset folder, and the names of its videos. May be used from several threads.

    Args:
        root: Dataset folder.
        taken: Video IDs of the dataset that come from elsewhere.
    """

    def __init__(self, root: Path, taken: Sequence[str] = ()) -> None:
        self._root = root
        self._folder = root / VIDEOS / ".archive"
        self._lock = threading.RLock()
        self._records = {record.key: record for record in self._read()}
        self._by_link = {
            (link, record.key.clip, record.key.max_height): record.key
            for record in self._records.values()
            for link in record.links
        }
        own = {Path(record.path).stem for record in self._records.values()}
        self._names: dict[str, Key | None] = {name.casefold(): None for name in taken if name not in own}
        self._names |= {Path(record.path).stem.casefold(): key for key, record in self._records.items()}

    def find(self, key: Key) -> Record | None:
        """Return the record of a key, if its file is still on disk."""
        with self._lock:
            record = self._records.get(key)
        if record is None:
            return None
        try:
            return record if (self._root / record.path).stat().st_size == record.size else None
        except OSError:  # deleted by hand; it is fetched again
            return None

    def find_link(self, request: FetchRequest, max_height: int) -> Record | None:
        """Return the record of a link that was requested before, with this clip and height."""
        with self._lock:
            key = self._by_link.get((request.link, _as_text(request.clip), max_height))
        return self.find(key) if key else None

    def add_link(self, record: Record, link: str) -> Record:
        """Record another link of a known video."""
        if link in record.links:
            return record
        record = replace(record, links=(*record.links, link))
        self.write(record)
        return record

    def choose_name(self, key: Key, site_id: str) -> str:
        """Return a file stem that no other video of the dataset has; a key always gets the same one."""
        stem = safe_id(site_id) + (f"_{key.clip}" if key.clip else "")
        with self._lock:
            known = self._records.get(key)
            if known is not None:
                return Path(known.path).stem
            for name in (stem, f"{stem}_{key.max_height}p", f"{stem}-{key.digest[:8]}"):
                folded = name.casefold()  # some file systems ignore case
                if folded not in self._names and not self._is_on_disk(name):
                    self._names[folded] = key
                if self._names.get(folded) == key:
                    return name
        return f"{stem}-{key.digest}"

    def write(self, record: Record) -> None:
        """Write a record, completely or not at all."""
        with self._lock:
            text = json.dumps(asdict(record) | {"row": dict(record.row)}, indent=1)
            write_atomically(self._folder / f"{record.key.digest}.json", lambda file: file.write(text.encode()))
            self._records[record.key] = record
            for link in record.links:
                self._by_link[link, record.key.clip, record.key.max_height] = record.key

    def _is_on_disk(self, stem: str) -> bool:
        folder = self._root / VIDEOS
        return folder.is_dir() and any(Path(name).stem.casefold() == stem.casefold() for name in os.listdir(folder))

    def _read(self) -> list[Record]:
        """All valid records; the video of an invalid one is fetched again."""
        records = []
        for file in sorted(self._folder.glob("*.json")):
            try:
                record = read_json(file, "record of a video", Record)
                records.append(record) if _is_ours(record) else None
            except (DataError, KeyError):
                continue
        return records


def _is_ours(record: Record) -> bool:
    """Whether a record names a file directly in the folder of videos, and a video."""
    folder, _, name = record.path.rpartition("/")
    return folder == VIDEOS and is_name(name) and is_name(str(record.row["video_id"]))


def make_key(extractor: str, video_id: str, clip: Clip | None, max_height: int) -> Key:
    return Key(extractor.lower(), video_id, _as_text(clip), max_height)


def safe_id(site_id: str) -> str:
    """Make an ID usable in file names; a changed one gets a hash, so that two IDs never become one.

    Examples:
        >>> safe_id("dQw4w9WgXcQ"), safe_id("../x")
        ('dQw4w9WgXcQ', 'x-d6b96a97')
    """
    kept = re.sub(r"[^\w-]+", "_", site_id, flags=re.ASCII).strip("_")[:_MAX_ID_CHARACTERS] or "video"
    return kept if kept == site_id else f"{kept}-{_short_hash(site_id)}"


def make_id(link: str) -> str:
    """Make an ID for a generic page: the last part of its path, and a hash of the link.

    Examples:
        >>> make_id("https://example.org/clips/street%20one.mp4?x=1")
        'street_20one-56a833de'
    """
    path = re.split(r"[?#]", link)[0].rstrip("/")
    stem = re.sub(r"\.\w{1,5}$", "", path.rpartition("/")[2])
    return f"{re.sub(r'[^A-Za-z0-9-]+', '_', stem).strip('_')[:40] or 'video'}-{_short_hash(link)}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _as_text(clip: Clip | None) -> str | None:
    return None if clip is None else str(clip)
