"""SECURITY.md names tests that exist; packages are pinned with their hashes."""

import re

import pytest
from repository_paths import REPOSITORY

PAGE = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)


@pytest.mark.parametrize(("file", "test"), NAMED, ids="::".join)
def test_each_named_test_exists(file, test):
    """Each threat has a test that is there."""
    path = REPOSITORY / file
    assert path.is_file()
    assert (f"\ndef {test}(" if test else "\ndef test_") in path.read_text(encoding="utf-8")


def test_each_threat_has_a_test():
    """No row of the table is without one."""
    table = PAGE.split("## Threats")[1].split("## How")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 10
    assert all("`tests/" in row for row in rows)


def test_packages_have_hashes():
    """Each package of requirements.txt has a version and hashes; the file names no address."""
    text = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    packages = re.split(r"\n(?! )", text.strip())
    assert len(packages) > 100
    for package in packages:
        assert re.match(r"[\w.-]+==\S+", package), package
        assert "--hash=sha256:" in package, package
    assert "://" not in text
    assert "index-url" not in text


def test_uv_is_pinned():
    """The Makefile installs one version of uv, and asks for hashes when it updates the pins."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^UV_VERSION := \d+\.\d+\.\d+$", makefile, flags=re.MULTILINE)
    assert "uv==$(UV_VERSION)" in makefile
    assert "--generate-hashes" in makefile
