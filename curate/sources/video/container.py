"""Opens a video file: its container, the video stream to read, and a decoder that reports damage."""

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.stream import Discard, Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from curate.errors import DataError
from curate.files import open_regular
from curate.sources.containers import HEAD_BYTES, MOST_PIXELS, VIDEO_FORMATS, find_playlist

# raised while a damaged file is read: PyAV itself fails on packets of streams that do not exist
READ_ERRORS = (FFmpegError, IndexError, ValueError)
_PICTURE_FORMATS = frozenset({"ico", "image2", "tty"})  # of a stream; tty: FFmpeg renders any text as a picture
_PICTURE_BRANDS = frozenset({"avif", "heic", "heim", "heis", "heix", "jpeg", "mif1", "mif2"})  # MP4 with one picture
_RAW_MJPEG = frozenset({".mjpeg", ".mjpg"})  # FFmpeg often takes the first JPEG of these for the whole file
_FILE_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": VIDEO_FORMATS}
_CONVERT_WEBP = (
    "Convert it to an animated PNG: "
    "python -c \"from PIL import Image; Image.open('a.webp').save('a.png', save_all=True)\"."
)
_THREADED = frozenset({"av1", "hevc", "vp9"})  # these report damage with several threads, too
_DECODER_OPTIONS = {
    "av1": {"max_frame_delay": "1"},
    "hevc": {"err_detect": "explode"},
    "mjpeg": {"err_detect": "explode"},
}


def open_container(path: Path, container_format: str | None = None) -> InputContainer:
    """Open this file only: playlists may name others, also on other machines.

    Raises:
        DataError: It is not a regular file, or it is empty: a pipe would be waited for, a device read for ever.
        FFmpegError, ValueError: It cannot be read, or is no video.
    """
    with suppress(OSError):  # FFmpeg says why
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            fact = "this is a folder, not a video" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise DataError(fact, place=path)
        if not status.st_size:
            raise DataError("not a video: the file is empty", place=path)
    return av.open(f"file:{path}", format=container_format, options=_FILE_OPTIONS.copy(), metadata_errors="replace")


