import importlib.util
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
from lxml import etree
from repository_paths import REPOSITORY
from sample_datasets import write_text

import curate
from curate.images import decode_rgb

SCRIPT = REPOSITORY / "datasets/demo/draw_scenes.py"
CLASSES = {"with_mask", "without_mask", "mask_weared_incorrect"}


@pytest.fixture(scope="module")
def scenes():
    """The script as a module; its siblings are found as they are when it runs as a script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        spec = importlib.util.spec_from_file_location("draw_scenes", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "draw_scenes", module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def drawn(scenes, tmp_path_factory):
    """Four clips with XML of two frames each."""
    out = tmp_path_factory.mktemp("demo")
    scenes.write_scenes(out, clips=4, frames=2, seed=7)
    return out


@pytest.fixture(scope="module")
def faces_of_clips(scenes):
    """The faces at the default settings, clip by clip, without drawing them."""
    clips = [scenes.make_clip(7, number) for number in range(12)]
    times_s = [frame * scenes.CLIP_S / 16 for frame in range(16)]
    return [[face for time_s in times_s for face in scenes.list_faces(clip, time_s)] for clip in clips]


def contents(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def objects_of(path):
    root = etree.parse(path).getroot()
    return [[int(side.text) for side in item.find("bndbox")] for item in root.findall("object")]


def test_same_arguments_same_bytes(scenes, drawn, tmp_path):
    """Two folders that were asked for alike hold the same bytes."""
    scenes.write_scenes(tmp_path, clips=4, frames=2, seed=7)
    assert contents(tmp_path) == contents(drawn)


def test_another_seed_draws_another_scene(scenes):
    """The seed reaches the picture."""
    images = [scenes.draw_frame(scenes.make_clip(seed, 0), 0.0)[0] for seed in (7, 8)]
    assert np.abs(images[0].astype(int) - images[1]).mean() > 10


def test_frame_depends_on_clip_and_time_only(scenes):
    """A frame drawn out of order, for a video say, is the same frame."""
    clip = scenes.make_clip(7, 1)
    first, faces = scenes.draw_frame(clip, 2.0)
    scenes.draw_frame(clip, 5.5)
    again, faces_again = scenes.draw_frame(scenes.make_clip(7, 1), 2.0)
    assert np.array_equal(first, again)
    assert faces == faces_again
    assert first.shape == (240, 320, 3)


def test_heads_move_smoothly(scenes):
    """From one frame of a 25 fps video to the next no face moves by more than a few pixels."""
    clip = scenes.make_clip(7, 0)
    boxes = [np.array([face.box_xyxy for face in scenes.list_faces(clip, time_s)]) for time_s in (3.0, 3.04)]
    assert np.abs(boxes[0] - boxes[1]).max() < 4


def test_second_run_rewrites_nothing(scenes, drawn):
    """Nothing is written when all is there: times of change stay."""
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    scenes.write_scenes(drawn, clips=4, frames=2, seed=7)
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == before


def test_half_finished_output_is_completed(scenes, drawn, tmp_path):
    """What a killed run left is completed, and whole files are left alone."""
    scenes.write_scenes(tmp_path, clips=1, frames=2, seed=7)
    whole = contents(tmp_path)
    (tmp_path / "scenes.json").unlink()
    (tmp_path / "clips/clip00.mp4").unlink()
    (tmp_path / "clips/clip00.mp4.part").write_bytes(b"half")
    kept = (tmp_path / "annotations/clip00_00000000ms.xml").stat().st_mtime_ns
    scenes.write_scenes(tmp_path, clips=1, frames=2, seed=7)
    assert contents(tmp_path) == whole
    assert (tmp_path / "annotations/clip00_00000000ms.xml").stat().st_mtime_ns == kept


def test_other_arguments_do_not_mix_into_a_folder(scenes, drawn):
    """A folder of other scenes is refused, with both sets of arguments."""
    with pytest.raises(SystemExit, match=r"holds other scenes .*'seed': 7.*'seed': 8"):
        scenes.write_scenes(drawn, clips=4, frames=2, seed=8)


def test_xml_reads_as_labelimg_writes_it(drawn):
    """Tags, their order and their texts are LabelImg's."""
    path = drawn / "annotations/clip03_00004000ms.xml"
    text = path.read_text()
    root = etree.fromstring(text)
    start = "<annotation>\n\t<folder>label</folder>\n\t<filename>clip03_00004000ms.jpg</filename>\n\t<path>/"
    assert text.startswith(start)
    assert [item.tag for item in root][:6] == ["folder", "filename", "path", "source", "size", "segmented"]
    assert [(item.tag, item.text) for item in root.find("size")] == [
        ("width", "320"),
        ("height", "240"),
        ("depth", "3"),
    ]
    for item in root.findall("object"):
        assert [child.tag for child in item] == ["name", "pose", "truncated", "difficult", "bndbox"]
        assert [side.tag for side in item.find("bndbox")] == ["xmin", "ymin", "xmax", "ymax"]
        assert item.findtext("name") in CLASSES
    pretty = etree.tostring(etree.fromstring(text, etree.XMLParser(remove_blank_text=True)), pretty_print=True)
    assert pretty.decode().replace("  ", "\t") == text  # what LabelImg's own writer does


