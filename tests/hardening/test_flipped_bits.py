"""Single flipped bits in every file of a dataset: the same data come out, or it is told."""

import random

import pytest
from builders import labelimg_folder, object_xml
from committing import add_an_image
from damaging import files_of
from sample_datasets import set_column, write_text
from tally import tally

import curate
from curate.columns import TABLES
from curate.errors import CurateError
from curate.store import Store


@pytest.fixture
def root(tmp_path):
    """A dataset with a card, pictures, four versions, and two of them undone."""
    boxes = [object_xml("mask", 2, 3, 20, 30), object_xml("bare", 30, 5, 50, 40)]
    source = labelimg_folder(tmp_path / "clips", dict.fromkeys("abc", boxes))
    root = tmp_path / "dataset"
    root.mkdir()
    write_text(root / "card.yaml", "name: faces\nclasses: [mask, bare]\n")
    curate.import_voc(root, source)
    set_column(root, "split", ["train", "val", "val"])
    Store(root).commit("add", {}, add_an_image("undone.png"))
    curate.merge_classes(root, ["bare"], "mask")
    for _ in range(2):
        curate.undo(root)
    (root / "media/images/undone.png").write_bytes(b"")
    return root


def data(root):
    """All versions, which one is current, the classes and tables of each, and where redo goes."""
    store = Store(root)
    numbers = [entry.version for entry in store.all_versions()]
    loaded = [store.load(number) for number in numbers]
    tables = [[getattr(one, name).to_json(orient="split") for name in TABLES] for one in loaded]
    facts = [(one.classes, dict(one.aliases), one.next_ids) for one in loaded]
    return curate.log(root, all=True).to_json(), store.head(), facts, tables


def current(root):
    now = Store(root).load()
    return now.classes, now.next_ids, [getattr(now, name).to_json(orient="split") for name in TABLES]


@pytest.mark.parametrize("count", [60, pytest.param(3_000, marks=pytest.mark.long)])
def test_flipped_bits(root, count):
    """`verify` tells each that changes anything, and no command reads other data than were written."""
    files = files_of(root) + [path.relative_to(root).as_posix() for path in root.glob("media/**/*.jpg")]
    chance, told = random.Random(count), 0
    whole, now = data(root), current(root)
    verified = curate.verify(root).to_json()
    with tally("flipped bits in a dataset", f"{count}") as counted:
        for number in range(count):
            name = chance.choice(files)
            content = (root / name).read_bytes()
            bit = chance.randrange(8 * len(content))
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            (root / name).write_bytes(damaged)
            what = f"{number}: bit {bit} of {name}"
            try:
                if told_by_verify(root, verified):
                    told += 1
                elif data(root) != whole:
                    counted.fault("let in", f"{what}, and verify is silent")
                if current(root) != now:
                    counted.fault("let in", what)
            except CurateError:
                told += not name.startswith("media")
            except Exception as error:
                counted.fault("tracebacks", f"{what}: {error!r}")
            finally:
                (root / name).write_bytes(content)
            counted.tried += 1
    assert told > count / 2
    assert data(root) == whole


def told_by_verify(root, verified):
    result = curate.verify(root)
    return bool(result.notes) or result.to_json() != verified
