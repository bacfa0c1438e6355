"""What `watch` prints: before the first frame, at each event, at the end."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from curate.cli.tables import new_table

if TYPE_CHECKING:
    from curate.commands.watch import WatchReady


def ready_lines(ready: "WatchReady") -> list[str]:
    """What is watched, with what, and where to look."""
    lines = [f"note: {note}" for note in ready.notes]
    lines.append(f"watching {ready.source} with {ready.model}: {ready.terms}")
    if ready.link is not None:
        lines.append(f"Open {ready.link}")
    return lines


def event_line(event: Mapping[str, Any]) -> str:
    """One event: when, what fired, and which object."""
    clock = event["time"].partition("T")[2].partition(".")[0]
    words = [clock, event["trigger"]]
    if event["class"] is not None:
        words.append(f"{event['class']} {event['score']:.2f} #{event['track_id']}")
    words += [str(event[name]) for name in ("detail", "source", "clip") if name in event]
    return "  ".join((f"{event['timestamp_s']:9.2f} s", *words))


def watch_lines(document: Mapping[str, Any]) -> RenderableType:
    """The counts, and how fast it was."""
    latency = document["latency_ms"]
    table = new_table("", "frames", "detections", "events", "frames/s", "latency p50", "p95", "p99", left=0)
    counts = (str(document[name]) for name in ("frames", "detections", "events"))
    times = ("–" if latency[name] is None else f"{latency[name]:.0f} ms" for name in ("p50", "p95", "p99"))
    table.add_row(*counts, f"{document['frames_per_s']:.1f}", *times)
    return table
