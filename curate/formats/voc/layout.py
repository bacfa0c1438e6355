"""The files of a LabelImg folder or of VOC devkits: the XML files, the images, the class list."""

from dataclasses import dataclass
from pathlib import Path

from curate.files import read_names
from curate.formats.incoming import Problem
from curate.formats.listing import list_files
from curate.image_header import is_image_name

XML_SUFFIX = ".xml"
_DEVKIT = ("Annotations", "JPEGImages")
_MASKS = "segmentation"  # SegmentationClass, SegmentationObject: masks, which are pictures too


@dataclass(frozen=True)
class VocLayout:
    """The files of one source.

    Attributes:
        folder: The source folder.
        xml_files: Annotation files, relative to `folder`, sorted.
        image_folder: The folder of the images; `folder`, unless they are elsewhere.
        image_files: Images by their suffix, relative to `image_folder`, sorted.
        other_files: All other files beside the images, relative to `image_folder`, sorted.
        class_order: The names in `predefined_classes.txt`, if there is one.
        problems: Unusable names, broken links.
    """

    folder: Path
    xml_files: tuple[str, ...]
    image_folder: Path
    image_files: tuple[str, ...]
    other_files: tuple[str, ...]
    class_order: tuple[str, ...]
    problems: tuple[Problem, ...]


def find_layout(folder: Path, images: Path | None = None, leave_out: Path | None = None) -> VocLayout:
    """List the files of a source folder.

    In a devkit (`Annotations/` and `JPEGImages/`, at the top or below), other folders such as masks do not count.

    Args:
        folder: XML beside images, `annotations/` and `images/`, or devkits.
        images: The folder of the images, if they are elsewhere.
        leave_out: A subfolder to skip, such as the dataset's own.

    Raises:
        DataError: A folder does not exist, or the encoding of the class list is not understood.
    """
    is_devkit = all((folder / name).is_dir() for name in _DEVKIT)
    suffixes = (XML_SUFFIX,)
    files, problems = list_files(
        folder, inside=_DEVKIT if is_devkit else ("",), leave_out=leave_out, annotation_suffixes=suffixes
    )
    files = files if is_devkit else _without_masks(files)
    xml_files = sorted(name for name in files if name.lower().endswith(XML_SUFFIX))
    if images is not None:
        files, more = list_files(images, leave_out=leave_out, annotation_suffixes=suffixes)
        problems += more
    image_files = {name for name in files if is_image_name(name)}
    others = (name for name in files if name not in image_files and not name.lower().endswith(XML_SUFFIX))
    return VocLayout(
        folder=folder,
        xml_files=tuple(xml_files),
        image_folder=images or folder,
        image_files=tuple(sorted(image_files)),
        other_files=tuple(sorted(others)),
        class_order=_read_class_order(folder),
        problems=tuple(problems),
    )


def _without_masks(files: list[str]) -> list[str]:
    """The files without those of devkits below the top that are neither in `Annotations` nor in `JPEGImages`."""
    folders = {file.rpartition("/")[0] for file in files}
    annotated, pictured = ({_above(folder, name) for folder in folders} - {None} for name in _DEVKIT)
    devkits = {devkit for devkit in annotated & pictured if devkit is not None}
    with_pictures = {devkit for devkit in pictured if devkit is not None}
    if not with_pictures:
        return files

    def is_beside(folder: str) -> bool:
        parts = folder.split("/")
        for depth, part in enumerate(parts):
            above = "/".join(parts[:depth])
            if above in devkits and part not in _DEVKIT:
                return True
            if above in with_pictures and part.lower().startswith(_MASKS):
                return True
        return False

    beside = {folder for folder in folders if folder and is_beside(folder)}
    return [file for file in files if file.rpartition("/")[0] not in beside] if beside else files


def _above(folder: str, name: str) -> str | None:
    """The folder that holds the folder `name` on the way to `folder`; "" is the top, None: there is none."""
    parts = folder.split("/")
    return "/".join(parts[: parts.index(name)]) if name in parts else None


def _read_class_order(folder: Path) -> tuple[str, ...]:
    for file in (folder / "predefined_classes.txt", folder / "data" / "predefined_classes.txt"):
        if file.is_file():
            return read_names(file)
    return ()
