"""`fetch-youtube`: files, their names, the videos table; nothing fetched twice, nothing lost."""

# ruff: noqa: F401, F811 - fixtures are imported, and named again as arguments

import json
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import pytest
from builders import load, read_versions, snapshot
from clips import write_clip
from fetching import (
    FPS,
    YOUTUBE,
    digest,
    needs_ffmpeg,
    numbered_video,
    only_loopback,
    read_numbers,
    site,
    tube,
    tube_video,
    video,
    waits,
    write_hls,
)

from curate.commands import fetch_youtube as fetching
from curate.commands.fetch_youtube import REMAINING, fetch_youtube
from curate.commands.history import undo
from curate.commands.imports import import_voc
from curate.errors import MissingError, StoreError, UsageError
from curate.sources.youtube import ffmpeg
from curate.sources.youtube.links import parse_clip
from curate.store import Store

VIDEOS = "media/videos"


def fetch(dataset, *urls, **options):
    """Fetch from this machine."""
    return fetch_youtube(dataset, urls, allow_private=True, **options)


def files(dataset):
    """The names of the finished videos."""
    return sorted(file.name for file in (dataset / VIDEOS).iterdir() if not file.name.startswith("."))


def rows(dataset):
    """The videos table, by id."""
    return load(dataset).videos.set_index("video_id").to_dict("index")


# ---------------------------------------------------------------------- whole videos


def test_bytes(dataset, site, video):
    """The file equals the server's, and the table has its hash."""
    site.files["/street.mp4"] = video
    fetch(dataset, site.url("/street.mp4"))
    (row,) = load(dataset).videos.to_dict("records")
    assert digest((dataset / row["path"]).read_bytes()) == row["sha256"] == digest(video)


def test_youtube_row(dataset, site, tube, video):
    """The row of a YouTube video has its provenance and measurements."""
    site.files["/street.mp4"] = video
    tube["dQw4w9WgXcQ"] = tube_video(site)
    fetch(dataset, YOUTUBE + "dQw4w9WgXcQ")
    (row,) = load(dataset).videos.to_dict("records")
    told = {name: row[name] for name in ("video_id", "path", "origin", "link", "title", "uploader", "upload_date")}
    assert told == {
        "video_id": "dQw4w9WgXcQ",
        "path": "media/videos/dQw4w9WgXcQ.mp4",
        "origin": "youtube:dQw4w9WgXcQ",
        "link": YOUTUBE + "dQw4w9WgXcQ",
        "title": "Title of dQw4w9WgXcQ",
        "uploader": "A. Uploader",
        "upload_date": "2024-02-29",
    }
    assert row["licence"] == "Creative Commons Attribution license (reuse allowed)"
    assert (row["width"], row["height"], row["fps"], row["frames"], row["duration_s"]) == (160, 96, 25.0, 200, 8.0)
    assert (row["codec"], row["clip_start_s"] != row["clip_start_s"]) == ("h264", True)
    assert row["fetched_at"].endswith("+00:00")


def test_json(dataset, site, tube, video):
    """The result has exactly the keys of the contract."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    document = fetch(dataset, YOUTUBE + "abc", YOUTUBE + "none", site.url("/404.mp4")).to_json()
    assert list(document) == ["fetched", "skipped", "failed"]
    assert document["fetched"] == [
        {
            "id": "abc",
            "url": YOUTUBE + "abc",
            "path": f"{dataset}/media/videos/abc.mp4",
            "start_s": None,
            "end_s": None,
            "duration_s": 8.0,
            "height": 96,
            "licence": "Creative Commons Attribution license (reuse allowed)",
            "title": "Title of abc",
            "uploader": "A. Uploader",
        }
    ]
    assert {frozenset(one) for one in document["failed"]} == {frozenset({"url", "reason", "advice"})}


def test_best_format(dataset, site, tube, video):
    """The highest format up to --max-height is taken."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site, heights=(48, 96, 480, 1080))
    for one in tube["abc"]["formats"]:
        one["url"] += f"?{one['height']}"
    fetch(dataset, YOUTUBE + "abc", max_height=720)
    assert set(site.counts()) == {"/street.mp4?480"}


