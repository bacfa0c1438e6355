"""Actions of events: lines, commands, and webhooks to receivers that misbehave."""

import base64
import hashlib
import hmac
import json
import logging
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from random import Random

import pytest
from repository_paths import REPOSITORY
from watching import Hook, event_of, eventually, own_threads, triggers_of

from curate.errors import UsageError
from curate.monitor.actions.command import CommandError, CommandRunner, fill_in
from curate.monitor.actions.dispatcher import Actions
from curate.monitor.actions.webhook.outbox import Outbox
from curate.monitor.actions.webhook.queue import Backoff, WebhookQueue
from curate.monitor.actions.webhook.sender import Delivery, Sender, SendError, _parse_retry_after, sign
from curate.monitor.problems import Problems
from curate.monitor.triggers.event import encode_json
from curate.sources.feeds.checking_proxy import CheckingProxy

QUICK = Backoff(first_s=0.01, max_s=0.04, random=Random(0))
SECRET = b"not easily guessed"


@pytest.fixture
def hook():
    """A receiver that accepts everything."""
    one = Hook()
    yield one
    one.close()


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    eventually(lambda: own_threads() == [])


@pytest.fixture
def begin(tmp_path):
    """Start the actions of a trigger file; closed at the end of the test."""
    started = []

    def begin(*actions, **parts):
        started.append(start_actions(tmp_path, triggers_of(tmp_path, *actions, **parts), QUICK))
        return started[-1]

    yield begin
    for actions in started:
        actions.close(0)


def start_actions(folder, file, backoff=None):
    """Start actions; `actions.problems()` returns the lines of their collector."""
    problems = Problems()
    placed = [(trigger, action) for trigger, _, action in file.all_actions()]
    actions = Actions(placed, file.hosts, outbox=folder / "door.outbox.sqlite", problems=problems, backoff=backoff)
    actions.problems = problems.lines
    return actions


def webhook(hook, **parts):
    return {"webhook": {"url": hook.url, **parts}}


def tracks(hook):
    return [body["track_id"] for body in hook.bodies]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def kept_rows(tmp_path):
    """The deliveries that are stored, in their order."""
    file = tmp_path / "door.outbox.sqlite"
    if not file.exists():
        return []
    connection = sqlite3.connect(file)
    rows = connection.execute(
        "SELECT id, url, body, server_errors, attempts FROM deliveries ORDER BY number"
    ).fetchall()
    connection.close()
    keys = ("id", "url", "body", "server_errors", "attempts")
    return [dict(zip(keys, row, strict=True)) | {"body": json.loads(row[2])} for row in rows]


def stored(tmp_path, url, *tracks, **numbers):
    """Store deliveries as an earlier watch does, with their track as ID."""
    outbox = Outbox(tmp_path / "door.outbox.sqlite", Problems())
    for track in tracks:
        outbox.put(Delivery(str(track), url, encode_json({"id": str(track), "track_id": track}), **numbers))
    outbox.close()


# ── all actions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_event_starts_its_own_triggers_actions(tmp_path, begin):
    """An event runs the actions of its trigger, an event about the source those under `stream`."""
    door, trouble = tmp_path / "door.jsonl", tmp_path / "trouble.jsonl"
    actions = begin({"write": str(door)}, {"clip": "clips"}, stream=[{"write": str(trouble)}])
    events = [event_of(track_id=number, class_name="Gesicht ü\udcff") for number in range(3)]
    broken = event_of("stream_broken", class_name=None, track_id=None, score=None, box=None, detail="it ended")
    for event in (*events, broken, event_of("another")):
        actions.start(event)
    actions.close()
    assert [json.loads(line) for line in door.read_text("utf-8").splitlines()] == [one.as_json() for one in events]
    assert [json.loads(line) for line in trouble.read_text().splitlines()] == [broken.as_json()]
    assert actions.problems() == ()


def test_every_thread_has_a_name_and_ends(begin, hook, tmp_path):
    """Three actions have three threads, and after `close` none; `close` may be called again."""
    actions = begin(webhook(hook), {"write": str(tmp_path / "a")}, {"command": ["true"]})
    assert own_threads() == ["curate-command-0", "curate-webhook-0", "curate-write-0"]
    actions.start(event_of())
    actions.close()
    assert own_threads() == []
    actions.close()
    assert actions.problems() == ()


def test_an_event_after_close_is_a_problem(begin, tmp_path):
    """An event after `close` runs no action, and is counted."""
    actions = begin({"write": str(tmp_path / "a")})
    actions.close()
    actions.start(event_of())
    assert actions.problems() == ("actions: 1 action skipped: the watch ended",)


