"""FiftyOne datasets of ours through their lives: built once for one content, shared, replaced, cleaned up.

Each bears the name of its content, so that two views of the same share one and views of something else do not disturb
each other. Whoever shows one holds a lock on it; what nobody shows and a newer one of the same dataset replaces goes,
with what a person tagged and saved in it carried over.
"""

import getpass
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from curate.fiftyone_app import dataset as fiftyone_views
from curate.fiftyone_app.locks import Hold, held, try_hold
from curate.fiftyone_app.mongo import URI_VARIABLE, database_folder, default_folder

Facts = Mapping[str, Any]


def facts_of(root: Path, mark: str | None) -> dict[str, Any]:
    """What tells the FiftyOne datasets of one of our datasets, and of one person, from all others."""
    owner = getpass.getuser()
    if os.environ.get(URI_VARIABLE):  # a server may be that of several machines
        owner += f"@{socket.gethostname()}"
    return {"owner": owner, "root": str(root.resolve()), "dataset": mark}


def app_name(root: Path, content: str) -> str:
    """A FiftyOne dataset's name: the folder's, in letters that a link keeps, and 10 digits of the content's hash."""
    plain = re.sub(r"[^a-z0-9]+", "-", root.resolve().name.lower()).strip("-")
    return f"{plain or 'dataset'}-{content[:10]}"


@contextmanager
def shown(name: str, facts: Facts, build: Callable[[], None]) -> Iterator[list[str]]:
    """Hold the FiftyOne dataset of that name, built if it is not there; what it replaces goes. Notes on what was lost.

    Args:
        name: from `app_name`.
        facts: from `facts_of`.
        build: makes it with these facts.
    """
    lock = _lock(name)
    while True:
        with held(lock, Hold.SHARED):
            if _is_whole(name, facts):
                fiftyone_views.write_tags(name, read_all_tags(facts))
                yield _replace_older(name, facts)
                return
        with held(lock, Hold.ALONE):
            if not _is_whole(name, facts):
                build()


def read_all_tags(facts: Facts) -> dict[int, list[str]]:
    """What a person tagged in whichever view of the dataset: image id → tags. Where views differ, the last word."""
    last: dict[int, tuple[datetime, list[str]]] = {}
    for name, told in _related(facts).items():
        for image_id, word in fiftyone_views.read_tags(name).items() if told["whole"] else ():
            if image_id not in last or last[image_id][0] < word[0]:
                last[image_id] = word
    return {image_id: tags for image_id, (_, tags) in last.items() if tags}


def remove_all_tags(facts: Facts, tags: Sequence[str]) -> None:
    """Take these tags from all images in all views of the dataset."""
    for name, told in _related(facts).items():
        if told["whole"]:
            fiftyone_views.remove_tags(name, tags)


def _related(facts: Facts) -> dict[str, dict[str, Any]]:
    """All that was made of the dataset: in its folder, or in one that is no more, from where it was moved."""
    found = fiftyone_views.find_own({"owner": facts["owner"], "dataset": facts["dataset"]})
    return {
        name: told for name, told in found.items() if told["root"] == facts["root"] or not Path(told["root"]).is_dir()
    }


def _is_whole(name: str, facts: Facts) -> bool:
    return name in fiftyone_views.find_own({**facts, "whole": True})


def _replace_older(name: str, facts: Facts) -> list[str]:
    """Delete what nobody shows: older views of the dataset, and empty ones of folders that are gone."""
    lost: list[str] = []
    related = _related(facts)
    for old, told in fiftyone_views.find_own({"owner": facts["owner"]}).items():
        if old == name or (old not in related and Path(told["root"]).is_dir()):
            continue
        with try_hold(_lock(old), Hold.ALONE) as unused:
            if not unused or (old not in related and told["whole"] and fiftyone_views.has_own_things(old)):
                continue
            if old in related and told["whole"]:
                lost += fiftyone_views.copy_saved(old, name)
            fiftyone_views.delete(old)
            _lock(old).unlink(missing_ok=True)
    return [f"The saved view {view!r} does not fit any more; it was left out." for view in lost]


def _lock(name: str) -> Path:
    """Beside the database; of a server that was named, where all of a person's processes look."""
    folder = (default_folder() if os.environ.get(URI_VARIABLE) else database_folder()) / "shown"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