@pytest.mark.parametrize(("max_height", "taken"), [(720, 1280), (719, 640), (1080, 1920), (2160, 1920)])
def test_the_shorter_side_of_an_upright_video_counts(dataset, site, tube, video, max_height, taken):
    """720 means 720×1280 of an upright video, as 1280×720 of a wide one."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site, heights=(640, 1920, 1280), upright=True)
    for one in tube["abc"]["formats"]:
        one["url"] += f"?{one['height']}"
    fetch(dataset, YOUTUBE + "abc", max_height=max_height)
    assert set(site.counts()) == {f"/street.mp4?{taken}"}


@pytest.mark.parametrize("missing", ["width", "height"])
def test_one_side_that_the_site_did_not_give(dataset, site, tube, video, missing):
    """Then the video is taken for a wide one: 1280 pixels of width, too, mean 720p."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site, heights=(360, 720, 1080))
    for one in tube["abc"]["formats"]:
        one["url"] += f"?{one['height']}"
        del one[missing]
    fetch(dataset, YOUTUBE + "abc", max_height=720)
    assert set(site.counts()) == {"/street.mp4?720"}


def test_a_size_that_the_site_did_not_give(dataset, site, tube, video):
    """A video that turns out larger than --max-height is kept, and it is said; its shorter side counts."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    for one in tube["abc"]["formats"]:
        del one["width"], one["height"]
    assert fetch(dataset, YOUTUBE + "abc", max_height=96).notes == ()
    (note,) = fetch(dataset, YOUTUBE + "abc", max_height=95).notes
    assert "160×96 pixels, shorter side above --max-height" in note


@needs_ffmpeg
@pytest.mark.parametrize(("section", "clip", "part"), [((2.0, 4.5), (), (2.0, 4.5)), ((2.0, None), (), (2.0, 8.0)),
                                                       ((2.0, 4.5), ("1-3",), (1.0, 3.0))])  # fmt: skip
def test_a_link_to_a_clip(dataset, site, tube, video, section, clip, part):
    """A link to a clip of a YouTube video gives that part, like --clip, which takes precedence; nothing comes twice."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    tube["UgkxClip"] = {"url": YOUTUBE + "abc", "section_start": section[0], "section_end": section[1]}
    link = "https://www.youtube.com/clip/UgkxClip"
    (fetched,) = fetch(dataset, link, clip=clip).fetched
    assert (fetched.start_s, fetched.end_s) == part
    assert fetched.duration_s == pytest.approx(part[1] - part[0], abs=0.05)
    row = Store(dataset).load().videos.iloc[0]
    assert row["origin"] == "youtube:abc"
    again = fetch(dataset, link, clip=clip)
    assert (again.fetched, len(again.skipped)) == ((), 1)


@needs_ffmpeg
def test_hls(dataset, tmp_path, site, video):
    """A whole HLS stream becomes one file with every frame."""
    (tmp_path / "street.mp4").write_bytes(video)
    for file in write_hls(tmp_path / "street.mp4", tmp_path / "hls").parent.iterdir():
        site.files[f"/hls/{file.name}"] = file.read_bytes()
    (one,) = fetch(dataset, site.url("/hls/list.m3u8")).fetched
    assert [number for number, _ in read_numbers(one.path)] == list(range(200))


def test_page_with_two_videos(dataset, tmp_path, site, video):
    """A page with two videos gives both, under names of their own."""
    other = numbered_video(tmp_path / "other.mp4", 2).read_bytes()
    site.files |= {"/one.mp4": video, "/two.mp4": other}
    site.files["/page.html"] = b"<html><video src='/one.mp4'></video><video src='/two.mp4'></video></html>"
    result = fetch(dataset, site.url("/page.html"))
    assert len({one.id for one in result.fetched}) == 2
    assert {row["sha256"] for row in rows(dataset).values()} == {digest(video), digest(other)}


def test_playlist(dataset, site, tube, video):
    """Each entry of a playlist is fetched or fails by itself."""
    site.files["/street.mp4"] = video
    tube |= {"PL1": ["aaa", "bbb", "ccc"], "aaa": tube_video(site), "ccc": tube_video(site)}
    tube["bbb"] = tube_video(site, "/none.mp4")
    result = fetch(dataset, "https://www.youtube.com/playlist?list=PL1")
    assert sorted(one.id for one in result.fetched) == ["aaa", "ccc"]
    assert [(one.url, one.reason) for one in result.failed] == [(YOUTUBE + "bbb", "not_found")]


def test_newest(dataset, site, tube, video):
    """--newest fetches the first videos of a list, and asks the site for no more of its entries."""
    site.files["/street.mp4"] = video
    tube |= {"PL1": ["aaa", "bbb", "ccc", "ddd"]} | {name * 3: tube_video(site) for name in "abcd"}
    result = fetch(dataset, "https://www.youtube.com/playlist?list=PL1", newest=2)
    assert sorted(one.id for one in result.fetched) == ["aaa", "bbb"]
    assert [one for one in tube["asked"] if one.startswith("entry")] == ["entry aaa", "entry bbb"]


