"""Stream servers on loopback: a camera that shows the frame number, by HTTP and RTSP; files by HTTP."""

import base64
import re
import socket
import socketserver
import threading
import time
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
from clips import HEIGHT, WIDTH, draw_number

FPS = 25
_GOP = 10
_SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=camera
t=0 0
m=video 0 RTP/AVP 96
c=IN IP4 127.0.0.1
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1
a=control:track0
"""


class Station:
    """The frames of a camera: frame k shows the number k, k / FPS seconds after the start; none is skipped.

    Attributes:
        sent: number of the latest frame sent.
        silent: while set, connections stay open and nothing is sent.
        shut: while set, connections are refused.
        viewers: number of connections so far.
    """

    def __init__(self):
        self.sent = -1
        self.silent = threading.Event()
        self.shut = threading.Event()
        self.viewers = 0
        self._began_s = time.monotonic()
        self._ended = threading.Event()
        self._connections = set()

    def play(self, writer, connection, container_format, codec="libx264", options=()):
        """Send frames until the viewer disconnects or is cut off."""
        self.viewers += 1
        self._connections.add(connection)
        try:
            with av.open(writer, "w", format=container_format, options=dict(options)) as container:
                stream = container.add_stream(codec, rate=FPS)
                stream.width, stream.height = WIDTH, HEIGHT
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                stream.codec_context.gop_size = _GOP
                stream.codec_context.thread_count = 1
                stream.codec_context.time_base = Fraction(1, FPS)
                if codec == "libx264":
                    stream.codec_context.options = {"preset": "ultrafast", "tune": "zerolatency"}
                number = int((time.monotonic() - self._began_s) * FPS)
                while not self._ended.is_set() and connection in self._connections:
                    number += 1
                    self._ended.wait(max(0, self._began_s + number / FPS - time.monotonic()))
                    if not self.silent.is_set():
                        self._send(container, stream, number)
        finally:
            self._connections.discard(connection)

    def cut(self):
        """Disconnect all viewers."""
        for connection in list(self._connections):
            self._connections.discard(connection)
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def end(self):
        self._ended.set()
        self.silent.clear()
        self.cut()

    def _send(self, container, stream, number):
        frame = av.VideoFrame.from_ndarray(draw_number(number % 4096), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        container.mux(stream.encode(frame))
        self.sent = number


class HttpServer:
    """Serves a station as `/live.ts` and as JPEGs under `/pictures`, and files; a context manager.

    Args:
        files: content by path, a function that returns it, a status, or a status with headers and content:
            `{"/gone.ts": 404}`.
        password: `user:password` that is required.
        breaking: bytes after which the connection breaks, by path.
        ranges: whether range requests are supported.
        tls: an `ssl.SSLContext` with a certificate, for https.

    Attributes:
        station: the frames.
        url: `http://127.0.0.1:PORT`.
        files: as given; it may be changed.
        asked: paths of all requests.
    """

    def __init__(self, files=(), *, password=None, breaking=(), ranges=True, tls=None):
        self.station = Station()
        self.asked = []
        outer, breaking = self, dict(breaking)
        self.files = files = dict(files)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self):
                path = self.path.partition("?")[0]
                outer.asked.append(path)
                if password and self.headers.get("Authorization") != _basic(password):
                    self._answer(401, {"WWW-Authenticate": 'Basic realm="camera"'})
                elif outer.station.shut.is_set():
                    self._answer(503)
                elif path == "/live.ts":
                    self._play("video/mp2t", "mpegts", "libx264")
                elif path == "/pictures":
                    self._play("multipart/x-mixed-replace;boundary=ffmpeg", "mpjpeg", "mjpeg")
                elif path == "/silent.ts":
                    self._answer(200, {"Content-Type": "video/mp2t"})
                    outer.station._ended.wait()
                elif isinstance(files.get(path, 404), int):
                    self._answer(files.get(path, 404))
                elif isinstance(files[path], tuple):
                    status, headers, *content = files[path]
                    self._answer(status, headers)
                    self.wfile.writelines(content)
                else:
                    content = files[path]
                    self._send_file(content if isinstance(content, bytes) else content(), breaking.get(path))

            def _play(self, kind, container_format, codec):
                self._answer(200, {"Content-Type": kind})
                with suppress(OSError, av.FFmpegError):
                    station, options = outer.station, {"flush_packets": "1"}
                    station.play(self.wfile, self.connection, container_format, codec, options)

            def _send_file(self, content, limit):
                asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "") if ranges else None
                start = int(asked[1]) if asked else 0
                end = min(int(asked[2]) + 1, len(content)) if asked and asked[2] else len(content)
                headers = {"Content-Length": end - start}
                if ranges:
                    headers["Accept-Ranges"] = "bytes"
                if asked:
                    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
                self._answer(206 if asked else 200, headers)
                with suppress(OSError):
                    self.wfile.write(content[start : min(end, limit or end)])

            def _answer(self, status, headers=()):
                self.send_response(status)
                for name, value in dict(headers).items():
                    self.send_header(name, str(value))
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = _listen(ThreadingHTTPServer, Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.station.end()
        _stop(self._server)


class RtspServer:
    """Serves a station as `/camera` over RTP within the RTSP connection (RFC 2326); a context manager.

    Args:
        password: `user:password` that is required.
        port: where it listens; 0: any free port.

    Attributes:
        station: the frames.
        url: `rtsp://127.0.0.1:PORT/camera`.
    """

    def __init__(self, *, password=None, port=0):
        self.station = Station()
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                with suppress(OSError, av.FFmpegError):
                    while self._answer_one():
                        pass

            def _answer_one(self):
                lines = list(iter(lambda: self.rfile.readline().decode().strip(), ""))
                if not lines:
                    return False
                method, address, _ = lines[0].split()
                headers = dict(line.split(": ", 1) for line in lines[1:])
                if outer.station.shut.is_set():
                    return self._reply(headers, "503 Service Unavailable")
                if password and method != "OPTIONS" and headers.get("Authorization") != _basic(password):
                    return self._reply(headers, "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"')
                if "/camera" not in address:
                    return self._reply(headers, "404 Not Found")
                if method == "DESCRIBE":
                    kind = "Content-Type: application/sdp"
                    return self._reply(headers, "200 OK", kind, f"Content-Base: {address}/", body=_SDP)
                if method == "SETUP":
                    return self._reply(headers, "200 OK", f"Transport: {headers['Transport']}", "Session: 1")
                if method == "PLAY":
                    self._reply(headers, "200 OK", "Session: 1")
                    outer.station.play(self, self.connection, "rtp", options={"packetsize": "1200"})
                    return False
                return self._reply(headers, "200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")

            def _reply(self, headers, status, *lines, body=""):
                content = body.replace("\n", "\r\n").encode()
                lines = (f"RTSP/1.0 {status}", f"CSeq: {headers['CSeq']}", *lines, f"Content-Length: {len(content)}")
                self.wfile.write("\r\n".join((*lines, "", "")).encode() + content)
                return True

            def write(self, packet):
                """Send one RTP or RTCP packet of FFmpeg's muxer."""
                channel = int(200 <= packet[1] <= 204)
                self.wfile.write(b"$" + bytes([channel]) + len(packet).to_bytes(2, "big") + packet)

        self._server = _listen(socketserver.ThreadingTCPServer, Handler, port)
        self.url = f"rtsp://127.0.0.1:{self._server.server_address[1]}/camera"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.station.end()
        _stop(self._server)


def _basic(password):
    return f"Basic {base64.b64encode(password.encode()).decode()}"


def _listen(kind, handler, port=0):
    kind.daemon_threads = True
    kind.block_on_close = False
    kind.allow_reuse_address = True
    server = kind(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="server", daemon=True).start()
    return server


def _stop(server):
    server.shutdown()
    server.server_close()
