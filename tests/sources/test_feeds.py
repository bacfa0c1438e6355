"""Feeds of cameras and streams: latest frame, reconnection; files on web servers."""

import errno
import logging
import os
import re
import threading
import time
from itertools import pairwise
from unittest.mock import Mock

import av
import cv2
import numpy as np
import pytest
from clips import draw_number, read_corners, read_number, write_clip
from stream_servers import FPS, HttpServer, RtspServer
from watching import eventually

from curate.errors import DataError, UsageError
from curate.sources.feeds import ffmpeg_errors, live, queued
from curate.sources.feeds.address import parse_live
from curate.sources.feeds.camera import CameraOpener
from curate.sources.feeds.feed import LiveFrame, LiveSourceError, Notice, Picture
from curate.sources.feeds.ffmpeg_errors import describe_open_error
from curate.sources.feeds.file import FileFeed
from curate.sources.feeds.live import LiveFeed, open_live
from curate.sources.feeds.remote_file import RemoteFileFeed
from curate.sources.feeds.stream import Backlog, Pace, StreamOpener

PATIENCE_S = 8
MOST_LATE = 0.4 * FPS  # frames; of them two are the encoder's and the container's


@pytest.fixture(autouse=True)
def no_thread_left():
    """No thread of a feed is left after any test."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("curate-"):
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), thread.name


@pytest.fixture(params=["rtsp", "http"])
def camera(request):
    """(station, URL) of a camera, over each of the protocols."""
    with RtspServer() if request.param == "rtsp" else HttpServer() as server:
        yield server.station, server.url if request.param == "rtsp" else f"{server.url}/live.ts"


def watch(address, **options):
    return LiveFeed(address, **{"stall_s": 5, "first_wait_s": 0.02, "max_wait_s": 0.1} | options)


def take_until(feed, wanted):
    """Return everything up to the first item of a kind: the class Picture, or a kind of notice."""
    found, limit_s = [], time.monotonic() + PATIENCE_S
    while time.monotonic() < limit_s:
        found += feed.take(1, 0.5)
        if any(isinstance(one, Picture) if wanted is Picture else kind_of(one) == wanted for one in found):
            return found
    raise AssertionError(f"no {wanted} in {found}")


def kind_of(one):
    return one.kind if isinstance(one, Notice) else None


def kinds(found):
    return [one.kind for one in found if isinstance(one, Notice)]


def take_all(feed, pause_s=0.0):
    pictures = []
    while not feed.ended:
        pictures += feed.take(4, PATIENCE_S)
        time.sleep(pause_s)
    feed.close()
    return pictures


class Scripted:
    """An opener of a source that does what a list says, one list a connection; the last list again and again.

    An entry is a LiveFrame, or an error to raise; after the last one the connection waits a little, for ever.
    """

    name = "scripted"
    remarks = ()

    def __init__(self, *connections):
        self.opened_s, self.closed = [], 0
        self._scripts = list(connections)

    def open(self):
        self.opened_s.append(time.monotonic())
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        if isinstance(script, LiveSourceError):
            raise script
        self._rest = list(script)
        return self

    def read(self):
        if not self._rest:
            time.sleep(0.01)
            return []
        step = self._rest.pop(0)
        if isinstance(step, LiveSourceError):
            raise step
        return [step]

    def close(self):
        self.closed += 1


def frame_of(number, seen=None):
    def convert():
        if seen is not None:
            seen.append(number)
        return draw_number(number)

    return LiveFrame(convert)


BROKEN = LiveSourceError("it fell over")


# addresses


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://10.0.0.7:554/main", "rtsp://10.0.0.7:554/main"),
        ("rtsp://admin:pw@10.0.0.7/main", "rtsp://***@10.0.0.7/main"),
        ("RTSP://admin:p@w@10.0.0.7/main", "rtsp://***@10.0.0.7/main"),
        ("http://h/x?user=u&Password=pw&n=1", "http://h/x?user=u&Password=***&n=1"),
        ("https://h/x?access_token=a%20b#api_key=c", "https://h/x?access_token=***#api_key=***"),
        ("rtsp://h/user=admin&password=pw&channel=1", "rtsp://h/user=admin&password=***&channel=1"),
        ("tcp://h:9000?passphrase=pw", "tcp://h:9000?passphrase=***"),
        ("rtsp://admin:12/34@10.0.0.7/main", "rtsp://***@10.0.0.7/main"),
        ("rtsp://admin:12#34@10.0.0.7/main", "rtsp://***@10.0.0.7/main"),
        ("udp://@239.0.0.1:1234", "udp://@239.0.0.1:1234"),
    ],
)
def test_an_address_is_shown_without_its_secrets(text, shown):
    """User, password and secret-looking values are replaced, also where a password contains / or #."""
    assert parse_live(text).shown == shown


