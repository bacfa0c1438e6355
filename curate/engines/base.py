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
from curate.errors import DataError, MissingError, UsageError, unknown_name
from curate.images import decode_rgb
from curate.progress import Progress, silent
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder


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


GET_TRAIN = "pip install 'curate-vision[train]'"
GET_DETECTRON2 = (
    "It is on no package registry: install torch first, then follow"
    " https://detectron2.readthedocs.io/en/latest/tutorials/install.html."
)
_REMEDIES = {"detectron2": GET_DETECTRON2, "pkg_resources": "pip install 'setuptools<81', which Detectron2 imports."}

# engine name → module, class; a module is imported when its engine is asked for
ENGINES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "torchvision": ("curate.engines.torchvision.engine", "TorchvisionEngine"),
        "retinaface": ("curate.engines.retinaface.engine", "RetinaFaceEngine"),
        "detectron2": ("curate.engines.detectron2_engine.engine", "Detectron2Engine"),
        "two-stage": ("curate.engines.two_stage.engine", "TwoStageEngine"),
    }
)


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
        )
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES, place="--model")
    module, class_name = ENGINES[name]
    try:
        factory: Callable[[], Engine] = getattr(import_module(module), class_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("curate"):
            raise
        package = error.name.partition(".")[0]
        raise MissingError(
            f"the package {package} is not installed", place=model, remedy=_REMEDIES.get(package, GET_TRAIN)
        ) from error
    return factory()


def predict_dataset(
    detector: Detector, dataset: Dataset, *, batch: int = 8, progress: Progress = silent
) -> Predictions:
    """Run a detector on every image of a dataset, in the order of image ids.

    Boxes without area are left out; classes are the *ids* of the detector's classes.

    Args:
        detector: From `Engine.load`.
        dataset: Any images, labelled or not.
        batch: Number of images given to the detector at once.
        progress: Called once per batch.

    Raises:
        DataError: An image cannot be read.
    """
    images = dataset.images.sort_values("image_id")
    ids, paths = images["image_id"].to_numpy(), images["path"].tolist()
    class_ids = np.array([entry.id for entry in detector.classes], dtype=np.int32)
    tables: list[pd.DataFrame] = []
    for start in range(0, len(ids), batch):
        stop = min(start + batch, len(ids))
        pixels = [decode_rgb(dataset.image_file(path)) for path in paths[start:stop]]
        for image_id, detections in zip(ids[start:stop], detector.predict(pixels), strict=True):
            tables.append(_as_table(int(image_id), detections, class_ids))
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
