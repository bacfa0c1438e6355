"""Each command that writes, on a small scene: what to type, and what is there afterwards.

`COMMANDS` has an entry, or a reason for none, for each row of the registry. `Scene` runs them in processes that are
forked from one that has imported everything, so that hundreds of runs cost seconds; that process must do no work
itself, since threads of libraries do not survive a fork.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from forking import Answer, call

MINE = (  # files of the user's, in places where commands write
    *("faces/mine.tmp", "faces/tables/mine.tmp", "faces/versions/notes.tmp", "faces/media/images/clips/mine.txt"),
    *("faces/label/mine.txt", "faces/runs/first/checkpoints/mine.pt"),
    *("clips/a.jpg", "clips/a.xml", "photos/1.jpg", "walk.mp4"),
)
_MODULES = (
    *("av", "cv2", "filelock", "matplotlib.backends.backend_agg", "pandas", "pyarrow.parquet", "supervision"),
    *("typer.main", "rich.console", "rich.progress", "curate.cli.app", "curate.html_report.page"),
)
_CHANGES = ("replace", "rename", "link", "unlink", "rmdir", "mkdir", "fsync")


@dataclass(frozen=True)
class Writing:
    """A command that writes.

    Attributes:
        typed: The command line after its name, in the folder of the scene.
        again: What is typed in addition after it was interrupted.
        same: Patterns of files that a second run must leave with the same bytes.
        there: Patterns of files that must be there and not empty; their bytes depend on time.
        before: Command lines that come first.
    """

    typed: str
    again: str = ""
    same: tuple[str, ...] = ()
    there: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


class Left(NamedTuple):
    """A command that has no entry, and why."""

    why: str


class Reading(NamedTuple):
    """A command that writes nothing: its command line after its name."""

    typed: str


COMMANDS: dict[str, Writing | Reading | Left] = {
    "fetch-youtube": Writing(
        "faces {site}/walk.mp4 --allow-private" + (" --clip 0:00-0:01" if shutil.which("ffmpeg") else "")
    ),
    "sample-frames": Writing("faces walk.mp4 --every 0.2s --format png --drop-duplicates 1"),
    "label": Writing("faces --limit 2 --no-open", same=("faces/label/*",)),
    "import-voc": Writing("faces more"),
    "import-widerface": Writing("faces wider"),
    "stats": Writing("faces --plot s.png --csv s.csv", "--overwrite", same=("s.png", "s.csv")),
    "merge-classes": Writing("faces bare --into mask"),
    "rename-class": Writing("faces bare naked"),
    "drop-class": Writing("faces bare"),
    "split": Writing("faces --val 0.4 --seed 3 --overwrite"),
    "log": Reading("faces --all"),
    "diff": Reading("faces 1 2"),
    "undo": Writing("faces"),
    "redo": Writing("faces", before=("undo faces",)),
    "checkout": Writing("faces 1"),
    "verify": Reading("faces"),
    "gc": Writing("faces"),
    "export-coco": Writing(
        "faces out --contiguous-ids", same=("out/[a-z]*/**/*", "out/class_ids.json"), there=("out/.[a-z]*",)
    ),
    "models": Reading(""),
    "train": Writing("faces --model corner:any --run new --steps 2", "--resume", there=("faces/runs/new/*.json",)),
    "train-classifier": Left("the files of its run are those of `train`, which is tried; it would load torch"),
    "loop": Writing(
        "faces --model corner:any --run night --steps 2 --rounds 2", "--resume", there=("faces/runs/night/*.json",)
    ),
    "runs": Writing("faces --plot r.png", "--overwrite", there=("r.png",), before=("evaluate faces --run first",)),
    "evaluate": Writing(
        "faces --run first --errors e.csv --plots plots",
        "--overwrite",
        same=("e.csv", "plots/*", "faces/runs/first/predictions_val.json"),
        there=("faces/runs/first/report.html", "faces/runs/first/evaluation_val.json"),
    ),
    "report": Writing("faces --run first --out page.html", "--overwrite", there=("page.html",)),
    "view": Left("writes into MongoDB, which keeps its own files whole"),
    "pull-tags": Writing("faces", same=("faces/relabel/1/*",)),
    "predict": Writing("faces/runs/first photos --out found --draw", "--overwrite", same=("found/**/*",)),
    "watch": Writing(
        "faces/runs/first walk.mp4 --triggers any.yaml --out w.mp4 --events e.jsonl --detections d.parquet"
        " --collect faces",
        "--overwrite",
        there=("w.mp4", "e.jsonl", "d.parquet"),
    ),
    "run": Writing(
        "all.yaml", same=("out/images/**/*", "found/*"), there=("faces/runs/new/report.html", "out/annotations/*")
    ),
    "doctor": Reading(""),
}
READING = {name: entry for name, entry in COMMANDS.items() if isinstance(entry, Reading)}
WRITING = {name: entry for name, entry in COMMANDS.items() if isinstance(entry, Writing)}


class Scene:
    """A folder with sources, a dataset and a run, copied for each run of a command.

    Args:
        folder: Where the original is made.
        copy: Where the copies are made, one after the other.
    """

    def __init__(self, folder: Path, copy: Path) -> None:
        self.original, self.copy = folder / "original", copy
        self._expected: dict[str, object] = {}
        self._seconds: dict[str, float] = {}
        self._before: dict[str, object] = {}
        self._mine: dict[str, bytes] = {}
        _import_everything()
        built = call(lambda: build(self.original))
        assert built.code == 0, built.stderr
        self._mine = {name: (self.original / name).read_bytes() for name in MINE}

    def fresh(self, name: str) -> None:
        """Make a new copy for a command."""
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.original, self.copy, symlinks=True)
        for line in WRITING[name].before if name in WRITING else ():
            answer = self.type(*line.split())
            assert answer.code == 0, answer.stderr

    def type(self, *words: str, kill_after_s: float | None = None, kill_at: int | None = None) -> Answer:
        """Run a command line in the copy, until it ends or is killed: after a time, or at a change of the disk."""
        return call(lambda: _call(self.copy, words, kill_at), kill_after_s=kill_after_s)

    def words(self, name: str, *, again: bool = False) -> list[str]:
        """The command line of a command."""
        entry = WRITING[name]
        typed = entry.typed.replace("{site}", self._site()) if "{site}" in entry.typed else entry.typed
        return [name, *typed.split(), *(entry.again.split() if again else ())]

    @cache  # noqa: B019 - one scene a process
    def _site(self) -> str:
        """Serve the original's files in another process; its address."""
        reading, writing = os.pipe()
        if os.fork() == 0:
            serve(self.original, writing)
        return f"http://127.0.0.1:{int.from_bytes(os.read(reading, 2))}"

    def count_changes(self, name: str) -> int:
        """How many changes of the disk a command makes, as `kill_at` counts them."""
        self.fresh(name)
        answer = call(lambda: _call(self.copy, self.words(name), -1, count=True))
        return int(answer.stderr.rpartition("changes: ")[2])

    def found(self, name: str) -> object:
        """What is in the copy, as far as a repetition must give the same; an error as text."""
        answer = call(lambda: sys.stdout.write(json.dumps(_facts(self.copy, WRITING[name]))))
        return json.loads(answer.stdout) if answer.code == 0 else answer.stderr.strip().splitlines()[-1:]

    def expected(self, name: str) -> object:
        """What is there after the command has run undisturbed."""
        if name not in self._expected:
            self.fresh(name)
            answer = self.type(*self.words(name))
            assert answer.code == 0, (name, answer.stderr)
            self._expected[name], self._seconds[name] = self.found(name), answer.seconds
            self.fresh(name)
            self._before[name] = self.found(name)
        return self._expected[name]

    def seconds(self, name: str) -> float:
        """How long the command takes."""
        self.expected(name)
        return self._seconds[name]

    def lost_of_mine(self) -> list[str]:
        """Files of the user's that are gone or changed."""
        return [
            name
            for name, data in self._mine.items()
            if not (self.copy / name).is_file() or (self.copy / name).read_bytes() != data
        ]

    def leftovers(self) -> list[str]:
        """Temporary files of ours."""
        files = (file.relative_to(self.copy).as_posix() for file in self.copy.rglob("*") if file.is_file())
        return sorted(name for name in files if ".tmp" in name and name not in MINE)

    def faults_of(self, name: str) -> list[tuple[str, str]]:
        """What is wrong after a command was killed or failed: the dataset is old or new, files are whole."""
        then, now, before = self.expected(name), self.found(name), self._before[name]
        faults = [("lost", f"{name}: {file} of the user's") for file in self.lost_of_mine()]
        if not isinstance(now, dict):
            return [*faults, ("lost", f"{name}: the dataset cannot be read: {now}")]
        if now["dataset"] not in (before["dataset"], then["dataset"]) and name not in PIECEWISE:
            faults.append(("lost", f"{name}: the dataset is neither the old nor the new one"))
        if now["broken"]:
            faults.append(("lost", f"{name}: images of the dataset are not whole: {now['broken']}"))
        half = [file for file, digest in now["same"].items() if digest != then["same"].get(file)]
        half += [file for file, is_whole in now["there"].items() if not is_whole]
        return faults + [("lost", f"{name}: {file} is there in part") for file in half]

    def faults_of_again(self, name: str) -> list[tuple[str, str]]:
        """What is wrong after the command is given again, unless its result is there already."""
        if self.found(name) == self.expected(name):
            return []
        answer = self.type(*self.words(name, again=True))
        if answer.code == 2 and "without --resume" in answer.stderr:  # it was interrupted before there was a run
            answer = self.type(*self.words(name))
        faults = [("tracebacks", f"{name} again: {answer.stderr[-300:]}")] if "Traceback" in answer.stderr else []
        if answer.code:
            return [*faults, ("lost", f"{name} again: exit {answer.code}: {answer.stderr[-300:]}")]
        faults += [("lost", f"{name} again: {file} of the user's") for file in self.lost_of_mine()]
        if (now := self.found(name)) != self.expected(name):
            faults.append(("lost", f"{name} again: {_difference(now, self.expected(name))}"))
        return faults


