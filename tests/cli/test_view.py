"""`view` and `pull-tags` on the command line, without FiftyOne."""

import io
import re
import socket
import sys
from urllib.parse import urlsplit

import pytest
from app_scene import save_scene
from rich.console import Console
from sample_datasets import write_text

from curate.cli.pull_tags import pulled_lines
from curate.cli.view import view_lines
from curate.commands.pipeline_file import read_pipeline, resolve_steps
from curate.errors import UsageError
from curate.fiftyone_app.server import DEFAULT_PORT, AppServer
from curate.serving.address import LOOPBACK, take_port

VIEWS = [
    {
        "name": "missed small",
        "patches": False,
        "images": 8,
        "objects": 9,
        "link": "http://127.0.0.1:5151/datasets/x?view=missed-small",
    },
    {
        "name": "missed small patches",
        "patches": True,
        "images": 8,
        "objects": 9,
        "link": "http://127.0.0.1:5151/datasets/x?view=b",
    },
    {
        "name": "worst images",
        "patches": False,
        "images": 3,
        "objects": None,
        "link": "http://127.0.0.1:5151/datasets/x?view=c",
    },
]
READY = {
    "dataset": "faces", "version": 3, "runs": ["first"], "split": "val", "min_side_px": 24.0, "score": 0.5,
    "port": 5151, "link": "http://127.0.0.1:5151/datasets/x?token=abc", "images": 853, "views": VIEWS,
}  # fmt: skip


def text_of(renderable):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_what_is_printed_when_the_app_is_ready():
    """The link, and a row per view with its images and objects; patches have no row."""
    text = text_of(view_lines(READY))
    assert "853 images, version 3; first on val, scores from 0.5, sides of at least 24 px" in text
    assert "Open http://127.0.0.1:5151/datasets/x?token=abc" in text
    rows = [line.split() for line in text.splitlines() if line.strip().startswith(("missed", "worst"))]
    assert rows == [["missed", "small", "8", "9"], ["worst", "images", "3"]]


def test_without_a_run_nothing_is_said_of_runs():
    """Without runs the title describes the dataset alone."""
    text = text_of(view_lines({**READY, "runs": [], "split": None}))
    assert text.splitlines()[0].strip() == "853 images, version 3"


def test_what_was_pulled():
    """Both lists are printed, and the folder of the images to correct."""
    document = {"version": 4, "dropped": ["b.png"], "relabel": ["a.png"], "folder": "faces/relabel", "command": []}
    text = text_of(pulled_lines(document))
    assert [line.strip() for line in text.splitlines()] == [
        *("1 image to correct in faces/relabel", "a.png", "1 image dropped in version 4", "b.png"),
    ]
    dry_run = text_of(pulled_lines({**document, "version": None, "folder": None}))
    assert [line.strip() for line in dry_run.splitlines()][::2] == ["1 image to correct", "1 image would be dropped"]


def test_not_in_pipelines(tmp_path):
    """A pipeline cannot wait for somebody to look: `view` is no step of one."""
    file = write_text(tmp_path / "p.yaml", "name: p\nsteps:\n  - view: {dataset: faces}\n")
    with pytest.raises(UsageError, match="unknown command"):
        resolve_steps(read_pipeline(file), {})


def test_without_fiftyone(tmp_path, run_main, monkeypatch):
    """One line says how to get FiftyOne."""
    root = save_scene(tmp_path / "faces", runs=())
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    result = run_main("view", root)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "curate: view: FiftyOne is not installed. pip install 'curate-vision[view]'\n"


def test_no_dataset(tmp_path, run_main):
    """A folder without a dataset is an error."""
    result = run_main("pull-tags", tmp_path)
    assert result.returncode == 1
    assert "there is no dataset here" in result.stderr


def test_links():
    """Links name dataset, view and workspace, and hold the token of their server."""
    with (
        take_port(LOOPBACK, 0, usual=DEFAULT_PORT) as one,
        take_port("0.0.0.0", 0, usual=DEFAULT_PORT) as all_addresses,
    ):
        server, other = AppServer(one, LOOPBACK), AppServer(all_addresses, "0.0.0.0")
        link = server.link("a b", view="missed-small", workspace="w")
        assert link.endswith(f":{server.port}/datasets/a%20b?view=missed-small&workspace=w&token={server.token}")
        assert server.token != other.token
        assert len(server.token) >= 32
        assert other.link("a", view="b", workspace="c").startswith(f"http://{socket.gethostname()}:{other.port}/")
        once = server.link("a", view="b", workspace="c", once=True)
        assert server.token not in once


@pytest.mark.skipif(sys.platform == "darwin", reason="Safari does not know names below .localhost")
def test_each_app_has_a_host_of_its_own():
    """Browsers send cookies to every port of a host; therefore each app on the loopback has its own host name."""
    with take_port(LOOPBACK, 0, usual=DEFAULT_PORT) as one, take_port(LOOPBACK, 0, usual=DEFAULT_PORT) as two:
        links = [AppServer(port, LOOPBACK).link("a", view="b", workspace="c") for port in (one, two)]
    hosts = {urlsplit(link).hostname for link in links}
    assert len(hosts) == 2
    assert all(re.fullmatch(r"[0-9a-f]{16}\.localhost", host) for host in hosts)
