"""What is opened as a video: a regular file that holds one, and never a file that names others."""

import os
from contextlib import closing
from pathlib import Path

import av
import pytest
from av.error import FFmpegError
from clips import write_clip

from curate.errors import DataError, UsageError
from curate.sources.feeds.open import choose_sources
from curate.sources.video import container, index_video
from curate.sources.video_folder import find_videos


@pytest.fixture
def pipe(tmp_path):
    """A named pipe that nobody writes to: who opens it waits for ever."""
    os.mkfifo(tmp_path / "pipe.mp4")
    return tmp_path / "pipe.mp4"


def test_a_pipe(pipe):
    """A named pipe is refused before it is opened, and so is a link to one."""
    (pipe.parent / "link.mp4").symlink_to(pipe)
    for file in (pipe, pipe.parent / "link.mp4"):
        with pytest.raises(DataError, match="not a regular file"):
            index_video(file)
        with pytest.raises(UsageError, match="not a regular file"):
            choose_sources(str(file))


@pytest.mark.parametrize("special", ["/dev/zero", "/dev/full", "/proc/kmsg", "/proc/self/mem"])
def test_a_special_file_behind_a_link(tmp_path, special):
    """A device, or a file of /proc, is refused before it is read."""
    if not Path(special).exists():
        pytest.skip("this system has no such file")
    (tmp_path / "a.mp4").symlink_to(special)
    with pytest.raises(DataError, match=r"not a regular file|the file is empty"):
        index_video(tmp_path / "a.mp4")


def test_a_folder_with_a_pipe(pipe):
    """A named pipe in a folder is not one of its videos."""
    write_clip(pipe.parent / "a.mp4", 3)
    assert [file.name for file in find_videos(pipe.parent).videos] == ["a.mp4"]


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "LIST.M3U8", "list.txt"])
def test_a_playlist_by_its_content(tmp_path, name):
    """A playlist is refused under any name, with its kind and what to do."""
    file = tmp_path / name
    file.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(DataError, match=r"the file is a playlist \(HLS\) \(expected a video\)\. Name its files\."):
        index_video(file)


def test_large_pictures(tmp_path, monkeypatch):
    """Pictures above the limit are refused by their header, and by the decoder where the header tells less."""
    write_clip(tmp_path / "small.ts", 6, width=160, height=96)
    write_clip(tmp_path / "large.ts", 6, width=320, height=192)
    monkeypatch.setattr(container, "MOST_PIXELS", 160 * 96)
    with pytest.raises(DataError, match=r"too large \(got 320 × 192 pixels; expected at most 15,360 pixels\)"):
        index_video(tmp_path / "large.ts")
    assert index_video(tmp_path / "small.ts").frames == 6
    with closing(av.open(str(tmp_path / "large.ts"))) as opened:
        stream = opened.streams.video[0]
        container.prepare_decoder(stream.codec_context, threads=0)
        with pytest.raises(FFmpegError):
            next(opened.decode(stream))
