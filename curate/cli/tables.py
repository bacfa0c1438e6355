"""Tables for the terminal, made from the documents of the JSON contract: what a person sees is what a script gets."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from curate.cli.output import counts_line
from curate.formatting import percent, points
from curate.sizes import SIZES

SIZE_STYLES = {"small": "red", "medium": "yellow", "large": "green"}
_BAR_WIDTH = 24


def new_table(title: str, *columns: str, left: int = 1) -> Table:
    """A table in the house style; the first `left` columns are text, the others numbers."""
    # as wide as its title, which would wrap else
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, min_width=len(title)
    )
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < left else "right", no_wrap=True)
    return table


def import_table(document: Mapping[str, Any]) -> RenderableType:
    """What an import brought, and its problems by kind."""
    lines = [
        Text(f"{document['dataset']}, version {document['version']}: ", style="bold")
        + Text(f"{document['images']} images, {document['boxes']} boxes", style="not bold"),
        Text(f"classes: {counts_line(document['classes'])}"),
        Text(f"images: {document['added']} added, {document['updated']} updated, {document['unchanged']} unchanged"),
        Text(f"boxes: {document['repaired']} repaired, {document['quarantined']} quarantined"),
    ]
    if not document["problems"]:
        return Group(*lines)
    kinds = Counter((problem["action"], problem["kind"]) for problem in document["problems"])
    table = new_table("problems", "action", "kind", "count", "for example", left=2)
    table.columns[3].justify = "left"
    table.columns[3].no_wrap = False
    for (action, kind), number in sorted(kinds.items(), key=lambda item: (_ACTIONS.index(item[0][0]), -item[1])):
        first = next(one for one in document["problems"] if one["kind"] == kind)
        where = first["file"] + (f":{first['line']}" if first["line"] else "")
        table.add_row(action, kind, str(number), f"{where}: {first['detail']}", style=_ACTION_STYLES[action])
    return Group(*lines, Text(), table)


_ACTIONS = ("quarantined", "repaired", "noted")
_ACTION_STYLES = {"quarantined": "red", "repaired": "yellow", "noted": "dim"}


def fetch_table(document: Mapping[str, Any]) -> RenderableType:
    """What came, and what did not and why."""
    title = ", ".join(f"{len(document[key])} {key}" for key in ("fetched", "skipped", "failed"))
    table = new_table(title, "file", "seconds", "height", "licence", "title")
    for place in (3, 4):
        table.columns[place].justify = "left"
    for one in document["fetched"]:
        cells = (f"{one['duration_s']:.2f}", str(one["height"]), one["licence"] or "–", one["title"] or "–")
        table.add_row(one["path"], *cells)
    parts: list[RenderableType] = [table if document["fetched"] else Text(title, style="bold")]
    parts += [Text(f"skipped  {one['url']}: {one['reason']}", style="dim") for one in document["skipped"]]
    parts += [
        Text.assemble((f"{one['reason']}  ", "red"), f"{one['url']}: {one['advice']}") for one in document["failed"]
    ]
    return Group(*parts)


def sample_table(document: Mapping[str, Any]) -> RenderableType:
    """How many frames each video gave."""
    table = new_table(
        f"version {document['version']}: {document['frames']} new frames", "video", "frames", "from", "to"
    )
    for video in document["videos"]:
        times = ("–" if video[key] is None else f"{video[key]:.3f} s" for key in ("first_s", "last_s"))
        table.add_row(video["video_id"], str(video["frames"]), *times)
    dropped = {kind: document[f"dropped_{kind}"] for kind in ("duplicates", "blurred") if document[f"dropped_{kind}"]}
    return Group(table, *([Text(f"left out: {counts_line(dropped)}")] if dropped else []))


def label_line(document: Mapping[str, Any]) -> RenderableType:
    """Where the images lie, and how many more there are."""
    count = f"{document['images']} images in {document['folder']}, {document['added']} of them new"
    return Text(f"{count}; {document['waiting']} more wait\nclasses: {', '.join(document['classes']) or 'none yet'}")


def stats_table(document: Mapping[str, Any]) -> RenderableType:
    """Class balance with bars, and one table a group."""
    parts = [_balance_table(document, f"version {document['version']}")]
    parts += [_balance_table(balance, name) for name, balance in document.get("groups", {}).items()]
    return Group(*parts)


def _balance_table(balance: Mapping[str, Any], title: str) -> RenderableType:
    table = new_table(title, "class", "boxes", "share", "", "images", *SIZES)
    table.columns[3].justify = "left"
    most = max((entry["boxes"] for entry in balance["classes"]), default=0)
    for entry in balance["classes"]:
        bar = Text("█" * round(_BAR_WIDTH * entry["boxes"] / most) if most else "", style="cyan")
        sizes = (str(entry[size]) for size in SIZES)
        table.add_row(entry["name"], str(entry["boxes"]), percent(entry["share"]), bar, str(entry["images"]), *sizes)
    imbalance = balance["imbalance"]
    line = f"{balance['images']} labelled images ({balance['images_without_boxes']} without boxes)"
    line += f", {balance['unlabelled']} not labelled, {balance['boxes']} boxes"
    line += f", imbalance {imbalance:.1f}" if imbalance is not None else ""
    return Group(table, Text(line), Text())


def classes_table(document: Mapping[str, Any]) -> RenderableType:
    """Boxes of each class before and after."""
    version = document["version"]
    before, after = document["before"], document["after"]
    table = new_table(
        f"version {version}" if version is not None else "dry run: nothing was changed",
        "class",
        "before",
        "share",
        "after",
        "share",
    )
    totals = sum(before.values()), sum(after.values())
    for name in dict.fromkeys([*before, *after]):
        cells = []
        for counts, total in zip((before, after), totals, strict=True):
            number = counts.get(name)
            cells += ["–", "–"] if number is None else [str(number), percent(number / total if total else None)]
        table.add_row(name, *cells)
    return table


def split_table(document: Mapping[str, Any]) -> RenderableType:
    """What each split holds."""
    splits = document["splits"]
    names = list(dict.fromkeys(name for counts in splits.values() for name in counts["classes"]))
    table = new_table(f"version {document['version']}", "split", "images", "groups", "boxes", *names)
    totals = {name: sum(counts["classes"].get(name, 0) for counts in splits.values()) for name in names}
    for split, counts in splits.items():
        cells = [
            f"{counts['classes'].get(name, 0)} ({percent(counts['classes'].get(name, 0) / max(totals[name], 1))})"
            for name in names
        ]
        table.add_row(split, str(counts["images"]), str(counts["groups"]), str(counts["boxes"]), *cells)
    return table


def log_table(document: list[Mapping[str, Any]]) -> RenderableType:
    """History, newest first."""
    table = new_table("history", "version", "operation", "time", "images", "boxes", "arguments", left=3)
    table.columns[5].justify = "left"
    table.columns[5].no_wrap = False
    for entry in document:
        arguments = ", ".join(
            f"{name} {value}" for name, value in entry["arguments"].items() if value not in (None, False, [])
        )
        table.add_row(
            str(entry["version"]),
            entry["operation"],
            entry["time"],
            str(entry["images"]),
            str(entry["boxes"]),
            arguments,
        )
    return table


def diff_table(document: Mapping[str, Any]) -> RenderableType:
    """What changed between two versions."""
    table = new_table(f"version {document['from']} → {document['to']}", "", "before", "after")
    for name, (before, after) in document["classes"].items():
        table.add_row(name, str(before), str(after))
    lines = [
        f"images: {document['images_added']} added, {document['images_removed']} removed",
        f"boxes: {document['boxes_added']} added, {document['boxes_removed']} removed, "
        f"{document['boxes_changed']} changed",
    ]
    return Group(table, *(Text(line) for line in lines))


def undo_line(document: Mapping[str, Any]) -> RenderableType:
    """Which version is current now."""
    return Text(f"version {document['undone']} is undone; version {document['version']} is current")


def export_lines(document: Mapping[str, Any]) -> RenderableType:
    """Where the files lie."""
    ap = document["self_check_ap"]
    lines = [f"{document['images']} images and {document['boxes']} boxes in {document['out']}"]
    lines += [f"  {split}: {path}" for split, path in document["files"].items()]
    lines.append("checked: the truth matches itself, AP 1" if ap is not None else "no boxes, so nothing to check")
    return Text("\n".join(lines))


def train_lines(document: Mapping[str, Any]) -> RenderableType:
    """How a training ended."""
    best = f", best at {document['best_step']}" if document["best_step"] not in (None, document["steps"]) else ""
    text = f"run {document['run']}: {document['model']}, {document['steps']} steps{best}"
    last = document["rounds"][-1] if document["rounds"] else None
    if last and last["ap"] is not None:
        sizes = " / ".join(points(last[f"ap_{size}"]) for size in SIZES)
        text += f"; val AP {points(last['ap'])} (small / medium / large {sizes})"
    return Text(text)


def predict_lines(document: Mapping[str, Any]) -> RenderableType:
    """What was found, and where it lies."""
    what = {"coco": "COCO results", "voc": "XML for LabelImg", None: f"proposals, version {document['version']}"}
    lines = [f"{document['boxes']} boxes in {document['images']} images: {what[document['form']]} in {document['out']}"]
    problems = document["problems"]
    lines += [f"left out  {one['file']}: {one['detail']}" for one in problems[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        lines.append(f"and {len(problems) - _SHOWN_PROBLEMS} more; --json lists all")
    return Text("\n".join(lines))


_SHOWN_PROBLEMS = 10


def doctor_table(document: Mapping[str, Any]) -> RenderableType:
    """What is there and what is missing."""
    table = new_table("doctor", "", "part", "found", "needed for", "how to get it", left=5)
    table.columns[4].no_wrap, table.columns[4].overflow = False, "fold"  # a link is of use only whole
    for check in document["checks"]:
        mark = ("✓", "green") if check["ok"] else ("✗", "yellow")
        table.add_row(
            Text(*mark), check["name"], check["found"] or "missing", check["needed_for"], check["remedy"] or ""
        )
    return table