def test_close_reports_pending_actions(begin, tmp_path):
    """`on_pending` is called with the number of pending actions, down to 0."""
    actions = begin({"command": ["sleep", "0.3"]})
    for _ in range(2):
        actions.start(event_of())
    heard = []
    actions.close(on_pending=heard.append)
    assert heard == [2, 1, 0]


def test_problems_can_be_read_from_another_thread(begin, tmp_path):
    """While events come in, a thread that reads the problems all the time sees them and blocks nothing."""
    actions = begin({"webhook": f"http://127.0.0.1:{free_port()}/"}, {"write": str(tmp_path / "a")})
    (tmp_path / "a").mkdir()
    heard, done = set(), threading.Event()

    def kinds():
        return {re.sub(r"\d+ (lines? failed|deliver\w+ \w+)", "N", line) for line in actions.problems()}

    def listen():
        while not done.is_set():
            heard.update(kinds())

    listening = threading.Thread(target=listen)
    listening.start()
    for _ in range(200):
        actions.start(event_of())
    eventually(lambda: len(kinds()) == 2)
    known = kinds()
    eventually(lambda: known <= heard)
    actions.close(0.1)
    done.set()
    listening.join()
    assert {kind.partition(":")[0] for kind in known} == {"webhook 127.0.0.1", f"write {tmp_path / 'a'}"}
    assert heard <= known | kinds()
    assert f"write {tmp_path / 'a'}: 200 lines failed: Is a directory" in actions.problems()


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_line_that_cannot_be_written_is_a_problem(begin, tmp_path):
    """A folder in place of the file, and a pipe without a reader, are problems and do not block."""
    os.mkfifo(tmp_path / "pipe")
    actions = begin({"write": str(tmp_path / "a")}, {"write": str(tmp_path / "pipe")})
    (tmp_path / "a").mkdir()
    for _ in range(2):
        actions.start(event_of())
    actions.close()
    folder, pipe = sorted(actions.problems())
    assert folder == f"write {tmp_path / 'a'}: 2 lines failed: Is a directory"
    assert pipe.startswith(f"write {tmp_path / 'pipe'}: 2 lines failed: No such device")


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_class_name_stays_one_argument(begin, tmp_path):
    """Any class name is a single argument and never an option; the event is on standard input."""
    script = "import json, sys; print(json.dumps([sys.argv[2:], json.load(sys.stdin)]), file=open(sys.argv[1], 'a'))"
    out = tmp_path / "got.jsonl"
    actions = begin({"command": [sys.executable, "-Sc", script, str(out), "{class}", "<{class}> {score}", "{{class}}"]})
    names = ["a b; touch x", "$(id) `id` * '\"", "--help", "{score}\nü"]
    events = [event_of(class_name=name) for name in names]
    for event in events:
        actions.start(event)
    actions.close(60)
    got = [json.loads(line) for line in out.read_text().splitlines()]
    assert [given for _, given in got] == [event.as_json() for event in events]
    assert [arguments for arguments, _ in got] == [
        [" --help" if name == "--help" else name, f"<{name}> 0.875", "{class}"] for name in names
    ]
    assert actions.problems() == ()


def test_placeholders():
    """Each placeholder has its format; missing values are empty; a path that begins with - gets ./ before it."""
    run = ["x", "{trigger}|{class}|{track_id}|{score}|{time}|{timestamp_s}|{clip}|{source}", "{source}", "a{class}"]
    event = event_of(source="-rf.mp4", clip="clips/1.mp4", class_name="-x")
    assert fill_in(run, event) == [
        "x",
        "bare|-x|7|0.875|2026-05-04T12:00:00.000+02:00|1.500|clips/1.mp4|-rf.mp4",
        "./-rf.mp4",
        "a-x",
    ]
    stalled = event_of("stream_stalled", class_name=None, track_id=None, score=None, box=None)
    assert fill_in(run, stalled)[1:] == ["stream_stalled||||2026-05-04T12:00:00.000+02:00|1.500||", "", "a"]


def test_a_command_has_the_whole_environment(begin, tmp_path, monkeypatch):
    """A watched stream takes `no_proxy` from FFmpeg, not from the programs that the watch starts."""
    monkeypatch.setenv("no_proxy", "inside.example.org")
    CheckingProxy("http://127.0.0.1/", 5, 5).close()
    actions = begin({"command": ["sh", "-c", f'echo "$no_proxy" > {tmp_path}/out']})
    actions.start(event_of())
    actions.close(60)
    assert (tmp_path / "out").read_text() == "inside.example.org\n"


