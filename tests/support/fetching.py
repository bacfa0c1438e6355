"""A loopback web server with every kind of answer, a replacement for YouTube, and a network guard."""

import hashlib
import ipaddress
import re
import shutil
import socket
import threading
from collections import Counter
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, draw_number, read_number, write_clip
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.extractor.generic import GenericIE
from yt_dlp.utils import ExtractorError, GeoRestrictedError

from curate.sources.youtube import session

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not there")
FPS = 25
YOUTUBE = "https://www.youtube.com/watch?v="


def numbered_video(path, seconds=8, **options):
    """Write a video with its frame numbers drawn in; 25 frames per second, a key frame every 2 s."""
    return write_clip(path, seconds * FPS, fps=FPS, gop=2 * FPS, **options)


def write_with_sound(path, codec, sound, late_s=0.4, seconds=16, gop=50):
    """Write a numbered video, 25 frames per second, whose sound starts before its first frame."""
    with av.open(str(path), "w") as container:
        pictures, silence = container.add_stream(codec, rate=FPS), container.add_stream(sound, rate=48000)
        pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        pictures.codec_context.gop_size = gop
        pictures.codec_context.max_b_frames = 2
        if codec == "libx264":
            pictures.codec_context.options = {"preset": "veryfast", "x264-params": f"keyint={gop}:scenecut=0"}
        fit = av.AudioResampler(format=silence.codec_context.format.name, layout="stereo", rate=48000)
        for number in range(seconds * FPS):
            frame = av.VideoFrame.from_ndarray(draw_number(number), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number + round(late_s * FPS), Fraction(1, FPS)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        for start in range(0, seconds * 48000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), dtype=np.float32), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            for part in fit.resample(frame):
                container.mux(silence.encode(part))
        container.mux(silence.encode(None))
    return path


def write_hls(source, folder, segment_s=2):
    """Split a video into HLS segments; returns the playlist."""
    folder.mkdir(parents=True, exist_ok=True)
    playlist = folder / "list.m3u8"
    options = {"hls_time": str(segment_s), "hls_list_size": "0", "hls_segment_type": "mpegts"}
    with av.open(str(source)) as given, av.open(str(playlist), "w", format="hls", options=options) as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return playlist


def read_numbers(path):
    """Return (number drawn in, time in seconds) of every frame of a file."""
    with av.open(str(path)) as container:
        return [
            (read_number(frame.to_ndarray(format="rgb24")), Fraction(frame.pts) * frame.time_base)
            for frame in container.decode(video=0)
        ]


