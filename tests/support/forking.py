"""Calls functions in forked processes, which cost no start of Python and may be killed."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple


class Answer(NamedTuple):
    """How a process ended."""

    killed: bool
    code: int
    stdout: str
    stderr: str
    seconds: float


def call(act: Callable[[], object], *, kill_after_s: float | None = None) -> Answer:
    """Call a function in a forked process, which may be killed with all processes that it has started."""
    out, err = os.memfd_create("out"), os.memfd_create("err")
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", closefd=False) for descriptor in (1, 2))
        code = 70
        try:
            act()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not become the leader of its group yet, or is gone
            os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    seconds = time.monotonic() - began
    texts = []
    for descriptor in (out, err):
        os.lseek(descriptor, 0, os.SEEK_SET)
        with open(descriptor, "rb") as file:
            texts.append(file.read().decode(errors="replace"))
    return Answer(os.WIFSIGNALED(status), os.waitstatus_to_exitcode(status), *texts, seconds)
