"""Media files of a dataset: where they are stored, and how files come there and leave.

Two names of one file (a hard link) are made only where nobody is asked to write to either. Everything else is copied,
by a reflink where the file system has them (decision 0027).
"""

import fcntl
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from curate.errors import DataError, StoreError, is_disk_full, system_error
from curate.files import failures_at, temporary_file
from curate.paths import make_folder

IMAGES = "media/images"
VIDEOS = "media/videos"
_FICLONE = 0x40049409  # ioctl_ficlonerange(2): share the blocks of a file until one side is written
_COPY_STEP = 1 << 30
_WRITE_BITS = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_LONGEST_STEM = 200  # bytes; file systems allow 255 for a name
_CONTAINER_NAMES = frozenset({"images", "jpegimages", "imgs", "img", "annotations", "labels"})


def source_name(folder: Path) -> str:
    """The name of a source, from its folder: `downloads/Face Mask/images` → `Face_Mask`."""
    parts = [part for part in folder.resolve().parts[1:] if part.lower() not in _CONTAINER_NAMES]
    return re.sub(r"[^\w.-]+", "_", parts[-1] if parts else "images").strip("._") or "images"


class ImagePlacer:
    """Copies the images of a source into `media/images/SOURCE/`; files that are read-only for everybody are linked.

    Args:
        root: The dataset folder.
        folder: The source folder; it names the source.
        image_folder: The folder of its images. Images in `media/images` stay where they are.
        link: Whether to link all images, where the disk allows hard links.

    Attributes:
        source: The name of the source.
        renamed: Images that got another path because a different image has theirs: file → path.
        put_back: Paths of images of the dataset whose file was missing.
    """

    def __init__(self, root: Path, folder: Path, image_folder: Path, *, link: bool = False) -> None:
        self._root = root
        self._link = link
        self._image_folder = image_folder
        self._inside = _relative(image_folder.resolve(), root.resolve() / IMAGES)
        self.source = (self._inside.split("/")[0] if self._inside else "") or source_name(folder)
        self._made: set[str] = set()
        self._given: set[str] = set()
        self.renamed: dict[str, str] = {}
        self.put_back: list[str] = []

    def target_path(self, file: str) -> str:
        """The path of an image in the dataset folder, unless a different image has it. POSIX, relative."""
        if self._inside is not None:
            return "/".join(part for part in (IMAGES, self._inside, file) if part)
        parts = file.split("/")
        while len(parts) > 1 and parts[0].lower() in _CONTAINER_NAMES:
            parts = parts[1:]
        return "/".join([IMAGES, self.source, *parts])

    def place(self, file: str, sha256: str) -> str:
        """Put an image into the dataset folder and return its path there; each image gets a path of its own.

        If a file with other content has the name, the image's name gets a part of its hash.

        Raises:
            DataError: The image cannot be read.
            StoreError: It cannot be written.
        """
        origin = f"{self._image_folder}/{file}"
        target = self.target_path(file)
        with _copying(origin):
            for path in _names(target, sha256):
                if path not in self._given and (self._inside is not None or self._put(origin, path)):
                    self._given.add(path)
                    if path != target:
                        self.renamed[file] = path
                    return path
        raise DataError("every name for the image is taken", place=origin)

    def put_back_missing(self, file: str, path: str) -> None:
        """Put an image that the dataset has already to its path there, if its file is missing.

        Another file at that path stays, also a damaged one: it may be a picture that somebody has edited.

        Raises:
            DataError, StoreError: As `place`.
        """
        if os.path.lexists(f"{self._root}/{path}"):
            return
        origin = f"{self._image_folder}/{file}"
        with _copying(origin):
            if self._put(origin, path):
                self.put_back.append(path)

    def _put(self, origin: str, path: str) -> bool:
        """Copy or link; False if other content has the name."""
        target = f"{self._root}/{path}"
        folder = path.rpartition("/")[0]
        if folder not in self._made:
            make_folder(self._root, folder)
            self._made.add(folder)
        try:
            status = os.lstat(origin)
            if stat.S_ISLNK(status.st_mode):
                origin = os.path.realpath(origin)
                status = os.stat(origin)
            put = link_or_copy if self._link or not status.st_mode & _WRITE_BITS else copy_file
            put(origin, target)
        except FileExistsError:
            return os.path.samefile(origin, target) or _same_bytes(origin, target)
        return True


