"""Permission of trigger files: what needs it, who gives it, and how long it holds."""

import json
import os
import stat

import pytest

from curate.errors import UsageError
from curate.monitor.permission import Answer, describe_request, require_permission, trusted_file
from curate.monitor.trigger_file import parse_triggers


@pytest.fixture(autouse=True)
def _own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def content_of(tmp_path, *actions, hosts="[example.org, 127.0.0.1]", comment=""):
    file = tmp_path / "door.yaml"
    listed = ", ".join(actions)
    file.write_text(f"{comment}\ntriggers: [{{name: door, actions: [{listed}]}}]\nhosts: {hosts}\n")
    return file, parse_triggers(file)


def permit(file_and_content, allowed=False, answer=None):
    asked = []

    def ask(request):
        asked.append(request)
        return answer

    said = require_permission(*file_and_content, allowed=allowed, ask=None if answer is None else ask)
    return said, len(asked)


COMMAND = "{command: [notify-send, 'a b']}"
HOOK = "{webhook: 'https://example.org/secret'}"


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        ([COMMAND], "runs 1 command (notify-send)."),
        ([COMMAND, "{command: [sh, -c, x]}", COMMAND], "runs 3 commands (notify-send, sh)."),
        ([HOOK], "sends to example.org."),
        (["{webhook: 'http://127.0.0.1:9/'}"], "sends to 127.0.0.1:9."),
        ([COMMAND, HOOK], "runs 1 command (notify-send) and sends to example.org."),
        (["{write: ~/.bashrc}"], f"writes to {os.path.expanduser('~/.bashrc')}."),
        (["{write: ../a}"], "writes to ../a."),
        (["{clip: ../clips}"], "writes to ../clips."),
        (["{write: .bashrc}"], "writes to .bashrc."),
        (["{write: .git/a.log}"], "writes to .git/a.log."),
        (["{clip: .git/clips}"], "writes to .git/clips."),
        (["{write: run.sh}"], "writes to run.sh."),
        (["{write: Makefile}"], "writes to Makefile."),
        (['{command: ["a\\e[2Jb"]}'], r"runs 1 command ('a\x1b[2Jb')."),
    ],
)
def test_what_needs_permission(tmp_path, actions, words):
    """Commands, hosts and files outside the working folder; nothing that is shown can steer the terminal."""
    file, content = content_of(tmp_path, *actions)
    assert describe_request(file, content).sentence == f"{file} {words}"


def test_a_link_out_of_the_working_folder_needs_permission(tmp_path):
    """What counts is where the line ends up."""
    (tmp_path / "work" / "inside").symlink_to(tmp_path)
    (tmp_path / "work" / "b.log").symlink_to("run.sh")
    for name in ("inside/a.log", "b.log"):
        assert describe_request(*content_of(tmp_path, f"{{write: {name}}}")).sentence.endswith(f"writes to {name}.")


def test_a_link_that_comes_later_is_asked_about(tmp_path):
    """`always` holds for what was asked."""
    content = content_of(tmp_path, COMMAND, "{write: a.log}")
    permit(content, answer=Answer.ALWAYS)
    assert permit(content, answer=Answer.NO)[1] == 0
    (tmp_path / "work" / "a.log").symlink_to(tmp_path / "victim")
    with pytest.raises(UsageError, match=r"writes to a\.log, which is not allowed yet"):
        permit(content, answer=Answer.NO)


def test_logs_below_the_working_folder_need_none(tmp_path):
    """Logs and clips in the folder, and triggers without actions."""
    for name in ("a.jsonl", "b/c.TXT", "./d.log", tmp_path / "work" / "e.log"):
        assert describe_request(*content_of(tmp_path, f"{{write: {name}}}", "{clip: clips}")) is None
    assert permit(content_of(tmp_path)) == (None, 0)


def test_nobody_to_ask_is_a_refusal(tmp_path):
    """One line says what the file does, and names the option."""
    with pytest.raises(UsageError) as caught:
        permit(content_of(tmp_path, COMMAND, HOOK))
    assert str(caught.value) == (
        f"{tmp_path / 'door.yaml'}: this trigger file runs 1 command (notify-send) and sends to example.org, which is "
        "not allowed yet. Read the file; if you trust it, give --allow-commands."
    )


def test_the_option_allows_and_says_so(tmp_path):
    """Nothing is asked or kept."""
    said, asked = permit(content_of(tmp_path, HOOK), allowed=True, answer=Answer.NO)
    assert (said, asked) == (f"{tmp_path / 'door.yaml'} sends to example.org.", 0)
    assert not trusted_file().exists()


def test_answers(tmp_path):
    """No refuses, once is asked again, always is not, for the same content in the same folder only."""
    content = content_of(tmp_path, HOOK)
    with pytest.raises(UsageError, match="not allowed yet"):
        permit(content, answer=Answer.NO)
    assert permit(content, answer=Answer.ONCE) == (None, 1)
    assert permit(content, answer=Answer.ALWAYS) == (None, 1)
    assert permit(content, answer=Answer.NO)[1] == 0
    assert permit(content_of(tmp_path, HOOK, comment="# another comment"))[1] == 0
    with pytest.raises(UsageError, match="not allowed yet"):
        permit(content_of(tmp_path, HOOK, COMMAND))
    os.chdir(tmp_path)
    with pytest.raises(UsageError, match="not allowed yet"):
        permit(content_of(tmp_path, HOOK))


def test_several_files_can_be_trusted(tmp_path):
    """The answers are in a file in the user's settings, with the names of the trigger files."""
    for actions in ([HOOK], [COMMAND]):
        permit(content_of(tmp_path, *actions), answer=Answer.ALWAYS)
    for actions in ([HOOK], [COMMAND]):
        assert permit(content_of(tmp_path, *actions))[1] == 0
    kept = json.loads(trusted_file().read_text())["trigger_files"]
    assert list(kept.values()) == [str(tmp_path / "door.yaml")] * 2
    assert trusted_file() == tmp_path / "settings" / "curate" / "trusted.json"
    assert not stat.S_IMODE(trusted_file().stat().st_mode) & 0o022


@pytest.mark.parametrize("text", ["", "[]", "{", '{"trigger_files": 7}', "\xff"])
def test_a_damaged_list_trusts_nothing(tmp_path, text):
    """And the next answer writes it anew."""
    trusted_file().parent.mkdir(parents=True)
    trusted_file().write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="not allowed yet"):
        permit(content_of(tmp_path, HOOK))
    permit(content_of(tmp_path, HOOK), answer=Answer.ALWAYS)
    assert permit(content_of(tmp_path, HOOK))[1] == 0
