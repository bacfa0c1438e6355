"""What is unusual about the pictures of a video, for the user, in phrases without a full stop."""

from fractions import Fraction
from typing import NamedTuple


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
    return Remark(
        "size_changes", f"the picture size changes {sizes}, by {float(time_s):.2f} s; each frame keeps its own"
    )