@contextmanager
def open_video(
    path: Path, number: int | None = None, *, ordinal: int | None = None
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video's container and one video stream; packets of other streams are discarded.

    Args:
        path: Of the file.
        number: Index of the stream in its container; None chooses the container's best.
        ordinal: Number of the stream among the video streams, from 1; None: by `number`.

    Raises:
        DataError: The file cannot be read, is not a video, or has no such stream.
    """
    try:
        container = open_container(path)
    except (FFmpegError, ValueError) as error:
        if _is_listed_no_video(error) and path.suffix.lower() in _RAW_MJPEG:
            container = _open_as_mjpeg(path)
        else:
            raise _explain_open_error(path, error) from error
    with container:
        if is_picture(container):
            raise _no_video(path)
        if ordinal is not None:
            number = _index_of_stream(path, list_streams(container), ordinal)
        stream = choose_stream(container, number)
        if stream is None:
            raise DataError("the file has no video stream", place=path)
        if stream.codec_context is None or not stream.time_base:
            raise DataError("the video cannot be decoded: FFmpeg does not know its codec", place=path)
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MOST_PIXELS:
            got, limit = f"{width} × {height} pixels", f"at most {MOST_PIXELS:,} pixels"
            raise DataError("the pictures of the video are too large", place=path, got=got, expected=limit)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        yield container, stream


def check_video(path: Path, ordinal: int | None = None) -> int | None:
    """Check by its header that a file is a video.

    Args:
        path: Of the file.
        ordinal: Number of a video stream, from 1.

    Returns:
        The same number; None where it is the stream that is read by default.

    Raises:
        DataError: It is not, cannot be read, or has no such stream.
    """
    with open_video(path, ordinal=ordinal) as (container, stream):
        if not stream.codec_context.width:  # a few bytes that look like the beginning of a video
            raise DataError("the file has no pictures that can be decoded", place=path)
        best = choose_stream(container, None)
        return None if best is None or best.index == stream.index else ordinal


def is_picture(container: InputContainer) -> bool:
    """Whether FFmpeg recognised a single picture, or renders a text as one; an animation is a video."""
    if container.format.name == "gif":
        return all(stream.frames <= 1 for stream in container.streams.video)
    is_picture_format = container.format.name in _PICTURE_FORMATS or container.format.name.endswith("_pipe")
    return is_picture_format or container.metadata.get("major_brand", "").strip() in _PICTURE_BRANDS


def list_streams(container: InputContainer) -> list[VideoStream]:
    """All video streams, without cover pictures."""
    return [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]


def choose_stream(container: InputContainer, number: int | None) -> VideoStream | None:
    """Choose a video stream by its index in the container, or FFmpeg's best; never a cover picture.

    One that FFmpeg has no decoder for is chosen if it is named, or is the only one.
    """
    candidates = list_streams(container)
    best = container.streams.best("video")
    if number is None:
        candidates = [one for one in candidates if one.codec_context is not None] or candidates
        number = None if best is None else best.index
    return next((one for one in candidates if one.index == number), candidates[0] if candidates else None)


def _index_of_stream(path: Path, streams: list[VideoStream], ordinal: int) -> int:
    if ordinal > len(streams):
        expected = None if not streams else "1" if len(streams) == 1 else f"1 to {len(streams)}"
        raise DataError(f"the file has no video stream {ordinal}", place=path, expected=expected)
    return streams[ordinal - 1].index


def _open_as_mjpeg(path: Path) -> InputContainer:
    try:
        return open_container(path, "mjpeg")
    except (FFmpegError, ValueError) as error:
        raise _explain_open_error(path, error) from error


def _is_listed_no_video(error: Exception) -> bool:
    """Whether FFmpeg recognised a format that is not on the white list, for which it has no error of its own."""
    return getattr(error, "errno", None) == errno.EINVAL


def _explain_open_error(path: Path, error: Exception) -> DataError:
    if isinstance(error, OSError):
        return DataError(f"the video cannot be read: {error.strerror}", place=path)
    if _is_listed_no_video(error) or find_playlist(_read_head(path)):
        return _no_video(path)
    return DataError("not a video, or its header is damaged or missing", place=path)


def _no_video(path: Path) -> DataError:
    """Tell what a readable file is that is not a video."""
    head = _read_head(path)
    if kind := find_playlist(head):
        return DataError(f"the file is a playlist ({kind})", place=path, expected="a video", remedy="Name its files.")
    # the animation flag in the header of an extended file (RFC 9649, 2.7)
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & 2:
        return DataError("FFmpeg does not decode animated WebP", place=path, remedy=_CONVERT_WEBP)
    fact = "the file is a picture or a text, or has a format that is not read as a video"
    return DataError(fact, place=path, expected="a video")


def _read_head(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read(HEAD_BYTES)


def prepare_decoder(context: VideoCodecContext, threads: int) -> None:
    """Set up a decoder so that it reports damage at the packet or frame where it is.

    With several threads, FFmpeg loses the marks of damaged H.264 and MPEG-4 frames, so these get one thread. Damaged
    HEVC and JPEG frames are never marked, so there the decoder is told to fail.

    Args:
        context: Not opened yet.
        threads: Most threads; 0 lets the decoder choose.
    """
    codec = context.codec.canonical_name
    context.thread_type = ThreadType.SLICE
    context.thread_count = threads if codec in _THREADED else 1
    context.options = _DECODER_OPTIONS.get(codec, {}) | {"max_pixels": str(MOST_PIXELS)}


def describe_error(error: Exception) -> str:
    """Describe an error of FFmpeg or of this package, for the end of a sentence."""
    if isinstance(error, InvalidDataError):
        return "the data are damaged"
    return str(getattr(error, "strerror", None) or error)