def test_a_failing_command_is_a_problem(begin):
    """The problem has exit code, last line of output, and the number of runs."""
    actions = begin({"command": ["sh", "-c", "echo trying; printf 'no\\tspeaker\\n' >&2; exit 3"]})
    for _ in range(3):
        actions.start(event_of())
    actions.close()
    assert actions.problems() == ("command sh: 3 runs failed: exit code 3 (no speaker)",)


def test_a_command_that_hangs_is_killed_with_its_children(begin, tmp_path):
    """After its timeout the whole process group is killed, and the next event's run starts."""
    pid_file = tmp_path / "pid"
    script = f"sleep 100 & echo $! >> {pid_file}; wait"
    actions = begin({"command": {"run": ["sh", "-c", script], "timeout": "0.3s"}})
    for _ in range(2):
        actions.start(event_of())
    actions.close()
    assert actions.problems() == ("command sh: 2 runs failed: killed: timeout of 0.3 s",)
    children = [int(line) for line in pid_file.read_text().split()]
    assert len(children) == 2
    eventually(lambda: not any(_is_running(pid) for pid in children))


def test_the_end_of_the_watch_ends_a_command(begin):
    """After its timeout `close` kills the running command, and counts the runs that were skipped."""
    actions = begin({"command": ["sleep", "100"]})
    for _ in range(3):
        actions.start(event_of())
    actions.close(0.2)
    assert actions.problems() == (
        "command sleep: 1 run failed: killed: the watch ended",
        "command sleep: 2 runs skipped: the watch ended",
    )


def test_a_command_that_floods_its_output_is_bounded(tmp_path):
    """Megabytes of output are read and dropped; the problem has the last line."""
    script = "head -c 3000000 /dev/zero; echo; echo last words; exit 1"
    with pytest.raises(CommandError, match=r"^exit code 1 \(last words\)$"):
        _runner(tmp_path, ["sh", "-c", script]).run(event_of())


