"""Starts `curate` as a process of its own in a tenth of a second: a parent with all imports forks at each start.

Each line of its stdin is a JSON list of arguments; it answers with the process id, and at the end with the exit code.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import Empty, Queue


class ForkedCurate:
    """A parent that starts `curate`, with the engine `colour:squares`; a context manager.

    Args:
        folder: Working folder of the processes; their stderr is appended to `stderr.txt` in it.
        prepare: Python code that the parent runs before its first start.
    """

    def __init__(self, folder, prepare=""):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "XDG_CONFIG_HOME": str(folder)}
        self._parent = subprocess.Popen(
            [sys.executable, __file__, prepare], cwd=folder, env=environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(Path(folder) / "stderr.txt").open("a"),
        )  # fmt: skip
        self._answers = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._parent.kill()
        self._parent.wait()

    def start(self, *arguments):
        """Start `curate` with arguments; return its process id."""
        self._parent.stdin.write(json.dumps(arguments) + "\n")
        return int(self._answers.get(timeout=60).removeprefix("pid "))

    def wait(self, pid, timeout_s):
        """Wait for its end; its exit code (negative: a signal), or None if it takes longer and was killed."""
        try:
            return int(self._answers.get(timeout=timeout_s).removeprefix("code "))
        except Empty:
            os.kill(pid, signal.SIGKILL)
            self._answers.get(timeout=60)
            return None

    def _listen(self):
        for line in self._parent.stdout:
            self._answers.put(line.strip())


def serve(prepare):
    """Fork at each line of stdin."""
    import colour_engine

    from curate.engines import base

    base.ENGINES = {"colour": base.EngineEntry("colour_engine", "ColourEngine", ())}
    colour_engine.write_weights(Path())
    for module in ("av", "curate.cli", "curate.commands.watch", "scipy.optimize", "supervision", "pyarrow.parquet"):
        __import__(module)
    exec(prepare)
    answer, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            sys.argv = ["curate", *json.loads(line)]
            code = 1
            try:
                sys.modules["curate.cli"].main()
            except SystemExit as ended:
                code = ended.code or 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(f"pid {pid}", file=answer, flush=True)
        _, status = os.waitpid(pid, 0)
        print(f"code {os.waitstatus_to_exitcode(status)}", file=answer, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
