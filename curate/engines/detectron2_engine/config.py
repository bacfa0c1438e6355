"""Detectron2's configurations, made to fit our classes and settings: the `.yaml` ones and the `.py` ones.

A name is one of its model zoo, such as "COCO-Detection/faster_rcnn_R_50_FPN_3x", or the path of a configuration file.
Configurations may hold expressions, and `.py` ones are code: take a stranger's as you would take a stranger's program.
Masks and keypoints are switched off, because our data has boxes only. What we set is read in `fitted`; what `--set`
names comes after it.
"""

# Detectron2 is on no registry, so that type checks must do without it
# pyright: reportMissingImports=false

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import detectron2.model_zoo
import torch
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.data import DatasetMapper
from detectron2.modeling import build_model
from detectron2.solver import LRMultiplier, build_lr_scheduler, build_optimizer
from torch import nn

from curate.errors import DataError, UsageError
from curate.run_folder.config import TrainingConfig

_WARMUP_SHARE = 0.05  # of the steps, where the configuration's own warm-up is longer
# what curate decides: the beginning of a key, and what says it instead
_OURS = {
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
    "TEST.AUG.": "nothing: images are seen once",
    "SEED": "--seed",
    "OUTPUT_DIR": "--run",
    "train.": "the options of curate train",
    "dataloader.train.total_batch_size": "--batch",
    "dataloader.train.num_workers": "--workers",
    "dataloader.train.dataset": "the dataset",
    "dataloader.train.sampler": "--balance",
}
_DETECTORS = ("GeneralizedRCNN", "RetinaNet")  # the meta architectures that end in boxes with classes
_WITH_FOCAL_LOSS = ("RetinaNet", "FCOS")


@dataclass(frozen=True)
class TestSize:
    """How a model sees an image when it is used.

    Attributes:
        short_px: the shorter side gets this length.
        long_px: but the longer one never more than this.
        channels: "BGR" or "RGB".
    """

    short_px: int
    long_px: int
    channels: str


class Plan(Protocol):
    """A configuration that fits; each `build_` makes the part anew."""

    test_size: TestSize
    mixed_precision: bool
    initial_weights: str

    def text(self) -> str:
        """What `plan_from_text` needs to build the same model; empty where the name says it all."""
        ...

    def build_model(self) -> nn.Module:
        """The network with random weights, on its device."""
        ...

    def build_mapper(self) -> DatasetMapper:
        """What reads and augments one training image."""
        ...

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """With the learning rate scaled to the batch."""
        ...

    def build_schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        """The learning rate over the steps."""
        ...