def test_a_command_whose_child_keeps_its_output_open_is_done(tmp_path):
    """A background child that keeps the output open does not block the queue."""
    pid_file = tmp_path / "pid"
    _runner(tmp_path, ["sh", "-c", f"sleep 100 & echo $! > {pid_file}"]).run(event_of())
    pid = int(pid_file.read_text())
    assert _is_running(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_command_need_not_read_the_event(tmp_path):
    """More JSON than a pipe holds does not block."""
    event = event_of(frames=tuple(range(100_000)))
    assert len(encode_json(event.as_json())) > 2**19
    _runner(tmp_path, ["true"]).run(event)


def test_a_nul_in_a_class_name_is_a_failed_run(begin):
    """Arguments cannot contain NUL characters: the command does not start."""
    actions = begin({"command": ["true", "{class}"]})
    actions.start(event_of(class_name="a\0b"))
    actions.close()
    assert actions.problems() == ("command true: 1 run failed: did not start (embedded null byte)",)


def _runner(tmp_path, run):
    return CommandRunner(triggers_of(tmp_path, {"command": run}).triggers[0].actions[0].command)


def _is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ── webhooks: what is sent ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_webhook_is_the_events_json_signed(begin, hook, monkeypatch):
    """The body is the event's JSON with an ID; time and signature can be verified."""
    monkeypatch.setenv("HOOK_SECRET", SECRET.decode())
    actions = begin(webhook(hook, secret_env="HOOK_SECRET", headers={"X-Door": "front"}))
    actions.start(event_of())
    actions.close()
    ((path, headers, body),) = hook.got
    document = json.loads(body)
    assert path == "/hook"
    assert headers["Host"] == f"127.0.0.1:{hook.port}"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Door"] == "front"
    own_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    assert own_id == document.pop("id") == headers["X-Curate-Delivery"]
    assert document == event_of().as_json()
    assert timestamp == headers["X-Curate-Timestamp"]
    assert abs(int(timestamp) - time.time()) < 60
    signed = hmac.new(SECRET, f"{own_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(signed).decode()
    before = hmac.new(SECRET, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Curate-Signature"] == f"sha256={before}"


def test_the_signature_of_the_specification():
    """The test vector of the Standard Webhooks libraries."""
    secret = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    one = Delivery("msg_p5jXN8AQM9LWM0D4loKWxJek", "", b'{"test": 2432232314}')
    headers = sign(secret, one, "1614265330")
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("whsec_short", "secret_env: the secret is not valid (expected whsec_ and 24 to 64 bytes in base64)."),
        ("whsec_AAAA", "secret_env: the secret has a wrong length (got 3 bytes; expected whsec_ and 24 to 64 bytes"),
    ],
)
def test_a_secret_of_the_specification_that_is_not_one(begin, hook, monkeypatch, secret, message):
    """It is an error before the watch starts, which does not repeat it."""
    monkeypatch.setenv("HOOK_SECRET", secret)
    with pytest.raises(UsageError) as caught:
        begin(webhook(hook, secret_env="HOOK_SECRET"))
    assert message in str(caught.value)
    assert secret not in str(caught.value)


def test_the_documented_verify_function():
    """`verify` accepts fresh deliveries with the right signature, and rejects everything else without an error."""
    text = (REPOSITORY / "docs" / "watching.md").read_text(encoding="utf-8")
    names = {}
    exec(next(code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def verify" in code), names)
    now, one = str(int(time.time())), Delivery("7", "", b'{"a":1}')
    standard = "whsec_" + base64.b64encode(bytes(range(32))).decode()

    def verify(timestamp, signature, secret="not easily guessed", own_id="7"):
        headers = {"webhook-id": own_id, "webhook-timestamp": timestamp, "webhook-signature": signature}
        given = {name: value for name, value in headers.items() if value is not None}
        return names["verify"](given, one.body, secret)

    def signature(timestamp=now, secret=SECRET, delivery=one):
        return sign(secret, delivery, timestamp)["webhook-signature"]

    assert verify(now, signature()) is True
    assert verify(now, f"v1,b2xk {signature()}") is True  # a sender may sign with two secrets
    assert verify(now, signature(secret=standard.encode()), standard) is True
    assert verify(now, signature(), "another") is False
    assert verify(now, signature(), own_id="8") is False
    assert verify(now, signature(delivery=Delivery("7", "", b"{}"))) is False
    old = str(int(now) - 301)
    assert verify(old, signature(old)) is False
    for timestamp in (None, "", "soon", "ü", now):
        for given in (None, "", "v1,ü", "\udcff", "v1,AAAA"):
            assert verify(timestamp, given) is False


def test_without_a_secret_there_is_no_signature(begin, hook):
    """No signature header is sent."""
    begin(webhook(hook)).start(event_of())
    hook.wait_for(1)
    assert not {"X-Curate-Signature", "webhook-signature"} & set(hook.got[0][1])


def test_proxies_are_not_used(begin, hook, monkeypatch):
    """Proxy variables of the environment are ignored."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    actions = begin(webhook(hook))
    actions.start(event_of())
    actions.close()
    assert tracks(hook) == [7]


def test_a_missing_secret_file_is_an_error(begin, hook, tmp_path):
    """Nothing is sent unsigned if the file has vanished, and no thread is left."""
    (tmp_path / "secret").write_bytes(SECRET)
    parts = triggers_of(tmp_path, {"write": str(tmp_path / "a")}, webhook(hook, secret_file=str(tmp_path / "secret")))
    (tmp_path / "secret").unlink()
    with pytest.raises(UsageError, match=r"^secret_file: no secret found"):
        start_actions(tmp_path, parts)
    assert own_threads() == []


def test_the_host_is_checked_again_when_sending(tmp_path, hook):
    """A sender whose hosts do not list the URL's host opens no connection."""
    config = triggers_of(tmp_path, webhook(hook)).triggers[0].actions[0].webhook
    with pytest.raises(SendError, match="does not list this host"):
        Sender(config, ["example.org"]).send(Delivery("1", hook.url, b"{}"))
    with pytest.raises(SendError, match="does not list this host"):
        Sender(config, ["127.0.0.1"]).send(Delivery("1", "http://127.0.0.2/", b"{}"))
    assert hook.got == []


def test_a_webhook_to_the_metadata_of_a_cloud(tmp_path, monkeypatch):
    """A listed name that leads to such an address is not connected to."""
    entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 443))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [entry])
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("something was contacted"))
    url = "https://hook.example.org/"
    config = triggers_of(tmp_path, {"webhook": url}, hosts=["hook.example.org"]).triggers[0].actions[0].webhook
    with pytest.raises(SendError, match=r"^169\.254\.169\.254 is the metadata address of a cloud$"):
        Sender(config, ["hook.example.org"]).send(Delivery("1", url, b"{}"))


# ── webhooks: receivers that behave badly ────────────────────────────────────────────────────────────────────────────


def test_nothing_is_lost_while_a_receiver_is_down(begin, tmp_path):
    """Events for a closed port arrive once somebody listens: all, in order, each once."""
    port = free_port()
    actions = begin({"webhook": f"http://127.0.0.1:{port}/hook"})
    for number in range(5):
        actions.start(event_of(track_id=number))
    waiting = f"webhook 127.0.0.1:{port}: 5 deliveries pending: connection refused"
    eventually(lambda: waiting in actions.problems())
    hook = Hook(port=port)
    hook.wait_for(5)
    actions.close()
    hook.close()
    assert tracks(hook) == [0, 1, 2, 3, 4]
    assert actions.problems() == ()
    assert kept_rows(tmp_path) == []


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
def test_retryable_statuses_are_retried(begin, status):
    """The same ID and body are sent until they are accepted, and the order is kept."""
    hook = Hook(status, status, 202)
    actions = begin(webhook(hook))
    actions.start(event_of(track_id=1))
    actions.start(event_of(track_id=2))
    hook.wait_for(4)
    actions.close()
    hook.close()
    assert tracks(hook) == [1, 1, 1, 2]
    assert len({(headers["X-Curate-Delivery"], body) for _, headers, body in hook.got}) == 2
    assert actions.problems() == ()