def test_a_number_is_a_camera():
    """Digits are the number of a camera."""
    found = parse_live("2")
    assert (found.camera, found.shown, found.scheme) == (2, "camera 2", "camera")


@pytest.mark.parametrize("text", ["clips/a.mp4", "./0", "-", "", "a b.mp4", "C:/clips", "²", "-1"])
def test_anything_else_is_a_path(text):
    """Text without a scheme that is not a number is a path."""
    assert parse_live(text) is None


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("rtps://joe:hush@h/x", "unknown URL scheme"),
        ("file:///etc/passwd", "file URLs are not supported"),
        ("concat://a|b", "unknown URL scheme"),
        ("rtsp:///x", "URL has no host"),
        ("rtsp://joe:hush/x@h/y", "invalid host or port"),
        ("rtsp://h:99999/x", "invalid host or port"),
        ("rtsp://h/a b", "spaces"),
        ("rtsp://h/a\r\nb", "spaces"),
        ("20240101", "camera number is too high"),
    ],
)
def test_invalid_addresses(text, fact):
    """The message has the reason, without the password."""
    with pytest.raises(UsageError, match=fact) as caught:
        parse_live(text)
    assert "hush" not in str(caught.value)


def test_a_mistyped_scheme_is_guessed():
    """The message lists the known schemes and suggests the closest."""
    with pytest.raises(UsageError, match=r"one of rtsp, rtsps, http.*Did you mean 'http'\?"):
        parse_live("htpp://h/x")


def test_a_path_is_not_a_live_source():
    """A live feed of a path is an error."""
    with pytest.raises(UsageError, match="not a live source"):
        LiveFeed("clips/a.mp4")


# streams


def test_a_stream_is_watched(camera):
    """Frame numbers ascend, and time stamps are times of arrival."""
    _, address = camera
    feed = watch(address)
    pictures = [take_until(feed, Picture)[-1] for _ in range(20)]
    feed.close()
    numbers = [read_number(picture.pixels) for picture in pictures]
    assert all(a < b for a, b in pairwise(numbers))
    assert pictures[0].timestamp_s == 0 or pictures[0].index > 0
    for a, b in pairwise(pictures):
        assert b.timestamp_s - a.timestamp_s == pytest.approx(b.arrived_s - a.arrived_s, abs=1e-5)
    shown_s = (numbers[-1] - numbers[5]) / FPS
    assert pictures[-1].timestamp_s - pictures[5].timestamp_s == pytest.approx(shown_s, abs=0.2)
    assert feed.is_live


def test_a_slow_consumer_gets_the_latest_frame(camera):
    """Older frames are skipped, and the index counts them."""
    _, address = camera
    feed = watch(address)
    take_until(feed, Picture)
    pictures = []
    for _ in range(5):
        time.sleep(0.25)
        pictures.append(take_until(feed, Picture)[-1])
    feed.close()
    numbers = [read_number(picture.pixels) for picture in pictures]
    assert [picture.index - pictures[0].index for picture in pictures] == [k - numbers[0] for k in numbers]
    assert numbers[-1] - numbers[0] >= 4 * 0.25 * FPS - 3


def test_a_camera_that_sends_pictures_is_a_stream():
    """JPEGs in one multipart/x-mixed-replace response are a stream."""
    with HttpServer() as server:
        feed = open_live(f"{server.url}/pictures")
        for _ in range(10):
            sent = server.station.sent
            picture = take_until(feed, Picture)[-1]
            assert sent - read_number(picture.pixels) <= MOST_LATE
        feed.close()
    assert isinstance(feed, LiveFeed)


