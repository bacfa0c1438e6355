"""Detectron2's configurations, `.yaml` and `.py`, adapted to a dataset's classes and to the training settings.

A model's name is one of the model zoo, such as "COCO-Detection/faster_rcnn_R_50_FPN_3x", or the path of a configuration
file. `.yaml` configurations may hold expressions, and `.py` ones are code: use only files that you trust. Masks and
keypoints are switched off, because a dataset has boxes only. `adapt` sets curate's own values first and then those of
`--set`.
"""

# Detectron2 is on no package registry, so type checks run without it
# pyright: reportMissingImports=false

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import detectron2.model_zoo
import torch
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.data import DatasetMapper
from detectron2.modeling import build_model
from detectron2.solver import LRMultiplier, build_lr_scheduler, build_optimizer
from torch import nn

from curate.engines.models import LIST_MODELS
from curate.errors import DataError, UsageError, closest
from curate.run_folder.config import TrainingConfig

_WARMUP_SHARE = 0.05  # of the steps; an upper limit to the configuration's own warm-up
# keys that `--set` may not change: prefix of the key → where its value comes from
_RESERVED = {
    "SOLVER.MAX_ITER": "--steps",
    "SOLVER.IMS_PER_BATCH": "--batch",
    "SOLVER.REFERENCE_WORLD_SIZE": "--batch",
    "SOLVER.CHECKPOINT_PERIOD": "--checkpoint-every",
    "MODEL.DEVICE": "--device",
    "MODEL.WEIGHTS": "--weights",
    "MODEL.ROI_HEADS.NUM_CLASSES": "the dataset's classes",
    "MODEL.RETINANET.NUM_CLASSES": "the dataset's classes",
    "DATASETS.": "the dataset",
    "DATALOADER.": "--balance and --workers",
    "TEST.EVAL_PERIOD": "--eval-every",
    "TEST.AUG.": "curate, which uses no test-time augmentation",
    "SEED": "--seed",
    "OUTPUT_DIR": "--run",
    "train.": "the options of `curate train`",
    "dataloader.train.total_batch_size": "--batch",
    "dataloader.train.num_workers": "--workers",
    "dataloader.train.dataset": "the dataset",
    "dataloader.train.sampler": "--balance",
}
_DETECTORS = ("GeneralizedRCNN", "RetinaNet")  # meta architectures that return boxes with classes
_WITH_FOCAL_LOSS = ("RetinaNet", "FCOS")


@dataclass(frozen=True)
class TestSize:
    """Size and channel order of images at inference.

    Attributes:
        short_px: Length of the shorter side.
        long_px: Upper limit of the longer side.
        channels: "BGR" or "RGB".
    """

    short_px: int
    long_px: int
    channels: str


