"""FiftyOne datasets of ours through their lives: built once for one content, shared, replaced, cleaned up.

Each bears the name of its content, so that two views of the same share one and views of something else do not disturb
each other. Whoever shows one holds a lock on it; what nobody shows and a newer one of the same dataset replaces goes,
with what a person tagged and saved in it carried over.
"""

import getpass
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curate.browse import fiftyone_views
from curate.browse.locks import Hold, held, try_hold
from curate.browse.mongo import database_folder

Facts = Mapping[str, Any]


def facts_of(root: Path, mark: str | None) -> dict[str, Any]:
    """What tells the FiftyOne datasets of one of our datasets, and of one person, from all others."""
    owner = f"{getpass.getuser()}@{socket.gethostname()}"
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
                yield _replace_older(name, facts)
                return
        with held(lock, Hold.ALONE):
            if not _is_whole(name, facts):
                build()


def read_all_tags(facts: Facts) -> dict[int, set[str]]:
    """What a person tagged in whichever view of the dataset: image id → tags."""
    tags: dict[int, set[str]] = {}
    for name in fiftyone_views.find_own({**facts, "whole": True}):
        for image_id, own in fiftyone_views.read_tags(name).items():
            tags.setdefault(image_id, set()).update(own)
    return tags


def remove_all_tags(facts: Facts, tags: list[str]) -> None:
    """Take these tags from all images in all views of the dataset."""
    for name in fiftyone_views.find_own({**facts, "whole": True}):
        fiftyone_views.remove_tags(name, tags)


def _is_whole(name: str, facts: Facts) -> bool:
    return name in fiftyone_views.find_own({**facts, "whole": True})


def _replace_older(name: str, facts: Facts) -> list[str]:
    """Delete what nobody shows: other views of the dataset, and those of datasets whose folder is gone."""
    lost: list[str] = []
    of_dataset = fiftyone_views.find_own(facts)
    for old, told in fiftyone_views.find_own({"owner": facts["owner"]}).items():
        if old == name or (old not in of_dataset and Path(told["root"]).is_dir()):
            continue
        with try_hold(_lock(old), Hold.ALONE) as unused:
            if unused:
                if old in of_dataset and told["whole"]:
                    lost += fiftyone_views.copy_saved(old, name)
                fiftyone_views.delete(old)
                _lock(old).unlink(missing_ok=True)
    return [f"The saved view {view!r} does not fit any more; it was left out." for view in lost]


def _lock(name: str) -> Path:
    folder = database_folder() / "shown"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
