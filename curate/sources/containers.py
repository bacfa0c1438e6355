"""Which files FFmpeg may read as videos: containers, never files that name other files or hosts.

FFmpeg finds out a file's format by its content, whatever its name. A playlist makes it open whatever it names: a local
file, an address in this network. So each use of FFmpeg gets a white list of formats, and of protocols.
"""

import re

_CONTAINERS = (
    *("apng", "asf", "asf_o", "avi", "dv", "flic", "flv", "gif", "gxf", "ivf", "jpegxl_anim", "kux", "live_flv", "lxf"),
    *("matroska", "mov", "mpeg", "mpegts", "mpegtsraw", "mxf", "nsv", "nut", "nuv", "ogg", "pva", "rm", "swf", "ty"),
    *("wtv", "yuv4mpegpipe"),
)
_CAMERAS = (
    *("cine", "dhav", "filmstrip", "hxvs", "ifv", "ingenient", "iv8", "luodat", "lvf", "mlv", "mpjpeg", "mxg", "nc"),
    *("r3d", "ser", "smjpeg"),
)
_RAW_STREAMS = (
    *("apv", "av1", "avs2", "avs3", "cavsvideo", "dirac", "dnxhd", "evc", "h261", "h263", "h264", "hevc", "m4v"),
    *("mjpeg", "mjpeg_2000", "mpegvideo", "obu", "vc1", "vc1test", "vvc"),
)
VIDEO_FORMATS = ",".join((*_CONTAINERS, *_CAMERAS, *_RAW_STREAMS))
"""FFmpeg's names of the formats of a video that is one file, for its option `format_whitelist`."""

STREAM_FORMATS = f"{VIDEO_FORMATS},hls,aac,ac3,eac3,mp3,webvtt"
"""The same with HLS, and what else its playlists name, for sources whose every request is checked."""

MOST_PIXELS = 2**27
"""Of a video's picture, 16,384 × 8,192: a file of some kilobytes can declare pictures that fill the memory.

Less than for image files (`image_header.MOST_PIXELS`), since several are in memory at once.
"""

HEAD_BYTES = 4096
"""So many bytes tell a playlist from other files."""

_BLANKS = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"  # byte order marks, zeros of UTF-16, white space
_PLAYLISTS = {
    "HLS": rb"#EXTM3U",
    "ffconcat": rb"ffconcat\s+version",
    "DASH": rb"(?:<\?xml.{0,2000})?<(?:\w+:)?MPD\b",
    "IMF": rb"(?:<\?xml.{0,2000})?<(?:\w+:)?(?:CompositionPlaylist|AssetMap)\b",
    "SMIL": rb"(?:<\?xml.{0,2000})?<smil\b",
    "ASX": rb"<asx\b",
    "XSPF": rb"(?:<\?xml.{0,2000})?<playlist\b",
    "PLS": rb"\[playlist\]",
    "SDP": rb"v=0\s+[a-z]=",
    "RTSP": rb"RTSPtext|\[Reference\]",
}
_FOUND = {kind: re.compile(pattern, re.DOTALL | re.IGNORECASE) for kind, pattern in _PLAYLISTS.items()}


def find_playlist(head: bytes) -> str | None:
    """Return the kind of playlist that a file is by its first bytes, such as `HLS`; None for another file.

    Byte order marks, white space and an ID3 tag before it do not hide it.

    Examples:
        >>> find_playlist(b"\\xef\\xbb\\xbf #EXTM3U"), find_playlist(b"....ftypisom")
        ('HLS', None)
    """
    text = _after_tag(head).lstrip(_BLANKS)
    if b"\0" in text[:8]:  # UTF-16
        text = text.replace(b"\0", b"")
    return next((kind for kind, pattern in _FOUND.items() if pattern.match(text)), None)


def _after_tag(head: bytes) -> bytes:
    """Skip an ID3 tag, as FFmpeg does; its size has seven bits a byte (ID3v2.4, 3.1)."""
    if head[:3] != b"ID3" or len(head) < 10:
        return head
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return head[10 + size :]
