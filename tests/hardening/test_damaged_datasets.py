"""Damaged and forged dataset folders: every answer is that of the whole dataset, or one error of curate."""

import os
import random
import shutil
import signal
from collections import Counter
from contextlib import contextmanager

import pytest
from committing import add_an_image
from damaging import DAMAGES, FORGERIES
from sample_datasets import face_dataset, save, set_column, video_rows, write_text
from tally import tally

import curate
from curate.card import read_card
from curate.columns import TABLES
from curate.errors import CurateError
from curate.store import Store
from curate.versions import find_card

LONGEST_S = 30
EDITABLE = ("card", "verify")  # people edit a card; the findings of `verify` are the damage


class Hang(BaseException):
    """An answer took too long."""


@contextmanager
def limited():
    """Raise `Hang` where the block takes too long."""

    def end(*_):
        raise Hang

    old = signal.signal(signal.SIGALRM, end)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


@pytest.fixture
def whole(tmp_path):
    """A dataset with a card, five versions and videos; the last two versions are undone."""
    root = save(face_dataset(tmp_path / "whole", sha256=[""] * 8), pictures=True)
    write_text(root / "card.yaml", "name: faces\nclasses: [with_mask, without_mask]\n")
    set_column(root, "split", ["train"] * 8)
    (root / "media/videos").mkdir()
    write_text(root / "media/videos/a.mp4", "frames")
    Store(root).commit("add", {"link": "a\udcff"}, lambda now: now.replace(videos=video_rows(["a"])))
    Store(root).commit("add", {}, add_an_image("undone.png"))
    curate.merge_classes(root, ["badly_masked"], "without_mask")
    for _ in range(2):
        curate.undo(root)
    return root


def content(root):
    """All that is read of the current version."""
    now = Store(root).load()
    tables = [getattr(now, name).to_json(orient="split", date_format="iso", default_handler=str) for name in TABLES]
    return now.classes, dict(now.aliases), now.next_ids, tables


def log(root):
    result = curate.log(root, all=True)
    if result.notes:  # they say what is left out
        raise CurateError(result.notes[0])
    return result.to_json()


def undo(root):
    return curate.undo(root).to_json(), content(root)


def redo(root):
    return curate.redo(root).to_json(), content(root)


def checkout(root):
    return curate.checkout(root, 2).version, content(root)


def commit(root):
    if not (root / "versions/000005.json").is_file():  # nobody can know that ids were given
        raise CurateError("the newest version, which was undone, is missing")
    return Store(root).commit("add", {}, add_an_image("new.png"))[0], content(root)


READING = {"load": content, "stats": lambda root: curate.stats(root).to_json(), "log": log}
WRITING = {"undo": undo, "redo": redo, "checkout": checkout, "commit": commit}


def answers(root):
    """The answer of each command, or the error that it ended with; each that writes has a copy of its own."""
    for name, ask in READING.items():
        yield name, answer(ask, root)
    yield "verify", answer(lambda root: curate.verify(root).to_json()["findings"], root)
    yield "card", answer(lambda root: read_card(card) if (card := find_card(root)) else None, root)
    for name, ask in WRITING.items():
        own = root.with_name(f"{root.name}-{name}")
        copy(root, own)
        yield name, answer(ask, own)
        remove(own)


def answer(ask, root):
    try:
        with limited():
            return ask(root)
    except (Exception, Hang) as error:
        return error


def copy(root, target):
    """A copy that shares the files, whatever they are; nothing writes into a file that is there."""
    target.mkdir()
    for folder, folders, files in os.walk(root):
        inner = os.path.join(target, os.path.relpath(folder, root))
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                files.append(name)
            else:
                os.mkdir(os.path.join(inner, name))
        for name in files:
            os.link(os.path.join(folder, name), os.path.join(inner, name), follow_symlinks=False)


def remove(root):
    for folder in root.parent.glob(f"{root.name}*"):
        shutil.rmtree(folder)


def check(ways, count, whole, counted):
    """Damage copies of a dataset, and compare each answer with that of the whole one."""
    expected = dict(answers(whole))
    assert not [error for error in expected.values() if isinstance(error, BaseException)]
    chance, told = random.Random(count), Counter()
    for number in range(count):
        root = whole.with_name(f"d{number}")
        copy(whole, root)
        way = chance.choice(ways)
        what = f"{number}, {way.__name__}: {way(root, chance)}"
        for name, found in answers(root):
            if isinstance(found, CurateError):
                told[name] += 1
            elif isinstance(found, Hang):
                counted.fault("hangs", f"{what}: {name}")
            elif isinstance(found, BaseException):
                counted.fault("tracebacks", f"{what}: {name}: {found!r}")
            elif ways is DAMAGES and name not in EDITABLE and found != expected[name]:
                counted.fault("let in", f"{what}: {name}")
        counted.tried += 1
        remove(root)
    assert dict(answers(whole)) == expected  # nothing was written through a link
    assert told["load"], told


@pytest.mark.parametrize("count", [20, pytest.param(2_000, marks=pytest.mark.long)])
def test_damaged_datasets(whole, count):
    """What a failing disk leaves is read as it was written, or it is an error that names it."""
    with tally("damaged dataset folders", f"damaged {count}") as counted:
        check(DAMAGES, count, whole, counted)


@pytest.mark.parametrize("count", [20, pytest.param(2_000, marks=pytest.mark.long)])
def test_forged_datasets(whole, count):
    """What somebody made up, with right checksums, keeps all rules of a dataset, or it is an error that names it."""
    with tally("damaged dataset folders", f"forged {count}") as counted:
        check(FORGERIES, count, whole, counted)
