"""The trigger file: its format, and the message for each error."""

import os
from pathlib import Path

import pytest
from watching import CLASSES, triggers_of, write_triggers

from curate.errors import UsageError
from curate.monitor.actions.webhook.address import matches_host, parse_url
from curate.monitor.trigger_file import read_triggers
from curate.monitor.triggers.fields import FrameCount, QuietHours
from curate.sizes import RangeOfInterest

EVERYTHING = """
triggers:
  - name: bare face at the door
    class: without_mask
    min_score: 0.6
    min_side: 40
    zone: [[0.1, 0.2], [0.9, 0.2], [0.9, 1.0], [0.1, 1.0]]
    anchor: bottom
    frames: 5 of 10
    cool_down: 30s
    repeat: 10m
    quiet_hours: ["22:00-06:00"]
    actions:
      - write: alerts.jsonl
      - webhook: {url: "https://Example.org/hook?x=1", secret_env: HOOK_SECRET, timeout: 4s, headers: {X-Door: "1"}}
      - command: [echo, "{trigger}", "{class} {score}"]
      - command: {run: [cat], timeout: 90s}
      - clip: {folder: clips, before: 2s, after: 3.5s}
stream: {actions: [{write: trouble.jsonl}]}
hosts: [example.org]
"""


def read(folder, text, classes=CLASSES):
    file = folder / "door.yaml"
    file.write_text(text, encoding="utf-8")
    return read_triggers(file, classes)


def fault(folder, text):
    """Return the error message for a file, from its name on."""
    with pytest.raises(UsageError) as caught:
        read(folder, text)
    return str(caught.value).removeprefix(f"{folder}/")


def fault_of_rule(folder, lines):
    return fault(folder, f"triggers: [{{name: bare, {lines}}}]")


# ── what it may say ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_is_read(tmp_path, monkeypatch):
    """Every key of the format is read, in its unit."""
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    found = read(tmp_path, EVERYTHING)
    (rule,) = found.triggers
    assert (rule.name, rule.classes, rule.min_score) == ("bare face at the door", ("without_mask",), 0.6)
    assert rule.interest == RangeOfInterest(40)
    assert rule.zone == ((0.1, 0.2), (0.9, 0.2), (0.9, 1.0), (0.1, 1.0))
    assert (rule.anchor, rule.frames) == ("bottom", FrameCount(5, 10))
    assert (rule.cool_down_s, rule.repeat_s, rule.quiet_hours) == (30, 600, (QuietHours(22 * 60, 6 * 60),))
    write, webhook, command, other, clip = rule.actions
    assert write.write == Path("alerts.jsonl")
    assert (webhook.webhook.timeout_s, webhook.webhook.headers) == (4, {"X-Door": "1"})
    assert webhook.webhook.read_secret() == b"s3cret"
    assert (command.command.run, command.command.timeout_s) == (("echo", "{trigger}", "{class} {score}"), 60)
    assert (other.command.run, other.command.timeout_s) == (("cat",), 90)
    assert rule.clip == clip.clip
    assert (clip.clip.folder, clip.clip.before_s, clip.clip.after_s) == (Path("clips"), 2, 3.5)
    assert [action.write for action in found.stream.actions] == [Path("trouble.jsonl")]


def test_defaults(tmp_path):
    """A trigger with only a name matches every class, everywhere, in one frame, once per track."""
    (rule,) = triggers_of(tmp_path).triggers
    assert (rule.classes, rule.min_score, rule.interest, rule.zone) == (CLASSES, None, None, None)
    assert (rule.frames, rule.cool_down_s, rule.repeat_s, rule.quiet_hours) == (FrameCount(1, 1), 0, None, ())


@pytest.mark.parametrize("name", ["می\u200cخواهم", "👩\u200d🏭", "face\xa0mask"])
def test_names_of_any_script(tmp_path, name):
    """A name may have the joiners of a script or an emoji."""
    (rule,) = read(tmp_path, f"triggers: [{{name: {name}}}]").triggers
    assert rule.name == name


