"""What was fetched before: one small file a video, so that nothing is fetched twice and nothing is overwritten."""

import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from curate.files import write_atomically
from curate.media import VIDEOS
from curate.sources.youtube.links import Clip, Wish

_LONGEST_ID = 80  # characters


@dataclass(frozen=True)
class Key:
    """What makes two requests the same.

    Attributes:
        extractor: the site, in small letters.
        id: the site's id of the video; the link itself for generic pages, where ids repeat.
        clip: "START-END" in seconds; None for the whole.
        max_height: as asked.
    """

    extractor: str
    id: str
    clip: str | None
    max_height: int

    @property
    def digest(self) -> str:
        """A short name for files."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Record:
    """A video that was fetched whole.

    Attributes:
        key: what it was asked as.
        links: under which links; a link that is known needs no network.
        size: bytes of the file; a file of another size is not the one that was fetched.
        whole_s: how long the whole video is, where the site tells.
        site_id: the id for the JSON contract.
        row: the columns of the videos table.
    """

    key: Key
    links: tuple[str, ...]
    size: int
    whole_s: float | None
    site_id: str
    row: Mapping[str, Any]

    @property
    def path(self) -> str:
        """Of the file, relative to the dataset folder."""
        return str(self.row["path"])


class Archive:
    """The records of one dataset folder, and the names that its videos have.

    Args:
        root: the dataset folder.
        taken: video ids that the dataset holds from elsewhere.
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
        mine = {Path(record.path).stem for record in self._records.values()}
        self._names: dict[str, Key | None] = {name.casefold(): None for name in taken if name not in mine}
        self._names |= {Path(record.path).stem.casefold(): key for key, record in self._records.items()}

    def find(self, key: Key) -> Record | None:
        """The record of a video that is still on disk."""
        with self._lock:
            record = self._records.get(key)
        if record is None:
            return None
        try:
            return record if (self._root / record.path).stat().st_size == record.size else None
        except OSError:  # deleted by hand: it will be fetched again
            return None

    def find_link(self, wish: Wish, max_height: int) -> Record | None:
        """The record of a link that was given before, just so."""
        with self._lock:
            key = self._by_link.get((wish.link, _text(wish.clip), max_height))
        return self.find(key) if key else None

    def add_link(self, record: Record, link: str) -> Record:
        """Note that a link leads to a known video too."""
        if link in record.links:
            return record
        record = replace(record, links=(*record.links, link))
        self.write(record)
        return record

    def name(self, key: Key, site_id: str) -> str:
        """The file's stem, which no other video of the dataset has; the same key gets the same each time."""
        stem = safe_id(site_id) + (f"_{key.clip}" if key.clip else "")
        with self._lock:
            known = self._records.get(key)
            if known is not None:
                return Path(known.path).stem
            for name in (stem, f"{stem}_{key.max_height}p", f"{stem}-{key.digest[:8]}"):
                folded = name.casefold()  # some disks take capitals and small letters for the same
                if folded not in self._names and not self._is_on_disk(name):
                    self._names[folded] = key
                if self._names.get(folded) == key:
                    return name
        return f"{stem}-{key.digest}"

    def write(self, record: Record) -> None:
        """Write a record, whole or not at all."""
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
        """All records that can be read; a damaged one costs a download, no more."""
        records = []
        for file in sorted(self._folder.glob("*.json")):
            try:
                document = json.loads(file.read_text(encoding="ascii"))
                document["key"] = Key(**document["key"])
                document["links"] = tuple(document["links"])
                record = Record(**document)
                records.append(record) if record.path.startswith(f"{VIDEOS}/") else None
            except (OSError, ValueError, TypeError, KeyError):
                continue
        return records


def make_key(extractor: str, video_id: str, clip: Clip | None, max_height: int) -> Key:
    """The key of a request."""
    return Key(extractor.lower(), video_id, _text(clip), max_height)


def safe_id(site_id: str) -> str:
    """An id as part of a file name; one that had to be changed gets a hash, so that two never become one.

    Examples:
        >>> safe_id("dQw4w9WgXcQ"), safe_id("../x")
        ('dQw4w9WgXcQ', 'x-d6b96a97')
    """
    kept = re.sub(r"[^\w-]+", "_", site_id, flags=re.ASCII).strip("_")[:_LONGEST_ID] or "video"
    return kept if kept == site_id else f"{kept}-{_short_hash(site_id)}"


def id_from_link(link: str) -> str:
    """An id for a generic page: what can be read of its address, and a hash of all of it.

    Examples:
        >>> id_from_link("https://example.org/clips/street%20one.mp4?x=1")
        'street_20one-56a833de'
    """
    path = re.split(r"[?#]", link)[0].rstrip("/")
    stem = re.sub(r"\.\w{1,5}$", "", path.rpartition("/")[2])
    return f"{re.sub(r'[^A-Za-z0-9-]+', '_', stem).strip('_')[:40] or 'video'}-{_short_hash(link)}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _text(clip: Clip | None) -> str | None:
    return None if clip is None else str(clip)
