"""Merges, renames and drops classes. Boxes keep the annotator's class name in `original_class`."""

from collections.abc import Iterable, Mapping

from curate.dataset import ClassEntry, Dataset
from curate.errors import UsageError
from curate.plain_text import check_name, shown


def merge(dataset: Dataset, sources: Iterable[str], into: str) -> Dataset:
    """Move all boxes of the source classes to the target class, and remove the source classes.

    Their names become aliases of the target: annotations that are imported again join it.

    Args:
        dataset: Is not changed.
        sources: Names of classes. The target itself, and classes merged into it before, are ignored.
        into: Name of the target class.

    Raises:
        UsageError: A class does not exist, or there is nothing to merge.
    """
    target = dataset.find_class(into)
    merged = {name for name, id_ in dataset.aliases.items() if id_ == target.id}
    merged |= set(map(shown, merged))  # a name may be given as it is shown
    others = [name for name in sources if name not in (into, target.name)]
    removed = dict(dataset.find_class(name) for name in others if name not in merged)
    if others and not removed:
        return dataset
    if not removed:
        raise UsageError("no class to merge", place=into, expected="at least one other class")
    boxes = dataset.boxes
    moved = boxes["class_id"].isin(list(removed)).to_numpy()
    if moved.any():
        class_ids = boxes["class_id"].to_numpy(copy=True)
        class_ids[moved] = target.id
        boxes = boxes.assign(class_id=class_ids)
    return dataset.replace(
        classes=tuple(entry for entry in dataset.classes if entry.id not in removed),
        boxes=boxes,
        aliases=_redirect(dataset, removed, target.id),
    )


def rename(dataset: Dataset, names: Mapping[str, str]) -> Dataset:
    """Rename classes simultaneously: two classes can swap names. Ids and boxes stay.

    Args:
        dataset: Is not changed.
        names: Old name → new name.

    Raises:
        UsageError: A class does not exist, or a new name is empty or the name of another class.
    """
    renamed = {dataset.find_class(old): new.strip() for old, new in names.items()}
    for new in renamed.values():
        check_name(new, dataset.root, "class")
    new_of = {entry.id: new for entry, new in renamed.items()}
    classes = tuple(ClassEntry(entry.id, new_of.get(entry.id, entry.name)) for entry in dataset.classes)
    taken: set[str] = set()
    for entry in classes:
        if not entry.name:
            raise UsageError("not a class name", place=dataset.root, got="''", expected="some text")
        if entry.name in taken:
            raise UsageError(
                "two classes would have the same name",
                place=dataset.root,
                got=repr(entry.name),
                remedy="To join two classes, use merge-classes.",
            )
        taken.add(entry.name)
    removed = {entry.name: entry.id for entry in renamed if entry.name not in taken}
    aliases = {name: target for name, target in dataset.aliases.items() if name not in taken} | removed
    return dataset.replace(classes=classes, aliases=aliases)


def drop(dataset: Dataset, names: Iterable[str]) -> Dataset:
    """Remove classes and their boxes; the images stay.

    Raises:
        UsageError: A class does not exist.
    """
    removed = dict(map(dataset.find_class, names))
    return dataset.replace(
        classes=tuple(entry for entry in dataset.classes if entry.id not in removed),
        boxes=dataset.boxes[~dataset.boxes["class_id"].isin(list(removed)).to_numpy()],
        aliases=_redirect(dataset, removed, None),
    )


def _redirect(dataset: Dataset, removed: Mapping[int, str], target: int | None) -> dict[str, int | None]:
    """Aliases after classes were removed: their names, and names that referred to them, refer to the target."""
    older = {name: target if id_ in removed else id_ for name, id_ in dataset.aliases.items()}
    return older | dict.fromkeys(removed.values(), target)