def test_short_forms(tmp_path):
    """A single class, single quiet hours, a clip's folder alone, and frames as a mapping."""
    found = read(
        tmp_path,
        "triggers: [{name: a, class: [with_mask, with_mask], quiet_hours: 01:00-2:30, frames: {seen: 2, of: 3},"
        " actions: [{clip: clips}]}]",
    )
    (rule,) = found.triggers
    assert (rule.classes, rule.quiet_hours, rule.frames) == (("with_mask",), (QuietHours(60, 150),), FrameCount(2, 3))
    assert (rule.clip.folder, rule.clip.before_s, rule.clip.after_s) == (Path("clips"), 5, 5)


def test_a_distance_is_the_range_that_evaluation_uses(tmp_path):
    """12 m, 0.25 m and 960 px are 20 px, as with `--max-distance`."""
    (rule,) = triggers_of(tmp_path, max_distance=12, object_height=0.25, focal_px=960).triggers
    assert rule.interest == RangeOfInterest.within_distance(12, 0.25, 960) == RangeOfInterest(20)


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("min_scor: 1", "triggers[0]: unknown key (got 'min_scor'; expected one of name, class, min_score"),
        ("class: mask", "triggers[0].class: unknown class (got 'mask'; expected one of with_mask, without_mask)."),
        ("class: no", "triggers[0].class[0]: invalid value (got False; expected text; put names such as no or 5"),
        ("class: []", "triggers[0].class: invalid value (got []; expected at least 1)"),
        ("min_score: 1.5", "triggers[0].min_score: invalid value (got 1.5; expected at most 1.0)"),
        (
            "min_score: .nan",
            "line 1, column 36: the trigger file cannot be read: not valid YAML: a number that",
        ),
        ("min_score: high", "triggers[0].min_score: invalid value (got 'high'; expected a number)"),
        ("min_score: true", "triggers[0].min_score: invalid value (got True; expected a number)"),
        ("min_side: -1", "triggers[0].min_side: invalid minimum side (got -1.0; expected pixels"),
        ("max_distance: 3", "triggers[0].max_distance: the camera is missing (expected object_height and foc"),
        (
            "min_side: 1, max_distance: 3",
            "triggers[0].max_distance: the options are mutually exclusive (expected this or min_side",
        ),
        ("zone: [[0, 0], [1, 1]]", "triggers[0].zone: invalid zone (got [[0, 0], [1, 1]]; expected 3 to 100"),
        ("zone: [[0, 0], [1, 1], [2, .inf]]", "line 1, column 52: the trigger file cannot be read"),
        ("zone: [[0, 0], [1, 1], [2, 2, 2]]", "triggers[0].zone: invalid zone"),
        ("zone: [[0, 0], [1, 1], [2, 2]]", "triggers[0].zone: zone has no area"),
        ("zone: [[0, 0], [1, 0], [0, 1], [1, 1]]", "triggers[0].zone: sides of the zone cross"),
        (
            "zone: [[0, 0], [1.05, 0], [1, 1]]",
            "triggers[0].zone: zone lies outside the picture (got 1.05; expected",
        ),
        (
            "zone: [[0, -0.01], [1, 0], [1, 1]]",
            "triggers[0].zone: zone lies outside the picture (got -0.01; exp",
        ),
        (
            "zone: [[-5, 0], [640, 0], [1, 1]]",
            "triggers[0].zone: zone lies outside the picture (got -5; expected",
        ),
        ("zone: [[0, 0], [640, 0.5], [1, 480]]", "triggers[0].zone: zone mixes fractions and pixels (got 0.5 and"),
        ("anchor: top", "triggers[0].anchor: invalid value (got 'top'; expected 'center' or 'bottom')"),
        ("frames: 5 of 4", "triggers[0].frames: invalid number of frames (got '5 of 4'"),
        ("frames: 3", "triggers[0].frames: invalid number of frames (got 3"),
        ("frames: {seen: true, of: 2}", "triggers[0].frames: invalid number of frames"),
        ("cool_down: soon", "triggers[0].cool_down: not a time (got 'soon'"),
        ("cool_down: 1e99", "triggers[0].cool_down: not a time"),
        ("cool_down: 99999999h", "triggers[0].cool_down: duration is too long"),
        ("quiet_hours: [22-6]", "triggers[0].quiet_hours[0]: invalid quiet hours (got '22-6'"),
        ("quiet_hours: ['24:00-06:00']", "triggers[0].quiet_hours[0]: invalid quiet hours"),
        ("quiet_hours: ['06:00-06:00']", "triggers[0].quiet_hours[0]: invalid quiet hours"),
        ("actions: [{}]", "triggers[0].actions[0]: invalid action (got none"),
        ("actions: [{write: a, clip: b}]", "triggers[0].actions[0]: invalid action (got write and clip"),
        ("actions: [{clip: a}, {clip: b}]", "triggers[0].actions: more than one clip"),
        (
            "actions: [{command: date -u}]",
            "triggers[0].actions[0].command.run: invalid value (got 'date -u'",
        ),
        ("actions: [{command: []}]", "triggers[0].actions[0].command.run: invalid value (got []"),
        ("actions: [{command: [no-such-program]}]", "triggers[0].actions[0].command.run[0]: program not found"),
        ("actions: [{command: ['{class}']}]", "triggers[0].actions[0].command.run: a placeholder is not allowed in"),
        (
            "actions: [{command: [cat, '{clas}']}]",
            "triggers[0].actions[0].command.run: unknown placeholder (got 'clas'",
        ),
        (
            "actions: [{command: {run: [cat], timeout: 0}}]",
            "triggers[0].actions[0].command.timeout: duration must be",
        ),
        ("name: b", "line 1, column 25: the trigger file cannot be read: not valid YAML: duplicate key."),
        (
            "actions: [{clip: {folder: c, before: 200h}}]",
            "triggers[0].actions[0].clip.before: duration is too long",
        ),
        (
            "actions: [{clip: {folder: c, after: 61}}]",
            "triggers[0].actions[0].clip.after: duration is too long",
        ),
    ],
)
def test_errors_in_a_trigger(tmp_path, lines, message):
    """Each message names file, place and rule, in one line."""
    told = fault_of_rule(tmp_path, lines)
    assert told.removeprefix("door.yaml, ").removeprefix("door.yaml: ").startswith(message)
    assert "\n" not in told


