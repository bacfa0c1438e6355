"""Folders of a dataset that are links to elsewhere, as archives of others may have: nothing there is changed."""

import json

import pandas as pd
import pytest
from builders import BARE, MASK, labelimg_folder, load, snapshot, write_image
from clips import write_clip
from corner_engine import register
from proposing import write_run

import curate
from curate.errors import CurateError, StoreError
from curate.sources.video_library import write_frame
from curate.sources.youtube.archive import Archive


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of the user's, with a file of each kind that commands write."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    names = ("a.jpg", "a.xml", "1", "not-fetched.txt", "demo.json", "dropped-frames.txt")
    for name in (*names, ".curate-1-0123456789abcdef.tmp"):
        (folder / name).write_text("mine")
    return folder


@pytest.fixture
def root(tmp_path):
    """A dataset with two labelled images and two that wait for labels."""
    labelimg_folder(tmp_path / "clips", {"a": [MASK], "b": [BARE], "c": None, "d": None})
    curate.import_voc(tmp_path / "faces", tmp_path / "clips", with_unlabelled=True)
    return tmp_path / "faces"


def linked(root, folder, elsewhere):
    """Put a link in place of a folder of the dataset; what was there goes aside."""
    link = root / folder
    if link.exists():
        link.rename(link.with_name(f"{link.name}-aside"))
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere)


def sample(root):
    curate.sample_frames(root, [str(write_clip(root.parent / "in" / "walk.mp4", 4, fps=2))], every="1s")


def import_more(root):
    curate.import_voc(root, labelimg_folder(root.parent / "more", {"e": [MASK]}))


def split(root):
    curate.split(root, val=0.5)


def train(root):
    curate.train(root, model="corner:only", run="night", steps=1)


def evaluate(root):
    curate.evaluate(root, run="night", split="all")


def run_pipeline(root):
    file = root.parent / "p.yaml"
    file.write_text(f"name: demo\nsteps:\n  - stats: {{dataset: {root}}}\n")
    curate.run(file)


def fetch(root):
    from curate.commands.fetch_youtube import fetch_youtube

    fetch_youtube(root, ["http://127.0.0.1:9/none.mp4"], allow_private=True)


@pytest.mark.parametrize(
    ("folder", "act"),
    [
        ("media", sample),
        ("media/images", sample),
        ("media/videos", sample),
        ("media/images/walk", sample),
        ("media", import_more),
        ("media/images/more", import_more),
        ("label", curate.label),
        ("labelled", curate.label),
        ("pipelines", run_pipeline),
        ("tables", split),
        ("runs", train),
        ("runs/night", train),
        ("runs", evaluate),
        ("runs/night", evaluate),
        ("versions", curate.gc),
        ("tables", curate.gc),
        ("media", curate.gc),
        ("media/videos", fetch),
        ("media/videos/.partial", fetch),
        ("media/videos/.archive", fetch),
    ],
)
def test_a_linked_folder_of_the_dataset(root, elsewhere, folder, act):
    """The command names the link, and changes nothing behind it."""
    before = snapshot(elsewhere)
    linked(root, folder, elsewhere)
    with pytest.raises(StoreError, match=f"{folder}: this is a link"):
        act(root)
    assert snapshot(elsewhere) == before


@pytest.mark.parametrize(
    ("place", "options"),
    [
        ("out/a", {"form": "voc"}),
        ("photos/a", {"form": "voc"}),
        ("out/drawn", {"draw": True}),
        ("out/drawn/a", {"draw": True}),
    ],
)
def test_a_linked_folder_of_results(tmp_path, elsewhere, monkeypatch, place, options):
    """`predict` writes neither XML nor pictures into a linked folder, also with `overwrite`."""
    register(monkeypatch)
    run = write_run(tmp_path / "runs" / "first")
    write_image(tmp_path / "photos" / "a" / "1.jpg")
    write_image(elsewhere / "1.jpg")
    before = snapshot(elsewhere)
    linked(tmp_path, place, elsewhere)
    options |= {"out": tmp_path / "out"} if place.startswith("out") else {}
    with pytest.raises(StoreError, match=f"{place}: this is a link"):
        curate.predict(run, tmp_path / "photos", overwrite=True, **options)
    assert snapshot(elsewhere) == before


@pytest.mark.parametrize("video_id", ["../out", "a/../../../../out", "..", "a/b\0"])
def test_a_frame_stays_in_the_dataset(tmp_path, video_id):
    """No video id leads a frame out of the dataset folder, wherever the id comes from."""
    with pytest.raises(CurateError):
        write_frame(tmp_path / "faces", video_id, 0, 0, b"frame", suffix=".jpg", width=1, height=1)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("path", "media/videos/../../victim.mp4"),
        ("path", "media/videos/a/b.mp4"),
        ("path", "/victim.mp4"),
        ("path", "../victim.mp4"),
        ("video_id", "../victim"),
    ],
)
def test_a_record_that_names_another_file(tmp_path, key, value):
    """A record of a fetched video that leads elsewhere is no record."""
    row = {"path": "media/videos/street.mp4", "video_id": "street"}
    record = {
        "key": {"extractor": "generic", "id": "street", "clip": None, "max_height": 720},
        "links": ["http://127.0.0.1/street.mp4"],
        "size": 4,
        "whole_s": None,
        "site_id": "street",
        "row": row,
    }
    folder = tmp_path / "media/videos/.archive"
    folder.mkdir(parents=True)
    for name, document in (("good", record), ("bad", record | {"row": row | {key: value}})):
        (folder / f"{name}.json").write_text(json.dumps(document))
    assert [one.path for one in Archive(tmp_path)._records.values()] == ["media/videos/street.mp4"]
    (folder / "good.json").unlink()
    assert not Archive(tmp_path)._records


def test_version_files_that_lead_out(root, tmp_path):
    """A table of images or videos with a path that leads out is refused when it is loaded."""
    victim = tmp_path / "victim.png"
    victim.write_text("mine")
    version = json.loads((root / "versions/000001.json").read_text())
    table = root / version["tables"]["images"]
    rows = pd.read_parquet(table)
    rows.loc[0, "path"] = "../victim.png"
    rows.to_parquet(table, index=False)
    with pytest.raises(CurateError):
        load(root)
    assert victim.read_text() == "mine"
