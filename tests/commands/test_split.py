"""`split`: videos stay together; shares, determinism, and images added later."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from builders import MASK, labelimg_folder, write_image
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from repository_paths import SUPPORT
from sample_datasets import LARGE, SMALL, build_dataset, face_dataset, many_images, save, video_rows

import curate
from curate.curation.splits import assign
from curate.errors import DataError, StoreError, UsageError
from curate.store import Store


def splits_of(dataset):
    """Image id → split."""
    return dict(zip(dataset.images["image_id"].tolist(), dataset.images["split"].tolist(), strict=True))


def sides_of_videos(dataset):
    """The splits that each video's images are in."""
    return dataset.images.dropna(subset="split").groupby("video_id")["split"].agg(set)


# ── shares ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("val", "test"), [(0.25, 0), (0.1, 0.1), (0.5, 0.25), (0, 0.2)])
def test_every_class_gets_its_share(val, test):
    """Each split has its share of every class within two percentage points, and nearly so of images."""
    dataset = many_images()
    outcome = assign(dataset, val, test)
    totals = dataset.class_counts()
    assert outcome.notes == ()
    for name, share in {"train": 1 - val - test, "val": val, "test": test}.items():
        assert (name in outcome.splits) == (share > 0)
        if share > 0:
            found = outcome.splits[name]
            assert all(abs(found.classes[one] / totals[one] - share) <= 0.02 for one in totals)
            assert abs(found.images / 400 - share) <= 0.05


def test_images_without_boxes_are_shared_out():
    """Labelled images without boxes are spread over the splits: they count for false positives."""
    outcome = assign(many_images(), 0.25)
    empty = ~outcome.dataset.images["image_id"].isin(outcome.dataset.boxes["image_id"])
    counts = outcome.dataset.images["split"][empty].value_counts()
    assert (counts["val"], counts["train"]) == (10, 30)


def test_only_labelled_images_are_split():
    """Images that are not labelled get no split."""
    states = pd.array(["labelled"] * 4 + ["unlabelled", "proposed", "incomplete", "labelled"], dtype="str")
    found = splits_of(assign(face_dataset(label_state=states), 0.4).dataset)
    assert [image_id for image_id, split in found.items() if pd.isna(split)] == [5, 6, 7]


def test_counts_are_of_what_is_split():
    """The returned counts are those of the dataset, including groups."""
    outcome = assign(many_images(60, videos=7), 0.3)
    for name, found in outcome.splits.items():
        chosen = outcome.dataset.select(name)
        assert (found.images, found.boxes, found.classes) == (
            len(chosen.images),
            len(chosen.boxes),
            chosen.class_counts(),
        )
        assert found.groups == chosen.images["video_id"].nunique()
    assert sum(found.groups for found in outcome.splits.values()) == 7


# ── groups ───────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=25, deadline=None)
@given(
    images=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "d", None]),
            st.lists(st.sampled_from(["with_mask", "without_mask", "badly_masked"]), max_size=3),
            st.sampled_from(["labelled", "labelled", "unlabelled"]),
        ),
        max_size=14,
    ),
    val=st.sampled_from([0.1, 0.25, 0.6]),
    test=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 5),
)
def test_video_is_never_on_both_sides(images, val, test, seed):
    """For any videos, each is in one split, every labelled image has one, and the argument does not change."""
    dataset = build_dataset(
        images=[[(name, SMALL) for name in names] for _, names, _ in images],
        video_id=pd.array([video for video, _, _ in images], dtype="str"),
        label_state=pd.array([state for _, _, state in images], dtype="str"),
    )
    assume((dataset.images["label_state"] == "labelled").any())
    before = dataset.images.copy(deep=True)
    after = assign(dataset, val, test, seed=seed).dataset
    assert (sides_of_videos(after).map(len) == 1).all()
    assert (after.images["split"].notna() == (after.images["label_state"] == "labelled")).all()
    pd.testing.assert_frame_equal(dataset.images, before)


