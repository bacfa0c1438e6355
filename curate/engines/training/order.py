"""Which images each step of a training shows: follows from (seed, step) alone.

So a run that was stopped goes on with the batches it would have had, and the number of workers changes nothing.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curate.dataset import Dataset
from curate.errors import TrainingError
from curate.run_folder.config import TrainingConfig

# streams of chance that must not be the same numbers
ORDER, AUGMENTATION, MODEL = 0, 1, 2
_SHARE = 0.3  # of the images: rarer classes are repeated

Rows = NDArray[np.int64]


def step_seed(seed: int, step: int, *stream: int) -> int:
    """A seed below 2**63 for what chance decides in a step."""
    return int(np.random.SeedSequence([seed, *(stream or (MODEL,)), step]).generate_state(1, np.uint64)[0] >> 1)


class BatchOrder:
    """The batches of a training, by step, as rows of the images table in the order of image ids.

    Every epoch shows each image once (or as often as its repeat factor says), in an order of its own; upright and wide
    images never share a batch, because a batch is as large as its widest and its tallest image.
    """

    def __init__(self, wide: Sequence[bool] | NDArray[np.bool_], repeats: NDArray[np.float64], batch: int, seed: int):
        self._groups = [np.flatnonzero(group) for group in (np.asarray(wide), ~np.asarray(wide))]
        self._repeats, self._batch, self._seed = repeats, batch, seed
        self._counts = [math.ceil(float(repeats[rows].sum()) / batch - 1e-9) for rows in self._groups]
        self._kept: tuple[int, list[Rows]] | None = None

    @classmethod
    def of(cls, dataset: Dataset, config: TrainingConfig) -> "BatchOrder":
        """The order of a training on all images of `dataset`.

        Raises:
            TrainingError: there are no images, or no classes.
        """
        if dataset.images.empty:
            raise TrainingError(
                "there are no images to train on", place=dataset.root, expected="labelled images in the train split"
            )
        if not dataset.classes:
            raise TrainingError("there are no classes to train on", place=dataset.root)
        images = dataset.images.sort_values("image_id")
        name, _, share = config.balance.partition(":")
        repeats = np.ones(len(images)) if name == "none" else repeat_factors(dataset, float(share or _SHARE))
        wide = (images["width"] >= images["height"]).to_numpy()
        return cls(wide, repeats, config.batch, config.seed)

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return sum(self._counts)

    def rows(self, step: int) -> Rows:
        """Which images the batch of a step holds. (batch,)"""
        epoch, place = divmod(step, self.per_epoch)
        if self._kept is None or self._kept[0] != epoch:
            self._kept = epoch, self._epoch(epoch)
        return self._kept[1][place]

    def _epoch(self, epoch: int) -> list[Rows]:
        rng = np.random.default_rng([self._seed, ORDER, epoch])
        batches: list[Rows] = []
        for members, count in zip(self._groups, self._counts, strict=True):
            rows = rng.permutation(self._repeated(members, rng))
            batches.extend(np.resize(rows, (count, self._batch)))  # the last batch is filled up from the first
        return [batches[index] for index in rng.permutation(len(batches))]

    def _repeated(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Each row as often as its factor says; what is over a whole number is left to chance."""
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
    seen = dataset.boxes.loc[~dataset.boxes["crowd"], ["image_id", "class_id"]].drop_duplicates()
    frequency = seen["class_id"].value_counts() / len(image_ids)
    factors = np.ones(len(image_ids))
    rows = np.searchsorted(image_ids, seen["image_id"].to_numpy())
    of_class = np.sqrt(share / seen["class_id"].map(frequency).to_numpy(dtype=np.float64))
    np.maximum.at(factors, rows, of_class)
    return factors


def steps_of_epochs(epochs: float, dataset: Dataset, config: TrainingConfig) -> int:
    """The steps in which so many epochs pass; at least 1."""
    return max(1, round(epochs * BatchOrder.of(dataset, config).per_epoch))
