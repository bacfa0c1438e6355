"""The engine protocol, the registry of engines, and prediction on a dataset with any detector.

    engine = engine_for("torchvision:fasterrcnn_resnet50_fpn_v2")
    checkpoint = engine.train(dataset, run, config)
    predictions = predict_dataset(engine.load(checkpoint), dataset)

An engine knows nothing of splits, evaluation and video. Importing this module imports no detector library.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.boxes import Boxes
from curate.columns import CORNERS
from curate.dataset import ClassEntry, Dataset, Predictions
from curate.engines.models import LIST_MODELS, known_models
from curate.errors import DataError, MissingError, UsageError, closest, unknown_name
from curate.images import Unreadable, decode_rgb
from curate.progress import Progress, silent
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.run_folder.record import installed_versions


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects detected in one image, in descending order of score.

    Attributes:
        boxes_xyxy: (n, 4) float64, pixel edges of the image as it was given.
        scores: (n,) float64 in 0..1.
        class_indices: (n,) int64, positions in the detector's `classes`, from 0.
    """

    boxes_xyxy: Boxes
    scores: NDArray[np.float64]
    class_indices: NDArray[np.int64]


class Detector(Protocol):
    """A trained model, loaded for inference."""

    @property
    def classes(self) -> tuple[ClassEntry, ...]:
        """The classes it was trained on; `Detections.class_indices` are positions in this tuple."""
        ...

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Detect objects in H×W×3 uint8 RGB images of any sizes; returns one result per image, in order.

        Raises:
            DataError: An element is not such an array; the message names its index.
        """
        ...


class Validate(Protocol):
    """Evaluates a detector during training; picklable, because it is sent to other processes."""

    def __call__(self, detector: Detector) -> Mapping[str, float | None]:
        """AP, and AP by size: "ap", "ap_small", "ap_medium", "ap_large"; None where there is no such object."""
        ...


class Engine(Protocol):
    """A library that trains and runs detectors."""

    def check(self, dataset: Dataset, config: TrainingConfig) -> None:
        """Raise whatever `train` would raise before its first step: builds the model and reads its initial weights.

        It is called before an earlier run is removed, and writes nothing.

        Raises:
            TrainingError, MissingError, UsageError, DataError: See `train`.
        """
        ...

    def train(
        self,
        dataset: Dataset,
        run: RunFolder,
        config: TrainingConfig,
        progress: Progress = silent,
        validate: Validate | None = None,
    ) -> Path:
        """Train on every image of `dataset`, including those without boxes, and return the best checkpoint.

        The caller has started `run` and selected the images. If the run has a checkpoint, training resumes from it. The
        best checkpoint has the highest AP of `validate`; without `validate` it is the last one.

        Raises:
            TrainingError: There is nothing to train on, the run was started with other images, the loss is NaN or
                infinite, or a batch does not fit in memory.
            MissingError: Weights or device are missing.
            UsageError: A setting does not fit the model.
            KeyboardInterrupt: After Ctrl-C, once a checkpoint is written.
        """
        ...

    def load(self, checkpoint: Path, device: str = "auto") -> Detector:
        """Load a checkpoint that `train` wrote. Downloads nothing and needs no other file.

        Raises:
            UsageError: There is no such file.
            DataError: Not a checkpoint of this engine.
        """
        ...

    def model_in(self, checkpoint: Path) -> str | None:
        """ENGINE:NAME of the model in a file; None if the file does not say."""
        ...


@dataclass(frozen=True)
class Package:
    """A package that an engine imports.

    Attributes:
        name: Of the distribution, as `pip` knows it.
        module: Its top-level module.
        needed_for: What works only with it, for `doctor`.
        remedy: How to install it.
    """

    name: str
    module: str
    needed_for: str
    remedy: str


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights that an engine downloads by itself, for `doctor`.

    Attributes:
        name: Of the weights.
        needed_for: What works only with them.
        file: Where the download is cached.
        is_complete: Whether that file exists and is not damaged.
        remedy: How to get it.
    """

    name: str
    needed_for: str
    file: Path
    is_complete: bool
    remedy: str


@dataclass(frozen=True)
class EngineEntry:
    """A row of `ENGINES`; all that curate knows of an engine before it is imported.

    Attributes:
        module, class_name: Of the engine; imported when the engine is first used.
        packages: What it imports: `doctor` lists them, and run.json has their versions.
        indirect: What its packages import without depending on it.
        weights: A module without heavy imports, whose `published_weights()` returns a `PublishedWeights`; empty if the
            engine has none.
    """

    module: str
    class_name: str
    packages: tuple[Package, ...]
    indirect: tuple[Package, ...] = ()
    weights: str = ""


GET_TRAIN = "pip install 'curate-vision[train]'"
_TORCH = Package("torch", "torch", "training and prediction", GET_TRAIN)
_TORCHVISION = Package("torchvision", "torchvision", "`torchvision:` models", GET_TRAIN)
_TIMM = Package("timm", "timm", "timm backbones of `torchvision:` models", GET_TRAIN)
_DETECTRON2 = Package(
    "detectron2",
    "detectron2",
    "`detectron2:` models",
    "It is on no package registry: install torch first, then follow"
    " https://detectron2.readthedocs.io/en/latest/tutorials/install.html.",
)
_PKG_RESOURCES = Package(
    "setuptools", "pkg_resources", "Detectron2", "pip install 'setuptools<81', which Detectron2 imports."
)

