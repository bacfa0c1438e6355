"""Image files inside a dataset folder: where they go, and how they get there without a second copy on disk."""

import errno
import os
import re
import shutil
from pathlib import Path

from curate.errors import DataError

IMAGES = "media/images"
_CONTAINER_NAMES = frozenset({"images", "jpegimages", "imgs", "img", "annotations", "labels"})


def source_name(folder: Path) -> str:
    """The name of a source from its folder: `downloads/Face Mask/images` → `Face_Mask`."""
    parts = [part for part in folder.resolve().parts[1:] if part.lower() not in _CONTAINER_NAMES]
    return re.sub(r"[^\w.-]+", "_", parts[-1] if parts else "images").strip("._") or "images"


class ImagePlacer:
    """Puts the images of one source into `media/images/SOURCE/`, by hard link where the disk allows it.

    Args:
        root: the dataset folder.
        folder: where the source lies. Images that are inside the dataset already stay where they are.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self._inside = _relative(folder.resolve(), root.resolve() / IMAGES)
        self.source = (self._inside.split("/")[0] if self._inside else "") or source_name(folder)
        self._made: set[str] = set()

    def wanted_path(self, file: str) -> str:
        """Where an image of the source belongs in the dataset folder, if nothing else is there. POSIX, relative."""
        if self._inside is not None:
            return "/".join(part for part in (IMAGES, self._inside, file) if part)
        if file.startswith("/"):  # from a separate image folder
            file = file.rpartition("/")[2]
        parts = file.split("/")
        while len(parts) > 1 and parts[0].lower() in _CONTAINER_NAMES:
            parts = parts[1:]
        return "/".join([IMAGES, self.source, *parts])

    def place(self, file: str, sha256: str) -> str:
        """Put one image into the dataset folder and return its path there.

        A file of the same name but another content is left alone; the new one gets a part of its hash into its name.

        Raises:
            DataError: the image cannot be linked or copied.
        """
        path = self.wanted_path(file)
        if self._inside is not None:
            return path
        origin = file if file.startswith("/") else f"{self._folder}/{file}"
        try:
            if self._put(origin, path):
                return path
            stem, suffix = os.path.splitext(path)
            path = f"{stem}-{sha256[:12]}{suffix}"
            if not self._put(origin, path):
                raise DataError("another image has this name", place=self._root / path)
        except OSError as error:
            raise DataError(f"the image cannot be linked or copied: {error.strerror}", place=origin) from error
        return path

    def _put(self, origin: str, path: str) -> bool:
        """Link or copy; False where something else has the name."""
        target = f"{self._root}/{path}"
        folder = target.rpartition("/")[0]
        if folder not in self._made:
            os.makedirs(folder, exist_ok=True)
            self._made.add(folder)
        try:
            link_or_copy(origin, target)
        except FileExistsError:
            return os.path.samefile(origin, target) or _same_bytes(origin, target)
        return True


def link_or_copy(origin: str | os.PathLike[str], target: str) -> None:
    """Give a file a second name, or copy it where the disk does not allow that; what a link points to is meant.

    Raises:
        FileExistsError: something has the name already; it is left alone.
        OSError: neither can be done.
    """
    actual = os.path.realpath(origin) if os.path.islink(origin) else origin
    try:
        os.link(actual, target)
        return
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # another disk, or one without hard links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        shutil.copyfile(actual, temporary)
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _same_bytes(one: str | os.PathLike[str], other: str) -> bool:
    return os.path.getsize(one) == os.path.getsize(other) and Path(one).read_bytes() == Path(other).read_bytes()


def _relative(path: Path, root: Path) -> str | None:
    """`path` relative to `root`, "" for `root` itself; None outside."""
    if not path.is_relative_to(root):
        return None
    relative = path.relative_to(root).as_posix()
    return "" if relative == "." else relative
