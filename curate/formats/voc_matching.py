"""Which image each annotation file of a source is of: what `<filename>` says, else the file's own name.

What people saved goes first. A proposal gets only an image that is left, and keeps none from them by its name: it
counts for nothing until somebody has saved it (decision 0014).
"""

from collections.abc import Iterator
from typing import NamedTuple

from curate.formats.incoming import Problem
from curate.formats.voc.layout import ImageFinder, VocLayout
from curate.formats.voc.objects import VocFile
from curate.formats.voc.writer import is_proposal
from curate.formats.voc.xml_parser import UnreadableError, VocParser
from curate.images import read_bytes
from curate.progress import Progress, silent

_BATCH = 100  # files parsed in a row: parsing and hashing in turns costs a fifth more, by the processor's cache


class MatchedXml(NamedTuple):
    """An annotation file and its image; `annotation` is None where the file cannot be read."""

    file: str
    image: str
    annotation: VocFile | None
    is_proposal: bool


class XmlMatcher:
    """Reads the annotation files of a layout, once.

    Attributes:
        problems: files that cannot be read, or that have no image; they grow while `read` goes on.
    """

    def __init__(self, layout: VocLayout) -> None:
        self.problems: list[Problem] = []
        self._files = layout.xml_files
        self._folder = f"{layout.folder}/"  # a string, not Path: this runs for every file
        self._finder = ImageFinder(layout)
        self._parser = VocParser()
        self._own_images = {file: self._finder.by_stem(file) for file in layout.xml_files}
        self._owners = {image: file for file, image in self._own_images.items() if image is not None}
        self._is_proposal: dict[str, bool] = {}  # of the files looked at so far
        self._taken: dict[str, str] = {}  # image → the XML that describes it

    def read(self, progress: Progress = silent) -> Iterator[MatchedXml]:
        """The files that have an image, in the order of their names; proposals come last."""
        total = len(self._files)
        proposals: list[tuple[str, VocFile | None]] = []
        for start in range(0, total, _BATCH):
            progress("reading XML", start, total)
            for file, annotation in [(file, self._parse(file)) for file in self._files[start : start + _BATCH]]:
                if self._is_proposal[file]:
                    proposals.append((file, annotation))
                elif (image := self._find_image(file, annotation)) is not None:
                    yield MatchedXml(file, image, annotation, is_proposal=False)
        for file, annotation in proposals:
            if (image := self._find_image(file, annotation)) is not None:
                yield MatchedXml(file, image, annotation, is_proposal=True)
        progress("reading XML", total, total)

    def _parse(self, file: str) -> VocFile | None:
        """What a file says, or None after listing why it cannot be read."""
        self._is_proposal[file] = False
        try:
            data = read_bytes(self._folder + file)
            self._is_proposal[file] = is_proposal(data)
            return self._parser.parse(data)
        except UnreadableError as error:
            self.problems.append(Problem(file, *error.fault))
        except OSError as error:
            self._note(file, "unreadable_file", str(error.strerror))
        return None

    def _find_image(self, file: str, annotation: VocFile | None) -> str | None:
        """The image of an XML file, or None after listing why there is none.

        `<filename>` goes first, unless it names a picture that belongs, by its name, to another XML: LabelImg leaves
        the old name in a file that was copied.
        """
        name = annotation.filename if annotation else ""
        named = self._finder.by_name(file, name) if name else None
        own = self._own_images[file]
        if named is not None and named not in self._taken and self._may_take(file, named):
            image = named
        elif own is not None and own not in self._taken:
            image = own
        else:
            self._note_loss(file, name, named or own)
            return None
        self._taken[image] = file
        return image

    def _may_take(self, file: str, image: str) -> bool:
        owner = self._owners.get(image, file)
        return owner == file or (not self._is_proposal[file] and self._look_ahead(owner))

    def _look_ahead(self, file: str) -> bool:
        """Whether a file is a proposal; only one that comes later, and whose image another names, is read for it."""
        if file not in self._is_proposal:
            try:
                self._is_proposal[file] = is_proposal(read_bytes(self._folder + file))
            except OSError:
                self._is_proposal[file] = False
        return self._is_proposal[file]

    def _note_loss(self, file: str, name: str, image: str | None) -> None:
        if image is None:
            self._note(file, "image_missing", f"no image {name!r}" if name else "no image of the same name")
            return
        fact = f"{image!r} belongs to {self._taken.get(image) or self._owners.get(image, '')}"
        if self._is_proposal[file]:
            self._note(file, "proposal_overruled", f"left out; {fact}")
        else:
            self._note(file, "image_taken", fact)

    def _note(self, file: str, kind: str, detail: str) -> None:
        self.problems.append(Problem(file, None, None, kind, detail))