PIECEWISE = {"run", "watch", "sample-frames"}  # they commit more than once


def _difference(now: object, then: object) -> str:
    if not (isinstance(now, dict) and isinstance(then, dict)):
        return str(now)[:300]
    parts = [f"{key}: {now.get(key)!r:.150} for {then[key]!r:.150}" for key in then if now.get(key) != then[key]]
    return "; ".join(parts)


def _facts(folder: Path, entry: Writing) -> dict[str, object]:
    """What a command left: the tables of the dataset, whether its images are whole, and its files."""
    from curate.store import Store

    dataset = Store(folder / "faces").load()
    # ids that an interrupted command has given are not given again
    path_of, names = dict(zip(dataset.images["image_id"], dataset.images["path"], strict=True)), dataset.class_names
    boxes = dataset.boxes.assign(
        image_id=dataset.boxes["image_id"].map(path_of), class_id=dataset.boxes["class_id"].map(names)
    )
    images, videos = dataset.images.drop(columns="image_id"), dataset.videos.drop(columns="fetched_at")
    tables = (images, boxes.drop(columns="box_id"), videos, dataset.problems)
    aliases = {name: names.get(id_) for name, id_ in dataset.aliases.items()}
    text = json.dumps([[table.to_csv(index=False) for table in tables], list(names.values()), aliases])
    paths = zip(dataset.images["path"], dataset.images["sha256"], strict=True)
    broken = [path for path, digest in paths if _hash(folder / "faces" / path) != digest]
    return {
        "dataset": hashlib.sha256(text.encode()).hexdigest(),
        "broken": broken,
        "same": {file.relative_to(folder).as_posix(): _hash(file) for file in _matching(folder, entry.same)},
        "there": {file.relative_to(folder).as_posix(): _is_whole(file) for file in _matching(folder, entry.there)},
    }


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    files = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    return sorted(file for file in files if ".tmp" not in file.name)