@pytest.mark.parametrize(("newest", "taken"), [(None, ["aaa", "bbb", "ccc"]), (2, ["bbb", "ccc"])])
def test_channel(dataset, site, tube, video, newest, taken):
    """The tabs of a channel are lists; its newest videos are those of all tabs together."""
    site.files["/street.mp4"] = video
    tube |= {"CH1": {"channel_id": "UCstreet", "tabs": [["aaa"], ["bbb", "ccc"]]}, "UUstreet": ["ccc", "bbb", "aaa"]}
    tube |= {name * 3: tube_video(site) for name in "abc"}
    result = fetch(dataset, "https://www.youtube.com/playlist?list=CH1", newest=newest)
    assert sorted(one.id for one in result.fetched) == taken


@pytest.mark.parametrize("form", ["watch?v=aaa&list=PL1", "watch?list=PL1&v=aaa&index=3"])
def test_one_video_of_a_list(dataset, site, tube, video, form):
    """A link that names a video and its list gives the video, and says how to take all."""
    site.files["/street.mp4"] = video
    tube |= {"PL1": ["aaa", "bbb"], "aaa": tube_video(site), "bbb": tube_video(site)}
    link = f"https://www.youtube.com/{form}"
    result = fetch(dataset, link)
    assert [one.id for one in result.fetched] == ["aaa"]
    assert result.notes == (
        f"{link} names one video of a playlist; only that one is fetched. "
        "All are at https://www.youtube.com/playlist?list=PL1.",
    )


# ---------------------------------------------------------------------- clips


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["mp4", "hls"])
@pytest.mark.parametrize(
    ("clip", "first", "last"),
    [("3-5", 75, 124), ("0-0.5", 0, 12), ("2.5-4", 63, 99), ("3.96-4.04", 99, 100), ("0.04-0.1", 1, 2)],
)
def test_clip_is_cut_to_the_frame(dataset, tmp_path, site, video, kind, clip, first, last):
    """A clip has every frame from the first at or after its start to the last before its end, at its own time."""
    path = "/street.mp4"
    site.files[path] = video
    if kind == "hls":
        (tmp_path / "street.mp4").write_bytes(video)
        path = "/hls/list.m3u8"
        for file in write_hls(tmp_path / "street.mp4", tmp_path / "hls").parent.iterdir():
            site.files[f"/hls/{file.name}"] = file.read_bytes()
    (one,) = fetch(dataset, site.url(path), clip=[clip]).fetched
    start_s = Fraction(clip.split("-")[0])
    expected = [(number, Fraction(number, FPS) - start_s) for number in range(first, last + 1)]
    assert [(number, time_s) for number, time_s in read_numbers(one.path)] == expected


@needs_ffmpeg
def test_clip_of_variable_rate(dataset, tmp_path, site):
    """Frames at uneven times keep their times: none is duplicated, dropped or moved."""
    stamps = [0, 40, 55, 200, 230, 500, 510, 900, 1000, 1033, 1400]
    site.files["/uneven.mp4"] = numbered_video(tmp_path / "uneven.mp4", pts=stamps).read_bytes()
    (one,) = fetch(dataset, site.url("/uneven.mp4"), clip=["0.2-1"]).fetched
    times = [(number, round(float(time_s) * 1000)) for number, time_s in read_numbers(one.path)]
    assert times == [(3, 0), (4, 30), (5, 300), (6, 310), (7, 700)]


@needs_ffmpeg
def test_clip_row(dataset, site, tube, video):
    """A clip's row has its start and end, and the same origin as other clips of the video."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    fetch(dataset, YOUTUBE + "abc", clip=["0:01-0:02.5", "5-6"])
    found = rows(dataset)
    assert sorted(found) == ["abc_1-2.5", "abc_5-6"]
    assert (found["abc_1-2.5"]["clip_start_s"], found["abc_1-2.5"]["clip_end_s"]) == (1.0, 2.5)
    assert {row["origin"] for row in found.values()} == {"youtube:abc"}


@needs_ffmpeg
def test_two_clips_are_two_files(dataset, site, tube, video):
    """Two clips and the whole of one video are three files."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    fetch(dataset, YOUTUBE + "abc", clip=["1-2", "2-3"])
    fetch(dataset, YOUTUBE + "abc")
    assert files(dataset) == ["abc.mp4", "abc_1-2.mp4", "abc_2-3.mp4"]


@needs_ffmpeg
def test_clip_fetches_only_its_part(dataset, tmp_path, site):
    """A clip of a long stream requests only the segments around it."""
    long = numbered_video(tmp_path / "long.mp4", 40)
    for file in write_hls(long, tmp_path / "hls").parent.iterdir():
        site.files[f"/hls/{file.name}"] = file.read_bytes()
    fetch(dataset, site.url("/hls/list.m3u8"), clip=["20-21"])
    assert sum(path.endswith(".ts") for path in site.counts()) < 12