def test_a_cut_stream_is_resumed(camera):
    """One notice that it broke, one that it is back; time stamps and frames continue."""
    station, address = camera
    feed = watch(address)
    before = take_until(feed, Picture)[-1]
    station.cut()
    found = [*take_until(feed, "broken"), *take_until(feed, Picture)]
    pictures = [one for one in found if isinstance(one, Picture)]
    found += take_until(feed, Picture)
    feed.close()
    assert kinds(found) == ["broken", "back"]
    assert station.viewers == 2
    times_s = [one.timestamp_s for one in found if not isinstance(one, Notice)]
    assert before.timestamp_s < times_s[0]
    assert times_s == sorted(set(times_s))
    assert read_number(pictures[-1].pixels) > read_number(before.pixels)


def test_many_failed_attempts_are_one_notice(camera):
    """While the server refuses connections, there is only the notice that the source broke."""
    station, address = camera
    feed = watch(address, first_wait_s=0.01, max_wait_s=0.02)
    take_until(feed, Picture)
    station.shut.set()
    station.cut()
    found = take_until(feed, "broken")
    found += feed.take(1, 0.5)
    assert kinds(found) == ["broken"]
    station.shut.clear()
    assert kinds(take_until(feed, Picture)) == ["back"]
    feed.close()


def test_a_silent_stream_is_stalled(camera):
    """Without a frame for `stall_s` it is reconnected, with one notice; frames that come again are another."""
    station, address = camera
    feed = watch(address, stall_s=0.6)
    take_until(feed, Picture)
    station.silent.set()
    notice = take_until(feed, "stalled")[-1]
    assert notice.detail == "no data for 0.6 s"
    station.silent.clear()
    found = take_until(feed, "back")
    feed.close()
    assert kinds(found) == ["back"]
    assert station.viewers >= 2


@pytest.mark.long
def test_close_does_not_wait_for_a_silent_server(camera):
    """`close` returns in about a second; the thread ends by FFmpeg's timeout."""
    station, address = camera
    feed = watch(address, stall_s=1.8)
    take_until(feed, Picture)
    station.silent.set()
    began_s = time.monotonic()
    feed.close()
    assert time.monotonic() - began_s < 1.6
    assert feed.ended
    assert feed.take(1, PATIENCE_S) == []
    feed.close()
    assert time.monotonic() - began_s < 3.5


def count_descriptors():
    return len(os.listdir("/dev/fd"))


def reconnect(feed, station, times):
    for _ in range(times):
        station.cut()
        take_until(feed, "broken")
        take_until(feed, Picture)
    return count_descriptors(), sum(thread.name.startswith("curate-") for thread in threading.enumerate())


def test_reconnecting_leaves_nothing_open():
    """After ten reconnections there are as many descriptors and threads as before."""
    with HttpServer() as server:
        feed = watch(f"{server.url}/live.ts", first_wait_s=0.001, max_wait_s=0.002)
        take_until(feed, Picture)
        few = reconnect(feed, server.station, 2)
        many = reconnect(feed, server.station, 10)
        feed.close()
    # the server's side of the last connection may be on its way out
    assert many[0] <= few[0] + 2
    assert many[1] == few[1] == 1


@pytest.mark.long
def test_a_hundred_reconnections_leave_nothing_open(camera):
    """The same for a hundred reconnections."""
    station, address = camera
    feed = watch(address, first_wait_s=0.001, max_wait_s=0.002)
    take_until(feed, Picture)
    few = reconnect(feed, station, 3)
    many = reconnect(feed, station, 100)
    feed.close()
    assert many[0] <= few[0] + 2
    assert many[1] == few[1] == 1