def test_each_attempt_is_logged_with_its_cause_and_the_next_wait(begin, caplog, monkeypatch):
    """The log answers why a webhook failed; it contains neither the URL's path nor the secret."""
    caplog.set_level(logging.INFO, "curate")
    monkeypatch.setenv("HOOK_SECRET", SECRET.decode())
    hook = Hook(503, 200)
    actions = begin({"webhook": {"url": f"{hook.url}?token=t0ken", "secret_env": "HOOK_SECRET"}})
    actions.start(event_of())
    hook.wait_for(2)
    actions.close()
    hook.close()
    name = re.escape(f"webhook 127.0.0.1:{hook.port}: delivery {hook.bodies[0]['id']}")
    failed, succeeded = (record.getMessage() for record in caplog.records if record.name.endswith("webhook.queue"))
    waits = r"next attempt in \d+\.\d s, 1 pending"
    assert re.fullmatch(rf"{name}, attempt 1 failed: answered 503 Service Unavailable; {waits}", failed)
    assert re.fullmatch(rf"{name}, attempt 2 answered 200 OK", succeeded)
    assert not any(word in caplog.text for word in ("t0ken", "/hook", SECRET.decode()))


def test_a_command_is_logged_without_its_arguments(begin, caplog):
    """The log has program, trigger, exit code and duration; arguments may hold secrets."""
    caplog.set_level(logging.INFO, "curate")
    actions = begin({"command": ["true", "t0ken"]})
    actions.start(event_of("bare"))
    actions.close()
    started, ended = caplog.messages
    assert re.fullmatch(r"command true: started for trigger bare, process \d+", started)
    assert re.fullmatch(r"command true: process \d+, exit code 0 after \d+\.\d s", ended)


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_other_statuses_are_not_retried(begin, tmp_path, status):
    """A rejected delivery is a problem with a count, and is not stored."""
    hook = Hook(status)
    actions = begin(webhook(hook))
    for number in range(3):
        actions.start(event_of(track_id=number))
    actions.close()
    hook.close()
    assert tracks(hook) == [0, 1, 2]
    (told,) = actions.problems()
    assert told.startswith(f"webhook 127.0.0.1:{hook.port}: 3 deliveries failed: answered {status} ")
    assert kept_rows(tmp_path) == []


def test_a_receiver_that_is_gone_gets_nothing_more(begin, tmp_path):
    """After 410 the watch sends nothing more to it, keeps nothing for it, and counts what it does not send."""
    hook = Hook(410)
    actions = begin(webhook(hook))
    actions.start(event_of())
    eventually(lambda: actions.problems() != ())
    for _ in range(2):
        actions.start(event_of())
    actions.close()
    hook.close()
    assert len(hook.got) == 1
    place = f"webhook 127.0.0.1:{hook.port}"
    assert actions.problems() == (
        f"{place}: 3 deliveries failed: answered 410 Gone, and this watch sends nothing more to it",
    )
    assert kept_rows(tmp_path) == []


def test_redirects_are_not_followed(begin, hook):
    """A receiver cannot redirect an event to another URL."""
    away = Hook((302, {"Location": hook.url}))
    actions = begin(webhook(away))
    actions.start(event_of())
    actions.close()
    away.close()
    assert len(away.got) == 1
    assert hook.got == []
    assert actions.problems() == (
        f"webhook 127.0.0.1:{away.port}: 1 delivery failed: answered 302 Found, and redirects are not followed",
    )


def test_retry_after_is_respected(begin, monkeypatch):
    """After `Retry-After: 100` the next attempt comes after 100 s, although the backoff is shorter."""
    waits = []
    monkeypatch.setattr(WebhookQueue, "_wait", lambda self, wait_s: waits.append(wait_s) or time.sleep(0.01))
    hook = Hook((429, {"Retry-After": "100"}), 200)
    actions = begin(webhook(hook))
    actions.start(event_of())
    hook.wait_for(1)
    eventually(lambda: len([wait_s for wait_s in waits if wait_s]) > 3)
    actions.start(event_of())  # it does not end the wait
    actions.close(0)
    hook.close()
    assert len(hook.got) == 1
    assert all(99 < wait_s <= 100 for wait_s in waits if wait_s)