@needs_ffmpeg
def test_short_clip_is_noted(dataset, site, video):
    """A clip that the video's end cuts short has a note, and the real end in its row."""
    site.files["/street.mp4"] = video
    result = fetch(dataset, site.url("/street.mp4"), clip=["6-20"])
    assert [note.partition(": ")[2] for note in result.notes] == ["2.00 s long instead of 14.00 s."]
    assert result.fetched[0].end_s == pytest.approx(8.0)


@needs_ffmpeg
def test_clip_beyond_the_end(dataset, site, video):
    """A clip that starts after the end of the video fails."""
    site.files["/street.mp4"] = video
    (failed,) = fetch(dataset, site.url("/street.mp4"), clip=["20-30"]).failed
    assert (failed.reason, "beyond the end" in failed.advice) == ("other", True)


# ---------------------------------------------------------------------- nothing twice, nothing lost


@needs_ffmpeg
def test_second_run_makes_no_request(dataset, site, tube, video):
    """A second run makes no request, and changes nothing."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    links = [YOUTUBE + "abc", site.url("/street.mp4")]
    fetch(dataset, *links, clip=["1-2", "3-4"])
    before, asked = snapshot(dataset), (list(site.requests), list(tube["asked"]))
    result = fetch(dataset, *links, clip=["1-2", "3-4"])
    assert (site.requests, tube["asked"]) == asked
    assert snapshot(dataset) == before
    assert [one.reason.split(":")[0] for one in result.skipped] == ["already there"] * 4


def test_another_spelling_makes_no_request(dataset, site, tube, video):
    """A fetched YouTube video is recognised by its ID, however the link is written."""
    site.files["/street.mp4"] = video
    tube["dQw4w9WgXcQ"] = tube_video(site)
    fetch(dataset, YOUTUBE + "dQw4w9WgXcQ")
    asked = list(tube["asked"])
    result = fetch(dataset, "https://youtu.be/dQw4w9WgXcQ?t=3")
    assert (tube["asked"], len(result.skipped)) == (asked, 1)


def test_equal_requests_are_one(dataset, site, tube, video):
    """Two links to one video in one call fetch it once."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    result = fetch(dataset, YOUTUBE + "abc", "https://youtu.be/abc")
    assert (len(result.fetched), files(dataset)) == (1, ["abc.mp4"])


def test_every_link_has_an_outcome(dataset, site, tube, video):
    """A second link to one video is skipped as such, in this run and in later ones."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    for _ in range(2):
        (skipped,) = [
            one
            for one in fetch(dataset, YOUTUBE + "abc", "https://youtu.be/abc", workers=1).skipped
            if one.reason.startswith("the same")
        ]
        assert (skipped.url, skipped.reason) == ("https://youtu.be/abc", f"the same video as {YOUTUBE}abc")


def test_fragments_are_ignored(dataset, site, video):
    """A link with a fragment is the same file as without."""
    site.files["/street.mp4"] = video
    result = fetch(dataset, site.url("/street.mp4"), site.url("/street.mp4#start"), workers=1)
    assert (len(result.fetched), len(result.skipped)) == (1, 1)


def test_pages_of_one_name(dataset, tmp_path, site, video):
    """Videos of two pages whose URLs end alike are two videos with two origins."""
    site.files |= {"/one.mp4": video, "/two.mp4": numbered_video(tmp_path / "two.mp4", 2).read_bytes()}
    site.files |= {f"/{page}/watch.html": f"<video src='/{page}.mp4'></video>".encode() for page in ("one", "two")}
    links = [site.url(f"/{page}/watch.html") for page in ("one", "two")]
    assert len(fetch(dataset, *links).fetched) == 2
    assert sorted(row["origin"] for row in rows(dataset).values()) == links


def test_page_with_two_videos_is_asked_once(dataset, tmp_path, site, video):
    """A page that describes its videos is requested once per run; fetched videos are not requested."""
    site.files |= {"/one.mp4": video, "/two.mp4": numbered_video(tmp_path / "two.mp4", 2).read_bytes()}
    site.files["/page.html"] = b"<html><video src='/one.mp4'></video><video src='/two.mp4'></video></html>"
    fetch(dataset, site.url("/page.html"))
    assert site.counts()["/page.html"] == 1
    site.requests.clear()
    fetch(dataset, site.url("/page.html"))
    assert site.counts() == {"/page.html": 1}


def test_deleted_file_is_fetched_again(dataset, site, tube, video):
    """A file that was deleted by hand is fetched again."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    fetch(dataset, YOUTUBE + "abc")
    (dataset / VIDEOS / "abc.mp4").unlink()
    fetch(dataset, YOUTUBE + "abc")
    assert digest((dataset / VIDEOS / "abc.mp4").read_bytes()) == digest(video)


