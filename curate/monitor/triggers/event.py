"""An event: something that a trigger waited for, or trouble with the source."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that happened once.

    Attributes:
        time: ISO 8601 with its offset: of the clock, or of a recording whose beginning is known.
        timestamp_s: seconds from the source's first frame.
        trigger: the name of what fired; `stream_stalled`, `stream_broken` or `stream_back` for the source itself.
        class_name: of the object; None for trouble with the source, as are the next three.
        track_id: of the object.
        score: of the detection in the frame that made it fire.
        box: corners x0, y0, x1, y1 there, in pixels.
        frames: indices of the frames that counted, the last one is where it fired.
        source: which file, where several are watched.
        detail: what is wrong with the source.
        clip: the file that shows it, where the trigger saves one.
    """

    time: str
    timestamp_s: float
    trigger: str
    class_name: str | None
    track_id: int | None
    score: float | None
    box: tuple[float, float, float, float] | None
    frames: tuple[int, ...]
    source: str | None = None
    detail: str | None = None
    clip: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The line of `--events`; the last three keys only where they say something."""
        always = {
            "time": self.time,
            "timestamp_s": self.timestamp_s,
            "trigger": self.trigger,
            "class": self.class_name,
            "track_id": self.track_id,
            "score": self.score,
            "box": list(self.box) if self.box is not None else None,
            "frames": list(self.frames),
        }
        also = {"source": self.source, "detail": self.detail, "clip": self.clip}
        return always | {name: value for name, value in also.items() if value is not None}
