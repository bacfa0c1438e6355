"""Every reader of YAML, JSON, lists and archives of others: what it cannot read is one error with its place."""

import io
import json
import os
import random
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mutating import mutated_bytes
from tally import tally

from curate.card import read_card
from curate.commands.pipeline_file import read_pipeline, resolve_steps
from curate.commands.run import _LastRun
from curate.curation.class_maps import parse_drops, parse_merges, parse_renames, read_map
from curate.engines.retinaface.dense.topology_file import read_topology
from curate.errors import CurateError
from curate.evaluation.coco_results import read_rows
from curate.files import read_list, read_names
from curate.formats.coco import _listed_images, read_class_ids
from curate.formats.widerface import read_widerface
from curate.inference.evaluations import read_options
from curate.inference.prediction_files import _read_images
from curate.monitor.trigger_file import read_triggers
from curate.run_folder.folder import RunFolder
from curate.run_folder.rounds import read_state
from curate.sources.frame_selection import read_times
from curate.sources.youtube.links import _read_link_file
from curate.sources.youtube.options import _read_cookies

MOST_S = 5  # CPU seconds for one small file
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"null",
    b"[]",
    b"{}",
    b"3",
    b'"x"',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"- " * 50_000,
    b"a: " * 1000,
    b"{? " * 5000,
    BOMB.encode(),
    b"a: &a [*a]\n",
    b"&a {*a : *a}",
    b"<<: [1, 2]\n",
    b"a: 1\na: 2\n",
    b"a: .nan\nb: .inf\n",
    b"NaN",
    b"[NaN, Infinity, -Infinity]",
    b"1e999",
    b"9" * 10_000,
    b'"\\ud800"',
    b"!!python/object/apply:os.system [x]",
    b"a: !!binary xx\nb: !!timestamp yy\n",
    b"a: 2026-99-99\n",
    b"%YAML 3.0\n---\na: b\n",
    b"\x1f\x8b\x08\0\0\0\0\0",
    b"PK\x03\x04" + bytes(100),
    b"\x93NUMPY\x01\0v\0" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}".ljust(118) + b"\x80\x04N.",
    "\u202e\u2066a: \x1b[2J".encode(),
    b"\r\n\r\r\n\x85\x0c",
    b"0 0 0 0 0\n# a.jpg\n1e400 nan inf -1\n",
]
CARD = (
    b"name: faces\nabout: x\nsources: [{name: a, url: 'https://example.org'}]\nclasses: [a, b]\n"
    b"expected: {images: 3, classes: {a: 1}}\n"
)
PIPELINE = (
    b"name: demo\nvars: {dataset: d}\nsteps:\n  - split: {dataset: $dataset, val: 0.25}\n  - stats: {dataset: d}\n"
)
TRIGGERS = (
    b"triggers:\n  - name: a\n    class: mask\n    frames: 5 of 10\n    zone: [[0, 0], [1, 0], [1, 1]]\n"
    b"    actions: [{write: a.jsonl}]\nhosts: [example.org]\n"
)
CONFIG = b"model: torchvision:x\nsteps: 100\nlr: 0.01\nsettings: {a: 1}\n"
RECORD = json.dumps(
    {"run": "a", "model": "b:c", "classes": [{"id": 1, "name": "x"}], "dataset_version": 1, "images": 1, "boxes": 1,
     "seed": 0, "steps": 1, "versions": {"curate": "1"}}
).encode()  # fmt: skip
METRICS = b'{"step": 10, "loss": 0.5}\n{"step": 20, "ap": 0.25, "ap_small": null}\n'
RESULTS = (
    b'[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}, '
    b'{"image_id": "a.jpg", "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1}]'
)
IMAGES = (
    b'{"info": {"description": "exported by curate"}, "images": [{"id": 1, "file_name": "a.jpg"}], '
    b'"categories": [{"id": 1, "name": "x"}]}'
)
EVALUATION = (
    b'{"run": "a", "terms": {"min_side_px": null, "score": 0.5, "camera": null}, "operating_point": {"iou": 0.5}}'
)
STATE = json.dumps(
    {"format": "curate rounds 1", "model": "a", "weights": None, "steps": 3, "training": {}, "rounds": 2,
     "target_ap": None, "patience": None, "min_side": None}
).encode()  # fmt: skip
ENTRIES = (
    b'{"steps": [{"command": "split", "input_version": 1, "output_version": 2, "result": {}, "reads": {}}], '
    b'"made": [["a", "b"]]}'
)
WIDER = b"# a.jpg\n1 2 30 40 5 6 0 7 8 0 9 10 0 11 12 0 13 14 0 0.9\n# b.jpg\n0 0 0 0\n"


def arrays():
    """A small mesh file."""
    file = io.BytesIO()
    np.savez_compressed(file, sizes=np.array([3]), edges_0=np.zeros((3, 2), int), vertices=np.zeros((3, 3)),
                        colours=np.zeros((3, 3)), triangles=np.array([[0, 1, 2]]))  # fmt: skip
    return file.getvalue()