def test_video_that_changed_on_its_site(dataset, tmp_path, site, tube, video):
    """A deleted video that has changed on its site replaces the old one in the table."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    fetch(dataset, YOUTUBE + "abc")
    (dataset / VIDEOS / "abc.mp4").unlink()
    site.files["/street.mp4"] = numbered_video(tmp_path / "new.mp4", 3).read_bytes()
    fetch(dataset, YOUTUBE + "abc")
    assert rows(dataset)["abc"]["sha256"] == digest(site.files["/street.mp4"])


def test_other_versions_are_kept(dataset, source, site, tube, video):
    """The current version is the parent of the new one, whatever was fetched before."""
    site.files["/street.mp4"] = video
    tube |= {"abc": tube_video(site), "new": tube_video(site)}
    fetch(dataset, YOUTUBE + "abc")
    import_voc(dataset, source)
    fetch(dataset, YOUTUBE + "abc", YOUTUBE + "new")
    assert [entry.operation for entry in Store(dataset).history()] == ["fetch-youtube", "import-voc", "fetch-youtube"]


@needs_ffmpeg
def test_segments_without_suffix(dataset, tmp_path, site, video):
    """An HLS stream whose segments have no suffix is cut, too."""
    (tmp_path / "street.mp4").write_bytes(video)
    for file in write_hls(tmp_path / "street.mp4", tmp_path / "hls").parent.glob("*.ts"):
        site.files[f"/hls/piece/{file.stem}"] = file.read_bytes()
    playlist = (tmp_path / "hls" / "list.m3u8").read_text().replace("list", "piece/list").replace(".ts", "?key=1")
    site.files["/hls/list.m3u8"] = playlist.encode()
    (one,) = fetch(dataset, site.url("/hls/list.m3u8"), clip=["3-5"]).fetched
    assert [number for number, _ in read_numbers(one.path)] == list(range(75, 125))


@needs_ffmpeg
def test_clip_of_a_server_without_ranges(dataset, site, video):
    """If the server has no range requests, the whole file is downloaded, and the clip cut from it."""
    site.files["/street.mp4"] = video
    site.has_ranges = False
    (one,) = fetch(dataset, site.url("/street.mp4"), clip=["3-5"]).fetched
    assert [number for number, _ in read_numbers(one.path)] == list(range(75, 125))


@needs_ffmpeg
@pytest.mark.parametrize("form", ["odd", "10-bit", "turned", "late", "hevc"])
def test_cut_of_other_forms(tmp_path, form):
    """Odd sizes, 10 bits, rotation, a late start and other codecs are cut exactly."""
    options = {
        "odd": {"codec": "libvpx-vp9", "width": 161, "height": 97},
        "10-bit": {"pixel_format": "yuv420p10le"},
        "turned": {"rotation": 90},
        "late": {"first_pts": 500},
        "hevc": {"codec": "libx265"},
    }[form]
    file = write_clip(tmp_path / ("a.webm" if form == "odd" else "a.mp4"), 75, fps=FPS, gop=25, **options)
    clip = parse_clip("1.5-2.1", place="x")
    out = tmp_path / "out.mp4"
    assert ffmpeg.cut(file, clip, out, stop=threading.Event(), report=lambda _: None) == 15
    assert [number for number, _ in read_numbers(out)] == list(range(38, 53))


@needs_ffmpeg
def test_cut_of_a_local_file(tmp_path):
    """A downloaded file, as after DASH, is cut likewise."""
    file = numbered_video(tmp_path / "a:b %d.mp4", 4)
    clip = parse_clip("1.5-2.1", place="x")
    out = tmp_path / "out.mp4"
    assert ffmpeg.cut(file, clip, out, stop=threading.Event(), report=lambda _: None) == 15
    assert [number for number, _ in read_numbers(out)] == list(range(38, 53))


def test_undone_video_is_added_again(dataset, site, tube, video):
    """After `undo` the file is added again without a request."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    fetch(dataset, YOUTUBE + "abc")
    undo(dataset)
    asked = list(tube["asked"])
    result = fetch(dataset, YOUTUBE + "abc")
    assert ([one.id for one in result.fetched], tube["asked"]) == (["abc"], asked)
    assert list(rows(dataset)) == ["abc"]


