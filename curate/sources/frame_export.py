"""Writes frames of videos as image files of a dataset: decode, scale, drop duplicates and blurred frames, encode."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import CurateError, StoreError, UsageError, is_disk_full, system_error
from curate.files import remove_leftovers
from curate.images import difference_hash, encode_rgb, sharpness, shrink
from curate.media import IMAGES
from curate.paths import refuse_links
from curate.progress import Progress, silent
from curate.sources.frame_selection import At, Choice, Read, choose_frames
from curate.sources.video import Frame, FrameReader, ReadOptions, Remark, VideoIndex, index_video
from curate.sources.video_library import LocalVideo, describe, write_frame

_SPOOL_BYTES = 64 * 2**20  # of encoded frames that may be dropped; more are kept on disk


@dataclass(frozen=True)
class Recipe:
    """Which frames to take, and how to encode them.

    Attributes:
        choice: The rule that picks frames.
        start_s, end_s, max_frames: See `choose_frames`.
        drop_duplicates: Drop frames whose difference hash is at most this many bits (of 64) from that of a kept frame;
            None: keep all.
        drop_blurred: Percentage of frames to drop, least sharp first; None: keep all.
        suffix: ".jpg" or ".png".
        quality: JPEG quality, 1 to 100.
        max_side_px: Scale larger frames down to this many pixels on the longer side.
        reading: What the user says about files that do not say it.

    Raises:
        UsageError: A value is out of range.
    """

    choice: Choice
    start_s: Fraction = Fraction(0)
    end_s: Fraction | None = None
    max_frames: int | None = None
    drop_duplicates: int | None = None
    drop_blurred: float | None = None
    suffix: str = ".jpg"
    quality: int = 90
    max_side_px: int | None = None
    reading: ReadOptions = field(default_factory=ReadOptions)

    def __post_init__(self) -> None:
        for option, value, lowest, highest in (
            ("--max-frames", self.max_frames, 1, None),
            ("--drop-duplicates", self.drop_duplicates, 0, 64),
            ("--drop-blurred", self.drop_blurred, 0, 100),
            ("--quality", self.quality, 1, 100),
            ("--max-side", self.max_side_px, 1, None),
        ):
            if value is not None and not (lowest <= value and (highest is None or value <= highest)):
                expected = f"{lowest} or more" if highest is None else f"{lowest} to {highest}"
                raise UsageError("the value is out of range", place=option, got=value, expected=expected)
        if self.suffix not in (".jpg", ".png"):
            raise UsageError("unknown format", place="--format", got=repr(self.suffix[1:]), expected="jpg or png")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise UsageError("the end is not after the start", place="--start, --end")

    @property
    def drops(self) -> bool:
        """Whether picked frames may be dropped."""
        return self.drop_duplicates is not None or self.drop_blurred is not None

    def choose(self, index: VideoIndex, video_id: str, read: Read) -> list[int]:
        """Indices of the frames to take from a video, ascending."""
        choice = self.choice.of(video_id) if isinstance(self.choice, At) else self.choice
        span = {"start_s": self.start_s, "end_s": self.end_s, "max_frames": self.max_frames}
        return choose_frames(index, choice, **span, read=read)


@dataclass
class Sampled:
    """The frames taken from one video.

    Attributes:
        video: The video.
        facts: What `describe` returns; empty if the file cannot be read.
        chosen: Number of frames that the recipe picks, including those that the dataset has already.
        rows: The new images, as rows of `write_frame`.
        duplicates, blurred: Times of dropped frames, in seconds.
        fault: Why frames are missing, if any are.
        remarks: What is unusual about the pictures.
    """

    video: LocalVideo
    facts: Mapping[str, Any] = field(default_factory=dict)
    chosen: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    duplicates: list[Fraction] = field(default_factory=list)
    blurred: list[Fraction] = field(default_factory=list)
    fault: str | None = None
    remarks: Sequence[Remark] = ()


class VideoSampler:
    """Takes frames from videos of one dataset. Safe to use from several threads.

    Args:
        root: The dataset folder.
        recipe: Which frames to take.
        threads: Threads per decoder; 0: the decoder decides.
        stop: Once set, running calls raise KeyboardInterrupt.
        progress: Callback for progress within a video; called in the sampling thread.
    """

    def __init__(
        self, root: Path, recipe: Recipe, *, threads: int, stop: threading.Event, progress: Progress = silent
    ) -> None:
        self._root, self._recipe, self._threads, self._stop = root, recipe, threads, stop
        self._progress = progress

    def sample(self, video: LocalVideo, taken: frozenset[int]) -> Sampled:
        """Write the chosen frames of a video.

        Args:
            video: The video.
            taken: Indices of frames that the dataset has already; they are not written again.

        Returns:
            The result; a fault of the video is in `fault`, not raised.

        Raises:
            StoreError: The dataset, or the folder of temporary files, cannot be written.
            KeyboardInterrupt: `stop` was set.
        """
        result = Sampled(video)
        refuse_links(self._root, f"{IMAGES}/{video.video_id}")
        remove_leftovers(self._root / IMAGES / video.video_id)
        try:
            self._sample(result, taken)
        except StoreError:  # the dataset cannot be written, for other videos neither
            raise
        except CurateError as error:
            result.fault = error.fact
        except Exception as error:  # libraries raise anything on damaged files; other videos go on
            if isinstance(error, OSError) and is_disk_full(error):
                place = error.filename or gettempdir()
                raise system_error(error, "the frames cannot be kept", place=place, kind=StoreError) from error
            result.fault = f"it cannot be read: {type(error).__name__}: {error}"
        return result

    def _sample(self, result: Sampled, taken: frozenset[int]) -> None:
        video = result.video
        reading = self._recipe.reading if video.stream is None else replace(self._recipe.reading, stream=video.stream)
        index = index_video(self._root / video.path, reading)
        reader = FrameReader(index, threads=self._threads)
        chosen = self._recipe.choose(index, video.video_id, lambda frames: self._read(reader, video, frames))
        new = [frame for frame in chosen if frame not in taken]
        if new:
            video.check(self._root)
        result.facts, result.chosen = describe(index), len(chosen)
        if self._recipe.drops:
            self._write_best(reader, chosen, taken, result)
        else:
            for frame in self._read(reader, video, new):
                pixels = self._scaled(frame)
                data = encode_rgb(pixels, self._recipe.suffix, quality=self._recipe.quality)
                result.rows.append(self._write(video, frame.index, frame.time_s, pixels.shape, data))
        faults = [fault for fault in (index.fault, reader.fault) if fault]
        result.fault = "; ".join(faults) or None
        result.remarks = reader.remarks

    def _read(self, reader: FrameReader, video: LocalVideo, frames: Sequence[int]) -> Iterator[Frame]:
        for count, frame in enumerate(reader.read(frames)):
            if self._stop.is_set():
                raise KeyboardInterrupt
            self._progress(video.video_id, count, len(frames))
            yield frame
        self._progress(video.video_id, len(frames), len(frames))

    def _scaled(self, frame: Frame) -> NDArray[np.uint8]:
        longest = self._recipe.max_side_px
        return frame.pixels if longest is None else shrink(frame.pixels, longest)

    def _write_best(self, reader: FrameReader, chosen: Sequence[int], taken: frozenset[int], result: Sampled) -> None:
        """Encode all chosen frames into a spool, then write those that are neither blurred nor duplicates.

        Taken frames are inspected too, so that a second run drops the same frames.
        """
        chosen_set = set(chosen)
        frames: list[tuple[int, Fraction, tuple[int, ...]]] = []
        hashes: list[int] = []
        sharpnesses: dict[int, float] = {}
        sizes: dict[int, tuple[int, ...]] = {}
        with SpooledTemporaryFile(_SPOOL_BYTES) as spool:
            for frame in self._read(reader, result.video, sorted(chosen_set | taken)):
                pixels = self._scaled(frame)
                frames.append((frame.index, frame.time_s, pixels.shape))
                hashes.append(difference_hash(frame.pixels))
                if frame.index in chosen_set:
                    sharpnesses[frame.index] = sharpness(frame.pixels)
                    sizes[frame.index] = frame.pixels.shape
                is_new = frame.index not in taken
                data = encode_rgb(pixels, self._recipe.suffix, quality=self._recipe.quality) if is_new else b""
                _push(spool, data)
            spool.seek(0)
            blurred = self._find_blurred(_relate(sharpnesses, sizes))
            duplicates = self._find_duplicates([one[0] for one in frames], hashes, taken, blurred)
            for index, time_s, shape in frames:
                data = _pop(spool)
                if index in taken:
                    continue
                if index in blurred:
                    result.blurred.append(time_s)
                elif index in duplicates:
                    result.duplicates.append(time_s)
                else:
                    result.rows.append(self._write(result.video, index, time_s, shape, data))

    def _find_blurred(self, sharpnesses: Mapping[int, float]) -> set[int]:
        marked = find_blurred(list(sharpnesses.values()), self._recipe.drop_blurred or 0)
        return {frame for frame, is_blurred in zip(sharpnesses, marked, strict=True) if is_blurred}

    def _find_duplicates(
        self, frames: Sequence[int], hashes: Sequence[int], taken: frozenset[int], blurred: set[int]
    ) -> set[int]:
        """Frames that look like a taken frame or an earlier kept one; blurred frames are not compared with."""
        if self._recipe.drop_duplicates is None:
            return set()
        known = [value for frame, value in zip(frames, hashes, strict=True) if frame in taken]
        new = [(frame, value) for frame, value in zip(frames, hashes, strict=True) if frame not in taken | blurred]
        marked = find_duplicates([value for _, value in new], self._recipe.drop_duplicates, known)
        return {frame for (frame, _), is_duplicate in zip(new, marked, strict=True) if is_duplicate}

    def _write(
        self, video: LocalVideo, frame: int, time_s: Fraction, shape: tuple[int, ...], data: bytes
    ) -> dict[str, Any]:
        height, width = shape[:2]
        suffix = self._recipe.suffix
        return write_frame(self._root, video.video_id, frame, time_s, data, suffix=suffix, width=width, height=height)


def _relate(sharpnesses: Mapping[int, float], sizes: Mapping[int, tuple[int, ...]]) -> dict[int, float]:
    """Sharpness by frame, relative to the median of its picture size: larger pictures have smoother pixels."""
    of_size: dict[tuple[int, ...], list[float]] = {}
    for frame, value in sharpnesses.items():
        of_size.setdefault(sizes[frame], []).append(value)
    usual = {size: float(np.median(values)) or 1.0 for size, values in of_size.items()}
    return {frame: value / usual[sizes[frame]] for frame, value in sharpnesses.items()}


def find_blurred(sharpnesses: Sequence[float], percent: float) -> NDArray[np.bool_]:
    """Mark the least sharp `percent` of the frames, rounded down. (n,)"""
    marked = np.zeros(len(sharpnesses), dtype=bool)
    marked[np.argsort(sharpnesses, kind="stable")[: int(len(sharpnesses) * percent / 100)]] = True
    return marked


def find_duplicates(hashes: Sequence[int], bits: int, known: Sequence[int] = ()) -> NDArray[np.bool_]:
    """Mark frames that look like an earlier frame that is kept.

    Args:
        hashes: `curate.images.difference_hash` of a video's frames, in order.
        bits: Frames are alike if at most this many of the 64 bits differ.
        known: Hashes of frames that are kept in any case.

    Returns:
        Whether to drop each frame. (n,)
    """
    marked = np.zeros(len(hashes), dtype=bool)
    kept = np.empty(len(known) + len(hashes), dtype=np.uint64)
    kept[: len(known)] = np.array(known, dtype=np.uint64)
    count = len(known)
    for place, value in enumerate(hashes):
        differing = np.bitwise_count(kept[:count] ^ np.uint64(value))
        if (differing <= bits).any():
            marked[place] = True
        else:
            kept[count] = value
            count += 1
    return marked


def _push(spool: IO[bytes], data: bytes) -> None:
    spool.write(len(data).to_bytes(8, "big") + data)


def _pop(spool: IO[bytes]) -> bytes:
    return spool.read(int.from_bytes(spool.read(8), "big"))
