"""The table of models: complete, equal to what the libraries say, and where weights are found."""

import pytest
from extras import needs_torch

from curate.engines.base import ENGINES, engine_for
from curate.engines.models import known_models, torch_cache
from curate.errors import UsageError
from curate.run_folder.config import options

NAMES = [model.full_name for model in known_models()]


def models_of(engine):
    return {model.name: model for model in known_models() if model.engine == engine}


def test_every_engine_has_models():
    """Each engine has a model in the table, each model an engine; no name occurs twice."""
    assert {name.partition(":")[0] for name in NAMES} == set(ENGINES)
    assert len(set(NAMES)) == len(NAMES)


def test_the_default_is_in_the_table():
    """The model that `train` takes by default is one of those that are listed."""
    assert options()["model"].default in NAMES


@needs_torch
@pytest.mark.train
def test_torchvision_models_are_those_of_the_library():
    """Names, numbers of parameters, AP, and files of weights are those in torchvision."""
    from torchvision.models import get_model_weights

    from curate.engines.torchvision import engine

    table = {name: model for name, model in models_of("torchvision").items() if engine.TIMM_PREFIX not in name}
    assert sorted(table) == sorted(engine.known_models())
    for name, model in table.items():
        weights = get_model_weights(name).DEFAULT
        (metrics,) = weights.meta["_metrics"].values()
        assert (model.parameters, model.download_mb) == (weights.meta["num_params"], weights.meta["_file_size"])
        assert model.ap == pytest.approx(metrics["box_map"] / 100)
        assert model.file == str(torch_cache() / weights.url.rpartition("/")[2])


@needs_torch
@pytest.mark.train
def test_resnets_are_those_of_the_library():
    """Names, sizes and files of the networks that start from ImageNet weights are those in torchvision."""
    from torchvision.models import get_model_weights

    from curate.engines.retinaface.backbones import RESNETS
    from curate.engines.two_stage.classifier import known_networks

    assert sorted(models_of("two-stage")) == sorted(known_networks())
    assert set(models_of("retinaface")) == {"mobilenet0.25", *RESNETS}
    on_resnets = [*models_of("two-stage").values(), *(models_of("retinaface")[name] for name in RESNETS)]
    for model in on_resnets:
        weights = get_model_weights(model.name).DEFAULT
        assert model.download_mb == weights.meta["_file_size"]
        assert model.file == str(torch_cache() / weights.url.rpartition("/")[2])
    assert [model.parameters for model in on_resnets[: -len(RESNETS)]] == [
        get_model_weights(model.name).DEFAULT.meta["num_params"] for model in models_of("two-stage").values()
    ]


@needs_torch
@pytest.mark.train
@pytest.mark.parametrize("name", ["retinaface:mobilenet0.25", "torchvision:fasterrcnn+timm/tf_efficientnet_lite0"])
def test_sizes_of_other_networks(name):
    """The number of parameters is that of the built network; RetinaFace finds one class, faces."""
    model = next(model for model in known_models() if model.full_name == name)
    network = engine_for(name).build(model.name, 1 if model.engine == "retinaface" else 90, None, {}).network
    assert model.parameters == sum(parameter.numel() for parameter in network.parameters())


@needs_torch
@pytest.mark.train
def test_the_light_detector_is_looked_for_where_it_is_downloaded_to():
    """The pattern of its file matches the place of the download."""
    from curate.engines.retinaface.download import light_file

    file = light_file()
    model = models_of("retinaface")["mobilenet0.25"]
    assert file.match(model.file)


@pytest.mark.parametrize(
    ("name", "variable", "file"),
    [
        ("torchvision:ssd300_vgg16", "TORCH_HOME", "hub/checkpoints/ssd300_vgg16_coco-b556d3b4.pth"),
        ("two-stage:resnet18", "TORCH_HOME", "hub/checkpoints/resnet18-f37072fd.pth"),
        ("retinaface:mobilenet0.25", "TORCH_HOME", "hub/checkpoints/retinaface_mobilenet0.25-ed6fa7d4.pth"),
        (
            "torchvision:fasterrcnn+timm/tf_efficientnet_lite0",
            "HF_HUB_CACHE",
            "models--timm--tf_efficientnet_lite0.in1k/snapshots/1a2b/model.safetensors",
        ),
        (
            "detectron2:COCO-Detection/retinanet_R_50_FPN_1x",
            "FVCORE_CACHE",
            "detectron2/COCO-Detection/retinanet_R_50_FPN_1x/190397773/model_final_bfca0b.pkl",
        ),
    ],
)
def test_weights_in_the_cache_of_a_library(monkeypatch, tmp_path, name, variable, file):
    """Weights are at hand once their file is in the cache of their library, wherever that is."""
    monkeypatch.setenv(variable, str(tmp_path))
    found = lambda: next(model for model in known_models() if model.full_name == name).cached_file()  # noqa: E731
    assert found() is None
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    assert found() == tmp_path / file


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("fasterrcnn_resnet50_fpn_v2", "torchvision:fasterrcnn_resnet50_fpn_v2"),
        ("Faster_RCNN_resnet50", "torchvision:fasterrcnn_resnet50_fpn"),
        ("torchvision", None),
        ("resnet34", "two-stage:resnet34"),
        ("torchvison:ssd300_vgg16", "torchvision"),
        ("yolo", None),
    ],
)
def test_a_model_that_is_nearly_right(given, meant):
    """A name without its engine, or with a wrong one, brings the one that is meant, and the command that lists all."""
    with pytest.raises(UsageError, match="`curate models` lists the models") as caught:
        engine_for(given)
    assert meant is None or f"Did you mean {meant!r}?" in str(caught.value)


@needs_torch
@pytest.mark.train
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("torchvision:fasterrcnn_resnet50_fpn_v3", "fasterrcnn_resnet50_fpn_v2"),
        ("retinaface:mobilenet0.5", "mobilenet0.25"),
        ("two-stage:resnet19", "resnet18"),
    ],
)
def test_a_name_that_the_engine_does_not_know(name, meant):
    """It brings the closest of the engine's names, and the command that lists all."""
    from curate.engines.two_stage.classifier import check_network

    engine, _, own = name.partition(":")
    with pytest.raises(UsageError, match=rf"Did you mean '{meant}'\? `curate models` lists the models"):
        check_network(own) if engine == "two-stage" else engine_for(name).build(own, 1, None, {})