@pytest.mark.parametrize(
    ("webhook", "message"),
    [
        ("{url: 'https://evil.org/'}", "webhook.url: host is not listed under hosts (got evil.org; expected one of e"),
        ("{url: 'https://example.org.evil.org/'}", "webhook.url: host is not listed under hosts"),
        ("{url: 'https://example.org:8443/'}", "webhook.url: host is not listed under hosts (got example.org:8443"),
        ("{url: 'http://example.org/'}", "webhook.url: webhook uses unencrypted http (got example.org)"),
        ("{url: 'ftp://example.org/'}", "webhook.url: unsupported URL scheme (expected"),
        ("{url: 'https://me:hunter2@example.org/'}", "webhook.url: URL contains a user name or password. Use"),
        ("{url: 'https://example.org\\t/'}", "webhook.url: invalid character in URL"),
        ("{url: 'https://[::1/'}", "webhook.url: invalid URL (expected https://HOST/PATH)"),
        ("{url: 'https:///x'}", "webhook.url: invalid host (got ''"),
        (
            '{url: "https://example.org/", headers: {X-A: "1\\r\\nX-B: 2"}}',
            "webhook.headers: invalid character in the value of X-A",
        ),
        (
            '{url: "https://example.org/", headers: {"X A": "1"}}',
            "webhook.headers: invalid header name (expected such as X-Door)",
        ),
        ('{url: "https://example.org/", headers: {Host: a}}', "webhook.headers: header is set by curate"),
        (
            '{url: "https://example.org/", headers: {X-A: 1}}',
            "webhook.headers.X-A: invalid value (expected text",
        ),
        ("{url: 'https://example.org/', timeout: 0s}", "webhook.timeout: duration must be positive (got"),
        ("{url: 'https://example.org/', secret: hunter2}", "webhook: unknown key (got 'secret'"),
        ("{url: 'https://example.org/', secret_env: NOT_SET}", "webhook.secret_env: the variable is not set, or empty"),
        ("{url: 'https://example.org/', secret_file: none.txt}", "webhook.secret_file: no secret found"),
        (
            "{url: 'https://example.org/', secret_env: A, secret_file: b}",
            "webhook: secret_env and secret_file are",
        ),
        ("{timeout: 3s}", "webhook.url: required key is missing."),
    ],
)
def test_errors_in_a_webhook(tmp_path, monkeypatch, webhook, message):
    """Each message names the place, and repeats no password or header value."""
    monkeypatch.delenv("NOT_SET", raising=False)
    told = fault(tmp_path, f"triggers: [{{name: a, actions: [{{webhook: {webhook}}}]}}]\nhosts: ['example.org:443']")
    assert told.startswith(f"door.yaml, triggers[0].actions[0].{message}")
    assert "hunter2" not in told
    assert "X-B" not in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "door.yaml: the trigger file is empty"),
        ("[1]", "door.yaml: the trigger file is empty"),
        ("triggers: [", "door.yaml, line 1, column 12: the trigger file cannot be read: not valid YAML"),
        (
            "trigers: []",
            "door.yaml: unknown key (got 'trigers'; expected one of triggers, stream, hosts). Did you mean",
        ),
        ("triggers: null", "door.yaml, triggers: invalid value (got None; expected a list)"),
        ("triggers: [a]", "door.yaml, triggers[0]: invalid value (got 'a'; expected a mapping"),
        ("triggers: [{class: with_mask}]", "door.yaml, triggers[0].name: required key is missing."),
        ("triggers: [{name: stream_x}]", "door.yaml, triggers[0].name: the prefix stream_ is reserved"),
        ("triggers: [{name: ' '}]", "door.yaml, triggers[0].name: invalid name"),
        ('triggers: [{name: "a\\e[2J"}]', "door.yaml, triggers[0].name: invalid name"),
        ("triggers: [{name: a\u202eb}]", "door.yaml, triggers[0].name: invalid name"),
        (
            "triggers: [{name: a}, {name: a}]",
            "door.yaml, triggers[1].name: duplicate name, also used by tri",
        ),
        ("stream: {actions: [{clip: clips}]}", "door.yaml, stream.actions[0].clip: clips are not available for"),
        ("hosts: [https://example.org]", "door.yaml, hosts[0]: invalid host (got 'https://example.org'"),
        ("hosts: ['example.org:99999']", "door.yaml, hosts[0]: invalid host"),
        (
            "triggers: [{name: a, actions: [{webhook: 'http://[::1]/'},"
            " {webhook: {url: 'http://[::1]/', timeout: 1s}}]}]"
            "\nhosts: ['[::1]']",
            "door.yaml, triggers[0].actions[1].webhook: same url as triggers[0].actions[0].webhook, with different",
        ),
    ],
)
def test_errors_in_the_file(tmp_path, text, message):
    """Errors in the file as a whole are one line, too."""
    assert fault(tmp_path, text).startswith(message)


