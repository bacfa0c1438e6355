"""Events: a trigger fired, or the source stalled, broke or came back."""

import json
from dataclasses import dataclass
from typing import Any

STREAM_PREFIX = "stream_"
"""Prefix of events about the source itself; trigger names may not begin with it."""


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        time: ISO 8601 with UTC offset: the current time, or that of the recording where its start is known.
        timestamp_s: Seconds from the source's first frame.
        trigger: Name of the trigger, or `stream_stalled`, `stream_broken`, `stream_back` for the source itself.
        class_name: Class of the object; like the next three, None in events about the source.
        track_id: Track of the object.
        score: Score of the detection that fired the trigger.
        box: Its corners x0, y0, x1, y1 in pixels.
        frames: Indices of the frames that counted; in the last one the trigger fired.
        source: File name, where several files are watched.
        detail: What is wrong with the source.
        clip: Path of the clip, where the trigger saves one.
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
        """Return the object that `--events` writes; the last three keys only where they are set."""
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
        optional = {"source": self.source, "detail": self.detail, "clip": self.clip}
        return always | {name: value for name, value in optional.items() if value is not None}


def encode_json(document: object) -> bytes:
    """Encode as compact JSON in UTF-8; surrogates, as in file names that are not UTF-8, become escapes."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