class Plan(Protocol):
    """An adapted configuration; each `build_` method returns a new object."""

    test_size: TestSize
    mixed_precision: bool
    initial_weights: str

    def text(self) -> str:
        """The configuration for `plan_from_text`; empty if the model's name is enough."""
        ...

    def build_model(self) -> nn.Module:
        """A network with random weights, on its device."""
        ...

    def build_mapper(self) -> DatasetMapper:
        """The mapper that reads and augments a training image."""
        ...

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimizer with the learning rate scaled to the batch."""
        ...

    def build_schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        """The learning rate schedule."""
        ...


def find_config(name: str) -> Path:
    """The file of a configuration.

    Raises:
        UsageError: Neither a file nor in the model zoo; the message has the closest name.
    """
    if name.endswith((".yaml", ".py")) and Path(name).is_file():
        return Path(name)
    zoo = Path(str(detectron2.model_zoo.__file__)).parent / "configs"
    for suffix in ("", ".yaml", ".py"):
        if (zoo / f"{name}{suffix}").is_file():
            return zoo / f"{name}{suffix}"
    names = [
        (Path(folder) / file).relative_to(zoo).with_suffix("").as_posix()
        for folder, _, files in os.walk(zoo, followlinks=True)
        for file in files
        if file.endswith((".yaml", ".py"))
    ]
    similar = closest(name, names)
    raise UsageError(
        "unknown Detectron2 model",
        place="--model",
        got=repr(name),
        expected="a name of the model zoo, such as COCO-Detection/faster_rcnn_R_50_FPN_3x, or a configuration file",
        remedy=f"Did you mean {similar!r}? {LIST_MODELS}" if similar else LIST_MODELS,
    )


def plan_for(config: TrainingConfig, classes: int, device: torch.device) -> Plan:
    """The plan of a training.

    Raises:
        UsageError: Unknown model or setting, a model that is not a box detector, or one without a focal loss.
    """
    plan = _plan_of_file(config.model_name, find_config(config.model_name), config, classes, device)
    if not config.settings and config.loss == "default":
        return plan
    with _errors_reported(config):  # some errors show only when the parts are built
        model = plan.build_model()
        plan.build_schedule(plan.build_optimizer(model))
    if config.loss == "focal" and type(model).__name__ not in _WITH_FOCAL_LOSS:
        raise UsageError(
            f"{config.model_name} does not support a focal loss",
            place="--loss",
            got="focal",
            expected="a RetinaNet or FCOS",
            remedy="Leave out --loss, or use COCO-Detection/retinanet_R_50_FPN_3x.",
        )
    return plan


def plan_from_text(text: str, config: TrainingConfig, classes: int, device: torch.device) -> Plan:
    """The plan of a trained model, from the text in its checkpoint."""
    if not text:
        return _plan_of_file(config.model_name, find_config(config.model_name), config, classes, device)
    try:
        cfg = CfgNode.load_cfg(text)
    except Exception as error:  # yacs and PyYAML have no base class in common
        raise DataError(f"not a Detectron2 configuration: {error}", place=config.model) from error
    cfg.MODEL.DEVICE = str(device)
    return YacsPlan(cfg, "")


def _plan_of_file(name: str, file: Path, config: TrainingConfig, classes: int, device: torch.device) -> Plan:
    with _errors_reported(config):
        if file.suffix == ".py":
            return LazyPlan.adapt(LazyConfig.load(str(file)), name, config, classes, device)
        cfg = get_cfg()
        cfg.merge_from_file(str(file), allow_unsafe=True)  # the zoo's own files hold expressions
        return YacsPlan.adapt(cfg, name, config, classes, device)


@contextmanager
def _errors_reported(config: TrainingConfig) -> Iterator[None]:
    """Turn Detectron2's errors about a configuration into a UsageError."""
    try:
        yield
    except (KeyError, AssertionError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"Detectron2 refuses the configuration: {str(error) or type(error).__name__}",
            place=config.model,
            got=", ".join(f"{key}={value}" for key, value in config.settings.items()) or None,
            expected="keys and values of Detectron2's own configuration",
        ) from error


class YacsPlan:
    """A plan from a `.yaml` configuration."""

    def __init__(self, cfg: CfgNode, initial_weights: str) -> None:
        self._cfg = cfg
        self.initial_weights = initial_weights
        self.mixed_precision: bool = cfg.SOLVER.AMP.ENABLED
        self.test_size = TestSize(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.FORMAT)

    @classmethod
    def adapt(cls, cfg: CfgNode, name: str, config: TrainingConfig, classes: int, device: torch.device) -> "YacsPlan":
        """The configuration for these classes, steps, batch and device."""
        _refuse_reserved(config)
        solver, steps = cfg.SOLVER, config.steps
        milestones = {round(step / solver.MAX_ITER * steps) for step in solver.STEPS}
        solver.STEPS = tuple(sorted(milestones & set(range(1, steps))))
        solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, max(1, round(_WARMUP_SHARE * steps)))
        solver.BASE_LR = config.lr or solver.BASE_LR * config.batch / solver.IMS_PER_BATCH
        solver.AMP.ENABLED = device.type == "cuda"
        if config.image_size is not None:
            _resize(cfg.INPUT, config.image_size)
        cfg.merge_from_list([part for pair in config.settings.items() for part in pair])
        if cfg.MODEL.META_ARCHITECTURE not in _DETECTORS or cfg.MODEL.LOAD_PROPOSALS:
            raise _not_a_detector(config, cfg.MODEL.META_ARCHITECTURE)
        solver.AMP.ENABLED = solver.AMP.ENABLED and device.type == "cuda"
        solver.MAX_ITER, solver.IMS_PER_BATCH, solver.REFERENCE_WORLD_SIZE = steps, config.batch, 0
        cfg.MODEL.DEVICE = str(device)
        cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = False
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = classes
        return cls(cfg, _zoo_weights(name) or cfg.MODEL.WEIGHTS)

    def text(self) -> str:
        """The whole configuration as YAML; see `Plan`."""
        return self._cfg.dump()

    def build_model(self) -> nn.Module:
        """See `Plan`."""
        return build_model(self._cfg)

    def build_mapper(self) -> DatasetMapper:
        """See `Plan`."""
        return DatasetMapper(self._cfg, is_train=True)

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """See `Plan`."""
        return build_optimizer(self._cfg, model)

    def build_schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        """See `Plan`."""
        return build_lr_scheduler(self._cfg, optimizer)