def test_a_missing_file(tmp_path):
    """The message names the file."""
    with pytest.raises(UsageError, match=r"door\.yaml: the trigger file cannot be read: No such file"):
        read_triggers(tmp_path / "door.yaml", CLASSES)


def test_pixels_need_not_be_whole(tmp_path):
    """Corners are pixels if one is over 2 and none is a fraction; they may have decimals."""
    corners = ((0.0, 0.0), (640.5, 1.0), (1.5, 480.25))
    assert triggers_of(tmp_path, zone=[list(corner) for corner in corners]).triggers[0].zone == corners


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S3CRET: 1\na: [", "line 2, column 5: expected the node content, but found '<stream end>'."),
        ("a: [1\nb: S3CRET", "line 2, column 2: expected ',' or ']', but got ':'."),
        ("Authorization: Bearer S3CRET: x", "line 1, column 29: mapping values are not allowed here."),
        ("a: *S3CRET", "line 1, column 4: found undefined alias …."),
        ("a: !S3CRET x", "line 1, column 4: a tag that is not understood."),
        ("a: S3CRET\a", "line 1: the character U+0007 is not allowed."),
        ("S3CRET: 1\nS3CRET: 2", "line 2, column 1: duplicate key."),
        ("a: !!timestamp S3CRET", "line 1, column 4: a tag that is not understood."),
        ("a: !!bool S3CRET", "line 1, column 4: a value cannot be read."),
        ("[" * 1200, "line 1, column 51: nested too deeply, the limit is 50 levels."),
    ],
)
def test_invalid_yaml(tmp_path, text, message):
    """The message has line, column and cause, but no content, which may be secret."""
    where, fact = message.split(": ", 1)
    assert fault(tmp_path, text) == f"door.yaml, {where}: the trigger file cannot be read: not valid YAML: {fact}"