def read_maps(file):
    """The three kinds of maps of class names."""
    document = read_map(file)
    for parse in (parse_merges, parse_renames, parse_drops):
        try:
            parse(document, place=file)
        except CurateError:
            continue


def in_run(read):
    """A reader of a file in the folder of a run."""
    return lambda file: read(RunFolder(file.parent))


# name of the file → a valid one, and its reader
READERS = {
    "card.yaml": (CARD, read_card),
    "pipeline.yaml": (PIPELINE, lambda file: resolve_steps(read_pipeline(file), {})),
    "map.yaml": (b"a: [b, c]\nd: e\n", read_maps),
    "triggers.yaml": (TRIGGERS, lambda file: read_triggers(file, ["mask"])),
    "config.yaml": (CONFIG, in_run(RunFolder.read_config)),
    "run.json": (RECORD, in_run(RunFolder.read_record)),
    "metrics.jsonl": (METRICS, in_run(RunFolder.read_metrics)),
    "rounds.json": (STATE, in_run(read_state)),
    "results.json": (RESULTS, read_rows),
    "images.json": (IMAGES, _read_images),
    "instances_all.json": (IMAGES, _listed_images),
    "class_ids.json": (b'{"1": 2, "2": 5}', read_class_ids),
    "evaluation_val.json": (EVALUATION, in_run(lambda run: read_options(run, "val"))),
    "record.json": (ENTRIES, _LastRun.read),
    "classes.txt": ("mask\nüber\n".encode(), read_names),
    "val.txt": (b"a 1\nb -1\n", read_list),
    "times.txt": (b"1:30\nclip_1 2.5s # x\n", read_times),
    "links.txt": (b"https://example.org/a 0:10-0:40\n# x\n", lambda file: list(_read_link_file(file))),
    "cookies.txt": (b"# x\n.example.org\tTRUE\t/\tTRUE\t0\ta\tb\n", _read_cookies),
    "label.txt": (WIDER, lambda file: read_widerface(file.parent)),
    "mesh.npz": (arrays(), read_topology),
}


def attempt(name, read, file, counted, what):
    """Read a file that may be anything; whatever comes of it is a value or one error of curate."""
    counted.tried += 1
    started = time.process_time()
    try:
        read(file)
    except CurateError as error:
        if "\n" in str(error) or len(str(error)) > 3000:
            counted.fault("tracebacks", f"{name}, {what}: no line: {str(error)[:300]}")
        str(error).encode()
    except Exception as error:
        counted.fault("tracebacks", f"{name}, {what}: {error!r}"[:500])
    if time.process_time() - started > MOST_S:
        counted.fault("hangs", f"{name}, {what}: {time.process_time() - started:.1f} s")


def test_good_documents(tmp_path):
    """Each reader reads the document that the others are made from."""
    for name, (good, read) in READERS.items():
        (tmp_path / name).write_bytes(good)
        if name != "mesh.npz":  # its mesh has no levels to sample
            read(tmp_path / name)


@pytest.mark.parametrize("name", READERS)
def test_hostile_documents(tmp_path, name):
    """Deep, doubled, endless, binary and foreign files, and what is no file, are one error, or a value, at once."""
    _, read = READERS[name]
    file = tmp_path / name
    with tally("hostile documents", f"chosen {name}") as counted:
        for number, data in enumerate(HOSTILE):
            file.write_bytes(data)
            attempt(name, read, file, counted, f"hostile {number}")
        file.unlink()
        attempt(name, read, file, counted, "missing")
        file.mkdir()
        attempt(name, read, file, counted, "a folder")
        file.rmdir()
        os.mkfifo(file)
        attempt(name, read, file, counted, "a pipe")
        file.unlink()
        for target in ("/dev/zero", "/proc/self/environ", "/proc/kmsg", "/proc/self/mem", str(file)):
            file.symlink_to(target)
            attempt(name, read, file, counted, f"a link to {target}")
            file.unlink()
        with file.open("wb") as sparse:
            sparse.truncate(1 << 36)
        attempt(name, read, file, counted, "64 GiB")


@pytest.mark.parametrize("count", [10, pytest.param(250, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", READERS)
def test_mutated_documents(tmp_path, name, count):
    """A document in which bytes, lines or parts were changed is read or refused."""
    good, read = READERS[name]
    chance, file = random.Random(name), tmp_path / name
    with tally("hostile documents", f"mutated {name} {count}") as counted:
        for number in range(count):
            file.write_bytes(mutated_bytes(good, chance))
            attempt(name, read, file, counted, f"mutated {number}")


def test_archives_that_unpack_to_much(tmp_path):
    """A mesh file of a few kilobytes that would unpack to gigabytes is refused by its directory."""
    file = tmp_path / "mesh.npz"
    head = b"\x93NUMPY\x01\0v\0" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (400000000,)}".ljust(117) + b"\n"
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("vertices.npy", "w", force_zip64=True) as out,
    ):
        out.write(head)
        for _ in range(40):
            out.write(bytes(1 << 20))
    with pytest.raises(CurateError):
        read_topology(Path(file))
