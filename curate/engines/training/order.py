"""Which images each step of a training shows; a function of (seed, step) alone.

A resumed run therefore continues with the batches it would have had, and the number of workers changes nothing.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curate.dataset import Dataset
from curate.errors import TrainingError
from curate.run_folder.config import TrainingConfig

# independent random streams of one seed
ORDER, AUGMENTATION, MODEL = 0, 1, 2
_RARE_BELOW = 0.3  # share of the images: classes in fewer are repeated

Rows = NDArray[np.int64]


def step_seed(seed: int, step: int, *stream: int) -> int:
    """The random seed of a step, below 2**63."""
    return int(np.random.SeedSequence([seed, *(stream or (MODEL,)), step]).generate_state(1, np.uint64)[0] >> 1)


def check_trainable(dataset: Dataset) -> None:
    """Refuse a dataset without images.

    Raises:
        TrainingError: There are no images.
    """
    if dataset.images.empty:
        raise TrainingError(
            "there are no images to train on", place=dataset.root, expected="labelled images in the train split"
        )


class BatchOrder:
    """The batches of a training, by step, as rows of the images table in the order of image ids.

    Every epoch shows each image once (or as often as its repeat factor says), in a new random order. Landscape and
    portrait images never share a batch, because a batch is as large as its widest and its tallest image.
    """

    def __init__(self, wide: Sequence[bool] | NDArray[np.bool_], repeats: NDArray[np.float64], batch: int, seed: int):
        self._groups = [np.flatnonzero(group) for group in (np.asarray(wide), ~np.asarray(wide))]
        self._repeats, self._batch, self._seed = repeats, batch, seed
        self._counts = [math.ceil(float(repeats[rows].sum()) / batch - 1e-9) for rows in self._groups]
        self._cached: tuple[int, list[Rows]] | None = None

    @classmethod
    def of(cls, dataset: Dataset, config: TrainingConfig) -> "BatchOrder":
        """The order of a training on all images of `dataset`.

        Raises:
            TrainingError: There are no images, or no classes.
        """
        check_trainable(dataset)
        if not dataset.classes:
            raise TrainingError("there are no classes to train on", place=dataset.root)
        images = dataset.images.sort_values("image_id")
        name, _, share = config.balance.partition(":")
        repeats = np.ones(len(images)) if name == "none" else repeat_factors(dataset, float(share or _RARE_BELOW))
        wide = (images["width"] >= images["height"]).to_numpy()
        return cls(wide, repeats, config.batch, config.seed)

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return sum(self._counts)

    def rows(self, step: int) -> Rows:
        """The images in the batch of a step. (batch,)"""
        epoch, place = divmod(step, self.per_epoch)
        if self._cached is None or self._cached[0] != epoch:
            self._cached = epoch, self._epoch(epoch)
        return self._cached[1][place]

    def _epoch(self, epoch: int) -> list[Rows]:
        rng = np.random.default_rng([self._seed, ORDER, epoch])
        batches: list[Rows] = []
        for members, count in zip(self._groups, self._counts, strict=True):
            rows = rng.permutation(self._repeated(members, rng))
            batches.extend(np.resize(rows, (count, self._batch)))  # the last batch is filled up from the first
        return [batches[index] for index in rng.permutation(len(batches))]

    def _repeated(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Each row as often as its factor says; the fraction is the probability of one more."""
        factors = self._repeats[rows]
        if (factors == 1).all():
            return rows
        return np.repeat(rows, (np.floor(factors) + (rng.random(len(rows)) < factors % 1)).astype(np.int64))


def repeat_factors(dataset: Dataset, share: float) -> NDArray[np.float64]:
    """How often an epoch shows each image, so that rare classes come more often. (images,), in the order of image ids

    LVIS's rule (Gupta, Dollár, Girshick: LVIS, CVPR 2019, arXiv 1908.03195, appendix B.2): with f(c) the share of the
    images that show class c, r(c) = max(1, √(share / f(c))), and an image takes the largest r of its classes.
    """
    image_ids = np.sort(dataset.images["image_id"].to_numpy())
    shown = dataset.boxes.loc[~dataset.boxes["crowd"], ["image_id", "class_id"]].drop_duplicates()
    frequency = shown["class_id"].value_counts() / len(image_ids)
    factors = np.ones(len(image_ids))
    rows = np.searchsorted(image_ids, shown["image_id"].to_numpy())
    of_class = np.sqrt(share / shown["class_id"].map(frequency).to_numpy(dtype=np.float64))
    np.maximum.at(factors, rows, of_class)
    return factors


def steps_of_epochs(epochs: float, dataset: Dataset, config: TrainingConfig) -> int:
    """The number of steps in so many epochs, at least 1."""
    return max(1, round(epochs * BatchOrder.of(dataset, config).per_epoch))