def test_changed_file_is_not_overwritten(dataset, site, tube, video):
    """A file that was changed by hand is not overwritten; the link fails with the reason."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    fetch(dataset, YOUTUBE + "abc")
    (dataset / VIDEOS / "abc.mp4").write_bytes(b"mine")
    (failed,) = fetch(dataset, YOUTUBE + "abc").failed
    assert "already exists" in failed.advice
    assert (dataset / VIDEOS / "abc.mp4").read_bytes() == b"mine"


def test_foreign_file_keeps_its_name(dataset, site, tube, video):
    """An existing file keeps its name; the new one gets another."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    (dataset / VIDEOS).mkdir(parents=True)
    (dataset / VIDEOS / "abc.mkv").write_bytes(b"mine")
    fetch(dataset, YOUTUBE + "abc")
    assert files(dataset) == ["abc.mkv", "abc_720p.mp4"]


def test_another_height_is_another_file(dataset, site, tube, video):
    """The same video at another height is another file."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    fetch(dataset, YOUTUBE + "abc")
    fetch(dataset, YOUTUBE + "abc", max_height=480)
    assert files(dataset) == ["abc.mp4", "abc_480p.mp4"]


@pytest.mark.parametrize("odd", ["../../evil", "a/b", "a.b", "ä ö", "x" * 300, "CON:1"])
def test_odd_ids(dataset, site, tube, video, odd, monkeypatch):
    """Whatever an ID contains, the file has a plain name in media/videos."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site, id=odd)
    fetch(dataset, YOUTUBE + "abc")
    (name,) = files(dataset)
    assert name.removesuffix(".mp4").replace("-", "").replace("_", "").isalnum()
    assert name.isascii()


def test_one_version(dataset, site, tube, video):
    """All videos of a call are one version, which one `undo` takes back."""
    site.files["/street.mp4"] = video
    tube |= {one: tube_video(site) for one in ("aaa", "bbb", "ccc")}
    fetch(dataset, *(YOUTUBE + one for one in ("aaa", "bbb", "ccc")))
    assert len(load(dataset).videos) == 3
    assert undo(dataset).version == 0


def test_broken_connection_is_resumed(dataset, site, video, waits):
    """After a broken connection the rest is requested by its range."""
    site.files["/street.mp4"] = video
    site.cut_after["/street.mp4"] = [1000, 30000]
    fetch(dataset, site.url("/street.mp4"))
    assert any(wanted and not wanted.startswith("bytes=0-") for wanted in site.asked("/street.mp4"))
    assert [row["sha256"] for row in rows(dataset).values()] == [digest(video)]


@needs_ffmpeg
def test_broken_connection_is_resumed_for_a_clip(dataset, site, video, waits):
    """The same where ffmpeg reads, which does not notice."""
    site.files["/street.mp4"] = video
    site.cut_after["/street.mp4"] = [len(video), 40, 9000, 20000]
    (one,) = fetch(dataset, site.url("/street.mp4"), clip=["3-5"]).fetched
    assert [number for number, _ in read_numbers(one.path)] == list(range(75, 125))


_RUN = (
    "import sys; from curate.commands.fetch_youtube import fetch_youtube as f; "
    "from curate.sources.youtube import batch; batch._MAX_STOP_S = 0.1; "
    "f(sys.argv[1], sys.argv[2:], allow_private=True)"
)


def _start(dataset, *urls):
    return subprocess.Popen([sys.executable, "-c", _RUN, str(dataset), *urls], stderr=subprocess.PIPE)


def _wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_kill_and_resume(dataset, site, video):
    """A killed run leaves no video; the next one resumes it."""
    site.files["/street.mp4"] = video
    site.held["/street.mp4"] = threading.Event()
    process = _start(dataset, site.url("/street.mp4"))
    _wait_for(lambda: any(file.stat().st_size > 8000 for file in dataset.rglob("*.part")))
    process.kill()
    process.communicate()
    site.held.pop("/street.mp4").set()
    assert (files(dataset), read_versions(dataset)) == ([], [])
    site.requests.clear()
    fetch(dataset, site.url("/street.mp4"))
    assert any(wanted and int(wanted[6:].split("-")[0]) > 0 for wanted in site.asked("/street.mp4"))
    assert [row["sha256"] for row in rows(dataset).values()] == [digest(video)]


def test_interrupt(dataset, site, video):
    """Ctrl-C ends a download that gets nothing, keeps finished and partial files, and lists the rest."""
    site.files |= {"/quick.mp4": video, "/slow.mp4": video}
    site.held["/slow.mp4"] = threading.Event()
    process = _start(dataset, site.url("/quick.mp4"), site.url("/slow.mp4"))
    _wait_for(lambda: (dataset / "HEAD").exists() and any(dataset.rglob("*.part")))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    site.held["/slow.mp4"].set()
    assert b"KeyboardInterrupt" in told
    assert [row["link"] for row in rows(dataset).values()] == [site.url("/quick.mp4")]
    assert (dataset / REMAINING).read_text().splitlines()[1:] == [site.url("/slow.mp4")]


