"""The picture in a window, where there is a screen."""

import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.errors import MissingError, UsageError
from curate.monitor.outputs.thread import Shown

_INSTEAD = "Use --serve, and open its link in a browser."


class Window:
    """Shows the newest frame; see `outputs.thread.Output`. `turn` runs in the main thread, as screens want it.

    Raises:
        UsageError: there is no screen.
        MissingError: this Python comes without Tk.
    """

    wants_boxes = True

    def __init__(self, title: str) -> None:
        check_screen()
        import tkinter

        self._newest: NDArray[np.uint8] | None = None
        self._image: Any = None  # Tk keeps no reference
        self.is_closed = False
        try:
            self._root = tkinter.Tk(className="curate")
        except tkinter.TclError as error:
            raise UsageError(f"no window can be opened: {error}", place="--show", remedy=_INSTEAD) from error
        self._root.title(title)
        self._root.protocol("WM_DELETE_WINDOW", self._end)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda _: self._end())
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()

    def take(self, shown: Shown) -> None:
        """Keep a frame until the next turn."""
        self._newest = shown.drawn

    def turn(self) -> None:
        """Show the newest frame, and hear what was pressed."""
        from PIL import ImageTk

        if self.is_closed:
            return
        newest, self._newest = self._newest, None
        if newest is not None:
            image = Image.fromarray(newest)
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
    """Make sure that a window can be opened.

    Raises:
        UsageError: there is no screen.
        MissingError: this Python comes without Tk.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UsageError("there is no screen to show it on", place="--show", got="no DISPLAY", remedy=_INSTEAD)
    try:
        import tkinter  # noqa: F401
    except ImportError as error:
        remedy = f"Install it (python3-tk). {_INSTEAD}"
        raise MissingError("this Python comes without Tk", place="--show", remedy=remedy) from error
