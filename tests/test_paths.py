"""Paths from files stay in their folder, and nothing is written through a link."""

import pytest

from curate.errors import StoreError
from curate.paths import is_inside, is_name, make_folder, refuse_links

OUTSIDE = ["", ".", "..", "/", "/a", "../a", "a/../../b", "a/..", "a\\b", "..\\a", "a\0b", "C:\\a"]
INSIDE = ["a", "a/b.jpg", "a/..b", "a/b..", "...", ".a", "a b", "ä/ö", "a/./b"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_paths_that_lead_out(path):
    """A path that is empty, absolute, has a part `..`, a backslash or a NUL is not inside."""
    assert not is_inside(path)
    assert not is_name(path)


@pytest.mark.parametrize("path", INSIDE)
def test_paths_that_stay(path):
    """Dots that are parts of names lead nowhere; a name is such a path without a slash."""
    assert is_inside(path)
    assert is_name(path) == ("/" not in path)


@pytest.mark.parametrize("folder", ["linked", "linked/b", "a/linked", "a/linked/c/d"])
def test_links_on_the_way(tmp_path, folder):
    """A link at any depth is refused with its place, also one to a folder inside, and nothing is made behind it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "root"
    link = root / folder.partition("linked")[0] / "linked"
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    for check in (refuse_links, make_folder):
        with pytest.raises(StoreError, match=f"{link}: this is a link"):
            check(root, folder)
    assert not list(elsewhere.iterdir())


def test_a_link_to_nothing(tmp_path):
    """A link without a target is refused too: what is made would come to be where it points."""
    (tmp_path / "linked").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="this is a link"):
        make_folder(tmp_path, "linked/a")
    assert not (tmp_path / "nowhere").exists()


def test_the_named_folder_may_be_a_link(tmp_path):
    """The folder that the user names is followed."""
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to(tmp_path / "real")
    assert make_folder(tmp_path / "named", "a/b").is_dir()
    assert (tmp_path / "real/a/b").is_dir()
    refuse_links(tmp_path / "named", "")


def test_no_folder_outside(tmp_path):
    """A path that leads out makes no folder."""
    with pytest.raises(StoreError, match="leaves its folder"):
        make_folder(tmp_path / "root", "a/../../b")
    assert not list(tmp_path.iterdir())
