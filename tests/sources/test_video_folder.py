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


def test_hidden_folders_are_not_looked_into(tmp_path):
    """Neither a recycle bin nor a preview folder gives videos."""
    write_clip(tmp_path / "clip.mp4")
    write_clip(tmp_path / "day" / ".Trash" / "deep" / "old.mp4")
    assert names(tmp_path) == (["clip.mp4"], [])
    assert names(tmp_path / "day" / ".Trash" / "deep") == (["old.mp4"], [])


@pytest.mark.parametrize("name", ["b.mp4.part", "b.mp4.part-Frag3", "b.webm.PART", "Unconfirmed 1.crdownload"])
def test_an_unfinished_download_is_left_out_and_named(tmp_path, name):
    """Its beginning can be read, but it would be another file a minute later."""
    clip = write_clip(tmp_path / "clip.mp4")
    (tmp_path / name).write_bytes(clip.read_bytes())
    assert names(tmp_path) == (["clip.mp4"], [])
    assert find_videos(tmp_path).note() == f"{tmp_path}: left out 1 unfinished download: {name}."


def test_pictures_in_video_containers_are_pictures(tmp_path):
    """AVIF is MP4 with one frame, and an icon has a demuxer of its own; an animated AVIF is a video."""
    pictures = [Image.fromarray(np.full((64, 64, 3), level, dtype=np.uint8)) for level in (0, 100, 200)]
    pictures[0].save(tmp_path / "moving.avif", save_all=True, append_images=pictures[1:])
    pictures[0].save(tmp_path / "still.avif")
    pictures[0].save(tmp_path / "still.ico")
    assert names(tmp_path) == (["moving.avif"], ["still.avif", "still.ico"])


def test_a_playlist_is_not_a_video(tmp_path):
    """Its files are, so their frames do not come twice."""
    write_clip(tmp_path / "0.ts", 12)
    write_text(tmp_path / "list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\n0.ts\n#EXT-X-ENDLIST\n")
    write_text(tmp_path / "list.ffconcat", "ffconcat version 1.0\nfile 0.ts\n")
    assert names(tmp_path) == (["0.ts"], ["list.ffconcat", "list.m3u8"])


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
    (tmp_path / "loading").mkdir()
    write_text(tmp_path / "loading" / "b.mp4.part", "")
    with pytest.raises(UsageError, match=r"\(got 1 unfinished download\)"):
        find_videos(tmp_path / "loading")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="got no file"):
        find_videos(tmp_path / "empty")
