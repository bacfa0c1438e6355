"""How long frames take: percentiles of any number of times, in little memory."""

import math

import numpy as np

_SHORTEST_S = 1e-4
_STEP = 1.02  # bounds of the bins grow by it, so that a percentile is right to two percent
_BINS = math.ceil(math.log(1e4 / _SHORTEST_S, _STEP))


class Latencies:
    """Counts times in bins."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS + 1, dtype=np.int64)
        self.last_s: float | None = None

    def add(self, seconds: float) -> None:
        """Count one."""
        self.last_s = seconds
        place = math.log(max(seconds, _SHORTEST_S) / _SHORTEST_S, _STEP)
        self._counts[min(int(place), _BINS)] += 1

    def percentile_ms(self, percent: float) -> float | None:
        """The time that so many percent stay below, in milliseconds; None where there is none."""
        total = int(self._counts.sum())
        if not total:
            return None
        place = int(np.searchsorted(np.cumsum(self._counts), math.ceil(total * percent / 100)))
        return round(_SHORTEST_S * _STEP ** (place + 0.5) * 1000, 2)
