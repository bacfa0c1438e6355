"""What is unusual about a video and its pictures, for the user, in phrases without a full stop."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

SIZE_CHANGES = "size_changes"
"""The kind of `size_changes`."""

_SQUARE_TOLERANCE = Fraction(1, 50)  # by which the sides of a pixel may differ unremarked


class Remark(NamedTuple):
    """One unusual thing.

    Attributes:
        kind: A word for programs, such as `size_changes`.
        detail: A phrase for people.
    """

    kind: str
    detail: str


def size_changes(before: tuple[int, int], after: tuple[int, int], time_s: Fraction) -> Remark:
    """Args are (width, height); `time_s` is that of the first frame read that has the new size."""
    sizes = f"from {before[0]}×{before[1]} to {after[0]}×{after[1]} pixels"
    return Remark(SIZE_CHANGES, f"the picture size changes {sizes}, by {float(time_s):.2f} s; each frame keeps its own")


def orientation_changes() -> Remark:
    return Remark(
        "orientation_changes", "the orientation changes within the video; all frames are turned like the first"
    )


def colours_mapped(colours: object) -> Remark:
    """`colours` is a phrase such as `HDR (PQ, BT.2020)`."""
    return Remark("colours_mapped", f"{colours} colours are mapped to those of ordinary pictures (sRGB)")


def interlaced() -> Remark:
    return Remark(
        "interlaced",
        "the video is interlaced: each frame shows two moments, line by line, so moving edges are jagged; "
        "frames are not deinterlaced",
    )


def dark_samples(bits: int) -> Remark:
    """Samples of 16 bits of which the brightest uses only this many; sensors have an even number of bits."""
    bits += bits % 2
    return Remark(
        "dark_samples", f"samples of 16 bits use only {bits}, so the pictures are dark; --depth {bits} scales them"
    )


def clipped_samples(depth: int) -> Remark:
    """Some samples have more bits than the user said."""
    return Remark("clipped_samples", f"some samples exceed {depth} bits (--depth) and are white")


def not_square(aspect: Fraction, width: int, height: int) -> Remark | None:
    """Pixels that are `aspect` times as wide as high; None where they are almost square."""
    if abs(aspect - 1) <= _SQUARE_TOLERANCE:
        return None
    shown = f"{round(width * aspect)}×{height}"
    return Remark(
        "pixels_not_square",
        f"pixels are not square (width:height {aspect.numerator}:{aspect.denominator}): pictures are stored as coded, "
        f"{width}×{height}, and shown by players as {shown}",
    )


def several_streams(sizes: Sequence[tuple[int, int]], taken: int) -> Remark:
    """`sizes` are (width, height) of all video streams, `taken` the number of the one that is read, from 1."""
    found = ", ".join(f"{number}: {width}×{height}" for number, (width, height) in enumerate(sizes, 1))
    return Remark(
        "several_streams",
        f"the file has {len(sizes)} video streams ({found}); stream {taken} is read, unless --stream names another",
    )


def assumed_rate(rate: Fraction) -> Remark:
    return Remark(
        "assumed_rate",
        f"the file tells neither times nor frame rate; {float(rate):g} frames per second are assumed, "
        "unless --rate says another",
    )


def rate_not_used() -> Remark:
    return Remark("rate_not_used", "the file tells the times of its frames, so --rate does not apply to it")
