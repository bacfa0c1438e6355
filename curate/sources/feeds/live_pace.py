"""Keeping up with a stream, and keeping time where it comes in lumps."""

_WINDOW_S = 5.0  # so long it must have been busy without a pause before frames are left out
_IDLE_SHARE = 0.02
_WAIT_S = 0.002  # less than this is no waiting for the network
_JUMP_S = 5.0


class Backlog:
    """Says which packets to decode, so that a decoder that is too slow stays near the present.

    A packet that is there at once may have lain in a buffer. Where hardly any had to be waited for, the buffers fill,
    and what is shown gets older and older: then only keyframes are decoded until the buffers are empty and the next
    keyframe comes.
    """

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._waited_s = 0.0
        self._skipping = False
        self._caught_up = False

    def admits(self, is_keyframe: bool, waited_s: float, now_s: float) -> bool:
        """Tell whether to decode the next packet.

        Args:
            is_keyframe: whether decoding can start with it.
            waited_s: how long it took to come.
            now_s: of the monotonic clock.
        """
        over = now_s - self._since_s >= _WINDOW_S
        if self._skipping:
            self._caught_up = self._caught_up or waited_s > _WAIT_S
            # a stream that is refreshed piece by piece has no keyframes at all
            if over or (is_keyframe and self._caught_up):
                self._begin(now_s, skipping=False)
                return True
            return is_keyframe
        self._waited_s += waited_s
        if over:
            self._begin(now_s, skipping=self._waited_s < _IDLE_SHARE * (now_s - self._since_s))
        return True

    def _begin(self, now_s: float, *, skipping: bool) -> None:
        self._since_s, self._waited_s, self._skipping, self._caught_up = now_s, 0.0, skipping, False


class Pace:
    """Says when frames are due that come in lumps, as in HLS, where each file holds seconds of them."""

    def __init__(self) -> None:
        self._offset_s: float | None = None

    def early_s(self, stamp_s: float, now_s: float) -> float:
        """Seconds to wait before a frame is shown; 0 where it is late, and after a jump of the stream's clock."""
        offset_s = now_s - stamp_s
        if self._offset_s is None or abs(offset_s - self._offset_s) > _JUMP_S:
            self._offset_s = offset_s
        return max(0.0, self._offset_s - offset_s)
