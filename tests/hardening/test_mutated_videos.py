"""Mutated videos: frames, or one error that names the file; never a traceback, a crash or a hang."""

import random
import resource
import threading
from multiprocessing import get_context

import pytest
from clips import write_clip
from mutating import mutated_bytes
from tally import tally

from curate.errors import CurateError
from curate.sources.video import FrameReader, index_video
from curate.sources.video_folder import find_videos

PATIENCE_S = 30  # for one file of a few kilobytes
WORKERS = 2
MOST_BYTES = 2 << 30  # of memory, for pictures of 64 × 48 pixels
KINDS = (
    ("a.mp4", {}),
    ("b.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    ("c.mov", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
    ("d.mkv", {"codec": "libx265"}),
    ("e.webm", {"codec": "libvpx-vp9"}),
    ("f.ts", {}),
    ("g.avi", {"codec": "mpeg4"}),
    ("h.mpg", {"codec": "mpeg2video"}),
    ("i.flv", {}),
    ("j.h264", {}),
    ("k.mkv", {"codec": "libsvtav1"}),
)


def read_some(path):
    """Read a video as sampling does: its index, and frames from all over it."""
    index = index_video(path)
    reader = FrameReader(index)
    wanted = sorted({0, index.frames // 2, index.frames - 1})
    shapes = [frame.pixels.shape for frame in reader.read(wanted)]
    if len(shapes) < len(wanted) and not reader.fault:
        raise AssertionError("frames are missing without a word")
    return shapes


def work(pipe):
    """Read files until there are no more; a crash of a decoder ends this process alone."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    while (path := pipe.recv()) is not None:
        try:
            read_some(path)
            find_videos(path.parent)
        except CurateError as error:
            pipe.send(None if str(path) in str(error) or str(path.parent) in str(error) else f"no place: {error}")
        except BaseException as error:
            pipe.send(repr(error))
        else:
            pipe.send(None)


def try_all(paths, counted):
    """Give files to a process, and to a new one after each crash and hang."""
    context = get_context("spawn")
    process = None
    for path in paths:
        if process is None:
            pipe, other = context.Pipe()
            process = context.Process(target=work, args=(other,), daemon=True)
            process.start()
            other.close()
        fault = None
        try:
            pipe.send(path)
            if not pipe.poll(PATIENCE_S):
                fault = "hangs", "no answer"
            elif found := pipe.recv():
                fault = "tracebacks", found
        except (EOFError, OSError):
            process.join(PATIENCE_S)
            fault = "tracebacks", f"the process ended with {process.exitcode}"
        counted.tried += 1
        if fault:
            counted.fault(fault[0], f"{path.name}: {fault[1]}")
        if fault and (fault[0] == "hangs" or not process.is_alive()):
            process.kill()
            process = None
    if process is not None:
        pipe.send(None)
        process.join(PATIENCE_S)


@pytest.mark.parametrize("count", [44, pytest.param(2000, marks=pytest.mark.long)])
def test_mutated_videos(tmp_path, count):
    """Containers and codecs of all kinds, each damaged in one to three places."""
    chance = random.Random(count)
    whole = [write_clip(tmp_path / name, 12, width=64, height=48, gop=6, **more) for name, more in KINDS]
    assert all(read_some(path) for path in whole)
    files = []
    for number in range(count):
        clip = whole[number % len(whole)]
        folder = tmp_path / str(number)
        folder.mkdir()
        files.append(folder / f"{number}{clip.suffix}")
        files[-1].write_bytes(mutated_bytes(clip.read_bytes(), chance))
    with tally("mutated videos, indexed and sampled", f"{count}") as counted:
        threads = [threading.Thread(target=try_all, args=(files[n::WORKERS], counted)) for n in range(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
