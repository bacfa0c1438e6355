"""The window of `watch --show`, on a virtual display."""

import shutil
import subprocess

import numpy as np
import pytest
from watching import watched_frame

pytest.importorskip("tkinter", reason="this Python comes without Tk")


@pytest.fixture
def screen(monkeypatch):
    """A virtual display of 800×600."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed")
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    monkeypatch.setenv("DISPLAY", f":{server.stdout.readline().strip()}")
    yield
    server.terminate()
    server.communicate(timeout=10)


def test_the_latest_frame_is_shown_until_a_key_is_pressed(screen):
    """In its own size, scaled down to the display; Escape closes the window, and later frames are ignored."""
    from curate.monitor.outputs.window import Window

    window = Window("curate: door.mp4")
    for size, expected in (((120, 160), (160, 120)), ((1200, 1600), (800, 600)), ((60, 80), (80, 60))):
        window.take(watched_frame(0, pixels=np.zeros((30, 30, 3), dtype=np.uint8)))
        window.take(watched_frame(1, pixels=np.full((*size, 3), 200, dtype=np.uint8)))
        window.update()
        window.update()
        assert (window._label.winfo_width(), window._label.winfo_height()) == expected
    window._root.focus_force()
    window.update()
    window._root.event_generate("<Escape>")
    window.update()
    assert window.is_closed
    window.take(watched_frame(2))
    window.update()
    window.close()