def test_close_does_not_wait_for_a_long_retry_after(begin, tmp_path):
    """A wait beyond the timeout of `close` ends at once, and the delivery is stored."""
    hook = Hook((503, {"Retry-After": "500"}))
    actions = begin(webhook(hook))
    actions.start(event_of())
    eventually(lambda: actions.problems() != ())
    actions.close(499)
    hook.close()
    assert len(hook.got) == 1
    assert len(kept_rows(tmp_path)) == 1


def test_forms_of_retry_after():
    """Seconds or a date, at most ten minutes; anything else is ignored."""
    now = datetime(2026, 5, 4, tzinfo=UTC)
    in_a_minute = format_datetime(now + timedelta(seconds=60), usegmt=True)
    assert _parse_retry_after(in_a_minute, lambda: now) == 60
    assert _parse_retry_after(format_datetime(now - timedelta(days=1)), lambda: now) == 0
    assert [_parse_retry_after(text) for text in ("5", "99999999999999", "soon", "-1", "", None)] == [
        5,
        600,
        None,
        None,
        None,
        None,
    ]


def test_backoff_doubles_up_to_its_maximum():
    """1, 2, 4, … 60 s, randomly shortened by up to half, for any number of failures."""
    pauses = [Backoff(random=Random(1)).wait_s(failures) for failures in (1, 2, 3, 6, 7, 100_000)]
    for pause_s, longest_s in zip(pauses, (1, 2, 4, 32, 60, 60), strict=True):
        assert longest_s / 2 <= pause_s <= longest_s


def _drip(handler):
    """Send one byte every 50 ms until the sender disconnects."""
    try:
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.05)
    except OSError:
        return


def _drip_head(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    _drip(handler)


def _continue_for_ever(handler):
    try:
        while True:
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.02)
    except OSError:
        return


def _say_nothing(handler):
    handler.rfile.read(1)  # until the sender goes


@pytest.mark.parametrize(
    ("behaviour", "sent"),
    [(_drip, [1, 1, 2]), (_continue_for_ever, [1, 1, 2]), (_say_nothing, [1, 1, 2]), (_drip_head, [1, 2])],
)
def test_the_timeout_covers_the_whole_exchange(begin, behaviour, sent):
    """A silent or slowly dripping receiver is given up after 0.3 s, and the delivery is retried."""
    hook = Hook(behaviour, 200)
    actions = begin(webhook(hook, timeout="0.3s"))
    actions.start(event_of(track_id=1))
    actions.start(event_of(track_id=2))
    hook.wait_for(len(sent))
    actions.close()
    hook.close()
    assert tracks(hook) == sent
    assert actions.problems() == ()


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        (b"", "connection closed without a response"),
        (b"SSH-2.0-x\r\n\r\n", "response is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", "response is not HTTP"),
        (b"HTTP/1.1 200 " + b"x" * 100_000, "response is not HTTP"),
    ],
)
def test_an_invalid_response_is_an_error(tmp_path, talk, why):
    """Responses that are not HTTP, or too long, raise a `SendError`."""
    hook = Hook(lambda handler: handler.wfile.write(talk))
    config = triggers_of(tmp_path, webhook(hook)).triggers[0].actions[0].webhook
    with pytest.raises(SendError, match=f"^{why}$"):
        Sender(config, ["127.0.0.1"]).send(Delivery("1", hook.url, b"{}"))
    hook.close()


