"""Processes that commit to a dataset concurrently, or until they are killed. Run as a script.

python committing.py together ROOT COUNT   COUNT processes, each of which adds one image
python committing.py forever ROOT          adds and drops a class and moves images between splits, without an end
python committing.py until ROOT COUNT      COUNT processes; each commits to a copy ROOT-N and dies at its N-th
                                           rename or sync
python committing.py write FILE COUNT N    COUNT processes write one file N times each, while it is read; prints how
                                           often it was read, and how often that was not what one of them had written
"""

import os
import shutil
import signal
import sys
from itertools import count
from pathlib import Path

import filelock  # noqa: F401 - loaded before processes are forked, so that each need not
import pandas as pd
import pyarrow.parquet  # noqa: F401
from sample_datasets import build_dataset

from curate.dataset import ClassEntry
from curate.files import write_atomically
from curate.store import Store


def add_an_image(name):
    """A change that adds one image called `name`, with one box."""
    extra = build_dataset(images=[[("with_mask", (1, 1, 9, 9))]])

    def change(now):
        image = extra.images.assign(image_id=now.next_ids.image, path=name)
        box = extra.boxes.assign(box_id=now.next_ids.box, image_id=now.next_ids.image)
        return now.replace(images=pd.concat([now.images, image]), boxes=pd.concat([now.boxes, box]))

    return change


def commit_together(root, processes):
    """Start processes that commit at the same time; exit with the number of failures."""
    ready, go = os.pipe()
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(ready, 1)  # until the parent closes its end
            Store(root).commit("add", {"number": number}, add_an_image(f"{number}.png"))
            os._exit(0)
        children.append(child)
    os.close(go)
    sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))


def commit_forever(root):
    """Commit changes to every table in an endless loop."""
    store = Store(root)
    for number in count():
        store.commit("add", {}, add_an_image(f"{os.getpid()}-{number}.png"))
        store.commit("class", {}, lambda now: now.replace(classes=(*now.classes, new_class(now.next_ids.class_))))
        store.commit("split", {}, lambda now: now.replace(images=now.images.assign(split=str(now.next_ids.image % 3))))
        store.undo()
        store.commit("trim", {}, lambda now: now.replace(classes=now.classes[:3]))
        sys.stdout.write(".")
        sys.stdout.flush()


def commit_until(root, count_of_copies):
    """Commit to copies of a dataset; the process of copy N is killed at its N-th rename or sync."""
    for instant in range(count_of_copies):
        copy = root.with_name(f"{root.name}-{instant}")
        shutil.copytree(root, copy)
        if os.fork() == 0:
            left = iter(range(instant, -1, -1))
            os.replace, os.fsync = dying(os.replace, left), dying(os.fsync, left)
            Store(copy).commit("add", {}, add_an_image("new.png"))
            os._exit(0)
        os.wait()


def write_together(file, processes, times):
    """Write one file from many processes, each its own content, and read it until all have ended."""
    contents = [bytes([number]) * (300_000 + number) for number in range(processes)]
    write_atomically(file, lambda out: out.write(contents[0]))
    children = set()
    for content in contents:
        child = os.fork()
        if child == 0:
            for _ in range(times):
                write_atomically(file, lambda out, content=content: out.write(content))
            os._exit(0)
        children.add(child)
    reads, wrong = 0, 0
    while children:
        found = file.read_bytes()
        reads += 1
        wrong += not found or found != contents[found[0]]
        child, status = os.waitpid(-1, os.WNOHANG)
        children.discard(child)
        wrong += child > 0 and status != 0
    sys.stdout.write(f"{reads} {wrong} {len(list(file.parent.iterdir()))}")


def dying(call, left):
    """A wrapper of `call` that kills the process when `left` reaches 0."""

    def either(*arguments, **options):
        if next(left, 0) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)

    return either


def new_class(id_):
    """A class named after its id."""
    return ClassEntry(id_, f"class {id_}")


if __name__ == "__main__":
    if sys.argv[1] == "together":
        commit_together(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1] == "write":
        write_together(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1] == "until":
        commit_until(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        commit_forever(Path(sys.argv[2]))
