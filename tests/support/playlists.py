"""Files that name other files and hosts, in all the ways that FFmpeg and yt-dlp understand, and a host that counts."""

import base64
import itertools
import socket
import threading
from contextlib import contextmanager, suppress

HOST = "127.0.0.2"  # stands for a host of this network


class Counter:
    """A host that must not be contacted.

    Attributes:
        port: Its TCP and UDP port.
        hits: Number of connections and packets.
    """

    def __init__(self, server, packets):
        self.hits = 0
        self.port = server.getsockname()[1]
        self._server, self._packets = server, packets

    def accept(self):
        with suppress(OSError):
            while True:
                self._server.accept()[0].close()
                self.hits += 1

    def receive(self):
        with suppress(OSError):
            while self._packets.recv(2000):
                self.hits += 1


@contextmanager
def forbidden_host():
    """Count whatever arrives at a port of `HOST`."""
    with socket.create_server((HOST, 0)) as server, socket.socket(type=socket.SOCK_DGRAM) as packets:
        packets.bind((HOST, server.getsockname()[1]))
        counter = Counter(server, packets)
        for work in (counter.accept, counter.receive):
            threading.Thread(target=work, daemon=True).start()
        yield counter
        for one in (server, packets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def hls(*lines):
    return "\n".join(("#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:1", *lines, "#EXT-X-ENDLIST", ""))


def segment(link):
    return hls("#EXTINF:1,", link)


def targets(port, secret, own):
    """Spellings of an address that is not allowed, by name.

    Args:
        port: Of the forbidden host.
        secret: Path of a video of this machine.
        own: URL of the server that serves the playlist, with `/moved`, `/nested.m3u8` and `/hidden.ts`.
    """
    link = f"http://{HOST}:{port}/x.ts"
    nested = base64.b64encode(segment(link).encode()).decode()
    return {
        "plain": link,
        "capitals": f"HTTP://{HOST}:{port}/x.ts",
        "decimal": f"http://2130706434:{port}/x.ts",
        "hexadecimal": f"http://0x7f000002:{port}/x.ts",
        "octal": f"http://0177.0.0.2:{port}/x.ts",
        "short": f"http://127.2:{port}/x.ts",
        "mapped": f"http://[::ffff:{HOST}]:{port}/x.ts",
        "without scheme": f"//{HOST}:{port}/x.ts",
        "with a user": f"http://127.0.0.1@{HOST}:{port}/x.ts",
        "encoded": f"http://127%2e0%2e0%2e2:{port}/x.ts",
        "https": f"https://{HOST}:{port}/x.ts",
        "redirect": f"{own}/moved",
        "nested": f"{own}/nested.m3u8",
        "hidden": f"{own}/hidden.ts",
        "concat inside": f"{own}/concat.ts",
        "data": f"data:application/x-mpegURL;base64,{nested}",
        "file": f"file://{secret}",
        "file without slashes": f"file:{secret}",
        "path": f"{secret}",
        "path upwards": f"../../../../../../../..{secret}",
        "crypto": f"crypto:{link}",
        "crypto file": f"crypto:file:{secret}",
        "concat": f"concat:{link}|{link}",
        "concat file": f"concat:{secret}|{secret}",
        "subfile": f"subfile,,start,0,end,9999,,:{link}",
        "subfile file": f"subfile,,start,0,end,9999,,:{secret}",
        "async": f"async:{link}",
        "cache": f"cache:{link}",
        "proxy": f"httpproxy://{HOST}:{port}/x.ts",
        "tcp": f"tcp://{HOST}:{port}",
        "udp": f"udp://{HOST}:{port}?localport=0",
        "rtsp": f"rtsp://{HOST}:{port}/x",
        "rtmp": f"rtmp://{HOST}:{port}/a/b",
        "ftp": f"ftp://{HOST}:{port}/x.ts",
        "fd": "fd:0",
    }


HLS_FORMS = {
    "segment": segment,
    "segment of bytes": lambda link: hls("#EXTINF:1,", "#EXT-X-BYTERANGE:1000@0", link),
    "key": lambda link: hls(f'#EXT-X-KEY:METHOD=AES-128,URI="{link}"', "#EXTINF:1,", "none.ts"),
    "bare key": lambda link: hls(f"#EXT-X-KEY:METHOD=AES-128,URI={link}", "#EXTINF:1,", "none.ts"),
    "bare sample key": lambda link: hls(f"#EXT-X-KEY:METHOD=SAMPLE-AES,URI={link},IV=0x1", "#EXTINF:1,", "none.ts"),
    "map": lambda link: hls(f'#EXT-X-MAP:URI="{link}"', "#EXTINF:1,", "none.ts"),
    "bare map": lambda link: hls(f"#EXT-X-MAP:URI={link}", "#EXTINF:1,", "none.ts"),
    "variant": lambda link: f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n{link}\n",
    "media": lambda link: (
        f'#EXTM3U\n#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="a",NAME="a",URI={link}\n'
        f'#EXT-X-STREAM-INF:BANDWIDTH=1000,VIDEO="a"\n{link}\n'
    ),
    "after a zero": lambda link: hls("#EXTINF:1,\0" + link),
    "old line ends": lambda link: segment(link).replace("\n", "\r"),
    "mark": lambda link: "\ufeff" + segment(link),
    "blanks": lambda link: "\r\n \t" + segment(link),
    "tag": lambda link: "ID3\x04\0\0\0\0\0\x05hello" + segment(link),
    "capitals": lambda link: segment(link).replace("#EXTM3U", "#extm3u"),
    "no header": lambda link: f"#EXTINF:1,\n{link}\n",
}
OTHER_FORMS = {
    "ffconcat": lambda link: f"ffconcat version 1.0\nfile '{link}'\n",
    "ffconcat with options": lambda link: (
        f"ffconcat version 1.0\nfile '{link}'\noption safe 0\noption protocol_whitelist http,tcp,file\n"
    ),
    "concat": lambda link: f"file '{link}'\n",
    "DASH": lambda link: (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT1S">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        f"<BaseURL>{link}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ),
    "ASX": lambda link: f'<asx version="3.0"><entry><ref href="{link}"/></entry></asx>',
    "PLS": lambda link: f"[playlist]\nFile1={link}\nNumberOfEntries=1\n",
    "SMIL": lambda link: f'<smil><body><video src="{link}"/></body></smil>',
    "XSPF": lambda link: f'<?xml version="1.0"?><playlist><trackList><track><location>{link}</location></track>',
    "IMF": lambda link: f'<?xml version="1.0"?><AssetMap><Path>{link}</Path></AssetMap>',
    "RTSPtext": lambda link: f"RTSPtext\n{link}\n",
    "reference": lambda link: f"[Reference]\nRef1={link}\n",
}
NAMES = ("list.m3u8", "LIST.M3U8", "video.mp4", "a.ts", "b.mkv", "list", "notes.txt", "list.mpd", "list.ffconcat")


def sdp(port):
    return (
        f"v=0\no=- 0 0 IN IP4 {HOST}\ns=x\nc=IN IP4 {HOST}\nt=0 0\na=control:rtsp://{HOST}:{port}/\n"
        f"m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    )


def hostile_playlists(port, secret, own):
    """(what it is, name, content) of every playlist."""
    forms = HLS_FORMS | OTHER_FORMS
    links = targets(port, secret, own).items()
    found = [(f"{form}, {target}", forms[form](link)) for form, (target, link) in itertools.product(forms, links)]
    found.append(("SDP", sdp(port)))
    return [(f"{what}, as {name}", name, content.encode()) for (what, content), name in itertools.product(found, NAMES)]
