"""The model of `train`: the default, and on resume that of the run."""

import corner_engine
import pandas as pd
import pytest
from corner_engine import CornerEngine
from extras import needs_torch
from sample_datasets import face_dataset, save

import curate
from curate.errors import UsageError
from curate.run_folder.folder import RunFolder

DEFAULT = "torchvision:fasterrcnn_resnet50_fpn_v2"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A dataset with splits; every engine's name leads to the engine of a test."""
    corner_engine.register(monkeypatch)
    (entry,) = corner_engine.base.ENGINES.values()
    monkeypatch.setattr(corner_engine.base, "ENGINES", {"corner": entry, "torchvision": entry})
    splits = pd.array(["train", "val"] * 4, dtype="str")
    return save(face_dataset(tmp_path / "faces", split=splits), pictures=True)


def test_default_model(root):
    """Without `--model`, the default is trained, and the run records it."""
    assert curate.train(root, run="first").model == DEFAULT
    assert RunFolder.named(root, "first").read_config()["model"] == DEFAULT


def test_resume_takes_the_model_of_the_run(root, monkeypatch):
    """`--resume` needs no `--model`; another one is refused."""
    monkeypatch.setattr(CornerEngine, "fails", True)
    with pytest.raises(KeyboardInterrupt):
        curate.train(root, run="first", model="corner:only")
    monkeypatch.setattr(CornerEngine, "fails", False)
    with pytest.raises(UsageError, match="the run was started with other settings: model"):
        curate.train(root, run="first", model=DEFAULT, resume=True)
    assert curate.train(root, run="first", resume=True).model == "corner:only"
    assert curate.train(root, run="first", resume=True).model == "corner:only"  # finished: it stays as it is


@needs_torch
@pytest.mark.train
def test_a_checkpoint_says_its_model(root, tmp_path):
    """With the checkpoint of a run as initial weights, its model is trained, by `train` and by `loop`."""
    import torch

    from curate.engines.training.checkpoint import FORMAT

    checkpoint = tmp_path / "best.pt"
    torch.save({"format": FORMAT, "model": "corner:only"}, checkpoint)
    assert curate.train(root, run="second", weights=checkpoint).model == "corner:only"
    assert curate.loop(root, run="night", weights=checkpoint, steps=3, rounds=1).model == "corner:only"
    assert curate.train(root, run="third", weights=checkpoint, model=DEFAULT).model == DEFAULT


def test_other_weights_do_not_say_a_model(root, tmp_path):
    """A file that is no checkpoint of curate, `none` and a package leave the default."""
    (tmp_path / "published.pth").write_bytes(b"tensors")
    for number, weights in enumerate((tmp_path / "published.pth", "none", "package:x")):
        assert curate.train(root, run=f"run{number}", weights=weights).model == DEFAULT


def test_resume_of_a_loop_takes_its_model(root, monkeypatch):
    """`loop --resume` continues with the loop's model; a new loop has the default."""
    curate.loop(root, run="night", model="corner:only", steps=3, rounds=1)
    assert curate.loop(root, run="night", rounds=2, resume=True).model == "corner:only"
    assert curate.loop(root, run="day", steps=3, rounds=1).model == DEFAULT


@needs_torch
@pytest.mark.train
def test_weights_that_are_nearly_there(tmp_path):
    """A file of weights that is not there brings the file beside it that is meant."""
    from curate.engines.training.weights import find_weights_file

    (tmp_path / "best.pt").touch()
    with pytest.raises(UsageError, match=r"there is no such weights file.* Did you mean '.*/best\.pt'\?"):
        find_weights_file(str(tmp_path / "bset.pt"))
