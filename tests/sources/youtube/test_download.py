"""Clips from every kind of container, and resumed downloads."""

# ruff: noqa: F401, F811 - fixtures are imported, and named again as arguments

import errno
import os
import threading
import time
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import pytest
from builders import load
from fetching import (
    FPS,
    YOUTUBE,
    digest,
    needs_ffmpeg,
    numbered_video,
    only_loopback,
    read_numbers,
    said,
    site,
    tube,
    tube_video,
    video,
    waits,
    write_with_sound,
)
from full_disk import files_up_to

from curate.commands import fetch_youtube as fetching
from curate.commands.fetch_youtube import fetch_youtube
from curate.sources.youtube import ffmpeg, throttle
from curate.sources.youtube.ffmpeg import CutError, cut
from curate.sources.youtube.links import parse_clip


def fetch(dataset, *urls, **options):
    """Fetch from this machine."""
    return fetch_youtube(dataset, urls, allow_private=True, **options)


# ---------------------------------------------------------------------- clips


@needs_ffmpeg
@pytest.mark.parametrize(
    ("suffix", "codec", "sound"),
    [
        ("mp4", "libx264", "aac"),
        ("mkv", "libx264", "libopus"),
        ("ts", "libx264", "aac"),
        ("mpg", "mpeg2video", "mp2"),
        ("avi", "mpeg4", "mp2"),
    ],
)
@pytest.mark.parametrize(("clip", "first", "last"), [("0-0.2", 0, 4), ("13.03-13.3", 326, 332)])
def test_clip_counts_from_the_first_frame(dataset, tmp_path, site, tube, suffix, codec, sound, clip, first, last):
    """Times count from the first frame, also where sound starts earlier, in every container."""
    file = write_with_sound(tmp_path / f"a.{suffix}", codec, sound)
    site.files[f"/a.{suffix}"] = file.read_bytes()
    tube["abc"] = tube_video(site, f"/a.{suffix}", duration=None)
    (one,) = fetch(dataset, YOUTUBE + "abc", clip=[clip]).fetched
    start_s = Fraction(clip.split("-")[0])
    expected = [(number, Fraction(number, FPS) - start_s) for number in range(first, last + 1)]
    assert read_numbers(one.path) == expected


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "codec"), [("ts", "libx264"), ("mpg", "mpeg2video"), ("mp4", "libx264")])
def test_clip_far_from_a_key_frame(dataset, tmp_path, site, tube, suffix, codec):
    """No frame is lost where the key frame before a clip is farther away than the first seek goes."""
    file = write_with_sound(tmp_path / f"b.{suffix}", codec, "mp2", late_s=0, seconds=20, gop=450)
    site.files[f"/a.{suffix}"] = file.read_bytes()
    tube["abc"] = tube_video(site, f"/a.{suffix}", duration=None)
    (one,) = fetch(dataset, YOUTUBE + "abc", clip=["16-16.2"]).fetched
    assert [number for number, _ in read_numbers(one.path)] == list(range(400, 405))


@needs_ffmpeg
def test_end_of_a_clip_that_begins_late(dataset, tmp_path, site):
    """A clip whose first frame comes after its start ends with its last frame."""
    stamps = [0, 40, 3000, 3040, 3080, 3120]
    site.files["/a.mp4"] = numbered_video(tmp_path / "a.mp4", pts=stamps).read_bytes()
    (one,) = fetch(dataset, site.url("/a.mp4"), clip=["1-20"]).fetched
    assert one.end_s == pytest.approx(3.16, abs=0.03)


# ---------------------------------------------------------------------- downloads that go on


