"""`gc`: remove what killed processes left in a dataset folder, and tables that no version has."""

import os
from dataclasses import dataclass
from pathlib import Path

from curate.errors import StoreError
from curate.files import remove_leftovers
from curate.formatting import curate_command
from curate.paths import refuse_links
from curate.result import Result
from curate.store import Store
from curate.table_files import TABLES_FOLDER, existing_tables

_MEDIA = "media"


@dataclass(frozen=True)
class GcResult(Result):
    """What was removed.

    Attributes:
        removed: Files, POSIX, relative to the dataset folder; with a dry run, those that would be removed.
        bytes: Their size.
        dry_run: Whether nothing was removed.
    """

    removed: tuple[str, ...]
    bytes: int
    dry_run: bool


def gc(dataset: str | os.PathLike[str], *, dry_run: bool = False) -> GcResult:
    """Remove temporary files of killed processes, and tables that no version has, as a killed commit leaves them.

    Nothing else is removed: no version, no image or video, and no file that curate did not write.

    Args:
        dataset: The dataset folder.
        dry_run: Only list what would be removed.

    Raises:
        StoreError: The folder has no dataset; or a version file cannot be read, so that its tables are not known.
    """
    store = Store(dataset)
    store.require()
    for folder in ("versions", TABLES_FOLDER, _MEDIA):
        refuse_links(store.root, folder)
    sizes: dict[str, int] = {}
    for folder, _, _ in os.walk(store.root):  # goes through no link
        sizes |= remove_leftovers(folder, dry_run=dry_run)
    if dry_run:
        sizes |= _sizes(_unused_tables(store))
    else:
        with store.locked():
            unused = _sizes(_unused_tables(store))
            for file in unused:
                os.unlink(file)
        sizes |= unused
    names = sorted(Path(file).relative_to(store.root).as_posix() for file in sizes)
    return GcResult(removed=tuple(names), bytes=sum(sizes.values()), dry_run=dry_run)


def _unused_tables(store: Store) -> list[Path]:
    damaged: list[StoreError] = []
    versions = store.all_versions(damaged, replaced=True)
    if damaged:
        raise StoreError(
            f"which tables are in use is not known: {damaged[0].fact}",
            place=damaged[0].place,
            remedy=f"Nothing was removed. {curate_command('verify', store.root)} lists what is damaged.",
        ) from damaged[0]
    used = {file for entry in versions for file in entry.tables.values()}
    return [store.root / file for file in existing_tables(store.root) if file not in used]


def _sizes(files: list[Path]) -> dict[str, int]:
    return {os.fspath(file): file.stat().st_size for file in files}
