"""What a trigger file may do beyond the files that the user named: run commands, reach hosts, write elsewhere.

Trigger files are passed around, so this needs permission: an option, an answer, or an earlier answer `always`, which is
kept by content and working folder, since relative paths in the file depend on it.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from curate.errors import UsageError
from curate.files import write_atomically
from curate.formatting import count_of, listed
from curate.monitor.trigger_file import TriggerFile

_LOGS = (".jsonl", ".log", ".txt")
_REMEDY = "Read the file; if you trust it, give --allow-commands."


class Answer(StrEnum):
    """An answer to whether a trigger file may do what it wants to."""

    NO = "no"
    ONCE = "yes"
    ALWAYS = "always"


@dataclass(frozen=True)
class Request:
    """What a trigger file needs permission for.

    Attributes:
        sentence: Such as `door.yaml runs 2 commands (sh, notify-send) and sends to example.org.`
        commands: Whole command lines, as a shell would have them.
    """

    sentence: str
    commands: tuple[str, ...]


def describe_request(file: Path, content: TriggerFile) -> Request | None:
    """What a trigger file needs permission for; None for nothing: it writes logs and clips below the working folder."""
    commands, hosts, files = [], [], []
    for _, _, action in content.all_actions():
        if action.command is not None:
            commands.append(action.command.run)
        if action.webhook is not None:
            hosts.append(action.webhook.address.authority)
        path = action.write or (action.clip.folder if action.clip is not None else None)
        if path is not None and not (_is_below_working_folder(path) and (path != action.write or _is_log(path))):
            files.append(_printable(str(path)))
    parts = []
    if commands:
        names = listed(dict.fromkeys(_printable(run[0]) for run in commands))
        parts.append(f"runs {count_of(len(commands), 'command')} ({names})")
    if hosts:
        parts.append(f"sends to {listed(dict.fromkeys(hosts))}")
    if files:
        parts.append(f"writes to {listed(dict.fromkeys(files))}")
    if not parts:
        return None
    words = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return Request(f"{file} {words}.", tuple(_printable(shlex.join(run)) for run in commands))


def require_permission(
    file: Path, content: TriggerFile, *, allowed: bool, ask: Callable[[Request], Answer] | None
) -> str | None:
    """Check that a trigger file may do what it needs permission for.

    Args:
        file: The trigger file, for messages.
        content: Of the file.
        allowed: Whether the user allows it for this time.
        ask: Asks the user; None where nobody can be asked.

    Returns:
        What it does, as a sentence that was not shown yet; None where there is nothing to say.

    Raises:
        UsageError: It may not.
    """
    request = describe_request(file, content)
    if request is None:
        return None
    fact = request.sentence.removeprefix(f"{file} ").removesuffix(".")
    key = _key(content, fact)
    if allowed or key in _read_trusted():
        return request.sentence
    answer = Answer.NO if ask is None else ask(request)
    if answer is Answer.NO:
        raise UsageError(f"this trigger file {fact}, which is not allowed yet", place=file, remedy=_REMEDY)
    if answer is Answer.ALWAYS:
        _trust(file, key)
    return None


def trusted_file() -> Path:
    """Where the answers `always` are: in the folder for settings of the XDG specification."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "curate" / "trusted.json"


def _trust(file: Path, key: str) -> None:
    trusted = _read_trusted() | {key: str(file.resolve())}
    text = json.dumps({"trigger_files": trusted}, indent=1)
    try:
        write_atomically(trusted_file(), lambda out: out.write(text.encode("utf-8", "backslashreplace")))
    except OSError as error:
        raise UsageError(f"cannot keep the answer: {error.strerror}", place=trusted_file()) from error


def _read_trusted() -> dict[str, str]:
    """Names of trusted files by key; a file that cannot be read trusts nothing."""
    with suppress(OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError):
        return {str(key): str(name) for key, name in json.loads(trusted_file().read_bytes())["trigger_files"].items()}
    return {}


def _key(content: TriggerFile, fact: str) -> str:
    """Hash of everything that the file says, of the working folder, and of what was asked; not of comments.

    A link that is put into the folder later changes what is asked, not what the file says.
    """
    parts = (os.getcwd(), content.model_dump_json(), fact)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _is_below_working_folder(path: Path) -> bool:
    """Whether a path leads to a place below the working folder, but not to a hidden one, such as `.git`."""
    place, folder = Path(os.path.realpath(path)), os.path.realpath(os.getcwd())
    return place.is_relative_to(folder) and not any(part.startswith(".") for part in place.relative_to(folder).parts)


def _is_log(path: Path) -> bool:
    """Whether a file's name is that of a log: a line with `$(…)` in a script would be run."""
    return os.path.realpath(path).lower().endswith(_LOGS)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)