def test_lost_commit(dataset, site, video):
    """A video whose commit was lost in a kill is added by the next run without a download."""
    site.files["/street.mp4"] = video
    fetch(dataset, site.url("/street.mp4"))
    (dataset / "HEAD").unlink()
    for file in (dataset / "versions").iterdir():
        file.unlink()
    site.requests.clear()
    assert len(fetch(dataset, site.url("/street.mp4")).fetched) == 1
    assert site.requests == []


def test_truncated_record(dataset, site, video):
    """A truncated record costs a download, and nothing else."""
    site.files["/street.mp4"] = video
    fetch(dataset, site.url("/street.mp4"))
    (record,) = (dataset / VIDEOS / ".archive").glob("*.json")
    record.write_text(record.read_text()[:50])
    fetch(dataset, site.url("/street.mp4"))
    assert sorted(os.path.splitext(name)[1] for name in files(dataset)) == [".mp4", ".mp4"]


def test_no_partial_files_are_left(dataset, site, video):
    """After a download only finished files are in the folder."""
    site.files["/street.mp4"] = video
    fetch(dataset, site.url("/street.mp4"))
    assert not (dataset / VIDEOS / ".partial").exists()


def test_one_fetch_at_a_time(dataset, site, video):
    """A second fetch in the same dataset is refused while the first is running."""
    site.files["/street.mp4"] = video
    site.held["/street.mp4"] = threading.Event()
    first = threading.Thread(target=fetch, args=(dataset, site.url("/street.mp4")))
    first.start()
    _wait_for(lambda: site.requests)
    with pytest.raises(StoreError, match="another fetch is running in this dataset"):
        fetch(dataset, site.url("/other.mp4"))
    site.held["/street.mp4"].set()
    first.join()


# ---------------------------------------------------------------------- filters and options


@pytest.mark.parametrize(
    ("licence", "is_fetched"),
    [
        ("Creative Commons Attribution license (reuse allowed)", True),
        ("CC BY 4.0", True),
        ("Standard YouTube License", False),
        ("cc:by", True),
        ("CC0", True),
        ("not Creative Commons", False),
        ("all rights reserved, not under a Creative Commons licence", False),
        (None, False),
    ],
)
def test_licence(dataset, site, tube, video, licence, is_fetched):
    """With --licence only videos under it are fetched; one without a licence is skipped without a download."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site, license=licence)
    result = fetch(dataset, YOUTUBE + "abc", licence="creative-commons")
    assert (len(result.fetched), len(result.skipped)) == (int(is_fetched), int(not is_fetched))
    assert bool(site.requests) == is_fetched


def test_max_duration(dataset, site, tube, video):
    """Longer videos are skipped without a download; those of unknown length are fetched."""
    site.files["/street.mp4"] = video
    tube |= {"long": tube_video(site, duration=700), "unknown": tube_video(site, duration=None)}
    result = fetch(dataset, YOUTUBE + "long", YOUTUBE + "unknown", max_duration="10min")
    assert [one.reason for one in result.skipped] == ["it is 700 s long, more than 600 s"]
    assert [one.id for one in result.fetched] == ["unknown"]


def test_cookies(dataset, tmp_path, site, video):
    """Cookies are sent to their site, and their file is not changed."""
    site.files["/street.mp4"] = video
    file = tmp_path / "cookies.txt"
    file.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tsecret\n")
    before = file.read_bytes(), file.stat().st_mtime_ns
    sent = []
    respond = site.respond
    site.respond = lambda handler: (sent.append(handler.headers.get("Cookie")), respond(handler))
    fetch(dataset, site.url("/street.mp4"), cookies=file)
    assert set(sent) == {"session=secret"}
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


def test_rate_limit(dataset, site, video, waits):
    """At --rate-limit of a tenth of the video per second, all waits together reach ten seconds."""
    site.files["/street.mp4"] = video
    fetch(dataset, site.url("/street.mp4"), rate_limit=len(video) / 10, workers=3)
    assert max(waits) == pytest.approx(10, abs=1)


def test_sleep(dataset, site, tube, video, waits):
    """--sleep keeps the starts of two videos apart."""
    site.files["/street.mp4"] = video
    tube |= {"aaa": tube_video(site), "bbb": tube_video(site)}
    fetch(dataset, YOUTUBE + "aaa", YOUTUBE + "bbb", sleep="30s")
    assert max(waits) == pytest.approx(30, abs=2)


def test_progress(dataset, site, video):
    """Progress has the megabytes of each file and the number of videos."""
    site.files["/street.mp4"] = video
    told = []
    fetch(
        dataset, site.url("/street.mp4"), progress=lambda task, done, total, note="": told.append((task, done, total))
    )
    (name,) = rows(dataset)
    assert (name, 1, 1) in told
    assert told[-1] == ("videos", 1, 1)


def test_settings_of_the_user_are_not_read(dataset, tmp_path, site, video, monkeypatch):
    """yt-dlp's own configuration and cache are not used."""
    site.files["/street.mp4"] = video
    home = tmp_path / "home"
    (home / ".config" / "yt-dlp").mkdir(parents=True)
    (home / ".config" / "yt-dlp" / "config").write_text("--simulate\n--write-info-json\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    before = snapshot(home)
    assert len(fetch(dataset, site.url("/street.mp4")).fetched) == 1
    assert snapshot(home) == before


def test_silence(dataset, site, video, capfd):
    """Nothing is printed, neither by yt-dlp nor by ffmpeg."""
    site.files["/street.mp4"] = video
    fetch(dataset, site.url("/street.mp4"), site.url("/none.mp4"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"max_height": 0}, "--max-height"),
        ({"workers": 0}, "--workers"),
        ({"newest": 0}, "--newest"),
        ({"rate_limit": "fast"}, "--rate-limit"),
        ({"licence": "mit"}, "--licence"),
        ({"max_duration": "long"}, "--max-duration"),
        ({"max_duration": "0"}, "--max-duration"),
        ({"clip": ["5-1"]}, "--clip"),
        ({"cookies": "none.txt"}, "none.txt"),
    ],
)
def test_usage_errors(dataset, options, what):
    """An invalid option is refused before the first request."""
    with pytest.raises(UsageError, match=what):
        fetch(dataset, "https://example.org/a", **options)


