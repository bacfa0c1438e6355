"""Videos of a folder are found by what the decoder opens."""

import os

import numpy as np
import pytest
from clips import write_clip, write_sound
from PIL import Image
from sample_datasets import write_text

from curate.errors import UsageError
from curate.sources.video_folder import find_videos


def names(folder):
    found = find_videos(folder)
    return [file.name for file in found.videos], [file.name for file in found.others]


def test_any_suffix_in_any_case(tmp_path):
    """Containers under unusual names, names without a suffix, raw streams and animations are videos."""
    clip = write_clip(tmp_path / "a.MP4")
    for name in ("b.asf", "c.VOB", "d.divx", "e", "f.dat"):
        (tmp_path / name).write_bytes(clip.read_bytes())
    write_clip(tmp_path / "g.h264")
    write_clip(tmp_path / "h.mxf", codec="mpeg2video", fps=25)
    frames = [Image.fromarray(np.full((48, 64, 3), level, dtype=np.uint8)) for level in (0, 200)]
    frames[0].save(tmp_path / "i.gif", save_all=True, append_images=frames[1:])
    assert names(tmp_path)[0] == ["a.MP4", "b.asf", "c.VOB", "d.divx", "e", "f.dat", "g.h264", "h.mxf", "i.gif"]


def test_other_files_are_left_out_and_named(tmp_path):
    """Pictures, texts, sound, annotations and arbitrary bytes are not videos; a few are named."""
    write_clip(tmp_path / "clip.mp4")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    write_text(tmp_path / "a.txt", "hello " * 200)
    write_sound(tmp_path / "a.m4a")
    (tmp_path / "a.bin").write_bytes(np.random.default_rng(1).bytes(100_000))
    assert names(tmp_path) == (["clip.mp4"], ["a.bin", "a.jpg", "a.m4a", "a.png", "a.txt"])
    note = f"{tmp_path}: left out 5 files that cannot be read as a video: a.bin, a.jpg, a.m4a, a.png, a.txt."
    assert find_videos(tmp_path).note() == note


def test_many_other_files_are_counted_by_suffix(tmp_path):
    """The note stays one short line."""
    write_clip(tmp_path / "clip.mp4")
    (tmp_path / "labels").mkdir()
    for number in range(30):
        write_text(tmp_path / "labels" / f"{number}.TXT", "0 0.5 0.5 0.1 0.1")
    write_text(tmp_path / "readme", "hello")
    assert (
        find_videos(tmp_path)
        .note()
        .endswith("left out 31 files that cannot be read as a video: .txt (30), no suffix (1).")
    )


def test_only_videos_need_no_note(tmp_path):
    """Nothing is left out, nothing is said; hidden files do not count."""
    write_clip(tmp_path / "clip.mp4")
    write_text(tmp_path / ".hidden", "hello")
    assert find_videos(tmp_path).note() is None


def test_a_damaged_file_with_the_name_of_a_video_is_not_left_out(tmp_path):
    """It is read later, and its damage is reported then."""
    write_text(tmp_path / "broken.mp4", "no video")
    assert names(tmp_path) == (["broken.mp4"], [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_left_out(tmp_path):
    """It does not stop the others."""
    write_clip(tmp_path / "a.mp4")
    write_text(tmp_path / "b.dat", "secret").chmod(0)
    assert names(tmp_path) == (["a.mp4"], ["b.dat"])


def test_a_folder_without_a_video(tmp_path):
    """The error says how many files were looked at."""
    write_text(tmp_path / "a.txt", "hello")
    with pytest.raises(UsageError, match=r"the folder has no video .got 1 file, none of which can be read as a video"):
        find_videos(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="got no file"):
        find_videos(tmp_path / "empty")
