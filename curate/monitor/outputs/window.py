"""`watch --show`: the video in a window."""

import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.errors import MissingError, UsageError
from curate.monitor.outputs.thread import WatchedFrame

_ALTERNATIVE = "Use --serve, and open its link in a browser."


class Window:
    """Shows the latest frame; see `curate.monitor.outputs.thread.Output`.

    `update` runs in the main thread, which window systems require.

    Raises:
        UsageError: There is no display.
        MissingError: This Python has no Tk.
    """

    wants_boxes = True

    def __init__(self, title: str) -> None:
        check_screen()
        import tkinter

        self._latest: NDArray[np.uint8] | None = None
        self._image: Any = None  # Tk itself keeps no reference
        self.is_closed = False
        try:
            self._root = tkinter.Tk(className="curate")
        except tkinter.TclError as error:
            raise UsageError(f"cannot open a window: {error}", place="--show", remedy=_ALTERNATIVE) from error
        self._root.title(title)
        self._root.protocol("WM_DELETE_WINDOW", self._end)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda _: self._end())
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()

    def take(self, frame: WatchedFrame) -> None:
        """Keep a frame for the next `update`."""
        self._latest = frame.drawn

    def update(self) -> None:
        """Show the latest frame, and handle key presses."""
        from PIL import ImageTk

        if self.is_closed:
            return
        latest, self._latest = self._latest, None
        if latest is not None:
            image = Image.fromarray(latest)
            image.thumbnail((self._root.winfo_screenwidth(), self._root.winfo_screenheight()))
            self._image = ImageTk.PhotoImage(image, master=self._root)
            self._label.configure(image=self._image)
        self._root.update()

    def close(self) -> None:
        """Close the window. May be called again."""
        if not self.is_closed:
            self._end()

    def _end(self) -> None:
        self.is_closed = True
        self._image = None
        self._root.destroy()


def check_screen() -> None:
    """Check that a window can be opened.

    Raises:
        UsageError: There is no display.
        MissingError: This Python has no Tk.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UsageError("no display found", place="--show", expected="DISPLAY or WAYLAND_DISPLAY", remedy=_ALTERNATIVE)
    try:
        import tkinter  # noqa: F401
    except ImportError as error:
        remedy = f"Install it (python3-tk). {_ALTERNATIVE}"
        raise MissingError("this Python has no Tk", place="--show", remedy=remedy) from error