@settings(max_examples=25, deadline=None)
@given(
    first=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8),
    later=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8),
    shares=st.sampled_from([(0.25, 0.25), (0.4, 0.0)]),
    later_shares=st.sampled_from([(0.25, 0.0), (0.0, 0.3), (0.2, 0.2)]),
)
def test_video_is_never_on_both_sides_later(first, later, shares, later_shares):
    """Frames added later get the split of their video, whatever the shares; no image changes its split."""
    videos = [*first, *later]
    states = ["labelled"] * len(first) + ["unlabelled"] * len(later)
    dataset = build_dataset(
        images=[[("with_mask", SMALL)]] * len(videos),
        video_id=pd.array(videos, dtype="str"),
        label_state=pd.array(states, dtype="str"),
    )
    early = assign(dataset, *shares).dataset
    late = assign(early.replace(images=early.images.assign(label_state="labelled")), *later_shares).dataset
    assert (sides_of_videos(late).map(len) == 1).all()
    before = {image_id: split for image_id, split in splits_of(early).items() if image_id <= len(first)}
    assert splits_of(late).items() >= before.items()


def test_clips_of_one_video_stay_together():
    """Two clips of one video are in the same split."""
    clips = [f"talk{video}_{start}-{start + 5}" for video in range(6) for start in (0, 60)]
    dataset = build_dataset(
        images=[[("with_mask", SMALL)]] * len(clips), classes=("with_mask",), video_id=pd.array(clips, dtype="str")
    )
    videos = video_rows(clips, origin=[f"youtube:{clip.split('_')[0]}" for clip in clips])
    outcome = assign(dataset.replace(videos=videos), 0.5)
    sides = outcome.dataset.images.groupby(dataset.images["video_id"].str.split("_").str[0])["split"].agg(set)
    assert (sides.map(len) == 1).all()
    assert sum(split.groups for split in outcome.splits.values()) == 6


def test_video_in_a_split_that_is_not_asked_for():
    """A new frame of a test video goes to test, also if only train and val are requested."""
    dataset = build_dataset(
        images=[[("with_mask", SMALL)]] * 6,
        video_id=pd.array(["a", "a", "b", "c", "d", "e"], dtype="str"),
        split=pd.array(["test", None, None, None, None, None], dtype="str"),
    )
    found = splits_of(assign(dataset, 0.25).dataset)
    assert (found[1], found[2]) == ("test", "test")
    assert sorted(found[image_id] for image_id in (3, 4, 5, 6)) == ["train", "train", "train", "val"]


def test_images_of_no_video_are_their_own_groups():
    """Images without video are groups of their own."""
    assert sum(found.groups for found in assign(face_dataset(), 0.25).splits.values()) == 8


def test_grouping_by_source():
    """All images of a source stay together."""
    dataset = face_dataset(source=["a"] * 4 + ["b"] * 2 + ["c"] * 2)
    after = assign(dataset, 0.3, group_by="source").dataset
    assert (after.images.groupby("source")["split"].nunique() == 1).all()


def test_grouping_by_nothing():
    """With `none`, frames of a video may be in different splits."""
    dataset = many_images(100, videos=2)
    assert (sides_of_videos(assign(dataset, 0.5, group_by="none").dataset).map(len) == 2).all()


def test_impossible_shares_are_told():
    """If whole videos make a share impossible, a note says so."""
    outcome = assign(many_images(50, videos=2), 0.1)
    assert {found.groups for found in outcome.splits.values()} == {1}
    assert any(note.startswith("val could not get 10.0 % of every class: with_mask ") for note in outcome.notes)
    assert all("images of one video must stay together (2 groups)" in note for note in outcome.notes)


def test_one_video_goes_to_train():
    """A single group goes to train, and a note says that val is empty."""
    outcome = assign(many_images(10, videos=1), 0.5)
    assert list(outcome.splits) == ["train"]
    assert "val is empty" in outcome.notes[-1]


def test_every_split_gets_a_group():
    """With as many groups as splits, each gets one, however small its share."""
    assert set(assign(many_images(3), 0.01, 0.01).splits) == {"train", "val", "test"}


