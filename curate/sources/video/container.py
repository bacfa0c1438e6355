"""A video file opened: its container, the stream that counts, and a decoder that tells damage."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.stream import Discard, Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from curate.errors import DataError

# what reading on in a damaged file may raise: PyAV itself trips over packets that name streams which are not there
READ_ERRORS = (FFmpegError, IndexError, ValueError)
_PICTURE_FORMATS = frozenset({"gif", "image2", "tty"})  # tty: FFmpeg makes a picture of any .txt
_SHARING = frozenset({"av1", "hevc", "vp9"})  # damage shows as well with many threads as with one
_TELLING = {
    "av1": {"max_frame_delay": "1"},
    "hevc": {"err_detect": "explode"},
    "mjpeg": {"err_detect": "explode"},
}


@contextmanager
def open_video(path: Path, number: int | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A video's container and one video stream: the container's best, or that of a number. No other is read.

    Raises:
        DataError: the file cannot be read, or is no video.
    """
    try:
        # only this very file: playlists may name others, on other machines too
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (FFmpegError, ValueError) as error:
        raise DataError(_tell_unopened(path, error), place=path) from error
    with container:
        if is_picture(container):
            raise DataError("it is a picture or a text", place=path, expected="a video")
        stream = choose_stream(container, number)
        if stream is None:
            raise DataError("it has no video stream", place=path)
        if stream.codec_context is None or not stream.time_base:
            raise DataError("its video cannot be decoded: FFmpeg does not know the codec", place=path)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        yield container, stream


def check_video(path: Path) -> None:
    """Make sure, from its header, that a file is a video.

    Raises:
        DataError: it is none, or cannot be read.
    """
    with open_video(path):
        pass


def is_picture(container: InputContainer) -> bool:
    """Whether FFmpeg holds it for a single picture, or makes one of a text."""
    return container.format.name in _PICTURE_FORMATS or container.format.name.endswith("_pipe")


def choose_stream(container: InputContainer, number: int | None) -> VideoStream | None:
    """The one of a number, or that FFmpeg holds for the best, unless it is the picture on a record's sleeve."""
    moving = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    if number is None and best is not None:
        number = best.index
    return next((one for one in moving if one.index == number), moving[0] if moving else None)


def _tell_unopened(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "it is a folder, not a video"
    if isinstance(error, OSError):
        return f"the video cannot be read: {error.strerror}"
    if path.is_file() and not path.stat().st_size:
        return "it is no video: the file is empty"
    return "it is no video, or its header is damaged or missing"


def prepare_decoder(context: VideoCodecContext, threads: int) -> None:
    """Set a decoder up so that it tells damage at the packet or frame where it is.

    FFmpeg's threads lose the marks of damaged frames (H.264, MPEG-4: whichever way they share the work), so there it
    gets one. HEVC and JPEG frames are not marked at all: there it has to fail.

    Args:
        context: not opened yet.
        threads: at most so many; 0 leaves it to the decoder.
    """
    codec = context.codec.canonical_name
    context.thread_type = ThreadType.SLICE
    context.thread_count = threads if codec in _SHARING else 1
    context.options = _TELLING.get(codec, {})


def describe_error(error: Exception) -> str:
    """What FFmpeg or this package found wrong with a packet, for the end of a sentence."""
    if isinstance(error, InvalidDataError):
        return "the data are damaged"
    return str(getattr(error, "strerror", None) or error)