def test_a_password_is_sent_and_never_shown(capfd):
    """The right password connects; a wrong one is neither in the message nor on stderr."""
    with RtspServer(password="joe:hush") as server:
        feed = watch(server.url.replace("//", "//joe:hush@"))
        take_until(feed, Picture)
        feed.close()
        wrong = watch(server.url.replace("//", "//joe:hushhush@"))
        with pytest.raises(DataError, match=r"^rtsp://\*\*\*@127.0.0.1.*401 unauthorized") as caught:
            wrong.take(1, PATIENCE_S)
        wrong.close()
    assert feed.name.startswith("rtsp://***@127.0.0.1:")
    assert "hush" not in str(caught.value) + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing.ts", "no such stream (404 not found)"),
        ("/closed.ts", "access is denied (403 forbidden)"),
        ("/sick.ts", "the server failed (5xx)"),
        ("/letter.txt", "the URL leads to a picture or a text, not a video"),
        ("/picture.jpg", "the URL leads to a picture or a text, not a video"),
        ("/playlist.m3u8", "the source does not send video"),
    ],
)
def test_errors_when_opening(path, message, tmp_path):
    """Each message has the URL and the reason; a playlist cannot refer to local files."""
    clip = write_clip(tmp_path / "secret.ts", 30)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n"
    files = {
        "/closed.ts": 403,
        "/sick.ts": 500,
        "/letter.txt": b"Dear Joe\n" * 50,
        "/picture.jpg": cv2.imencode(".jpg", draw_number(1))[1].tobytes(),
        "/playlist.m3u8": playlist.encode(),
    }
    with HttpServer(files) as server:
        with pytest.raises(DataError) as caught:
            open_live(server.url + path)
        feed = watch(server.url + path)
        with pytest.raises(DataError) as later:
            feed.take(1, PATIENCE_S)
        feed.close()
    assert str(caught.value).startswith(f"{server.url}{path}: {message}.")
    assert str(later.value) == str(caught.value)
    assert feed.ended


def test_connection_refused():
    """The message says that nothing listens at the address."""
    with RtspServer() as server:
        address = server.url
    feed = watch(address)
    with pytest.raises(DataError, match="connection refused: nothing listens at this address"):
        feed.take(1, PATIENCE_S)
    feed.close()


def test_open_timeout():
    """A connection without video in time is an error that says how long it took."""
    with HttpServer() as server:
        opener = StreamOpener(parse_live(f"{server.url}/silent.ts"), open_timeout_s=0.5, stall_s=0.5)
        with pytest.raises(LiveSourceError, match=r"no video within [01] s"):
            opener.open()


def test_an_unknown_host(monkeypatch):
    """FFmpeg reports only an input error; the host name is looked up to explain it."""

    def look_up(*_):
        raise OSError(errno.ENOENT, "unknown")

    monkeypatch.setattr(ffmpeg_errors.socket, "getaddrinfo", look_up)
    failed = av.error.OSError(errno.EIO, "Input/output error")
    assert describe_open_error(parse_live("rtsp://nowhere/x"), failed, 0.1, 10).detail == "unknown host"


def test_hls_plays_evenly(tmp_path):
    """Live HLS delivers a second of frames at once; they come one by one, at their own pace."""
    parts = {
        f"/{k}.ts": write_clip(tmp_path / f"{k}.ts", 15, fps=15, gop=15, first_pts=15 * k, bframes=0).read_bytes()
        for k in range(9)
    }
    began_s = time.monotonic()

    def playlist():
        last = min(int(time.monotonic() - began_s) + 3, len(parts))
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0"]
        return "\n".join(lines + [f"#EXTINF:1.0,\n{k}.ts" for k in range(last)] + [""]).encode()

    with HttpServer({**parts, "/live.m3u8": playlist}) as server:
        feed = open_live(f"{server.url}/live.m3u8")
        pictures = [take_until(feed, Picture)[-1] for _ in range(30)]
        feed.close()
    assert [read_number(one.pixels) for one in pictures] == [one.index % 15 for one in pictures]
    assert pictures[-1].index <= 32  # of frames that come at once only the latest is taken


# files of web servers


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """60 frames at uneven times in milliseconds, with sound."""
    stamps = [40 * k + 7 * (k % 3) for k in range(60)]
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    options = {"movflags": "faststart"}
    return write_clip(path, pts=stamps, audio=True, container_options=options).read_bytes(), stamps


def test_a_file_of_a_web_server_gives_every_frame(clip):
    """Every frame comes at its own time, however slowly frames are taken; then the feed ends."""
    content, stamps = clip
    with HttpServer({"/clip.mp4": content}) as server:
        feed = open_live(f"{server.url}/clip.mp4?token=hush")
        pictures = take_all(feed, pause_s=0.01)
    assert isinstance(feed, RemoteFileFeed)
    assert (feed.is_live, feed.ended, feed.fault) == (False, True, None)
    assert feed.name == f"{server.url}/clip.mp4?token=***"
    assert [read_number(picture.pixels) for picture in pictures] == list(range(60))
    assert [picture.index for picture in pictures] == list(range(60))
    assert [picture.timestamp_s for picture in pictures] == pytest.approx([stamp / 1000 for stamp in stamps], abs=1e-4)


