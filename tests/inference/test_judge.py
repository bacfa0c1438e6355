"""Notes that are due before a training."""

import pandas as pd
from sample_datasets import face_dataset

from curate.inference.judge import training_notes


def split_dataset(*splits, **columns):
    """The eight images in these splits."""
    return face_dataset("faces", split=pd.array(splits, dtype="str"), **columns)


WHOLE = ("train", "train", "train", "val", "val", "val", "test", "val")
EQUAL = ["a", "b", "c", "a", "d", "e", "b", "f"]  # pictures 1 = 4 in train and val, 2 = 7 in train and test


def test_nothing_to_say():
    """A dataset whose images are all in splits needs no note."""
    assert training_notes(split_dataset(*WHOLE)) == []


def test_no_splits():
    """Without splits, nothing is held out; the command is named."""
    (note,) = training_notes(face_dataset("faces"))
    assert note == (
        "There are no splits: all labelled images are trained on, none are held out. `curate split faces` assigns them."
    )


def test_images_in_no_split():
    """Labelled images in no split are counted, unlabelled ones are not."""
    states = pd.array(["labelled"] * 7 + ["unlabelled"], dtype="str")
    (note,) = training_notes(split_dataset(*WHOLE[:5], None, None, None, label_state=states))
    assert note.startswith("2 labelled images in no split: not trained on, and not evaluated. `curate split faces` ")


def test_no_val():
    """Without images in val there is no evaluation."""
    (note,) = training_notes(split_dataset(*["train"] * 7, "test"))
    assert note == "There are no images in val: the training is not evaluated."


def test_equal_pictures_on_both_sides():
    """Pictures with equal content in more than one split are told, with the command that separates them."""
    (note,) = training_notes(split_dataset(*WHOLE, sha256=EQUAL))
    assert note.startswith("2 pictures occur in more than one split")
    assert note.endswith("`curate split faces --overwrite` splits again.")
