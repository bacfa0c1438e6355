"""Paths that come out of files and tables: which stay in their folder, and that nothing is written through a link.

A dataset, an export or a list may come from somebody else. What it names is written and removed inside the folder
that the user named, and nowhere else: the text must not lead out, and no folder on the way may be a symbolic link. The
folder that the user named may be one.
"""

import os
from pathlib import Path, PurePosixPath

from curate.errors import StoreError


def is_inside(path: str) -> bool:
    """Whether a text is a POSIX path that stays in the folder that it is relative to.

    Examples:
        >>> [is_inside(path) for path in ("clips/a.jpg", "../a.jpg", "/a.jpg", "clips/../../a.jpg", "")]
        [True, False, False, False, False]
    """
    if "\\" in path or "\0" in path or path.startswith("/") or path in ("", "."):
        return False
    return ".." not in path or ".." not in PurePosixPath(path).parts


def is_name(text: str) -> bool:
    """Whether a text can be a part of a path: the name of one file or folder.

    Examples:
        >>> [is_name(text) for text in ("clip_7", "a..b", "..", "a/b")]
        [True, True, False, False]
    """
    return "/" not in text and text != ".." and is_inside(text)


def refuse_links(root: str | os.PathLike[str], folder: str) -> None:
    """Check, before something is written to or removed from `root/folder`, that the way from `root` has no link.

    Args:
        root: The folder that the user named; it may be a link itself.
        folder: POSIX, relative to `root`; it need not exist. "" for `root` itself.

    Raises:
        StoreError: `folder` leaves `root`, or a folder on the way is a symbolic link.
    """
    if not folder:
        return
    if not is_inside(folder):
        raise StoreError("the path leaves its folder", place=root, got=repr(folder), expected="a path inside it")
    place = os.fspath(root)
    for part in folder.split("/"):
        place = f"{place}/{part}"
        if os.path.islink(place):
            raise StoreError(
                "this is a link, and nothing is written or removed through links",
                place=place,
                got=f"a link to {os.readlink(place)}",
                expected="a folder",
                remedy="Put the folder itself there, or mount it there.",
            )


def make_folder(root: str | os.PathLike[str], folder: str) -> Path:
    """Make the folder `root/folder` and all on the way, unless they exist; never through a link.

    Raises:
        StoreError: See `refuse_links`.
        OSError: The folder cannot be made.
    """
    refuse_links(root, folder)
    made = Path(root, folder)
    made.mkdir(parents=True, exist_ok=True)
    return made