class LazyPlan:
    """A plan from a `.py` configuration; its checkpoints hold its name, not its content."""

    def __init__(self, cfg: Any, config: TrainingConfig, device: torch.device, initial_weights: str) -> None:
        self._cfg, self._config, self._device = cfg, config, device
        self.initial_weights = initial_weights
        self.mixed_precision = device.type == "cuda"
        test = cfg.dataloader.test.mapper
        resize = test.augmentations[0]
        self.test_size = TestSize(resize.short_edge_length, resize.max_size, test.image_format)

    @classmethod
    def adapt(cls, cfg: Any, name: str, config: TrainingConfig, classes: int, device: torch.device) -> "LazyPlan":
        """The configuration for these classes, steps, batch and device."""
        _refuse_reserved(config)
        if "num_classes" in cfg.model:
            cfg.model.num_classes = classes
        elif "roi_heads" in cfg.model:
            cfg.model.roi_heads.num_classes = classes
            for part in ("mask_in_features", "keypoint_in_features"):
                if part in cfg.model.roi_heads:
                    cfg.model.roi_heads[part] = None
        else:
            raise _not_a_detector(config, str(cfg.model.get("_target_")))
        mapper = cfg.dataloader.train.mapper
        mapper.use_instance_mask, mapper.recompute_boxes = False, False
        cfg.optimizer.lr = config.lr or cfg.optimizer.lr * config.batch / cfg.dataloader.train.total_batch_size
        if config.image_size is not None:
            resize = cfg.dataloader.test.mapper.augmentations[0]
            scale = config.image_size / resize.short_edge_length
            for augmentation in (resize, *mapper.augmentations):
                if "short_edge_length" in augmentation:
                    augmentation.short_edge_length = _scaled(augmentation.short_edge_length, scale)
                    augmentation.max_size = round(augmentation.max_size * scale)
        cfg = LazyConfig.apply_overrides(cfg, [f"{key}={value}" for key, value in config.settings.items()])
        return cls(cfg, config, device, _zoo_weights(name) or cfg.train.get("init_checkpoint", ""))

    def text(self) -> str:
        """Empty: a `.py` configuration is code, which a checkpoint does not hold; see `Plan`."""
        return ""

    def build_model(self) -> nn.Module:
        """See `Plan`."""
        return instantiate(self._cfg.model).to(self._device)

    def build_mapper(self) -> DatasetMapper:
        """See `Plan`."""
        return instantiate(self._cfg.dataloader.train.mapper)

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """See `Plan`."""
        self._cfg.optimizer.params.model = model
        return instantiate(self._cfg.optimizer)

    def build_schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        """See `Plan`."""
        return LRMultiplier(optimizer, instantiate(self._cfg.lr_multiplier), self._config.steps)


def _refuse_reserved(config: TrainingConfig) -> None:
    for key in config.settings:
        for prefix, source in _RESERVED.items():
            if key.startswith(prefix):
                raise UsageError(f"--set cannot change this key; it follows from {source}", place="--set", got=key)


def _not_a_detector(config: TrainingConfig, architecture: str) -> UsageError:
    return UsageError(
        "the model does not return boxes with classes",
        place="--model",
        got=f"{config.model_name}, {architecture}",
        expected="a box detector that needs no precomputed proposals",
    )


def _resize(inputs: CfgNode, short_px: int) -> None:
    """Scale all image sizes so that the shorter side at inference is `short_px`."""
    scale = short_px / inputs.MIN_SIZE_TEST
    inputs.MIN_SIZE_TRAIN = _scaled(inputs.MIN_SIZE_TRAIN, scale)
    inputs.MAX_SIZE_TRAIN = round(inputs.MAX_SIZE_TRAIN * scale)
    inputs.MIN_SIZE_TEST, inputs.MAX_SIZE_TEST = short_px, round(inputs.MAX_SIZE_TEST * scale)


def _scaled(lengths: Any, scale: float) -> Any:
    return round(lengths * scale) if isinstance(lengths, int) else tuple(round(length * scale) for length in lengths)


def _zoo_weights(name: str) -> str:
    """URL of the zoo's weights for a model; empty if there are none."""
    try:
        return detectron2.model_zoo.get_checkpoint_url(name)
    except RuntimeError:
        return ""


def has_frozen_norm(model: nn.Module) -> bool:
    """Whether the model has frozen batch norms, with which it cannot be trained from random weights."""
    return any(type(module).__name__ == "FrozenBatchNorm2d" for module in model.modules())
