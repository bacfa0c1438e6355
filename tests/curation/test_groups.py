"""Groups of `split`: pictures with equal content stay together, whatever else they belong to."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_datasets import SMALL, build_dataset, many_images, video_rows

from curate.curation.groups import find_leak, group_keys
from curate.curation.splits import assign


def pictures(*contents, **columns):
    """A dataset with an image, with a box, for each content; "" is unknown content."""
    images = [[("with_mask", SMALL)]] * len(contents)
    return build_dataset(images=images, sha256=pd.array(list(contents), dtype="str"), **columns)


def text(*values):
    return pd.array([pd.NA if value is None else value for value in values], dtype="str")


def partition(keys):
    """Row numbers of each group, as a set of sets."""
    return {frozenset(row for row, other in enumerate(keys) if other == key) for key in keys}


@pytest.mark.parametrize("group_by", ["video", "source", "none"])
def test_equal_pictures_are_one_group(group_by):
    """Pictures with equal content are one group under every grouping, also from two sources."""
    dataset = pictures("a", "b", "a", "c", source=text("one", "two", "three", "four"))
    assert partition(group_keys(dataset, group_by)) == {frozenset({0, 2}), frozenset({1}), frozenset({3})}


def test_videos_that_share_a_picture_are_one_group():
    """A picture that two videos share joins them, and a third one with a picture of the second."""
    dataset = pictures("x", "a", "a", "b", "b", "y", video_id=text("1", "1", "2", "2", "3", "4"))
    assert partition(group_keys(dataset, "video")) == {frozenset(range(5)), frozenset({5})}


def test_picture_outside_videos_joins_the_video_of_its_copy():
    """A copy of a frame, imported by itself, is in the group of the video."""
    dataset = pictures("a", "b", "a", video_id=text("1", "1", None))
    assert len(set(group_keys(dataset, "video"))) == 1


@pytest.mark.parametrize("group_by", ["video", "none"])
def test_augmented_copies_are_one_group(group_by):
    """Roboflow's copies of one picture are one group; others with a like name, or in another folder, are not."""
    names = ["s/a_jpg.rf.0a.jpg", "s/a_jpg.rf.0b.jpg", "s/b_jpg.rf.0a.jpg", "s/a_jpg.jpg.png", "t/a_jpg.rf.0a.jpg"]
    dataset = pictures(*"abcde", path=text(*(f"media/images/{name}" for name in names)))
    assert partition(group_keys(dataset, group_by)) == {frozenset({0, 1}), *(frozenset({row}) for row in (2, 3, 4))}


def test_unknown_content_equals_nothing():
    """Images whose content is unknown are groups of their own."""
    assert len(set(group_keys(pictures("", "", ""), "video"))) == 3


def test_images_of_other_states_join_too():
    """An unlabelled copy connects: it may be labelled later."""
    states = text("labelled", "unlabelled", "labelled")
    dataset = pictures("a", "a", "b", video_id=text("1", "2", "2"), label_state=states)
    assert len(set(group_keys(dataset, "video"))) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["1", "2", "3", "4", None])), min_size=2),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_no_content_is_on_two_sides(rows, seed, random):
    """For any pictures and videos, no content and no video is in two splits, and the order of rows does not matter."""
    dataset = pictures(*(row[0] for row in rows), video_id=text(*(row[1] for row in rows)))
    found = assign(dataset, 0.3, 0.2, seed=seed).dataset
    assert (found.images.groupby("sha256")["split"].nunique() == 1).all()
    assert (found.images.groupby("video_id")["split"].nunique() <= 1).all()
    assert find_leak(found) is None
    order = random.sample(range(len(rows)), len(rows))
    shuffled = dataset.replace(images=dataset.images.iloc[order].reset_index(drop=True))
    again = assign(shuffled, 0.3, 0.2, seed=seed).dataset.images.sort_values("image_id")
    assert again["split"].tolist() == found.images["split"].tolist()


def test_later_copy_gets_the_split_of_its_picture():
    """A copy that is imported later gets the split of the picture that is there already."""
    dataset = pictures("a", "b", "c", "a", split=text("train", "test", "train", None))
    assert assign(dataset, 0.5).dataset.images["split"].tolist() == ["train", "test", "train", "train"]


def test_groups_keep_their_keys_without_copies():
    """Without equal pictures the groups, and so the splits, are those of the videos alone."""
    dataset = many_images(60, videos=7)
    assert set(group_keys(dataset, "video")) == {f"video:video {number}" for number in range(7)}


# ── leaks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_leak_names_pictures_and_counts_boxes():
    """A leak counts pictures, and boxes outside train, and names the copies side by side."""
    dataset = pictures("a", "b", "a", "b", "c", split=text("train", "train", "val", "test", "val"))
    leak = find_leak(dataset)
    assert leak is not None
    assert leak.images == tuple(f"media/images/faces/{name}.png" for name in ("001", "003", "002", "004"))
    assert (leak.pictures, leak.boxes) == (2, 2)
    assert leak.describe() == (
        "2 pictures occur in more than one split, with 2 boxes outside train "
        "(media/images/faces/001.png = media/images/faces/003.png, …): scores there are too high."
    )


@pytest.mark.parametrize(
    "columns",
    [
        {"split": text("train", "train", "val")},
        {"split": text("train", None, "val")},
        {"split": text("train", "val", "val"), "label_state": text("labelled", "unlabelled", "labelled")},
    ],
    ids=["same split", "no split", "unlabelled"],
)
def test_no_leak(columns):
    """Copies in one split, without a split, or that are not labelled are no leak."""
    assert find_leak(pictures("a", "a", "b", **columns)) is None


def test_split_tells_a_leak_that_exists():
    """Existing splits are kept; `split` reports the copies on both sides, and `overwrite` separates them."""
    dataset = pictures("a", "a", "b", "c", split=text("train", "val", "train", None))
    outcome = assign(dataset, 0.25)
    assert outcome.dataset.images["split"].tolist()[:2] == ["train", "val"]
    assert any(note.startswith("1 picture occurs in more than one split") for note in outcome.notes)
    again = assign(dataset, 0.25, overwrite=True)
    assert again.dataset.images["split"].nunique() == 2
    assert find_leak(again.dataset) is None
    assert not any("occur" in note for note in again.notes)


def test_videos_joined_by_a_leak_are_not_a_video_on_both_sides():
    """Two videos with a common picture go to one split as a whole."""
    dataset = pictures("x", "a", "a", "y", "z", video_id=text("1", "1", "2", "2", "3"))
    dataset = dataset.replace(videos=video_rows(["1", "2", "3"]))
    found = assign(dataset, 0.4).dataset.images["split"].tolist()
    assert len(set(found[:4])) == 1
    assert found[4] != found[0]
