"""Run a command in a terminal of 100 columns and write what it showed as an SVG.

python docs/terminal_picture.py docs/images/demo.svg -- curate run pipelines/demo.yaml
"""

import io
import os
import pty
import re
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH = 100


def main() -> None:
    """Parse `OUT.svg -- COMMAND…`, run the command, write the picture."""
    target, _, *command = sys.argv[1:]
    shown = run_in_terminal(command)
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ " + shlex.join(command), style="bold"))
    console.print(Text.from_ansi(shown))
    svg = console.export_svg(title="curate", theme=MONOKAI)
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # the fonts would come from the network
    svg = svg.replace("<svg ", '<svg xml:space="preserve" ', 1)  # else some viewers drop leading spaces
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(svg, encoding="utf-8")


def run_in_terminal(command: list[str]) -> str:
    """Run a command with its output on a pseudo-terminal; what it printed, with colours. Progress is left out."""
    os.environ |= {"COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    pieces: list[bytes] = []

    def read(descriptor: int) -> bytes:
        pieces.append(os.read(descriptor, 1 << 16))
        return pieces[-1]

    status = pty.spawn(["sh", "-c", f"{shlex.join(command)} 2>/dev/null"], read)
    if status:
        sys.exit(f"{command[0]} ended with {os.waitstatus_to_exitcode(status)}")
    return b"".join(pieces).decode().replace("\r\n", "\n")


if __name__ == "__main__":
    main()