@pytest.mark.parametrize("name", ["ETag", "Last-Modified", None])
def test_file_that_was_replaced(dataset, tmp_path, site, tube, video, waits, name):
    """A partial file is resumed only while the site has the same file; two files are never joined."""
    tube["abc"] = tube_video(site)
    other = numbered_video(tmp_path / "other.mp4", 9).read_bytes()
    if name:  # else the size tells
        other = video.replace(b"Lavf62", b"Lavf99")
    site.files["/street.mp4"] = video
    site.headers["/street.mp4"] = {name: '"1"'} if name else {}
    site.cut_after["/street.mp4"] = [30000] + [100] * 99
    assert [one.reason for one in fetch(dataset, YOUTUBE + "abc").failed] == ["no_network"]
    site.cut_after.clear()
    site.files["/street.mp4"] = other
    site.headers["/street.mp4"] = {name: '"2"'} if name else {}
    site.requests.clear()
    fetch(dataset, YOUTUBE + "abc")
    assert [row["sha256"] for row in load(dataset).videos.to_dict("records")] == [digest(other)]
    assert site.asked("/street.mp4") == ["bytes=30300-", None]


def test_replaced_file_without_headers(dataset, site, tube, video, waits):
    """A resumed file that cannot be read is downloaded once from its start."""
    tube["abc"] = tube_video(site)
    site.files["/street.mp4"] = b"x" * len(video)
    site.cut_after["/street.mp4"] = [30000] + [100] * 99
    fetch(dataset, YOUTUBE + "abc")
    site.cut_after.clear()
    site.files["/street.mp4"] = video
    fetch(dataset, YOUTUBE + "abc")
    assert [row["sha256"] for row in load(dataset).videos.to_dict("records")] == [digest(video)]


def test_same_file_is_resumed(dataset, site, tube, video, waits):
    """A file that has not changed is resumed."""
    tube["abc"] = tube_video(site)
    site.files["/street.mp4"] = video
    site.headers["/street.mp4"] = {"ETag": '"1"'}
    site.cut_after["/street.mp4"] = [30000] + [100] * 99
    fetch(dataset, YOUTUBE + "abc")
    site.cut_after.clear()
    site.requests.clear()
    assert len(fetch(dataset, YOUTUBE + "abc").fetched) == 1
    assert site.asked("/street.mp4") == ["bytes=30300-"]


@pytest.mark.parametrize("note", ["", "{", "[]", "7", '{"etag": 7}', '{"etag": "1", "etag": "1"}', "[" * 9999])
def test_a_damaged_note(dataset, site, tube, video, waits, note):
    """Nothing is known then about the partial file, and the download starts again."""
    tube["abc"] = tube_video(site)
    site.files["/street.mp4"] = video
    site.headers["/street.mp4"] = {"ETag": '"1"'}
    site.cut_after["/street.mp4"] = [30000] + [100] * 99
    fetch(dataset, YOUTUBE + "abc")
    site.cut_after.clear()
    (file,) = dataset.rglob("*.part.json")
    file.write_text(note)
    assert len(fetch(dataset, YOUTUBE + "abc").fetched) == 1
    assert [row["sha256"] for row in load(dataset).videos.to_dict("records")] == [digest(video)]


@pytest.mark.parametrize("suffix", [".part", ".part.json", ""])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_in_place_of_partial_files(dataset, tmp_path, site, tube, video, waits, suffix, kind):
    """A download is not written through a link that lies where its partial file would be, nor to a pipe."""
    tube["abc"] = tube_video(site)
    site.files["/street.mp4"] = video
    site.cut_after["/street.mp4"] = [30000] + [100] * 99
    fetch(dataset, YOUTUBE + "abc")
    site.cut_after.clear()
    (part,) = dataset.rglob("*.part")
    victim, place = tmp_path / "victim", part.with_name(part.name.removesuffix(".part") + suffix)
    victim.write_text("mine")
    place.unlink(missing_ok=True)
    place.symlink_to(victim) if kind == "link" else os.mkfifo(place)
    assert len(fetch(dataset, YOUTUBE + "abc").fetched) == 1
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(("status", "is_left"), [(404, False), (503, True)])
def test_partial_files_after_a_failure(dataset, site, tube, video, waits, status, is_left):
    """A partial file is kept if the next run may resume it, and deleted otherwise."""
    tube["abc"] = tube_video(site)
    site.files["/street.mp4"] = video
    site.cut_after["/street.mp4"] = [30000] + [100] * 99
    fetch(dataset, YOUTUBE + "abc")
    site.always["/street.mp4"] = (status, {})
    fetch(dataset, YOUTUBE + "abc")
    assert any(dataset.rglob("*.part")) == is_left