def test_the_body_of_a_response_is_not_read(begin):
    """A response with an endless body counts as delivered, and is not sent twice."""

    def endless(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                handler.wfile.write(b"x" * 65_536)
        except OSError:
            return

    hook = Hook(endless, 200)
    actions = begin(webhook(hook))
    actions.start(event_of(track_id=1))
    actions.start(event_of(track_id=2))
    hook.wait_for(2)
    actions.close()
    hook.close()
    assert tracks(hook) == [1, 2]


def test_a_slow_receiver_delays_neither_the_video_nor_another_receiver(begin, hook, tmp_path):
    """While one receiver is silent, 300 events are queued at once and the other receiver gets them all."""
    silent = Hook(_say_nothing)
    actions = begin(webhook(silent, timeout="60s"), webhook(hook))
    actions.start(event_of())
    silent.wait_for(1)
    for _ in range(300):
        actions.start(event_of())
    hook.wait_for(301)
    assert len(silent.got) == 1
    actions.close(0.1)
    silent.close()
    assert len(kept_rows(tmp_path)) == 301
    assert actions.problems() == (
        f"webhook 127.0.0.1:{silent.port}: 301 deliveries kept in {tmp_path / 'door.outbox.sqlite'}: the watch ended",
    )


def test_a_connection_that_is_never_accepted_ends_with_the_watch(begin, tmp_path):
    """A receiver with a full backlog, where connecting hangs, does not delay `close`."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        others = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(server.getsockname())
            others.append(one)
        port = server.getsockname()[1]
        actions = begin({"webhook": {"url": f"http://127.0.0.1:{port}/", "timeout": "60s"}})
        actions.start(event_of())
        actions.close(0.3)
        for one in others:
            one.close()
    assert len(kept_rows(tmp_path)) == 1
    assert [line for line in actions.problems() if "thread" in line] == []  # it was interrupted


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_an_untrusted_certificate_is_refused(tmp_path):
    """TLS certificates are verified: an untrusted receiver gets no event."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run([*command, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    hook = Hook()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    hook._server.socket = context.wrap_socket(hook._server.socket, server_side=True)
    url = f"https://localhost:{hook.port}/"
    config = triggers_of(tmp_path, {"webhook": url}, hosts=["localhost"]).triggers[0].actions[0].webhook
    sender = Sender(config, ["localhost"])
    with pytest.raises(SendError, match=r"^certificate is not trusted \(self.signed certificate\)$"):
        sender.send(Delivery("1", url, b"{}"))
    assert hook.got == []
    sender._tls.load_verify_locations(certificate)
    assert sender.send(Delivery("1", url, b"{}")).is_success
    hook.close()


# ── webhooks: deliveries that a receiver always fails on ─────────────────────────────────────────────────────────────


def _failing_on(track_id):
    """A receiver that answers 500 to one event, and accepts all others."""

    def answer(handler):
        status = "500 Oh" if hook.bodies[-1]["track_id"] == track_id else "200 OK"
        handler.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    hook = Hook(answer)
    return hook


def test_a_delivery_is_deprioritised_after_ten_server_errors(begin, tmp_path):
    """After ten answers of 500 all other deliveries go first, in their order; at the end it is stored."""
    hook = _failing_on(1)
    actions = begin(webhook(hook))
    for number in range(4):
        actions.start(event_of(track_id=number))
    eventually(lambda: 3 in tracks(hook))
    actions.start(event_of(track_id=4))
    eventually(lambda: 4 in tracks(hook))
    place = f"webhook 127.0.0.1:{hook.port}"
    why = "answered 500 Internal Server Error"
    assert f"{place}: 1 delivery deprioritised: {why}, 10 times" in actions.problems()
    eventually(lambda: f"{place}: 1 delivery pending: {why}" in actions.problems())
    actions.close(0.01)
    hook.close()
    got = tracks(hook)
    assert [one for one in got if one != 1] == [0, 2, 3, 4]
    assert got[:12] == [0, *[1] * 10, 2]
    (kept,) = kept_rows(tmp_path)
    assert (kept["body"]["track_id"], kept["server_errors"]) == (1, got.count(1))


def test_a_deprioritised_delivery_stays_so_in_the_next_watch(begin, tmp_path):
    """The next watch first sends the other stored deliveries, and its own events."""
    hook = _failing_on(1)
    stored(tmp_path, hook.url, 1, server_errors=10)
    stored(tmp_path, hook.url, 3)
    slow = Backoff(first_s=30, max_s=30, random=Random(0))
    actions = start_actions(tmp_path, triggers_of(tmp_path, webhook(hook)), slow)
    eventually(lambda: {1, 3} <= set(tracks(hook)))
    actions.start(event_of(track_id=4))
    eventually(lambda: 4 in tracks(hook))  # no pause of 15 s or more is kept for it
    actions.close(0.01)
    hook.close()
    assert [one for one in tracks(hook) if one != 1] == [3, 4]


def test_a_delivery_that_failed_ten_thousand_times_is_given_up(begin, tmp_path):
    """The answers of all watches count; then the delivery has failed, and is not stored."""
    hook = Hook(500)
    stored(tmp_path, hook.url, 1, server_errors=9999)
    actions = begin(webhook(hook))
    eventually(lambda: actions.problems() != ())
    actions.close()
    hook.close()
    assert tracks(hook) == [1]
    why = "answered 500 Internal Server Error, 10000 times"
    assert actions.problems() == (f"webhook 127.0.0.1:{hook.port}: 1 delivery failed: {why}",)
    assert kept_rows(tmp_path) == []


@pytest.mark.parametrize("trouble", [429, lambda handler: None])
def test_other_failures_do_not_deprioritise(begin, trouble):
    """Status 429 and closed connections say nothing about a delivery, which keeps its place."""
    hook = Hook(*[trouble] * 12, 200)
    actions = begin(webhook(hook))
    for number in (1, 2):
        actions.start(event_of(track_id=number))
    hook.wait_for(14)
    actions.close()
    hook.close()
    assert tracks(hook) == [1] * 13 + [2]
    assert actions.problems() == ()


# ── webhooks: what was not delivered ─────────────────────────────────────────────────────────────────────────────────


def test_stored_deliveries_are_sent_first(begin, tmp_path):
    """The next watch sends the same IDs and bodies, in order, before its own events; then nothing is stored."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/hook"
    actions = begin({"webhook": url})
    for number in range(3):
        actions.start(event_of(track_id=number, class_name="ü"))
    eventually(lambda: actions.problems() != ())
    actions.close(0.05)
    kept = kept_rows(tmp_path)
    file = tmp_path / "door.outbox.sqlite"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [(row["url"], row["body"]["track_id"]) for row in kept] == [(url, 0), (url, 1), (url, 2)]
    assert [row["body"]["id"] for row in kept] == [row["id"] for row in kept]
    (told,) = actions.problems()
    assert told == f"webhook 127.0.0.1:{port}: 3 deliveries kept in {file}: connection refused"

    hook = Hook(port=port)
    later = begin({"webhook": url})
    later.start(event_of(track_id=3))
    later.close()
    hook.close()
    assert tracks(hook) == [0, 1, 2, 3]
    assert [body["id"] for body in hook.bodies[:3]] == [row["id"] for row in kept]
    assert later.problems() == ()
    assert kept_rows(tmp_path) == []


def test_undelivered_webhooks_stay_over_several_watches(begin, tmp_path):
    """A receiver that stays down through three watches loses nothing, and nothing is stored twice."""
    action = {"webhook": f"http://127.0.0.1:{free_port()}/hook"}
    for number in range(3):
        actions = begin(action)
        actions.start(event_of(track_id=number))
        actions.close(0.02)
    assert [row["body"]["track_id"] for row in kept_rows(tmp_path)] == [0, 1, 2]


def test_no_secret_is_on_disk(begin, tmp_path, monkeypatch):
    """Stored deliveries are signed when they are sent."""
    monkeypatch.setenv("HOOK_SECRET", SECRET.decode())
    actions = begin({"webhook": {"url": f"http://127.0.0.1:{free_port()}/", "secret_env": "HOOK_SECRET"}})
    actions.start(event_of())
    text = b"".join(file.read_bytes() for file in tmp_path.glob("door.outbox.sqlite*"))
    assert b"track_id" in text
    assert SECRET not in text


def test_a_url_that_the_file_no_longer_names_gets_nothing(begin, hook, tmp_path):
    """Deliveries for other URLs stay stored, which is reported."""
    other = Hook()
    stored(tmp_path, other.url, 0)
    stored(tmp_path, hook.url, 1)
    actions = begin(webhook(hook))
    actions.close()
    other.close()
    assert tracks(hook) == [1]
    assert other.got == []
    assert [row["url"] for row in kept_rows(tmp_path)] == [other.url]
    file = tmp_path / "door.outbox.sqlite"
    assert actions.problems() == (f"{file}: 1 webhook kept: its URL is no longer in the trigger file",)


def test_deliveries_of_an_earlier_version_are_sent(begin, hook, tmp_path):
    """Those that wait, and those that a killed watch had claimed and not finished; the old files are gone."""
    rows = [{"url": hook.url, "id": str(track), "body": {"id": str(track), "track_id": track}} for track in range(3)]
    old = tmp_path / "door.undelivered.jsonl"
    old.write_text(json.dumps(rows[0]) + "\ntorn {")
    lines = [*map(json.dumps, rows[1:]), '{"done": "1"}']
    (tmp_path / "door.undelivered.jsonl.claimed-7").write_text("\n".join(lines) + "\n")
    begin(webhook(hook)).close()
    assert tracks(hook) == [0, 2]
    assert list(tmp_path.glob("door.undelivered*")) == []


def test_webhooks_are_lost_only_where_the_outbox_cannot_be_written(begin, tmp_path):
    """They are sent from memory then, and what is left at the end is counted as lost."""
    hook = Hook(503, 200)
    actions = begin(webhook(hook), {"webhook": f"http://127.0.0.1:{free_port()}/hook"})
    file = tmp_path / "door.outbox.sqlite"
    file.mkdir()
    actions.start(event_of())
    hook.wait_for(2)
    actions.close(0.5)
    hook.close()
    assert len({body["id"] for body in hook.bodies}) == 1
    problems = actions.problems()
    assert f"{file}: 2 deliveries not stored: Is a directory; sent from memory, a kill loses them" in problems
    assert f"{file}: 1 webhook lost: the file cannot be written" in problems