def _is_whole(file: Path) -> bool:
    data = file.read_bytes()
    ends = {".html": b"</html>", ".json": (b"}", b"]"), ".png": b"IEND\xaeB`\x82", ".parquet": b"PAR1", ".jsonl": b"}"}
    if file.suffix == ".jsonl" and not data:  # no event yet
        return True
    return bool(data) and data.rstrip(b"\n").endswith(ends.get(file.suffix, b""))


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def serve(folder: Path, port_to: int) -> None:
    """Serve the files of a folder on loopback until the parent ends; its port is written to a pipe first."""
    parent = os.getppid()
    os.setpgid(0, 0)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    server.timeout = 1
    os.write(port_to, server.server_port.to_bytes(2))
    while os.getppid() == parent:
        server.handle_request()
    os._exit(0)


# ── in a process of its own ──────────────────────────────────────────────────────────────────────────────────────────


def _call(folder: Path, words: list[str] | tuple[str, ...], kill_at: int | None, *, count: bool = False) -> None:
    from curate.cli import main
    from curate.commands import fetch_youtube
    from curate.sources.youtube import download

    os.chdir(folder)
    os.environ["TMPDIR"] = "/tmp"
    download.MIN_FREE_BYTES = fetch_youtube.MIN_FREE_BYTES = 0
    _stand_in_for_the_app()
    sys.argv = ["curate", *words]
    _register_engines()
    os.fsync = os.fstat
    counted = [0]
    if kill_at is not None:
        for name in _CHANGES:
            setattr(os, name, _dying(getattr(os, name), counted, kill_at))
    try:
        main()
    finally:
        if count:
            sys.stderr.write(f"changes: {counted[0]}")