def find_config(name: str) -> Path:
    """The file of a configuration.

    Raises:
        UsageError: neither a file nor in the model zoo; the message names the closest.
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
    closest = get_close_matches(name, names, n=1)
    raise UsageError(
        "unknown Detectron2 model",
        place="--model",
        got=repr(name),
        expected="a name of its model zoo, such as COCO-Detection/faster_rcnn_R_50_FPN_3x, or a configuration file",
        remedy=f"Did you mean {closest[0]!r}?" if closest else None,
    )


def plan_for(config: TrainingConfig, classes: int, device: torch.device) -> Plan:
    """The plan of a training.

    Raises:
        UsageError: unknown model or setting, a model that does not end in boxes, or one without a focal loss.
    """
    plan = _plan_of_file(config.model_name, find_config(config.model_name), config, classes, device)
    if not config.settings and config.loss == "default":
        return plan
    with _faults_told(config):  # some show only when the parts are made
        model = plan.build_model()
        plan.build_schedule(plan.build_optimizer(model))
    if config.loss == "focal" and type(model).__name__ not in _WITH_FOCAL_LOSS:
        raise UsageError(
            f"{config.model_name} has no place for a focal loss",
            place="--loss",
            got="focal",
            expected="a RetinaNet or FCOS",
            remedy="Leave --loss out, or take COCO-Detection/retinanet_R_50_FPN_3x.",
        )
    return plan


def plan_from_text(text: str, config: TrainingConfig, classes: int, device: torch.device) -> Plan:
    """The plan of a trained model, from what its checkpoint holds."""
    if not text:
        return _plan_of_file(config.model_name, find_config(config.model_name), config, classes, device)
    try:
        cfg = CfgNode.load_cfg(text)
    except Exception as error:  # yacs and PyYAML have no base class in common
        raise DataError(f"not a Detectron2 configuration: {error}", place=config.model) from error
    cfg.MODEL.DEVICE = str(device)
    return YacsPlan(cfg, "")


def _plan_of_file(name: str, file: Path, config: TrainingConfig, classes: int, device: torch.device) -> Plan:
    with _faults_told(config):
        if file.suffix == ".py":
            return LazyPlan.fitted(LazyConfig.load(str(file)), name, config, classes, device)
        cfg = get_cfg()
        cfg.merge_from_file(str(file), allow_unsafe=True)  # the zoo's own hold expressions
        return YacsPlan.fitted(cfg, name, config, classes, device)


@contextmanager
def _faults_told(config: TrainingConfig) -> Iterator[None]:
    """Tell what Detectron2 finds wrong with a configuration in our form."""
    try:
        yield
    except (KeyError, AssertionError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"the configuration does not work: {str(error) or type(error).__name__}",
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
    def fitted(cls, cfg: CfgNode, name: str, config: TrainingConfig, classes: int, device: torch.device) -> "YacsPlan":
        """The configuration for these classes, steps, batch and device."""
        _refuse_ours(config)
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
        """The whole configuration as YAML."""
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
    """A plan from a `.py` configuration; its checkpoints name it, and do not hold it."""

    def __init__(self, cfg: Any, config: TrainingConfig, device: torch.device, initial_weights: str) -> None:
        self._cfg, self._config, self._device = cfg, config, device
        self.initial_weights = initial_weights
        self.mixed_precision = device.type == "cuda"
        test = cfg.dataloader.test.mapper
        resize = test.augmentations[0]
        self.test_size = TestSize(resize.short_edge_length, resize.max_size, test.image_format)

    @classmethod
    def fitted(cls, cfg: Any, name: str, config: TrainingConfig, classes: int, device: torch.device) -> "LazyPlan":
        """The configuration for these classes, steps, batch and device."""
        _refuse_ours(config)
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
            for one in (resize, *mapper.augmentations):
                if "short_edge_length" in one:
                    one.short_edge_length = _scaled(one.short_edge_length, scale)
                    one.max_size = round(one.max_size * scale)
        cfg = LazyConfig.apply_overrides(cfg, [f"{key}={value}" for key, value in config.settings.items()])
        return cls(cfg, config, device, _zoo_weights(name) or cfg.train.get("init_checkpoint", ""))

    def text(self) -> str:
        """Nothing: a `.py` configuration is code, which a checkpoint does not carry."""
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


def _refuse_ours(config: TrainingConfig) -> None:
    for key in config.settings:
        for ours, instead in _OURS.items():
            if key.startswith(ours):
                raise UsageError("curate decides this itself", place="--set", got=key, expected=instead)


def _not_a_detector(config: TrainingConfig, architecture: str) -> UsageError:
    return UsageError(
        "the model does not end in boxes with classes",
        place="--model",
        got=f"{config.model_name}, {architecture}",
        expected="a box detector that needs no proposals from elsewhere",
    )


def _resize(inputs: CfgNode, short_px: int) -> None:
    """Scale all sizes so that the shorter side at prediction is `short_px`."""
    scale = short_px / inputs.MIN_SIZE_TEST
    inputs.MIN_SIZE_TRAIN = _scaled(inputs.MIN_SIZE_TRAIN, scale)
    inputs.MAX_SIZE_TRAIN = round(inputs.MAX_SIZE_TRAIN * scale)
    inputs.MIN_SIZE_TEST, inputs.MAX_SIZE_TEST = short_px, round(inputs.MAX_SIZE_TEST * scale)


def _scaled(lengths: Any, scale: float) -> Any:
    return round(lengths * scale) if isinstance(lengths, int) else tuple(round(length * scale) for length in lengths)


def _zoo_weights(name: str) -> str:
    """Where the zoo keeps this model, trained; empty where it does not."""
    try:
        return detectron2.model_zoo.get_checkpoint_url(name)
    except RuntimeError:
        return ""


def has_frozen_norm(model: nn.Module) -> bool:
    """Whether a batch norm stays as the initial weights have it, and does harm without any."""
    return any(type(module).__name__ == "FrozenBatchNorm2d" for module in model.modules())
