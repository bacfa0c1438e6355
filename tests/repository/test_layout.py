"""Rules of the layout: tests mirror modules, small modules are merged, large ones split."""

import ast
from functools import cache
from pathlib import Path

import pytest
from repository_paths import REPOSITORY

PACKAGE = REPOSITORY / "curate"
TESTS = REPOSITORY / "tests"
OWN_RULES = {"browser", "contracts", "hardening", "repository", "support"}  # their tests are of several modules
MODULES = sorted(file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py")
MERGED_BELOW, SPLIT_FROM = 80, 400  # lines
# small modules with one importer that stay, and why
ALONE = {
    "curate/engines/retinaface/download.py": "`doctor` loads it by its row in ENGINES, without torch",
}


@cache
def importers() -> dict[str, set[str]]:
    """Module → the modules that import it."""
    names = {file.relative_to(REPOSITORY).with_suffix("").as_posix().replace("/", "."): file for file in MODULES}
    found: dict[str, set[str]] = {name: set() for name in names}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                for name in imported & found.keys():
                    found[name].add(file.as_posix())
    return found


def is_a_command(file: Path) -> bool:
    return file.parent.name in ("commands", "cli") and file.parent.parent == PACKAGE


def length(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    "test",
    [file for file in sorted(TESTS.rglob("test_*.py")) if not OWN_RULES & {*file.relative_to(TESTS).parts}],
    ids=lambda file: file.relative_to(TESTS).as_posix(),
)
def test_a_test_file_has_the_name_of_what_it_tests(test):
    """`tests/a/test_b.py` and `tests/a/test_b_more.py` test `curate/a/b.py` or the package `curate/a/b`."""
    folder = PACKAGE / test.parent.relative_to(TESTS)
    words = test.stem.removeprefix("test_").split("_")
    names = ["_".join(words[:count]) for count in range(len(words), 0, -1)]
    assert any((folder / f"{name}.py").is_file() or (folder / name).is_dir() for name in names), (
        f"{folder} has no {names[0]}"
    )


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.relative_to(REPOSITORY).as_posix())
def test_modules_are_neither_small_nor_large(file):
    """A module under 80 lines with one importer is merged into it; a module of 400 lines is split."""
    name = file.relative_to(REPOSITORY).as_posix()
    assert length(file) < SPLIT_FROM
    if length(file) < MERGED_BELOW and not is_a_command(file) and name not in ALONE:
        assert len(importers()[name.removesuffix(".py").replace("/", ".")]) != 1


def test_exceptions_are_still_needed():
    """A module that grew, went, or found a second importer leaves the list."""
    for name in ALONE:
        assert length(REPOSITORY / name) < MERGED_BELOW
        assert len(importers()[name.removesuffix(".py").replace("/", ".")]) == 1
