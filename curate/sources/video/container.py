"""Opens a video file: its container, the video stream to read, and a decoder that reports damage."""

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

# raised while a damaged file is read: PyAV itself fails on packets of streams that do not exist
READ_ERRORS = (FFmpegError, IndexError, ValueError)
_PICTURE_FORMATS = frozenset({"gif", "image2", "tty"})  # tty: FFmpeg renders any .txt as a picture
_THREADED = frozenset({"av1", "hevc", "vp9"})  # these report damage with several threads, too
_DECODER_OPTIONS = {
    "av1": {"max_frame_delay": "1"},
    "hevc": {"err_detect": "explode"},
    "mjpeg": {"err_detect": "explode"},
}


@contextmanager
def open_video(path: Path, number: int | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video's container and one video stream; packets of other streams are discarded.

    Args:
        path: Of the file.
        number: Number of the stream; None chooses the container's best.

    Raises:
        DataError: The file cannot be read, or is not a video.
    """
    try:
        # this file only: playlists may name others, also on other machines
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (FFmpegError, ValueError) as error:
        raise DataError(_describe_open_error(path, error), place=path) from error
    with container:
        if is_picture(container):
            raise DataError("the file is a picture or a text", place=path, expected="a video")
        stream = choose_stream(container, number)
        if stream is None:
            raise DataError("the file has no video stream", place=path)
        if stream.codec_context is None or not stream.time_base:
            raise DataError("the video cannot be decoded: FFmpeg does not know its codec", place=path)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        yield container, stream


def check_video(path: Path) -> None:
    """Check by its header that a file is a video.

    Raises:
        DataError: It is not, or cannot be read.
    """
    with open_video(path):
        pass


def is_picture(container: InputContainer) -> bool:
    """Whether FFmpeg recognised a single picture, or renders a text as one."""
    return container.format.name in _PICTURE_FORMATS or container.format.name.endswith("_pipe")


def choose_stream(container: InputContainer, number: int | None) -> VideoStream | None:
    """Choose a video stream by number, or FFmpeg's best; never a cover picture."""
    candidates = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    if number is None and best is not None:
        number = best.index
    return next((one for one in candidates if one.index == number), candidates[0] if candidates else None)


def _describe_open_error(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "this is a folder, not a video"
    if isinstance(error, OSError):
        return f"the video cannot be read: {error.strerror}"
    if path.is_file() and not path.stat().st_size:
        return "not a video: the file is empty"
    return "not a video, or its header is damaged or missing"


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
    context.options = _DECODER_OPTIONS.get(codec, {})


def describe_error(error: Exception) -> str:
    """Describe an error of FFmpeg or of this package, for the end of a sentence."""
    if isinstance(error, InvalidDataError):
        return "the data are damaged"
    return str(getattr(error, "strerror", None) or error)