def test_another_encoding(tmp_path):
    """A file that is not UTF-8 is refused."""
    (tmp_path / "door.yaml").write_bytes(b"triggers: [{name: T\xfcr}]")
    with pytest.raises(UsageError, match="the encoding of the trigger file is not understood"):
        read_triggers(tmp_path / "door.yaml", CLASSES)


@pytest.mark.parametrize(
    "actions",
    [
        "[{webhook: {url: 'https://example.org/', headers: {Authorization: [S3CRET]}}}]",
        "[{webhook: {url: 'https://example.org/', headers: [Authorization: Bearer S3CRET]}}]",
        "[{webhook: {url: 'https://example.org/', headers: Bearer S3CRET}}]",
        "[{webhook: {url: 'https://example.org/', headers: {'Authorization: Bearer S3CRET': 1}}}]",
        "[{webhook: {url: 'https://example.org/', headers: {Authorization: \"S3CRET\\n\"}}}]",
        "[{webhook: {url: ['https://example.org/S3CRET']}}]",
        "[{webhook: ['https://example.org/S3CRET']}]",
        "[{webhook: {https://example.org/S3CRET}}]",
        "[{webhook: {Authorization Bearer S3CRET}}]",
        "[{webhook: {url: 'https://example.org/', headers: {Authorization Bearer S3CRET}}}]",
        "[{webhook: 'https://example.org:S3CRET/'}]",
        "[{webhook: 'https://evil.org/S3CRET'}]",
        "[{webhook: 'http://example.org/S3CRET'}]",
        "[{webhook: 'S3CRET:example.org'}]",
        "[{webhook: 'example.org/S3CRET'}]",
        "[{webhook: 'https://me:S3CRET@example.org/'}]",
        "[{webhook: {url: 'https://example.org/', secret_env: S3CRET}}]",
        "['https://example.org/S3CRET']",
        "{webhook: 'https://example.org/S3CRET'}",
        "{webhook: {headers: {Authorization: Bearer S3CRET}}}",
        "[[webhook, 'https://example.org/S3CRET']]",
    ],
)
def test_no_secret_of_a_webhook_is_repeated(tmp_path, actions):
    """However a URL or header is misplaced, the message has its place and not its content."""
    told = fault(tmp_path, f"triggers: [{{name: a, actions: {actions}}}]\nhosts: [example.org]")
    assert told.startswith("door.yaml, triggers[0].actions")
    assert "s3cret" not in told.lower()


@pytest.mark.parametrize("host", ["https://example.org/S3CRET", "https://me:S3CRET@example.org", "example.org/S3CRET"])
def test_a_url_in_place_of_a_host_is_not_repeated(tmp_path, host):
    """The message contains only its host."""
    told = fault(tmp_path, f"hosts: ['{host}']")
    assert told.startswith("door.yaml, hosts[0]: invalid host")
    assert "S3CRET" not in told


# ── what actions need ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("write: {0}/none/a.jsonl", "write: folder does not exist (got {0}/none). Create it first."),
        ("write: {0}/folder", "write: this is a folder (got {0}/folder; expected a file)."),
        ("write: {0}/file/a.jsonl", "write: folder does not exist (got {0}/file). Create it first."),
        ("write: /proc/a.jsonl", "write: file is not writable: No such file or directory (got /proc/a.jsonl)."),
        ("write: {0}/{1}", "write: file is not writable: File name too long (got {0}/{1})."),
        ("clip: {0}/file", "clip.folder: this is a file (got {0}/file; expected a folder)."),
        ("clip: {0}/file/a/b", "clip.folder: this is a file (got {0}/file; expected a folder)."),
    ],
)
def test_unusable_files_and_folders(tmp_path, action, message):
    """A file or folder that is not writable is an error before the watch starts."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    named = tmp_path, "n" * 300
    told = fault_of_rule(tmp_path, f"actions: [{{{action.format(*named)}}}]")
    assert told == f"door.yaml, triggers[0].actions[0].{message.format(*named)}"


def test_checking_requirements_changes_nothing(tmp_path):
    """No file or folder is created or changed, and a pipe needs no reader yet."""
    (tmp_path / "old.jsonl").write_text("old\n")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "later.jsonl")
    os.mkfifo(tmp_path / "pipe")
    os.utime(tmp_path / "old.jsonl", (1, 1))
    write_triggers(tmp_path)
    before = sorted(tmp_path.iterdir())
    names = ("old.jsonl", "new.jsonl", "link.jsonl", "pipe")
    triggers_of(tmp_path, *({"write": str(tmp_path / name)} for name in names), {"clip": str(tmp_path / "a" / "b")})
    assert sorted(tmp_path.iterdir()) == before
    assert ((tmp_path / "old.jsonl").read_text(), (tmp_path / "old.jsonl").stat().st_mtime) == ("old\n", 1)


def test_home_folder(tmp_path, monkeypatch):
    """`~` is expanded in all paths."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "secret").write_text("s3cret")
    webhook = {"url": "https://example.org/", "secret_file": "~/secret"}
    found = triggers_of(tmp_path, {"write": "~/a"}, {"clip": "~/b"}, {"webhook": webhook}, hosts=["example.org"])
    write, clip, sent = found.triggers[0].actions
    assert (write.write, clip.clip.folder) == (tmp_path / "a", tmp_path / "b")
    assert sent.webhook.read_secret() == b"s3cret"