def digest(data):
    """SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


class Site:
    """The answers of the server, and the requests that it got.

    Attributes:
        files: path → bytes; the content type follows the suffix.
        answers: path → list of (status, headers), one used per request before the file is served.
        always: path → (status, headers) of every request.
        cut_after: path → list of byte counts, one used per request, after which the connection breaks.
        held: path → event that the server waits for after the first 64 KiB.
        requests: (path, Range header or None), in order.
        has_ranges: whether the server supports range requests.
        headers: path → further headers of its file.
    """

    def __init__(self, port):
        self.port = port
        self.files, self.answers, self.always, self.cut_after, self.held = {}, {}, {}, {}, {}
        self.headers = {}
        self.requests = []
        self.has_ranges = True

    def url(self, path, host="127.0.0.1"):
        """The URL of a path."""
        return f"http://{host}:{self.port}{path}"

    def asked(self, path):
        """The Range headers of all requests for a path."""
        return [wanted for asked, wanted in self.requests if asked == path]

    def counts(self):
        """Number of requests by path."""
        return Counter(path for path, _ in self.requests)

    def respond(self, handler):
        """Answer a request."""
        path, wanted = handler.path, handler.headers.get("Range")
        self.requests.append((path, wanted))
        answer = self.always.get(path) or (self.answers.get(path) or [None]).pop(0)
        if answer:
            status, headers = answer
            handler.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            return
        data = self.files.get(path.partition("?")[0])
        if data is None:
            handler.send_error(404)
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "") if self.has_ranges else None
        first = int(match[1]) if match else 0
        if first and first >= len(data):
            handler.send_error(416)
            return
        last = min(int(match[2]), len(data) - 1) if match and match[2] else len(data) - 1
        handler.send_response(206 if match else 200)
        if match:
            handler.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        handler.send_header("Content-Type", _content_type(path))
        if self.has_ranges:
            handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Content-Length", str(last + 1 - first))
        for name, value in self.headers.get(path, {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            self._send(handler, path, data[first : last + 1])

    def _send(self, handler, path, body):
        limits = self.cut_after.get(path)
        limit = limits.pop(0) if limits else len(body)
        for start in range(0, min(limit, len(body)), 16384):
            if start >= 65536 and path in self.held:
                self.held[path].wait(60)
            handler.wfile.write(body[start : min(start + 16384, limit)])
            handler.wfile.flush()
        if limit < len(body):
            handler.connection.shutdown(socket.SHUT_RDWR)


def _content_type(path):
    kinds = {".mp4": "video/mp4", ".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t", ".html": "text/html"}
    return kinds.get(path[path.rfind(".") :].partition("?")[0], "application/octet-stream")


@contextmanager
def serving():
    """Run a `Site` on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            site.respond(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    site = Site(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def site():
    """A web site on loopback."""
    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    """The bytes of eight seconds of numbered frames, 25 per second."""
    return numbered_video(tmp_path_factory.mktemp("video") / "street.mp4").read_bytes()


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch):
    """Fail if anything but this machine is contacted."""
    strangers = []

    def watch(name, original):
        def watched(*arguments, **options):
            address = arguments[0] if name != "connect" else arguments[1]
            host = address[0] if isinstance(address, tuple) else address
            if isinstance(host, str) and not _is_loopback(host):
                strangers.append((name, host))
                raise OSError(f"a test contacts {host}")
            return original(*arguments, **options)

        return watched

    monkeypatch.setattr(socket, "getaddrinfo", watch("getaddrinfo", socket.getaddrinfo))
    monkeypatch.setattr(socket, "create_connection", watch("create_connection", socket.create_connection))
    monkeypatch.setattr(socket.socket, "connect", watch("connect", socket.socket.connect))
    yield strangers
    assert strangers == []


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ---------------------------------------------------------------------- a replacement for YouTube


@pytest.fixture
def waits(monkeypatch):
    """Records waits instead of waiting."""
    from curate.sources.youtube import throttle

    waited = []
    monkeypatch.setattr(throttle, "wait", lambda seconds, stop: waited.append(seconds))
    return waited


@pytest.fixture
def tube(monkeypatch, site):
    """Replaces YouTube: ID → information as its extractor returns it, or an exception."""
    videos = {}
    asked = []

    class YoutubeIE(InfoExtractor):
        _VALID_URL = r"https?://(?:www\.youtube\.com/watch\?(?:list=\w+&)?v=|youtu\.be/)(?P<id>[\w-]{3,})"
        IE_NAME = "youtube"

        def _real_extract(self, url):
            video_id = self._match_id(url)
            asked.append(video_id)
            answer = videos[video_id]
            answer = answer.pop(0) if isinstance(answer, list) else answer
            if isinstance(answer, Exception):
                raise answer
            return {"id": video_id, "title": f"Title of {video_id}", **answer}

    class YoutubeClipIE(InfoExtractor):
        _VALID_URL = r"https?://www\.youtube\.com/clip/(?P<id>\w+)"
        IE_NAME = "youtube:clip"

        def _real_extract(self, url):
            return {"_type": "url_transparent", "ie_key": "Youtube", **videos[self._match_id(url)]}

    class YoutubeTabIE(InfoExtractor):
        _VALID_URL = r"https?://www\.youtube\.com/playlist\?list=(?P<id>\w+)"
        IE_NAME = "youtube:tab"

        def _real_extract(self, url):
            ids = videos[self._match_id(url)]
            if isinstance(ids, dict):  # the tabs of a channel
                tabs = [self.playlist_result(self._entries(tab), "tab") for tab in ids["tabs"]]
                return self.playlist_result(tabs, "channel", channel_id=ids["channel_id"])
            return self.playlist_result(self._entries(ids), self._match_id(url))

        def _entries(self, ids):
            for one in ids:
                asked.append(f"entry {one}")
                link = one[1:] if one.startswith("=") else YOUTUBE + one
                yield self.url_result(link, "Youtube", link, f"Title of {link}")

    def open_downloader(parameters, allow_private):
        ydl = session.GuardedYoutubeDL(parameters, allow_private=allow_private, auto_init=False)
        for extractor in (YoutubeIE(), YoutubeClipIE(), YoutubeTabIE(), GenericIE()):
            ydl.add_info_extractor(extractor)
        return ydl

    monkeypatch.setattr(session, "open_downloader", open_downloader)
    videos["asked"] = asked
    return videos


def tube_video(site, path="/street.mp4", heights=(96,), upright=False, **more):
    """What YouTube's extractor returns for a video on the loopback server."""
    formats = [
        {
            "format_id": f"v{height}",
            "url": site.url(path),
            "ext": "mp4",
            "height": height,
            "width": height * 9 // 16 if upright else height * 16 // 9,
            "vcodec": "avc1",
            "acodec": "none",
            "protocol": "http",
        }
        for height in heights
    ]
    return {
        "formats": formats,
        "duration": 8,
        "uploader": "A. Uploader",
        "upload_date": "20240229",
        "license": "Creative Commons Attribution license (reuse allowed)",
        **more,
    }


def said(text, **more):
    """An error as YouTube's extractor raises it."""
    return ExtractorError(text, expected=True, **more)


def elsewhere(*countries):
    """The error of a video that is available only in some countries."""
    return GeoRestrictedError("The uploader has not made this video available in your country", countries=countries)
