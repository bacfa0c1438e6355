"""Frames of one video as image files of a dataset: decode, scale, judge, encode, write."""

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import CurateError, StoreError, UsageError
from curate.images import difference_hash, encode_rgb, sharpness, shrink
from curate.media import IMAGES, remove_leftovers, write_image
from curate.progress import Progress, silent
from curate.sources.frame_selection import At, Choice, Read, choose_frames
from curate.sources.video import Frame, FrameReader, VideoIndex, index_video
from curate.sources.video_library import LocalVideo, describe

_SPOOL_BYTES = 64 * 2**20  # encoded frames that wait for a judgement; beyond it they wait on disk


@dataclass(frozen=True)
class Recipe:
    """Which frames, and as what kind of image files.

    Attributes:
        choice: the rule that picks them.
        start_s, end_s, max_frames: see `choose_frames`.
        drop_duplicates: leave out frames that look like one that stays, up to so many of 64 bits (None: none).
        drop_blurred: leave out the least sharp so many percent.
        suffix: ".jpg" or ".png".
        quality: of JPEG, 1 to 100.
        max_side_px: scale larger frames down to so many pixels on the longer side.

    Raises:
        UsageError: a value is out of range.
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
        """Whether anything that was picked may be left out again."""
        return self.drop_duplicates is not None or self.drop_blurred is not None

    def choose(self, index: VideoIndex, video_id: str, read: Read) -> list[int]:
        """Positions of the frames to take from a video, ascending."""
        choice = self.choice.of(video_id) if isinstance(self.choice, At) else self.choice
        span = {"start_s": self.start_s, "end_s": self.end_s, "max_frames": self.max_frames}
        return choose_frames(index, choice, **span, read=read)


@dataclass
class Sampled:
    """What one video gave.

    Attributes:
        video: which.
        facts: what its file tells, as columns of the videos table; empty where it cannot be read.
        chosen: how many frames the recipe picks, those that are taken already included.
        rows: the new images, as rows of the images table without ids.
        duplicates, blurred: times of frames that were left out again, in seconds.
        fault: why not all frames came, if so.
    """

    video: LocalVideo
    facts: Mapping[str, Any] = field(default_factory=dict)
    chosen: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    duplicates: list[Fraction] = field(default_factory=list)
    blurred: list[Fraction] = field(default_factory=list)
    fault: str | None = None


class VideoSampler:
    """Samples videos of one dataset; may be used from several threads.

    Args:
        root: the dataset folder.
        recipe: which frames.
        threads: of each decoder; 0 leaves it to the decoder.
        stop: once set, work in progress ends with KeyboardInterrupt.
        progress: told, in the thread that samples, how many frames of a video are read.
    """

    def __init__(
        self, root: Path, recipe: Recipe, *, threads: int, stop: threading.Event, progress: Progress = silent
    ) -> None:
        self._root, self._recipe, self._threads, self._stop = root, recipe, threads, stop
        self._progress = progress

    def sample(self, video: LocalVideo, taken: frozenset[int]) -> Sampled:
        """Write the chosen frames of a video, but not those that are `taken` already; faults are told, not raised."""
        result = Sampled(video)
        remove_leftovers(self._root / IMAGES / video.video_id)
        try:
            self._sample(result, taken)
        except StoreError:  # the dataset cannot be written: no other video can come in either
            raise
        except CurateError as error:
            result.fault = error.fact
        except Exception as error:  # whatever a library trips over in a damaged file; the other videos go on
            result.fault = f"it cannot be read: {type(error).__name__}: {error}"
        return result

    def _sample(self, result: Sampled, taken: frozenset[int]) -> None:
        video = result.video
        index = index_video(self._root / video.path)
        reader = FrameReader(index, threads=self._threads)
        wanted = self._recipe.choose(index, video.video_id, lambda frames: self._read(reader, video, frames))
        new = [frame for frame in wanted if frame not in taken]
        if new:
            video.check(self._root)
        result.facts, result.chosen = describe(index), len(wanted)
        if self._recipe.drops:
            self._write_the_best(reader, wanted, taken, result)
        else:
            for frame in self._read(reader, video, new):
                pixels = self._scaled(frame)
                data = encode_rgb(pixels, self._recipe.suffix, quality=self._recipe.quality)
                result.rows.append(self._write(video, frame.index, frame.time_s, pixels.shape, data))
        faults = [fault for fault in (index.fault, reader.fault) if fault]
        result.fault = "; ".join(faults) or None

    def _read(self, reader: FrameReader, video: LocalVideo, wanted: Sequence[int]) -> Iterator[Frame]:
        for count, frame in enumerate(reader.read(wanted)):
            if self._stop.is_set():
                raise KeyboardInterrupt
            self._progress(video.video_id, count, len(wanted))
            yield frame
        self._progress(video.video_id, len(wanted), len(wanted))

    def _scaled(self, frame: Frame) -> NDArray[np.uint8]:
        longest = self._recipe.max_side_px
        return frame.pixels if longest is None else shrink(frame.pixels, longest)

    def _write_the_best(
        self, reader: FrameReader, wanted: Sequence[int], taken: frozenset[int], result: Sampled
    ) -> None:
        """Encode all, keep them aside, and write those that are neither blurred nor like one that stays.

        All that are taken are looked at too: so asking again gives the same answer.
        """
        asked = set(wanted)
        frames: list[tuple[int, Fraction, tuple[int, ...]]] = []
        hashes: list[int] = []
        sharpnesses: dict[int, float] = {}
        with SpooledTemporaryFile(_SPOOL_BYTES) as spool:
            for frame in self._read(reader, result.video, sorted(asked | taken)):
                pixels = self._scaled(frame)
                frames.append((frame.index, frame.time_s, pixels.shape))
                hashes.append(difference_hash(frame.pixels))
                if frame.index in asked:
                    sharpnesses[frame.index] = sharpness(frame.pixels)
                is_new = frame.index not in taken
                _put_aside(
                    spool, encode_rgb(pixels, self._recipe.suffix, quality=self._recipe.quality) if is_new else b""
                )
            spool.seek(0)
            blurred = self._find_blurred(sharpnesses)
            alike = self._find_alike([one[0] for one in frames], hashes, taken, blurred)
            for index, time_s, shape in frames:
                data = _take_up(spool)
                if index in taken:
                    continue
                if index in blurred:
                    result.blurred.append(time_s)
                elif index in alike:
                    result.duplicates.append(time_s)
                else:
                    result.rows.append(self._write(result.video, index, time_s, shape, data))

    def _find_blurred(self, sharpnesses: Mapping[int, float]) -> set[int]:
        marked = find_blurred(list(sharpnesses.values()), self._recipe.drop_blurred or 0)
        return {frame for frame, is_blurred in zip(sharpnesses, marked, strict=True) if is_blurred}

    def _find_alike(
        self, frames: Sequence[int], hashes: Sequence[int], taken: frozenset[int], blurred: set[int]
    ) -> set[int]:
        """Frames like one that is taken, or like an earlier one that stays; blurred ones stand for nothing."""
        if self._recipe.drop_duplicates is None:
            return set()
        known = [value for frame, value in zip(frames, hashes, strict=True) if frame in taken]
        new = [(frame, value) for frame, value in zip(frames, hashes, strict=True) if frame not in taken | blurred]
        marked = find_duplicates([value for _, value in new], self._recipe.drop_duplicates, known)
        return {frame for (frame, _), is_alike in zip(new, marked, strict=True) if is_alike}

    def _write(
        self, video: LocalVideo, frame: int, time_s: Fraction, shape: tuple[int, ...], data: bytes
    ) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        name = f"{video.video_id}_{int(time_s * 1000):08d}ms{self._recipe.suffix}"
        return {
            "path": write_image(self._root, f"{IMAGES}/{video.video_id}/{name}", data, digest),
            "width": shape[1],
            "height": shape[0],
            "source": video.video_id,
            "video_id": video.video_id,
            "frame_index": frame,
            "timestamp_s": float(time_s),
            "sha256": digest,
        }


def find_blurred(sharpnesses: Sequence[float], percent: float) -> NDArray[np.bool_]:
    """Mark the least sharp frames of a video: so many percent of them, rounded down. (n,)"""
    marked = np.zeros(len(sharpnesses), dtype=bool)
    marked[np.argsort(sharpnesses, kind="stable")[: int(len(sharpnesses) * percent / 100)]] = True
    return marked


def find_duplicates(hashes: Sequence[int], bits: int, known: Sequence[int] = ()) -> NDArray[np.bool_]:
    """Mark the frames that look like an earlier one that stays: at most `bits` of the 64 bits of their hashes differ.

    Args:
        hashes: of a video's frames, in order (`curate.images.difference_hash`).
        bits: 0 to 64.
        known: hashes of frames that are there in any case.

    Returns:
        True for each frame to drop. (n,)
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


def _put_aside(spool: IO[bytes], data: bytes) -> None:
    spool.write(len(data).to_bytes(8, "big") + data)


def _take_up(spool: IO[bytes]) -> bytes:
    return spool.read(int.from_bytes(spool.read(8), "big"))
