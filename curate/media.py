"""Media files of a dataset: where they are stored, and how files are linked there without a second copy on disk."""

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from curate.errors import DataError, StoreError

IMAGES = "media/images"
VIDEOS = "media/videos"
_LEFTOVER_S = 3600
_LONGEST_STEM = 200  # bytes; file systems allow 255 for a name
_CONTAINER_NAMES = frozenset({"images", "jpegimages", "imgs", "img", "annotations", "labels"})


def source_name(folder: Path) -> str:
    """The name of a source, from its folder: `downloads/Face Mask/images` → `Face_Mask`."""
    parts = [part for part in folder.resolve().parts[1:] if part.lower() not in _CONTAINER_NAMES]
    return re.sub(r"[^\w.-]+", "_", parts[-1] if parts else "images").strip("._") or "images"


class ImagePlacer:
    """Links the images of a source into `media/images/SOURCE/`, or copies them if the disk does not allow hard links.

    Args:
        root: The dataset folder.
        folder: The source folder; it names the source.
        image_folder: The folder of its images. Images inside the dataset stay where they are.

    Attributes:
        source: The name of the source.
        renamed: Images that got another path because a different image has theirs: file → path.
    """

    def __init__(self, root: Path, folder: Path, image_folder: Path) -> None:
        self._root = root
        self._image_folder = image_folder
        self._inside = _relative(image_folder.resolve(), root.resolve() / IMAGES)
        self.source = (self._inside.split("/")[0] if self._inside else "") or source_name(folder)
        self._made: set[str] = set()
        self._given: set[str] = set()
        self.renamed: dict[str, str] = {}

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
            DataError: The image cannot be linked or copied.
        """
        origin = f"{self._image_folder}/{file}"
        target = self.target_path(file)
        try:
            for path in _names(target, sha256):
                if path not in self._given and (self._inside is not None or self._put(origin, path)):
                    self._given.add(path)
                    if path != target:
                        self.renamed[file] = path
                    return path
        except OSError as error:
            raise DataError(f"the image cannot be linked or copied: {error.strerror}", place=origin) from error
        raise DataError("every name for the image is taken", place=origin)

    def _put(self, origin: str, path: str) -> bool:
        """Link or copy; False if other content has the name."""
        target = f"{self._root}/{path}"
        folder = target.rpartition("/")[0]
        if folder not in self._made:
            os.makedirs(folder, exist_ok=True)
            self._made.add(folder)
        try:
            # a symbolic link is resolved
            link_or_copy(os.path.realpath(origin) if os.path.islink(origin) else origin, target)
        except FileExistsError:
            return os.path.samefile(origin, target) or _same_bytes(origin, target)
        return True


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
        StoreError: The image cannot be written.
    """
    folder = root / target.rpartition("/")[0]
    temporary = folder / f".{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        return next(path for path in _names(target, sha256) if _take_name(temporary, root / path, data))
    except OSError as error:
        raise StoreError(f"the image cannot be written: {error.strerror}", place=root / target) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files older than an hour: their processes were killed."""
    for file in folder.glob(".*.tmp"):
        if time.time() - file.stat().st_mtime > _LEFTOVER_S:
            file.unlink(missing_ok=True)


def _take_name(temporary: Path, target: Path, data: bytes) -> bool:
    """Give a finished file its name; False if other content has it."""
    try:
        link_or_copy(temporary, str(target))
    except FileExistsError:
        return target.read_bytes() == data
    return True


def link_or_copy(origin: str | os.PathLike[str], target: str) -> None:
    """Hard-link a file, or copy it if the disk does not allow that.

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
        _copy(origin, target)


def _copy(origin: str | os.PathLike[str], target: str) -> None:
    """Copy to a name that does not exist: create it first, then replace it by the finished copy."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    temporary = f"{os.path.dirname(target)}/.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        shutil.copyfile(origin, temporary)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        Path(target).unlink(missing_ok=True)
        raise


def _same_bytes(one: str | os.PathLike[str], other: str) -> bool:
    return os.path.getsize(one) == os.path.getsize(other) and Path(one).read_bytes() == Path(other).read_bytes()


def _relative(path: Path, root: Path) -> str | None:
    """`path` relative to `root`, "" for `root` itself; None if outside."""
    if not path.is_relative_to(root):
        return None
    relative = path.relative_to(root).as_posix()
    return "" if relative == "." else relative
