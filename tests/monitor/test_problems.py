"""The problems of a watch: equal ones are one line, each is logged once, and new ones reach the callback."""

import logging

from curate.monitor.problems import Kind, Problems

DELIVERY = ("delivery failed", "deliveries failed")
RUN = ("run failed", "runs failed")
CLIP = ("clip failed", "clips failed")


def test_equal_problems_are_one_line_with_a_count():
    """The list grows neither with the number of problems nor without bound with their reasons."""
    problems = Problems()
    for number in range(1000):
        problems.count("webhook example.org", DELIVERY, "answered 410 Gone")
        problems.count("command a", RUN, f"{number}\nx" + "y" * 300)
        problems.add("door.mp4: stops after 2.80 s.")
    lines = problems.lines()
    assert lines[0] == "door.mp4: stops after 2.80 s."
    assert lines[1] == "webhook example.org: 1000 deliveries failed: answered 410 Gone"
    assert lines[2].startswith("command a: 1 run failed: 0 xyyy")
    assert lines[-1] == "command a: 980 runs failed: other reasons"
    assert len(lines) == 23
    assert max(map(len, lines)) < 250


def test_the_callback_gets_new_lines_and_grown_ones_after_a_minute():
    """`notify` repeats a line only if its count has grown and a minute has passed."""
    lines = []
    problems = Problems(lines.append)
    problems.count("clips a", CLIP, "no space\nleft")
    problems.notify(0.0)
    problems.notify(100.0)
    assert lines == ["clips a: 1 clip failed: no space left"]
    problems.count("clips a", CLIP, "no space left", 2)
    problems.notify(101.0)
    problems.count("clips a", CLIP, "no space left")
    problems.notify(102.0)
    assert lines[1:] == ["clips a: 3 clips failed: no space left"]
    problems.notify(161.0)
    assert lines[2:] == ["clips a: 4 clips failed: no space left"]
    assert problems.notified == 1


def test_pending_problems_go_away_when_they_resolve():
    """Deliveries that are retried are a problem only for as long as they are pending."""
    pending = [(Kind("webhook example.org", ("delivery pending", "deliveries pending"), "connection refused"), 3)]
    problems = Problems()
    problems.watch_pending(lambda: pending)
    assert problems.lines() == ("webhook example.org: 3 deliveries pending: connection refused",)
    pending.clear()
    assert problems.lines() == ()


def test_each_problem_is_logged_as_a_warning_once(caplog):
    """Repetitions are logged on level DEBUG."""
    caplog.set_level(logging.DEBUG, "curate")
    problems = Problems()
    for _ in range(2):
        problems.count("webhook example.org", DELIVERY, "answered 410 Gone")
        problems.add("door.mp4: stops after 2.80 s.")
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "webhook example.org: 1 delivery failed: answered 410 Gone",
        "door.mp4: stops after 2.80 s.",
    ]
    assert len(caplog.records) == 3


def test_credentials_are_hidden():
    """URLs in messages of libraries lose user, password and tokens, in lines and in the log."""
    problems = Problems()
    problems.add("rtsp://me:pw@door/live: stops.")
    problems.count("command a", RUN, "GET https://me:pw@example.org/?token=x failed")
    assert problems.lines() == (
        "rtsp://***@door/live: stops.",
        "command a: 1 run failed: GET https://***@example.org/?token=*** failed",
    )
