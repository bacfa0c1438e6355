"""The stored deliveries of webhooks: kills, full disks, several watches, changes of the clock."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
from full_disk import files_up_to
from watching import Hook, event_of, eventually, triggers_of

from curate.monitor.actions.dispatcher import Actions
from curate.monitor.actions.webhook import outbox as module
from curate.monitor.actions.webhook.outbox import DEPRIORITISED_AFTER, EXPIRES_S, Outbox
from curate.monitor.actions.webhook.sender import Delivery
from curate.monitor.problems import Problems

URL = "http://127.0.0.1:1/"


class Clock:
    def __init__(self):
        self.now_s = 1_800_000_000.0
        self.set_forward_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    """A clock that the test moves."""
    return Clock()


@pytest.fixture
def open_outbox(tmp_path, clock):
    """Open the outbox of a folder, as each watch does; `problems` of each is a function."""
    opened = []

    def open_outbox():
        problems = Problems()
        opened.append(Outbox(tmp_path / "door.outbox.sqlite", problems, clock, lambda: clock() - clock.set_forward_s))
        opened[-1].problems = problems.lines
        return opened[-1]

    yield open_outbox
    for one in opened:
        one.close()


def delivery(number, **parts):
    return Delivery(str(number), URL, b"{}", **parts)


def ids(outbox):
    """Take and finish all deliveries that are due; their IDs."""
    taken = []
    while isinstance(one := outbox.take(URL, 15), Delivery):
        taken.append(one.id)
        outbox.finish(one)
    return taken


def test_a_killed_process_loses_nothing(tmp_path, open_outbox):
    """What it stored is there in the order in which it was put, and what it sent is claimed for some seconds."""
    script = (
        "import os\nfrom pathlib import Path\n"
        "from curate.monitor.actions.webhook.outbox import Outbox\n"
        "from curate.monitor.actions.webhook.sender import Delivery\n"
        "from curate.monitor.problems import Problems\n"
        "outbox = Outbox(Path('door.outbox.sqlite'), Problems(), lambda: 1_800_000_000.0)\n"
        f"for number in range(5): outbox.put(Delivery(str(number), '{URL}', b'{{}}'))\n"
        f"outbox.finish(outbox.take('{URL}', 15)); outbox.take('{URL}', 15)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=os.environ, check=False)
    outbox = open_outbox()
    assert outbox.take(URL, 15) == 15.0  # in order: the others wait for the one that was being sent
    outbox._now.now_s += 15
    assert ids(outbox) == ["1", "2", "3", "4"]


def test_what_one_watch_sends_another_does_not(open_outbox, clock):
    """A claim holds until the delivery is finished, given back, or too old."""
    first, second = open_outbox(), open_outbox()
    first.put(delivery(1))
    taken = first.take(URL, 15)
    assert (taken.id, second.take(URL, 15)) == ("1", 15.0)
    first.release(taken)
    assert second.take(URL, 15).id == "1"
    clock.now_s += 15.1
    assert first.take(URL, 15).id == "1"
    first.finish(taken)
    assert (first.take(URL, 15), second.take(URL, 15)) == (None, None)


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_claim_between_reading_and_claiming_counts(open_outbox, monkeypatch, is_finished):
    """Another watch may claim, or finish, a delivery at any moment."""
    first, second = open_outbox(), open_outbox()
    first.put(delivery(1))
    read = first._first

    def read_late(url):
        row = read(url)
        monkeypatch.setattr(first, "_first", read)
        taken = second.take(url, 15)
        if is_finished:
            second.finish(taken)
        return row

    monkeypatch.setattr(first, "_first", read_late)
    assert first.take(URL, 15) == (None if is_finished else 15.0)


def test_two_watches_at_once_send_each_delivery_once(tmp_path):
    """They share the file of their trigger file."""
    hook = Hook()
    file = triggers_of(tmp_path, {"webhook": hook.url})
    watches = [
        Actions([("bare", file.triggers[0].actions[0])], file.hosts, outbox=tmp_path / "o.sqlite", problems=Problems())
        for _ in range(2)
    ]
    for _ in range(30):
        for watch in watches:
            watch.start(event_of())
    hook.wait_for(60)
    for watch in watches:
        watch.close()
    hook.close()
    assert len(hook.got) == len({body["id"] for body in hook.bodies}) == 60


def test_waits_and_counts_survive_a_restart(open_outbox, clock):
    """The next watch waits for the rest of the time, and counts attempts and server errors on."""
    first = open_outbox()
    first.put(delivery(1))
    taken = first.take(URL, 15)
    first.retry(replace(taken, attempts=4, server_errors=3), 60)
    first.close()
    clock.now_s += 20
    second = open_outbox()
    assert second.take(URL, 15) == pytest.approx(40)
    taken = second.take(URL, 15, at_once=True)
    assert (taken.attempts, taken.server_errors) == (4, 3)


def test_deprioritised_deliveries_go_last_and_take_turns(open_outbox, clock):
    """However old they are."""
    outbox = open_outbox()
    for number in (1, 2):
        outbox.put(delivery(number, server_errors=DEPRIORITISED_AFTER))
    outbox.put(delivery(3))
    one = outbox.take(URL, 15)
    outbox.finish(one)
    for _ in range(4):
        clock.now_s += 61
        last = outbox.take(URL, 15)
        outbox.retry(last, 60)
        one = replace(one, id=one.id + last.id)
    assert one.id == "31212"


def test_a_clock_that_is_set_back_holds_nothing_up(open_outbox, clock):
    """Waits and claims of the time before are longer than any can be, and do not count."""
    first, second = open_outbox(), open_outbox()
    for number in (1, 2):
        first.put(delivery(number))
    first.retry(first.take(URL, 15), 60)
    clock.now_s -= 3600
    assert ids(second) == ["1", "2"]


def test_a_clock_that_is_set_forward_expires_nothing(open_outbox, clock):
    """A small computer without a battery wakes up in the past, and gets the time some seconds later."""
    outbox = open_outbox()
    outbox.put(delivery(1))
    outbox.retry(outbox.take(URL, 15), 60)
    clock.set_forward_s = 56 * 365 * 86_400.0
    clock.now_s += clock.set_forward_s
    assert outbox.take(URL, 15).id == "1"
    assert outbox.problems() == open_outbox().problems() == ()
    clock.now_s += EXPIRES_S + 1
    assert outbox.take(URL, 15) is None


def test_old_deliveries_expire(open_outbox, clock):
    """After a week, also those for a URL that is no longer used; each is counted."""
    outbox = open_outbox()
    outbox.put(delivery(1))
    outbox.put(replace(delivery(2), url="http://127.0.0.2/"))
    clock.now_s += EXPIRES_S + 1
    outbox.put(delivery(3))
    assert ids(outbox) == ["3"]
    assert outbox.problems() == (f"{outbox.file}: 1 delivery expired: not delivered within 7 days",)
    later = open_outbox()
    assert later.problems() == (f"{outbox.file}: 1 delivery expired: not delivered within 7 days",)
    assert later.count_others([URL]) == 0


def test_the_number_of_deliveries_is_limited(open_outbox, monkeypatch):
    """The oldest are dropped, and counted."""
    monkeypatch.setattr(module, "_MOST_STORED", 5)
    monkeypatch.setattr(module, "_CHECK_EVERY", 4)
    outbox = open_outbox()
    for number in range(12):
        outbox.put(delivery(number))
    assert outbox.problems() == (f"{outbox.file}: 7 deliveries dropped: more than 5 are stored",)
    assert ids(outbox) == ["7", "8", "9", "10", "11"]


def test_a_full_disk_is_told_and_costs_nothing(open_outbox):
    """Deliveries wait in memory, keep their order, are sent once, and are stored when there is space again."""
    outbox = open_outbox()
    for number in (1, 2):
        outbox.put(delivery(number))
    size = max(file.stat().st_size for file in outbox.file.parent.iterdir())
    with files_up_to(size):
        for number in (3, 4):
            outbox.put(delivery(number))
        assert ids(outbox) == ["1", "2", "3", "4"]
        outbox.put(delivery(5))
    told = outbox.problems()
    assert any("deliveries not stored: " in line and "a kill loses them" in line for line in told)
    assert any("not recorded: " in line and "may be sent again" in line for line in told)
    outbox.put(delivery(6))
    outbox.close()
    assert ids(open_outbox()) == ["5", "6"]


def test_a_full_disk_keeps_the_waits(open_outbox, clock):
    """A failed attempt that cannot be recorded is not repeated at once."""
    outbox = open_outbox()
    outbox.put(delivery(1))
    size = max(file.stat().st_size for file in outbox.file.parent.iterdir())
    with files_up_to(size):
        outbox.retry(replace(outbox.take(URL, 15), attempts=1), 60)
        assert outbox.take(URL, 15) == pytest.approx(60)
        clock.now_s += 60
        assert outbox.take(URL, 15).attempts == 1


def test_a_folder_that_is_not_writable_is_told_at_once(tmp_path, monkeypatch):
    """Not with the first event, perhaps days later."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    problems = Problems()
    Outbox(tmp_path / "door.outbox.sqlite", problems)
    assert "the folder is not writable: webhooks are sent from memory, and a kill loses them" in problems.lines()[0]


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_file_is_put_aside(open_outbox, tmp_path, content):
    """It is kept under another name, which is told, and what comes now is stored: a kill loses it no more."""
    (tmp_path / "door.outbox.sqlite").write_bytes(content)
    outbox = open_outbox()
    outbox.put(delivery(1))
    assert (outbox.count(URL, with_memory=False), ids(outbox)) == (1, ["1"])
    aside = tmp_path / "door-damaged.outbox.sqlite"
    assert f"it is {aside} now, and a new one begins." in outbox.problems()[0]
    assert len(outbox.problems()) == 1
    assert aside.read_bytes() == content


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TRIGGER t BEFORE UPDATE ON deliveries BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TRIGGER t BEFORE DELETE ON deliveries BEGIN SELECT RAISE(ABORT, 'no'); END",
        "CREATE VIEW v AS SELECT * FROM deliveries",
        "ALTER TABLE deliveries DROP COLUMN attempts",
    ],
)
def test_a_file_of_another_structure_is_put_aside(open_outbox, tmp_path, change):
    """Triggers that somebody has put into it do not run: one that undoes each claim would be asked for ever."""
    before = open_outbox()
    before.put(delivery(1))
    before.close()
    other = sqlite3.connect(before.file)
    other.execute(change)
    other.close()
    outbox = open_outbox()
    outbox.put(delivery(2))
    assert ids(outbox) == ["2"]
    assert "it has another structure" in outbox.problems()[0]
    assert (tmp_path / "door-damaged.outbox.sqlite").exists()


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_a_link_beside_the_file_is_not_followed(open_outbox, tmp_path, end):
    """SQLite writes into the files that it keeps beside its own."""
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / f"door.outbox.sqlite{end}").symlink_to(tmp_path / "victim")
    outbox = open_outbox()
    outbox.put(delivery(1))
    assert ids(outbox) == ["1"]
    outbox.close()
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert "is not a regular file" in outbox.problems()[0]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", "7\r\nX-Injected: yes"),
        ("id", b"7"),
        ("body", "text"),
        ("body", 7),
        ("created_s", "yesterday"),
        ("next_s", b""),
        ("id", sqlite3.Binary(b"1\xff")),
        ("attempts", "many"),
        ("attempts", 2**63 - 1),
        ("attempts", -(2**62)),
        ("attempts", 1e999),
        ("server_errors", b"x"),
        ("claimed_until_s", "never"),
    ],
)
def test_rows_of_another_program_are_skipped(open_outbox, column, value):
    """A row that no watch has written is counted, and holds nothing up."""
    outbox = open_outbox()
    for number in (1, 2):
        outbox.put(delivery(number))
    other = sqlite3.connect(outbox.file)
    is_text = isinstance(value, memoryview)  # that is not UTF-8
    other.execute(f"UPDATE deliveries SET {column} = {'CAST(? AS TEXT)' if is_text else '?'} WHERE id = '1'", (value,))
    other.commit()
    other.close()
    assert ids(outbox) == ["2"]
    assert outbox.problems() == (f"{outbox.file}: 1 row skipped: not a stored webhook",)


def test_a_link_is_not_followed(open_outbox, tmp_path):
    """A link with the name of the outbox leads to nothing."""
    (tmp_path / "door.outbox.sqlite").symlink_to(tmp_path / "victim")
    outbox = open_outbox()
    outbox.put(delivery(1))
    assert "1 delivery not stored: " in outbox.problems()[0]
    assert not (tmp_path / "victim").exists()


def test_another_program_that_holds_the_file_delays_nothing(open_outbox, monkeypatch):
    """The delivery waits in memory until the file is free."""
    monkeypatch.setattr("curate.monitor.actions.webhook.database._BUSY_TIMEOUT_S", 0.02)
    outbox = open_outbox()
    outbox.put(delivery(1))
    other = sqlite3.connect(outbox.file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    outbox.put(delivery(2))
    other.execute("ROLLBACK")
    other.close()
    assert ids(outbox) == ["1", "2"]
    eventually(lambda: outbox.count(URL) == 0)