def test_a_server_without_ranges(tmp_path):
    """A file without a duration, on a server without range requests, is still a file."""
    content = write_clip(tmp_path / "clip.ts", 40, fps=20).read_bytes()
    with HttpServer({"/clip.ts": content}, ranges=False) as server:
        pictures = take_all(open_live(f"{server.url}/clip.ts"))
    assert [read_number(picture.pixels) for picture in pictures] == list(range(40))
    assert [picture.timestamp_s for picture in pictures] == pytest.approx([k / 20 for k in range(40)], abs=1e-4)


def test_a_file_of_a_web_server_is_turned_upright(tmp_path):
    """The rotation in the container is applied."""
    content = write_clip(tmp_path / "clip.mp4", 4, rotation=90).read_bytes()
    with HttpServer({"/clip.mp4": content}) as server:
        pictures = take_all(open_live(f"{server.url}/clip.mp4"))
    assert pictures[0].pixels.shape == (96, 160, 3)
    assert read_corners(pictures[0].pixels) == (True, True)


def test_a_break_of_the_connection_is_the_fault(clip):
    """Frames before the break come, and `fault` says where it broke."""
    content, _ = clip
    with HttpServer({"/clip.mp4": content}, breaking={"/clip.mp4": len(content) // 2}) as server:
        feed = open_live(f"{server.url}/clip.mp4")
        pictures = take_all(feed)
    assert 10 < len(pictures) < 50
    assert [read_number(picture.pixels) for picture in pictures] == list(range(len(pictures)))
    assert feed.fault == f"stops after {pictures[-1].timestamp_s:.2f} s: connection lost"


def test_a_file_can_be_closed_before_its_end(clip):
    """The thread ends although frames are left."""
    with HttpServer({"/clip.mp4": clip[0]}) as server:
        feed = open_live(f"{server.url}/clip.mp4")
        assert len(feed.take(1, PATIENCE_S)) == 1
        feed.close()
        assert feed.ended


def test_a_later_connection_may_have_another_size(tmp_path):
    """A camera that comes back with another size is not squeezed into the first one."""
    sizes = [(160, 96), (96, 160)]
    contents = [write_clip(tmp_path / f"{w}.ts", 4, width=w, height=h).read_bytes() for w, h in sizes]
    with HttpServer({"/live": lambda: contents.pop(0)}, ranges=False) as server:
        opener = StreamOpener(parse_live(f"{server.url}/live"), open_timeout_s=5, stall_s=5)
        for width, height in sizes:
            connection = opener.open()
            while not (frames := connection.read_frames()):
                pass
            pixels = connection.convert(frames[0])
            connection.close()
            assert (pixels.shape, read_number(pixels)) == ((height, width, 3), 0)
    assert contents == []


def test_what_is_unusual_about_a_stream_is_remarked(tmp_path):
    """A connection remarks on its frames as they are converted, and the feed passes that on."""
    clip = write_clip(tmp_path / "a.ts", 4, options={"x264-params": "tff=1"}).read_bytes()
    with HttpServer({"/live": clip}, ranges=False) as server:
        feed = LiveFeed(f"{server.url}/live")
        assert feed.remarks == ()
        take_until(feed, Picture)
        assert [remark.kind for remark in feed.remarks] == ["interlaced"]
        feed.close()


# the loop, on sources that do as they are told


def test_only_frames_that_are_taken_are_converted():
    """Other frames are dropped unconverted."""
    seen = []
    feed = watch("0", opener=Scripted([frame_of(number, seen) for number in range(50)]))
    limit_s = time.monotonic() + PATIENCE_S
    while feed._frames < 50 and time.monotonic() < limit_s:
        time.sleep(0.01)
    pictures = feed.take(1, 1)
    feed.close()
    assert [(one.index, read_number(one.pixels)) for one in pictures] == [(49, 49)]
    assert seen == [49]


def test_damaged_frames_only_count():
    """Damaged frames are skipped, and the index counts them."""
    feed = watch("0", opener=Scripted([LiveFrame(None), LiveFrame(None), frame_of(7)]))
    picture = take_until(feed, Picture)[-1]
    feed.close()
    assert (picture.index, picture.timestamp_s, read_number(picture.pixels)) == (2, 0, 7)


def test_only_damaged_frames_are_a_stall():
    """Only intact frames prevent a stall."""
    feed = watch("0", opener=Scripted([frame_of(0), *[LiveFrame(None)] * 3]), stall_s=0.2)
    notice = take_until(feed, "stalled")[-1]
    feed.close()
    assert notice.detail == "no intact frame for 0.2 s"


def test_notices_and_frames_come_in_order():
    """A frame from before the failure comes before its notice, unless a newer one has replaced it."""
    feed = watch("0", opener=Scripted([frame_of(1), BROKEN], BROKEN))
    found = take_until(feed, "broken")
    feed.close()
    assert [kind_of(one) or read_number(one.pixels) for one in found] == [1, "broken"]
    assert [one.timestamp_s for one in found] == sorted(one.timestamp_s for one in found)
    assert found[-1].detail == "it fell over"


def test_each_reconnection_is_logged_with_its_cause_and_wait(caplog):
    """Cause, attempt and wait are logged, then the return; the next failure counts from 1 again."""
    caplog.set_level(logging.INFO, "curate.sources.feeds.live")
    stalled = LiveSourceError("no data for 10 s", kind="stalled")
    feed = watch("0", opener=Scripted([frame_of(0), BROKEN], stalled, [frame_of(1), BROKEN], [frame_of(2)]))
    take_until(feed, "back")
    take_until(feed, "back")
    feed.close()
    waits = [re.sub(r"\d+\.\d s$", "N s", message) for message in caplog.messages]
    assert waits == [
        "scripted: it fell over; attempt 1 to reconnect in N s",
        "scripted: no data for 10 s; attempt 2 to reconnect in N s",
        "scripted: frames again, attempt 2 to reconnect succeeded",
        "scripted: it fell over; attempt 1 to reconnect in N s",
        "scripted: frames again, attempt 1 to reconnect succeeded",
    ]


def test_waits_double_up_to_the_maximum(caplog, monkeypatch):
    """Waits of 1, 2, 4, 4 ms, each shortened by a random factor between a half and 1."""
    caplog.set_level(logging.INFO, "curate.sources.feeds.live")
    monkeypatch.setattr(live, "_jitter", lambda low, high: (low + high) / 2)
    monkeypatch.setattr(live, "time", Mock(monotonic=lambda: 0.0))  # a slow attempt would begin with 1 ms again
    opener = Scripted([frame_of(0), BROKEN], BROKEN)
    feed = watch("0", opener=opener, first_wait_s=0.001, max_wait_s=0.004)
    eventually(lambda: len(opener.opened_s) >= 5)
    feed.close()
    assert [record.args[-1] for record in caplog.records[:4]] == pytest.approx([0.00075, 0.0015, 0.003, 0.003])


def test_close_does_not_wait_for_a_blocked_source(monkeypatch):
    """`close` leaves a thread that waits for data to end by itself."""
    monkeypatch.setattr(live, "_CLOSE_TIMEOUT_S", 0.05)
    data, opener = threading.Event(), Scripted([frame_of(0)])
    read = opener.read
    monkeypatch.setattr(opener, "read", lambda: read() if opener._rest else data.wait() and [])
    feed = watch("0", opener=opener)
    take_until(feed, Picture)
    feed.close()
    assert feed.ended
    assert feed.take(1, PATIENCE_S) == []
    feed.close()
    assert opener.closed == 0
    data.set()
    eventually(lambda: opener.closed == 1)


def test_every_connection_is_closed():
    """As many connections are closed as were opened."""
    opener = Scripted([frame_of(0), BROKEN])
    feed = watch("0", opener=opener, first_wait_s=0.001, max_wait_s=0.001)
    for _ in range(5):
        take_until(feed, Picture)
        take_until(feed, "broken")
    feed.close()
    assert opener.closed == len(opener.opened_s) >= 5


def test_a_first_connection_without_a_frame_is_an_error():
    """A source that never showed a frame is an error."""
    feed = watch("0", opener=Scripted([LiveFrame(None)]), stall_s=0.1)
    with pytest.raises(DataError, match=r"^scripted: no intact frame for 0.1 s\.$"):
        feed.take(1, PATIENCE_S)
    feed.close()


# keeping up, keeping time


def test_a_decoder_that_keeps_up_gets_every_packet():
    """If packets have to be waited for, all are decoded."""
    backlog = Backlog(0.0)
    assert all(backlog.should_decode(k % 50 == 0, 0.02, k * 0.04) for k in range(1000))


def test_a_slow_decoder_gets_keyframes_until_the_buffers_are_empty():
    """After five seconds without a pause only keyframes are decoded, up to the first after a wait."""
    backlog = Backlog(0.0)
    assert all(backlog.should_decode(False, 0.0, k * 0.1) for k in range(51))
    assert [backlog.should_decode(key, 0.0, 5.1) for key in (False, True, False, True, False)] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert [backlog.should_decode(False, 0.03, 5.2), backlog.should_decode(True, 0.03, 5.3)] == [False, True]
    assert backlog.should_decode(False, 0.03, 5.4)


def test_a_stream_without_keyframes():
    """Without keyframes, decoding continues after five seconds."""
    backlog = Backlog(0.0)
    assert all(backlog.should_decode(False, 0.0, k * 0.1) for k in range(51))
    assert not backlog.should_decode(False, 0.01, 9.9)
    assert backlog.should_decode(False, 0.01, 10.1)


def test_early_frames_wait():
    """A frame is due as long after the first as its time stamp says; a late one, or one after a jump, at once."""
    pace = Pace()
    assert [pace.due_in_s(stamp_s, now_s) for stamp_s, now_s in [(10, 100), (10.5, 100.1), (11, 101.5)]] == [
        0,
        pytest.approx(0.4),
        0,
    ]
    assert pace.due_in_s(500, 102) == 0
    assert pace.due_in_s(500.25, 102) == pytest.approx(0.25)


# cameras


class FakeCapture:
    """A camera that shows a number of frames and then fails."""

    def __init__(self, frames, is_open=True):
        self.numbers, self.is_open = list(range(frames)), is_open
        self.settings, self.released = {}, 0

    def isOpened(self):
        return self.is_open

    def set(self, property_id, value):
        self.settings[property_id] = value
        return True

    def read(self):
        if not self.numbers:
            return False, None
        return True, draw_number(self.numbers.pop(0))[..., ::-1].copy()

    def release(self):
        self.released += 1


def test_a_camera_gives_rgb():
    """OpenCV's BGR is converted, and the driver buffers one frame only."""
    capture = FakeCapture(1)
    connection = CameraOpener(0, lambda _: capture).open()
    (taken,) = connection.read()
    assert np.array_equal(taken.convert(), draw_number(0))
    assert capture.settings == {cv2.CAP_PROP_BUFFERSIZE: 1}


def test_a_camera_that_is_unplugged_and_back_is_opened_again():
    """The camera breaks, and is back; each capture is released."""
    captures = [FakeCapture(3), FakeCapture(0, is_open=False), FakeCapture(2)]
    used = iter([*captures, *[FakeCapture(0, is_open=False)] * 1000])
    feed = watch("3", opener=CameraOpener(3, lambda _: next(used)))
    found = take_until(feed, "back")
    feed.close()
    assert kinds(found)[:2] == ["broken", "back"]
    assert next(one for one in found if kind_of(one)).detail == "the camera stopped sending frames"
    assert [capture.released for capture in captures] == [1, 1, 1]


def test_a_missing_camera_is_one_line(capfd):
    """OpenCV's own messages do not reach stderr, and its log level is restored."""
    level = cv2.utils.logging.getLogLevel()
    feed = open_live("97")
    with pytest.raises(DataError, match=r"^camera 97: no such camera, or it cannot be opened\."):
        feed.take(1, PATIENCE_S)
    feed.close()
    assert "".join(capfd.readouterr()) == ""
    assert cv2.utils.logging.getLogLevel() == level


def test_decoded_ahead_are_few_frames_once_they_are_large(tmp_path, monkeypatch):
    """A video that begins small and becomes large does not fill the memory with large frames."""
    small, large = 160 * 96 * 3, 640 * 384 * 3
    monkeypatch.setattr(queued, "_MAX_QUEUE_BYTES", 3 * large)
    parts = [write_clip(tmp_path / f"{w}.h264", 10, width=w, height=h) for w, h in ((160, 96), (640, 384))]
    (tmp_path / "v.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    feed = FileFeed(tmp_path / "v.h264")
    taken = []
    while not feed.ended:
        taken += [picture.pixels.nbytes for picture in feed.take(1, PATIENCE_S)]
    feed.close()
    assert taken == [small] * 10 + [large] * 10
    assert feed._queue.maxsize == 3
