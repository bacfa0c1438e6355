"""Dataset folders as failing disks, other tools and attackers leave them."""

import copy
import json
import os
import socket

import numpy as np
import pandas as pd
from mutating import mutated_bytes

from curate.columns import TABLES
from curate.table_files import write_table
from curate.versions import VersionFiles

JUNK = [
    *(None, True, False, 0, -1, 1, 2, 3, 4, 10**6, 2**31, 2**63, 10**40, 0.5, 1e308, float("nan"), float("inf"), ""),
    *("x", "000001", "../../x", "/etc/passwd", "tables/../HEAD", "a\x1b[31m\n", "\ud800", "x" * 10_000, [], [[]], {}),
    *([None], {"a": 1}, {"": None}, ["images"], [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], [{"id": 10**12}]),
]
TEXTS = ["[" * 5000, "1" * 5000, "1e999", '{"a": 1, "a": 2}', "-0", '"\\ud800"', "null"]  # of JSON, not all valid
OUTSIDE = ("/proc/self/environ", "/proc/self/fd/0", "/dev/zero", "/dev/tty", "/")


def files_of(root):
    """The files of a dataset's history, and its card; POSIX, relative."""
    found = [root / "HEAD", root / "REDO", root / "card.yaml", *root.glob("versions/*"), *root.glob("tables/*")]
    return sorted(file.relative_to(root).as_posix() for file in found)


def replace(file, data):
    """Write a file anew; copies of the folder share theirs."""
    file.unlink()
    file.write_bytes(data)


def damage_bytes(root, chance):
    """Bits, bytes and pieces of one file are others."""
    name = chance.choice(files_of(root))
    replace(root / name, mutated_bytes((root / name).read_bytes(), chance))
    return name


def swap_files(root, chance):
    """Two files of one kind have one another's names."""
    folder = chance.choice(("versions", "tables"))
    one, other = chance.sample(sorted((root / folder).iterdir()), 2)
    contents = one.read_bytes(), other.read_bytes()
    replace(one, contents[1])
    replace(other, contents[0])
    return f"{one.name} and {other.name}"


def put_other_things(root, chance):
    """One file is missing, or a pipe, a socket, a folder, a device or a link is in its place."""
    name = chance.choice([*files_of(root), "versions", "tables", ".lock"])
    file = root / name
    if file.is_dir():
        file.rename(root.with_name(f"{root.name}-away"))
    else:
        file.unlink(missing_ok=True)
    other = chance.choice(files_of(root))
    things = {
        "nothing": lambda: None,
        "pipe": lambda: os.mkfifo(file),
        "socket": lambda: _bind(file),
        "folder": file.mkdir,
        "file": lambda: file.write_bytes(b""),
        "link to another": lambda: file.symlink_to(root / other),
        "link to itself": lambda: file.symlink_to(file),
        "link to nothing": lambda: file.symlink_to("gone"),
        "link away": lambda: file.symlink_to(root.with_name(f"{root.name}-away")),
        **{f"link to {place}": lambda place=place: file.symlink_to(place) for place in OUTSIDE},
    }
    thing = chance.choice(sorted(things))
    things[thing]()
    return f"{thing} in place of {name}"


def _bind(file):
    here = os.getcwd()
    os.chdir(file.parent)  # the whole path is too long for the address of a socket
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(file.name)
    finally:
        os.chdir(here)


def edit_version(root, chance):
    """A value of a version file is another one, or missing, repeated or new; the checksum is right, or left out."""
    files = VersionFiles(root)
    number = chance.choice(files.numbers())
    document = files.read(number)
    edited = document
    for _ in range(chance.choice((1, 1, 2))):
        edited = _edited(edited, chance)
    name = f"versions/{number:06d}.json"
    way = chance.randrange(4)
    if way < 2 and isinstance(edited, dict):
        (root / name).unlink()
        files.write(number, edited)
    else:
        text = json.dumps(edited)
        if way == 3 and isinstance(edited, dict):
            again = "".join(f', "{chance.choice(sorted(document))}": {value}' for value in chance.sample(TEXTS, 2))
            text = text[:-1] + again + "}"
        replace(root / name, text.encode("utf-8", "surrogatepass"))
    return f"{name} edited"


def _edited(document, chance):
    """A copy of a JSON document with one value replaced, removed or added, however deep."""
    around = {"document": copy.deepcopy(document)}
    place, key = around, "document"
    while isinstance(place[key], dict | list) and place[key] and (place is around or chance.random() < 0.7):
        place = place[key]
        key = chance.choice(sorted(place)) if isinstance(place, dict) else chance.randrange(len(place))
    way = chance.randrange(5)
    if way == 0 and place is not around:
        del place[key]
    elif way == 1 and isinstance(place, dict):
        place[chance.choice(("new", "id", "checksum", "tables"))] = chance.choice(JUNK)
    else:
        place[key] = copy.deepcopy(chance.choice(JUNK))
    return around["document"]


def forge_table(root, chance):
    """A table has other columns, types or values, under a name that fits its content."""
    files = VersionFiles(root)
    number = chance.choice(files.numbers())
    document = files.read(number)
    name = chance.choice(sorted(document["tables"]))
    table = pd.read_parquet(root / document["tables"][name])
    column = chance.choice(list(TABLES[name]))
    count = len(table)
    ways = {
        "missing": lambda: table.drop(columns=column),
        "null": lambda: table.assign(**{column: None}),
        "text": lambda: table.assign(**{column: ["x"] * count}),
        "empty text": lambda: table.assign(**{column: [""] * count}),
        "paths out": lambda: table.assign(**{column: [f"../{row}" for row in range(count)]}),
        "bytes": lambda: table.assign(**{column: [b"\xff"] * count}),
        "lists": lambda: table.assign(**{column: [[1, 2]] * count}),
        "mappings": lambda: table.assign(**{column: [{"a": 1}] * count}),
        "NaN": lambda: table.assign(**{column: np.full(count, np.nan)}),
        "infinite": lambda: table.assign(**{column: np.full(count, np.inf)}),
        "negative": lambda: table.assign(**{column: np.full(count, -1)}),
        "huge": lambda: table.assign(**{column: np.full(count, 2**62)}),
        "times": lambda: table.assign(**{column: pd.Timestamp(0)}),
        "repeated rows": lambda: pd.concat([table, table]),
        "no rows": lambda: table.iloc[:0],
        "no columns": lambda: pd.DataFrame(index=range(3)),
        "other table": lambda: pd.read_parquet(root / document["tables"]["problems"]),
        "more columns": lambda: table.assign(left_eye_x="x", index=1),
    }
    way = chance.choice(sorted(ways))
    forged = ways[way]()
    tables = document["tables"] | {name: write_table(root, name, forged)}
    (root / f"versions/{number:06d}.json").unlink()
    files.write(number, document | {"tables": tables})
    return f"{name}.{column} of version {number}: {way}"


DAMAGES = (damage_bytes, damage_bytes, swap_files, put_other_things)  # what is read is what was written, or an error
FORGERIES = (edit_version, edit_version, forge_table)  # what is read may be other data that keep all rules, or an error