def test_xml_belongs_to_sampled_frames(scenes, drawn, tmp_path):
    """Sampled every four seconds, the clips give the frames that the XML describes, drawn at just these times."""
    curate.sample_frames(tmp_path / "demo", [str(drawn / "clips")], every="4s")
    frames = sorted((tmp_path / "demo/media/images").rglob("*.jpg"))
    assert [path.stem for path in frames] == sorted(path.stem for path in (drawn / "annotations").iterdir())
    assert {cv2.imread(str(path)).shape for path in frames} == {(240, 320, 3)}
    for path, time_s in zip(frames, [0.0, 4.0] * 4, strict=True):
        expected, _ = scenes.draw_frame(scenes.make_clip(7, int(path.stem[4:6])), time_s)
        assert np.abs(decode_rgb(path).astype(int) - expected).mean() < 4
    write_text(tmp_path / "card.yaml", "name: demo\nexpected: {images: 8, boxes: 1}\n")
    result = curate.import_voc(
        tmp_path / "demo", drawn / "annotations", images=tmp_path / "demo/media/images", card=tmp_path / "card.yaml"
    )
    assert (result.added, result.updated) == (0, 8)
    assert [problem["kind"] for problem in result.problems] == ["card_count"]  # of the boxes


def test_boxes_are_inside_the_image(drawn):
    """LabelImg's minima start at 1; no box leaves the image or is empty."""
    boxes = np.array([box for path in (drawn / "annotations").iterdir() for box in objects_of(path)])
    assert boxes[:, :2].min() >= 1
    assert boxes[:, 2].max() <= 320
    assert boxes[:, 3].max() <= 240
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 2


def test_classes_are_badly_balanced_on_purpose(faces_of_clips):
    """About 79 %, 18 % and 3 %, as in the story."""
    counts = Counter(face.name for faces in faces_of_clips for face in faces)
    shares = {name: count / counts.total() for name, count in counts.items()}
    assert 0.75 < shares["with_mask"] < 0.82
    assert 0.15 < shares["without_mask"] < 0.21
    assert 0.02 < shares["mask_weared_incorrect"] < 0.045


def test_every_class_is_in_enough_clips_to_split(faces_of_clips):
    """A split by clip finds each class on both sides."""
    clips = Counter(name for faces in faces_of_clips for name in {face.name for face in faces})
    assert set(clips) == CLASSES
    assert min(clips.values()) >= 4


def test_all_sizes_are_there(faces_of_clips):
    """Small, medium and large faces, from a few pixels to a third of the image."""
    boxes = np.array([face.box_xyxy for faces in faces_of_clips for face in faces])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    shares = np.histogram(areas, [0, 32**2, 96**2, 320 * 240 / 3])[0] / len(areas)
    assert 0.35 < shares[0] < 0.6
    assert 0.3 < shares[1] < 0.5
    assert 0.08 < shares[2] < 0.2
    assert np.sqrt(areas.min()) < 9