ENGINES: Mapping[str, EngineEntry] = MappingProxyType(
    {
        "torchvision": EngineEntry(
            "curate.engines.torchvision.engine", "TorchvisionEngine", (_TORCH, _TORCHVISION, _TIMM)
        ),
        "retinaface": EngineEntry(
            "curate.engines.retinaface.engine",
            "RetinaFaceEngine",
            (_TORCH, _TORCHVISION),
            weights="curate.engines.retinaface.download",
        ),
        "detectron2": EngineEntry(
            "curate.engines.detectron2_engine.engine",
            "Detectron2Engine",
            (_TORCH, _DETECTRON2),
            indirect=(_PKG_RESOURCES,),
        ),
        "two-stage": EngineEntry("curate.engines.two_stage.engine", "TwoStageEngine", (_TORCH, _TORCHVISION)),
    }
)


def engine_packages() -> list[Package]:
    """The packages of all engines, each once."""
    return list(dict.fromkeys(package for entry in ENGINES.values() for package in entry.packages))


def library_versions() -> dict[str, str]:
    """Versions of curate and of the engines' packages that are installed."""
    return installed_versions(package.name for package in engine_packages())


def published_weights() -> list[PublishedWeights]:
    """The weights that engines download by themselves."""
    return [import_module(entry.weights).published_weights() for entry in ENGINES.values() if entry.weights]


def names_model(text: str) -> bool:
    """Whether a text is a model's name: ENGINE:NAME with a known engine."""
    name, colon, model_name = text.partition(":")
    return name in ENGINES and bool(colon and model_name)


def engine_for(model: str) -> Engine:
    """The engine of a model named ENGINE:NAME.

    Raises:
        UsageError: The name has no engine, or an unknown one; the message lists the known ones.
        MissingError: The engine's library is not installed.
    """
    name, colon, model_name = model.partition(":")
    if not colon or not model_name:
        raise UsageError(
            "the model does not name its engine",
            place="--model",
            got=repr(model),
            expected=f"ENGINE:NAME with {', '.join(ENGINES)}",
            remedy=_suggest_model(model_name or name),
        )
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES, place="--model", remedy=LIST_MODELS)
    entry = ENGINES[name]
    try:
        factory: Callable[[], Engine] = getattr(import_module(entry.module), entry.class_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("curate"):
            raise
        module = error.name.partition(".")[0]
        remedies = {package.module: package.remedy for package in (*entry.packages, *entry.indirect)}
        raise MissingError(
            f"the package {module} is not installed", place=model, remedy=remedies.get(module, f"pip install {module}")
        ) from error
    return factory()


def _suggest_model(name: str) -> str:
    """Which model is likely meant by a name without an engine."""
    full_names = {model.name: model.full_name for model in known_models()}
    similar = closest(name, full_names)
    return f"Did you mean {full_names[similar]!r}? {LIST_MODELS}" if similar else LIST_MODELS


def predict_dataset(
    detector: Detector,
    dataset: Dataset,
    *,
    batch: int = 8,
    progress: Progress = silent,
    unreadable: Unreadable | None = None,
) -> Predictions:
    """Run a detector on every image of a dataset, in the order of image ids.

    Boxes without area are left out; classes are the *ids* of the detector's classes.

    Args:
        detector: From `Engine.load`.
        dataset: Any images, labelled or not.
        batch: Number of images given to the detector at once.
        progress: Called once per batch.
        unreadable: Takes images that cannot be decoded; they have no predictions.

    Raises:
        DataError: An image cannot be read; with `unreadable`, too many of them.
    """
    images = dataset.images.sort_values("image_id")
    ids, paths = images["image_id"].to_numpy(), images["path"].tolist()
    class_ids = np.array([entry.id for entry in detector.classes], dtype=np.int32)
    tables: list[pd.DataFrame] = []
    for start in range(0, len(ids), batch):
        stop = min(start + batch, len(ids))
        known, pixels = [], []
        for image_id, path in zip(ids[start:stop].tolist(), paths[start:stop], strict=True):
            file = dataset.image_file(path)
            decoded = decode_rgb(file) if unreadable is None else unreadable.decode(path, file)
            if decoded is not None:
                known.append(image_id)
                pixels.append(decoded)
        for image_id, detections in zip(known, detector.predict(pixels), strict=True):
            tables.append(_as_table(image_id, detections, class_ids))
        progress("predict", stop, len(ids))
    return Predictions(pd.concat(tables, ignore_index=True)) if tables else Predictions()


def check_images(images: Sequence[NDArray[np.uint8]]) -> None:
    """Refuse anything but H×W×3 uint8 arrays.

    Raises:
        DataError: The message names the index of the first.
    """
    for index, pixels in enumerate(images):
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise DataError(
                "not an image",
                place=f"images[{index}]",
                got=f"{pixels.shape} {pixels.dtype}",
                expected="H×W×3 uint8 RGB",
            )


def _as_table(image_id: int, detections: Detections, class_ids: NDArray[np.int32]) -> pd.DataFrame:
    boxes, scores = detections.boxes_xyxy, detections.scores
    x0, y0, x1, y1 = boxes.T
    usable = (x0 < x1) & (y0 < y1) & np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    return pd.DataFrame(
        {
            "image_id": np.full(int(usable.sum()), image_id, dtype=np.int64),
            "class_id": class_ids[detections.class_indices[usable]],
            **dict(zip(CORNERS, boxes[usable].T, strict=True)),
            "score": scores[usable],
        }
    )
