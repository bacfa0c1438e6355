"""The settings of a training: everything that decides what it does, apart from its data."""

import os
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.errors import UsageError

_EVALUATIONS = 10  # in a training that does not say when
_EVALUATE_FROM_STEPS = 500  # below so many steps apart, they would cost more than they tell


class TrainingConfig(BaseModel):
    """What a training does.

    Attributes:
        model: ENGINE:NAME, such as "torchvision:fasterrcnn+timm/tf_efficientnet_lite0".
        weights: where the weights come from before the first step: "default" (the library's own pretrained ones,
            downloaded), "none" (random), "package:DISTRIBUTION" (the one weights file of an installed distribution)
            or the path of a file.
        steps: optimizer steps, each on one batch.
        batch: images a step, over all processes.
        lr: the highest learning rate; None takes the model's own, scaled to the batch.
        image_size: shorter side in pixels at which the model sees an image; None takes the model's own.
        seed: of everything that chance decides.
        device: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1".
        processes: that train together, each on a GPU of its own (or, on the CPU, with a share of the cores).
        eval_every: steps between two evaluations on the val split; None: a tenth of all steps, and at least 500 unless
            `patience` waits for them.
        patience: evaluations without a better AP after which the training ends; None: never.
        checkpoint_every: steps between two checkpoints; the last step always writes one.
        balance: "none", "repeat-factor" or "repeat-factor:SHARE": images of classes that fewer than this share of the
            images show (0.3) come more often.
        loss: "default", or "focal" for the classification.
        settings: of the engine's own: fields of the model's recipe for torchvision, configuration keys for Detectron2.
        workers: processes that read and augment images, for each training process; 0 does it between the steps. Does
            not change the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1)  # `engine_for` tells what is wrong with it
    weights: str = Field(default="default", min_length=1)
    steps: int = Field(default=1000, ge=1, le=10**9)
    batch: int = Field(default=4, ge=1)
    lr: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    image_size: int | None = Field(default=None, ge=32, le=4096)
    seed: int = Field(default=0, ge=0, lt=2**63)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    processes: int = Field(default=1, ge=1)
    eval_every: int | None = Field(default=None, ge=1)
    patience: int | None = Field(default=None, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    balance: str = Field(default="none", pattern=r"^(none|repeat-factor(:(0?\.\d+|1))?)$")
    loss: str = Field(default="default", pattern=r"^(default|focal)$")
    settings: Mapping[str, Any] = {}
    workers: int = Field(default_factory=lambda: min(8, max(1, (os.cpu_count() or 1) // 2)), ge=0)

    @property
    def model_name(self) -> str:
        """The model without its engine."""
        return self.model.partition(":")[2]

    @property
    def evaluates_every(self) -> int:
        """Steps between two evaluations."""
        least = 1 if self.patience else _EVALUATE_FROM_STEPS
        return self.eval_every or max(least, -(-self.steps // _EVALUATIONS))

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Build one from values that a person wrote.

        Raises:
            UsageError: a value is out of its range, or there is no such setting; all of them are named.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc']))} = {fault['input']!r}: {fault['msg']}" for fault in error.errors()
            )
            raise UsageError(
                f"the training settings do not fit: {faults}", expected=", ".join(cls.model_fields)
            ) from error