def test_forgotten_dataset(tmp_path, monkeypatch):
    """A link in place of the dataset is refused, and no folder is created."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="the dataset folder comes first"):
        fetch("https:/example.org/a", "https://example.org/b")
    assert list(tmp_path.iterdir()) == []


def test_nothing_fetched_makes_no_dataset(tmp_path, site):
    """If nothing was fetched, no dataset is created."""
    assert len(fetch(tmp_path / "new" / "dataset", site.url("/none.mp4")).failed) == 1
    assert list(tmp_path.iterdir()) == []


def test_invalid_cookie_file(dataset, tmp_path):
    """A file that is not cookies.txt is refused, with the expected format."""
    (tmp_path / "cookies.json").write_text('[{"name": "a"}]')
    with pytest.raises(UsageError, match="not a cookie file"):
        fetch(dataset, "https://example.org/a", cookies=tmp_path / "cookies.json")


def test_clip_without_ffmpeg(dataset, site, monkeypatch):
    """Without ffmpeg a clip is refused before the first request, with a remedy."""
    monkeypatch.setattr(ffmpeg, "find_ffmpeg", lambda: None)
    with pytest.raises(MissingError, match="apt install ffmpeg"):
        fetch(dataset, site.url("/street.mp4"), clip=["0-1"])
    assert site.requests == []


def test_full_disk(dataset, site, monkeypatch):
    """A nearly full disk is an error before the first request."""
    monkeypatch.setattr(fetching, "MIN_FREE_BYTES", 10**18)
    with pytest.raises(MissingError, match="not enough disk space"):
        fetch(dataset, site.url("/street.mp4"))
    assert site.requests == []


def test_video_larger_than_the_disk(dataset, site, tube, monkeypatch):
    """A video that does not fit is not downloaded."""
    tube["abc"] = tube_video(site)
    tube["abc"]["formats"][0]["filesize"] = 10**18
    (failed,) = fetch(dataset, YOUTUBE + "abc").failed
    assert ("Free some space" in failed.advice, site.requests) == (True, [])


def test_missing_runtime_is_noted(dataset, site, tube, video, monkeypatch):
    """A YouTube link without a JavaScript runtime has a note; other links do not."""
    site.files["/street.mp4"] = video
    tube["dQw4w9WgXcQ"] = tube_video(site)
    monkeypatch.setattr(fetching, "find_runtimes", lambda: {"node": ("18.0.0", False)})
    assert "No JavaScript runtime" in fetching.note_before([YOUTUBE + "dQw4w9WgXcQ"])
    assert fetching.note_before([site.url("/street.mp4")]) is None


def test_history_has_the_arguments(dataset, site, video):
    """The history has the arguments, without cookies."""
    site.files["/street.mp4"] = video
    fetch(dataset, site.url("/street.mp4"))
    (entry,) = [json.loads(file.read_text()) for file in (dataset / "versions").glob("*.json")]
    assert (entry["operation"], entry["arguments"]["urls"]) == ("fetch-youtube", [site.url("/street.mp4")])
    assert "cookies" not in entry["arguments"]