@needs_ffmpeg
def test_large_pictures(tmp_path, monkeypatch):
    """ffmpeg decodes no picture above the limit."""
    monkeypatch.setattr(ffmpeg, "MOST_PIXELS", 160 * 96 - 1)
    video, clip = numbered_video(tmp_path / "a.mp4", 2), parse_clip("0-1", place="")
    with pytest.raises(CutError):
        cut(video, clip, tmp_path / "b.mp4", stop=threading.Event(), report=lambda _: None)


# ---------------------------------------------------------------------- full disks


def test_a_disk_that_gets_full(dataset, site, tube, video):
    """The failure says where the disk is full, and the next run asks for the rest alone."""
    tube["abc"] = tube_video(site)
    site.files["/street.mp4"] = video
    with files_up_to(40_000):
        (failed,) = fetch(dataset, YOUTUBE + "abc").failed
    assert failed.advice == (
        f"{dataset}/media/videos: the disk is full: File too large. Free some space and run again; downloads resume."
    )
    site.requests.clear()
    assert len(fetch(dataset, YOUTUBE + "abc").fetched) == 1
    assert site.asked("/street.mp4") == ["bytes=40000-"]


def test_a_full_disk_without_space_for_the_list(dataset, site, tube, video, monkeypatch):
    """What was fetched, and why the rest was not, is told even if the list of what is left cannot be written."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetching, "write_link_file", full)
    tube |= {"abc": tube_video(site), "def": said("Sign in to confirm that you are not a bot")}
    site.files["/street.mp4"] = video
    result = fetch(dataset, YOUTUBE + "abc", YOUTUBE + "def", workers=1)
    assert (len(result.fetched), len(result.failed)) == (1, 1)
    assert "list cannot be written: " in result.notes[-1]
    assert "not-fetched.txt: No space left on device." in result.notes[-1]


@needs_ffmpeg
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_ffmpeg_on_a_full_disk(tmp_path):
    """ffmpeg ends as if all were well; the clip is not taken for a damaged video of the site."""
    video = numbered_video(tmp_path / "a.mp4", 2)
    with pytest.raises(CutError, match="No space left on device"):
        cut(video, parse_clip("0-1", place=""), Path("/dev/full"), stop=threading.Event(), report=lambda _: None)


# ---------------------------------------------------------------------- a file that is there later


@pytest.fixture
def later(monkeypatch, site, tube, video):
    """A video whose server refuses the file before a time; the waits for it, which are not waited, and the notes."""
    waited, notes = [], []
    site.files["/street.mp4"] = video
    site.always["/street.mp4"] = (403, {})
    tube["abc"] = tube_video(site)
    tube["abc"]["formats"][0]["available_at"] = int(time.time()) + 30

    def wait(seconds, stop):
        waited.append(seconds)
        site.always.clear()

    def sleep(seconds):
        raise AssertionError(f"nothing can interrupt a sleep of {seconds} s")

    monkeypatch.setattr(throttle, "wait", wait)
    monkeypatch.setattr(time, "sleep", sleep)
    return waited, notes


@pytest.mark.parametrize("clip", [(), pytest.param(("1-2",), marks=needs_ffmpeg)])
def test_a_file_that_the_site_gives_later(dataset, tube, later, clip):
    """The whole video and a clip both wait until the site gives the file, and say until when."""
    waited, notes = later
    until = datetime.fromtimestamp(tube["abc"]["formats"][0]["available_at"])
    result = fetch(dataset, YOUTUBE + "abc", clip=clip, progress=lambda *given: notes.append(given[3:]))
    assert len(result.fetched) == 1
    assert len(waited) == 1
    assert 20 < waited[0] <= 30
    name = "abc_1-2" if clip else "abc"
    assert (f"{name}: the site gives the file from {until:%H:%M:%S} on",) in notes


def test_a_file_that_the_site_gives_much_later(dataset, tube, later):
    """Nobody waits for hours: the failure says from when on the file is there."""
    tube["abc"]["formats"][0]["available_at"] = int(time.time()) + 7200
    (failed,) = fetch(dataset, YOUTUBE + "abc").failed
    assert later[0] == []
    assert "the site gives the file from 20" in failed.advice