# ── what is no fault ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["triggers: []", "hosts: [example.org]", "stream: {actions: [{command: [cat]}]}"])
def test_a_file_without_triggers_is_noted(tmp_path, text):
    """Without triggers a note says that there will be no events."""
    assert read(tmp_path, text).notes() == (f"{tmp_path}/door.yaml has no triggers: no detection becomes an event.",)


def test_triggers_without_actions_are_noted(tmp_path):
    """A note says where events go if no trigger has an action."""
    file = tmp_path / "door.yaml"
    note = f"No trigger in {file} has an action: events go to --events and --serve only."
    assert read(tmp_path, "triggers: [{name: a}, {name: b}]").notes() == (note,)
    assert read(tmp_path, "triggers: [{name: a}, {name: b, actions: [{command: [cat]}]}]").notes() == ()


# ── webhooks' hosts and secrets ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "hosts", "allowed"),
    [
        ("https://example.org/x", ["example.org"], True),
        ("https://EXAMPLE.org./x", ["example.ORG"], True),
        ("https://example.org:8443/", ["example.org"], True),
        ("https://example.org/", ["example.org:443"], True),
        ("https://example.org:8443/", ["example.org:443"], False),
        ("https://www.example.org/", ["example.org"], False),
        ("http://[0:0:0:0:0:0:0:1]:80/", ["[::1]:80"], True),
        ("https://example.org/", [], False),
    ],
)
def test_hosts_are_compared_as_hosts(url, hosts, allowed):
    """Case, a trailing dot and the spelling of IPv6 do not matter; subdomain and port do."""
    assert matches_host(parse_url(url), hosts) is allowed


def test_http_is_for_loopback_unless_allowed(tmp_path):
    """Loopback needs no TLS; other hosts need `allow_http`."""
    hosts = ["localhost", "127.0.0.1", "[::1]", "camera.local"]
    urls = ["http://localhost:1/", "http://127.0.0.1:2/", "http://[::1]:3/"]
    open_one = {"webhook": {"url": "http://camera.local/", "allow_http": True}}
    found = triggers_of(tmp_path, *({"webhook": url} for url in urls), open_one, hosts=hosts)
    assert [action.webhook.url for action in found.triggers[0].actions] == [*urls, "http://camera.local/"]


def test_a_secret_from_a_file_is_without_its_line_end(tmp_path):
    """The trailing line break of a secret file is removed, other white space is kept."""
    (tmp_path / "secret").write_bytes(b" s3cret \n")
    webhook = {"url": "https://example.org/", "secret_file": str(tmp_path / "secret")}
    found = triggers_of(tmp_path, {"webhook": webhook}, hosts=["example.org"])
    assert found.triggers[0].actions[0].webhook.read_secret() == b" s3cret "


def test_a_secret_is_in_no_repr(tmp_path, monkeypatch):
    """The repr of the settings contains only the secret's name."""
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    webhook = {"url": "https://example.org/", "secret_env": "HOOK_SECRET"}
    found = triggers_of(tmp_path, {"webhook": webhook}, hosts=["example.org"])
    assert "HOOK_SECRET" in repr(found)
    assert "s3cret" not in repr(found)