@contextmanager
def _copying(origin: str) -> Iterator[None]:
    """Say which image, or which place for it, an error of the block is about."""
    try:
        yield
    except OSError as error:
        place, fact = error.filename or origin, "the image cannot be copied"
        if is_disk_full(error):
            remedy = "Free some space there, or import with --link."
            raise StoreError(f"{fact}: {error.strerror}", place=place, remedy=remedy) from error
        kind = DataError if place == origin else StoreError
        raise system_error(error, fact, place=place, kind=kind) from error


def _names(path: str, sha256: str) -> Iterator[str]:
    """A path, then alternatives with the hash in the name."""
    yield path
    folder, _, name = path.rpartition("/")
    stem, suffix = os.path.splitext(name)
    stem = stem.encode()[:_LONGEST_STEM].decode(errors="ignore")
    yield f"{folder}/{stem}-{sha256[:12]}{suffix}"
    yield from (f"{folder}/{stem}-{sha256[:12]}-{number}{suffix}" for number in range(2, 100_000))


def write_image(root: Path, target: str, data: bytes, sha256: str) -> str:
    """Write a new image atomically into the dataset folder and return its path there. POSIX, relative.

    If a file with other content has the path `target`, the new image's name gets a part of its hash.

    Raises:
        StoreError: The image cannot be written, or the path leads out of the dataset folder.
    """
    try:
        make_folder(root, target.rpartition("/")[0])
        return next(path for path in _names(target, sha256) if _take_name(root / path, data))
    except OSError as error:
        place = error.filename or root / target
        raise system_error(error, "the image cannot be written", place=place, kind=StoreError) from error


def _take_name(target: Path, data: bytes) -> bool:
    """Write a file; False if other content has its name."""
    try:
        create_file(str(target), data)
    except FileExistsError:
        return target.read_bytes() == data
    return True


def link_or_copy(origin: str | os.PathLike[str], target: str) -> None:
    """Hard-link a file, or copy it if the disk does not allow that. For files that nobody is asked to write to.

    Args:
        origin: The file; not a symbolic link.
        target: The new name.

    Raises:
        FileExistsError: `target` exists; it is not changed.
        OSError: The file can neither be linked nor copied.
    """
    try:
        os.link(origin, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # another disk, or no hard links
        copy_file(origin, target)


def copy_file(origin: str | os.PathLike[str], target: str) -> None:
    """Copy a file, sharing its blocks where the file system has reflinks: writing to one does not change the other.

    Raises:
        FileExistsError: `target` exists; it is not changed.
        OSError: The file cannot be copied.
    """
    with open(origin, "rb", buffering=0) as source:
        _create(target, lambda copy: _clone(source, copy) or _copy_bytes(source, copy))


def create_file(target: str, data: bytes) -> None:
    """Write a new file, whole or not at all.

    Raises:
        FileExistsError: `target` exists; it is not changed.
        OSError: The file cannot be written.
    """
    _create(target, lambda file: file.write(data))


def _create(target: str, fill: Callable[[IO[bytes]], object]) -> None:
    """Fill a temporary file, then give it its name, unless that exists."""
    with failures_at(target), temporary_file(os.path.dirname(target)) as file:
        fill(file)
        file.flush()
        try:
            os.link(file.name, target)
        except FileExistsError:
            raise
        except OSError:  # no hard links: take the name, then replace the empty file
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.replace(file.name, target)


def _clone(source: IO[bytes], copy: IO[bytes]) -> bool:
    """Copy inside the kernel: a reflink, else the bytes. False where it cannot; then nothing useful is in `copy`."""
    if not hasattr(os, "copy_file_range"):  # not Linux
        return False
    with suppress(OSError):
        fcntl.ioctl(copy, _FICLONE, source.fileno())
        return True
    with suppress(OSError):  # such as a file of another kind of file system
        while os.copy_file_range(source.fileno(), copy.fileno(), _COPY_STEP):
            pass
        return os.fstat(copy.fileno()).st_size == os.fstat(source.fileno()).st_size
    return False


def _copy_bytes(source: IO[bytes], copy: IO[bytes]) -> None:
    for file in (source, copy):
        file.seek(0)
    copy.truncate()
    shutil.copyfileobj(source, copy, 1 << 20)


def _same_bytes(one: str | os.PathLike[str], other: str) -> bool:
    return os.path.getsize(one) == os.path.getsize(other) and Path(one).read_bytes() == Path(other).read_bytes()


def _relative(path: Path, root: Path) -> str | None:
    """`path` relative to `root`, "" for `root` itself; None if outside."""
    if not path.is_relative_to(root):
        return None
    relative = path.relative_to(root).as_posix()
    return "" if relative == "." else relative