# ── again and later ──────────────────────────────────────────────────────────────────────────────────────────────


def test_split_again_moves_nothing():
    """Images keep their split, whatever the shares and the seed."""
    once = assign(many_images(), 0.25).dataset
    assert splits_of(assign(once, 0.5, 0.2, seed=3).dataset) == splits_of(once)


def test_later_images_are_split_to_the_wished_share():
    """New images are assigned so that the whole dataset reaches the shares."""
    dataset = many_images()
    half = pd.array(["labelled"] * 200 + ["unlabelled"] * 200, dtype="str")
    early = assign(dataset.replace(images=dataset.images.assign(label_state=half)), 0.1).dataset
    outcome = assign(early.replace(images=early.images.assign(label_state="labelled")), 0.25)
    counts = dataset.class_counts()
    assert all(abs(outcome.splits["val"].classes[name] / counts[name] - 0.25) <= 0.02 for name in counts)


def test_anew_forgets_the_splits():
    """With `overwrite` all images are split again, and splits that are not requested disappear."""
    dataset = many_images(split=pd.array(["test"] * 400, dtype="str"))
    assert list(assign(dataset, 0.25, overwrite=True).splits) == ["train", "val"]


def test_seed_decides():
    """The same seed gives the same split, another seed another split."""
    dataset = many_images()
    assert splits_of(assign(dataset, 0.25, seed=1).dataset) == splits_of(assign(dataset, 0.25, seed=1).dataset)
    assert splits_of(assign(dataset, 0.25, seed=1).dataset) != splits_of(assign(dataset, 0.25, seed=2).dataset)


def test_split_does_not_depend_on_row_order_or_folder():
    """The same images give the same split in any order of rows and in any folder."""
    dataset = many_images(80)
    turned = dataset.replace(images=dataset.images[::-1], boxes=dataset.boxes[::-1], root=Path("elsewhere"))
    assert splits_of(assign(dataset, 0.25).dataset) == splits_of(assign(turned, 0.25).dataset)


def test_split_does_not_depend_on_hash_seeds():
    """Every process gives the same split, whatever its hash seed."""
    script = f"""
import sys; sys.path.insert(0, {str(SUPPORT)!r})
from curate.curation.splits import assign
from sample_datasets import many_images
print(assign(many_images(60, videos=20), 0.25, 0.1, seed=7).dataset.images["split"].tolist())
"""
    answers = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, timeout=60
        ).stdout
        for seed in ("0", "1")
    }
    here = assign(many_images(60, videos=20), 0.25, 0.1, seed=7).dataset.images["split"].tolist()
    assert answers == {f"{here}\n".encode()}


def test_split_is_this_one():
    """The split of given images is fixed, on every machine and in every version."""
    found = splits_of(assign(face_dataset(), 0.25, seed=0).dataset)
    assert [image_id for image_id, split in found.items() if split == "val"] == [1, 4]


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_json_contract(tmp_path):
    """The document has the version, and images, boxes, groups and classes per split."""
    root = save(
        build_dataset(
            tmp_path / "d",
            [[("face", LARGE)], [("face", SMALL)] * 2, [("face", SMALL)], [("face", SMALL)]],
            classes=("face", "mask"),
            video_id=pd.array(["a", "a", "b", "b"], dtype="str"),
        )
    )
    assert curate.split(root, val=0.3).to_json() == {
        "version": 2,
        "splits": {
            "train": {"images": 2, "boxes": 3, "groups": 1, "classes": {"face": 3, "mask": 0}},
            "val": {"images": 2, "boxes": 2, "groups": 1, "classes": {"face": 2, "mask": 0}},
        },
    }


def test_split_again_makes_no_version(tmp_path):
    """If every image has a split, no version is made."""
    root = save(face_dataset(tmp_path / "d"))
    assert [curate.split(root).version for _ in range(2)] == [2, 2]