def _dying(call, counted, kill_at):
    def either(*arguments, **options):
        if counted[0] == kill_at:
            os.killpg(0, signal.SIGKILL)
        counted[0] += 1
        return call(*arguments, **options)

    return either


def _stand_in_for_the_app() -> None:
    """Tags of three images, as if they had been set in the app."""
    from curate.commands import pull_tags
    from curate.fiftyone_app import dataset, registry

    pull_tags.database_exists = lambda: True
    pull_tags.running_database = dataset.connected = lambda *_: nullcontext("")
    registry.read_all_tags = lambda _: {1: ["relabel"], 3: ["relabel"], 4: ["drop"]}
    registry.remove_all_tags = lambda *_: None


def _register_engines() -> None:
    import corner_engine  # noqa: F401

    from curate.engines import base

    base.ENGINES = {"corner": base.EngineEntry("corner_engine", "CornerEngine", ())}


def _import_everything() -> None:
    """Import what commands import; nothing else, since threads of libraries are lost in a fork."""
    from importlib import import_module

    from curate.commands.registry import COMMANDS as ROWS

    for name in (*WRITING, *READING):
        ROWS[name].function()
        ROWS[name].cli_function()
    for name in _MODULES:
        import_module(name)


# ── the scene ────────────────────────────────────────────────────────────────────────────────────────────────────────


def build(folder: Path) -> None:
    """Make the scene: sources, a dataset of nine images in splits, a run, and files that are the user's."""
    from builders import BARE, MASK, labelimg_folder, load, write_image
    from clips import write_clip
    from proposing import write_run

    import curate

    _register_engines()
    os.fsync = os.fstat
    folder.mkdir(parents=True)
    images = {name: [MASK, BARE] if number % 2 else [MASK] for number, name in enumerate("abcdefg")}
    labelimg_folder(folder / "clips", images | {"x": None, "y": None})
    labelimg_folder(folder / "more", {"k": [MASK], "l": [BARE]}, seed=2)
    write_image(folder / "wider/images/w.jpg", seed=5)
    (folder / "wider/label.txt").write_text("# w.jpg\n8 6 14 20" + " -1.0" * 15 + " 0.4\n")
    for name in ("1.jpg", "a/2.png"):
        write_image(folder / "photos" / name, seed=7 + len(name))
    write_clip(folder / "walk.mp4", 12, fps=10)
    os.chdir(folder)
    curate.import_voc("faces", "clips", with_unlabelled=True)
    curate.split("faces", val=0.4)
    write_run(Path("faces/runs/first"), load("faces").classes, version=2)
    (folder / "any.yaml").write_text("triggers:\n  - {name: any, min_score: 0.3}\n")
    (folder / "all.yaml").write_text(
        "name: all\nsteps:\n"
        "  - import-voc: {dataset: faces, source: more}\n"
        "  - merge-classes: {dataset: faces, sources: [bare], into: mask}\n"
        "  - train: {dataset: faces, model: 'corner:any', run: new, steps: 2}\n"
        "  - evaluate: {dataset: faces, run: new}\n"
        "  - export-coco: {dataset: faces, out: out}\n"
        "  - predict: {run: faces/runs/first, source: photos, out: found}\n"
    )
    for name in MINE:
        file = folder / name
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_text("mine")
