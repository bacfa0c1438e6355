"""Runs commands that write on a disk that gets full, or is read-only. Run as a script inside `unshare -rm`.

python small_disk.py FOLDER LEVELS COMMAND…     prints what was tried and the faults as JSON

Each command runs with shares of the room that it needs, with room for few files, and on a read-only disk. Afterwards
the dataset is the old or the new one, one line on stderr says which file could not be written, nothing is left in part,
and with room the same command gives the right result. Commands that only read must work on a read-only disk.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from forking import Answer
from writing import READING, Scene

_SIZE = 64 << 20
_SOURCES = ("clips/", "more/", "wider/", "photos/", "walk.mp4", "any.yaml", "all.yaml")
_SAYS = ("No space left", "Read-only file system", "read-only")


class SmallDisk:
    """A disk in memory, mounted at a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._filler = folder, folder / "filler"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", folder], check=True)

    def used(self) -> int:
        status = os.statvfs(self.folder)
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    @contextmanager
    def with_free(self, size: int) -> Iterator[None]:
        """Have only so many bytes free in the block."""
        descriptor = os.open(self._filler, os.O_CREAT | os.O_WRONLY)
        os.posix_fallocate(descriptor, 0, max(_SIZE - self.used() - size, 1))
        os.close(descriptor)
        yield
        self._filler.unlink()

    @contextmanager
    def with_files(self, count: int) -> Iterator[None]:
        """Have room for so many new files and folders in the block."""
        status = os.statvfs(self.folder)
        self._remount(f"nr_inodes={status.f_files - status.f_ffree + count}")
        yield
        self._remount(f"nr_inodes={status.f_files}")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self._remount("ro")
        yield
        self._remount("rw")

    def _remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={_SIZE},{option}", self.folder], check=True)


def faults_of_answer(scene: Scene, name: str, answer: Answer) -> Iterator[tuple[str, str]]:
    """What is wrong with how a command ended on a disk that took no more."""
    said = [line for line in answer.stderr.splitlines() if line.startswith("curate: ")]
    said = said or [line for line in answer.stdout.splitlines() if "the disk is full" in line]  # of `fetch-youtube`
    if "Traceback" in answer.stderr:
        yield "tracebacks", f"{name}: {answer.stderr[-1500:]}"
    elif answer.code == 0:
        if scene.found(name) != scene.expected(name):
            yield "lost", f"{name}: exit 0 without the right result: {answer.stderr[-300:]}"
    elif answer.code != 1 or len(said) != 1 or not any(fact in said[0] for fact in _SAYS):
        yield "lost", f"{name}: exit {answer.code}, {said or answer.stdout[-600:] + answer.stderr[-300:]}"
    elif said[0].removeprefix("curate: ").startswith(_SOURCES) or said[0].startswith("curate: No space"):
        yield "lost", f"{name}: the place is not where room is needed: {said[0]}"
    for file in scene.leftovers():
        yield "lost", f"{name}: {file} is left"


def attempt(scene: Scene, name: str, way: AbstractContextManager[None]) -> list[tuple[str, str]]:
    """Run a command on the disk as it is in `way`, look, and give it again."""
    scene.fresh(name)
    with way:
        answer = scene.type(*scene.words(name))
        faults = [*faults_of_answer(scene, name, answer), *scene.faults_of(name)]
    return [*faults, *scene.faults_of_again(name)]


def main(folder: str, levels: str, *names: str) -> None:
    disk = SmallDisk(Path(folder) / "disk")
    scene = Scene(Path(folder), disk.folder / "copy")
    tried, faults = 0, []
    for name in names:
        if name in READING:
            scene.fresh(name)
            with disk.read_only():
                answer = scene.type(name, *READING[name].typed.split())
            tried += 1
            faults += [("lost", f"{name}: exit {answer.code}: {answer.stderr[-300:]}")] if answer.code else []
            continue
        scene.expected(name)
        scene.fresh(name)
        used = disk.used()
        scene.type(*scene.words(name))
        needed = int((disk.used() - used) * 1.2)
        shares = [needed * level // int(levels) for level in range(int(levels))]
        ways = {f"{free} bytes free": disk.with_free(free) for free in shares}
        ways |= {f"{count} files": disk.with_files(count) for count in (0, 2, 5)} | {"read-only": disk.read_only()}
        for said, way in ways.items():
            tried += 1
            faults += [(kind, f"{said}: {what}") for kind, what in attempt(scene, name, way)]
    sys.stdout.write(json.dumps({"tried": tried, "faults": faults}))


if __name__ == "__main__":
    main(*sys.argv[1:])