def test_overwrite_is_a_version_that_can_be_undone(tmp_path):
    """Splitting with `overwrite` makes a version that can be undone."""
    root = save(face_dataset(tmp_path / "d"))
    curate.split(root)
    before = splits_of(Store(root).load())
    assert curate.split(root, val=0.5, overwrite=True).version == 3
    assert splits_of(Store(root).load()) != before
    curate.undo(root)
    assert splits_of(Store(root).load()) == before


@pytest.mark.parametrize(
    ("shares", "place"),
    [
        ({"val": 1}, "--val"),
        ({"val": -0.1}, "--val"),
        ({"val": float("nan")}, "--val"),
        ({"val": 0.5, "test": 0.5}, "--val, --test"),
        ({"val": 0}, "--val, --test"),
        ({"test": 2}, "--test"),
        ({"group_by": "moon"}, "--group-by"),
    ],
)
def test_refused_shares(tmp_path, shares, place):
    """Shares out of range are usage errors that name the option."""
    root = save(face_dataset(tmp_path / "d"))
    with pytest.raises(UsageError, match=f"^{place}: "):
        curate.split(root, **shares)


def test_empty_dataset(tmp_path):
    """A dataset without labelled images is an error, and so is a missing dataset."""
    root = save(face_dataset(tmp_path / "d"))
    curate.undo(root)
    with pytest.raises(DataError, match="no image is labelled"):
        curate.split(root)
    with pytest.raises(StoreError, match="there is no dataset here"):
        curate.split(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


# ── images that are labelled later ───────────────────────────────────────────────────────────────────────────────────


def import_named(folder, names):
    """Import a folder with a labelled image per name."""
    return curate.import_voc(folder.parent / "d", labelimg_folder(folder, {name: [MASK] for name in names}))


def test_newly_labelled_images_join_the_splits(tmp_path):
    """Images imported after `split` get one by its rule, in the version of the import; the others keep theirs."""
    import_named(tmp_path / "first", "abcdefgh")
    curate.split(tmp_path / "d", val=0.5)
    before = splits_of(Store(tmp_path / "d").load())
    result = import_named(tmp_path / "second", "ijkl")
    after = splits_of(Store(tmp_path / "d").load())
    assert result.version == 3
    assert {one: after[one] for one in before} == before
    assert sorted(after[one] for one in set(after) - set(before)) == ["train", "train", "val", "val"]
    assert result.notes == (
        "4 labelled images joined the splits by the rule of the last `split` (val 0.5): train 2, val 2.",
    )


def test_undone_split_is_no_rule(tmp_path):
    """After `undo` of the split, imported images get none, and there is no note about it."""
    import_named(tmp_path / "first", "abcd")
    curate.split(tmp_path / "d")
    curate.undo(tmp_path / "d")
    assert import_named(tmp_path / "second", "ef").notes == ()
    assert Store(tmp_path / "d").load().images["split"].isna().all()


def test_splits_without_a_rule(tmp_path):
    """If splits come from lists of a source, images outside them stay without one, and the note names the command."""
    folder = labelimg_folder(tmp_path / "kit", {"a": [MASK], "b": [MASK]}, xml_in="Annotations", images_in="JPEGImages")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    assert curate.import_voc(tmp_path / "d", folder).notes == (
        f"1 labelled image in no split. `curate split {tmp_path / 'd'}` assigns them; the others keep theirs.",
    )


def test_unlabelled_images_do_not_join(tmp_path):
    """Images without labels get no split when they are imported, and there is no note about it."""
    import_named(tmp_path / "first", "abcd")
    curate.split(tmp_path / "d")
    write_image(tmp_path / "bare" / "e.jpg")
    labelimg_folder(tmp_path / "bare", {"f": [MASK]})
    result = curate.import_voc(tmp_path / "d", tmp_path / "bare", with_unlabelled=True)
    images = Store(tmp_path / "d").load().images.set_index("path")
    assert images.loc[images["label_state"] == "unlabelled", "split"].isna().all()
    assert result.notes[0].startswith("1 labelled image joined the splits")
