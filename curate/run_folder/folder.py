"""The folder of one training: what it was asked, how far it is, what it learnt.

    DATASET/runs/NAME/config.yaml              the settings
                      run.json                 the record: classes, version, steps done, AP
                      metrics.jsonl            one JSON object a line
                      tensorboard/             the same as event files
                      predictions_SPLIT.json   COCO results
                      evaluation_SPLIT.json    their scores
                      errors_SPLIT.csv         the mistakes, a row each
                      report.html              a page about them; of other splits than val report_SPLIT.html
                      checkpoints/last.pt      to go on from
                      checkpoints/best.pt      to use

Every file is written under a temporary name, synced and renamed, so that a kill leaves the old or the new one.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from curate.errors import DataError, UsageError
from curate.files import TEMPORARY, write_atomically
from curate.run_folder.record import RunClass, RunRecord, installed_versions

if TYPE_CHECKING:
    from filelock import FileLock

    from curate.dataset import Dataset
    from curate.run_folder.config import TrainingConfig

_LOCK = ".lock"
# what may differ between the beginning of a run and going on with it, because it does not change what a step learns
_FREE_ON_RESUME = frozenset({"device", "processes", "workers", "checkpoint_every", "eval_every", "patience", "steps"})


class RunFolder:
    """One run's folder, which need not exist yet."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.record_file = self.path / "run.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.report_file = self.path / "report.html"
        self.event_files = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last.pt"
        self.best = self.checkpoints / "best.pt"
        self._lock: FileLock | None = None

    @classmethod
    def named(cls, dataset_root: str | os.PathLike[str], run: str) -> "RunFolder":
        """The run of that name in DATASET/runs; with a slash in it, `run` is a path of its own.

        Raises:
            UsageError: not a name for a folder.
        """
        if "/" in run or os.sep in run:
            return cls(run)
        if run.strip() in ("", ".", "..") or run.startswith("-"):
            raise UsageError(
                "not a name for a run",
                place="--run",
                got=repr(run),
                expected="a name such as first, or a path with a slash",
            )
        return cls(Path(dataset_root) / "runs" / run)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    def predictions_file(self, split: str) -> Path:
        """Where the predictions for one split are kept."""
        return self.path / f"predictions_{split}.json"

    def require_checkpoint(self) -> None:
        """Check that the run has a checkpoint to predict with.

        Raises:
            UsageError: It has none.
        """
        if not self.best.is_file():
            remedy = "Train it, or continue with --resume."
            raise UsageError("the run has no checkpoint yet", place=self.path, remedy=remedy)

    def exists(self) -> bool:
        """Whether a training was started here."""
        return self.record_file.is_file()

    @property
    def finished(self) -> bool:
        """Whether all the steps that were asked for are done, or the training ended by itself."""
        if not (self.exists() and self.best.is_file()):
            return False
        record = self.read_record()
        return record.steps_done >= record.steps or record.stopped is not None

    def start(
        self,
        config: "TrainingConfig",
        dataset: "Dataset",
        *,
        dataset_version: int | None = None,
        dataset_mark: str | None = None,
        versions: Mapping[str, str] | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> RunRecord:
        """Write settings and record of a new run, or check that an old one can go on with these settings.

        On resume, `steps` may grow, and what does not change what a step learns may change; nothing else. A training
        that ended by itself goes on only where steps or patience were given anew.
        `overwrite` removes the files of an earlier run, and only those that a run writes. A run that has no checkpoint
        has learnt nothing: it begins anew, whatever is asked.

        Raises:
            UsageError: the run exists already; there is none to go on with; its settings were others.
        """
        if (self.exists() or self.config_file.is_file()) and not (self.last.is_file() or self.best.is_file()):
            self.remove_files()
            resume = False
        if resume and overwrite:
            raise UsageError("a run goes on or begins anew", place="--resume", got="--overwrite too")
        if resume:
            return self._start_again(config)
        if self.path.exists() and any(not self._is_nothing(file) for file in self.path.iterdir()):
            if not overwrite:
                raise UsageError(
                    "the run exists already",
                    place=self.path,
                    remedy="Go on with --resume, or begin anew with --overwrite.",
                )
            self.remove_files()
        record = RunRecord(
            run=self.name,
            model=config.model,
            classes=tuple(RunClass(id=entry.id, name=entry.name) for entry in dataset.classes),
            dataset_version=dataset_version,
            dataset_mark=dataset_mark,
            images=len(dataset.images),
            boxes=len(dataset.boxes),
            seed=config.seed,
            steps=config.steps,
            versions=versions or installed_versions(),
        )
        self.write_config(config)
        self.write_record(record)
        return record

    def _start_again(self, config: "TrainingConfig") -> RunRecord:
        if not self.exists():
            raise UsageError("there is no run to go on with", place=self.path, remedy="Start it without --resume.")
        old, new = _with_defaults(self.read_config()), config.model_dump()
        changed = sorted(name for name in new if name not in _FREE_ON_RESUME and old.get(name) != new[name])
        if changed:
            raise UsageError(
                f"the run began with other settings: {', '.join(changed)}",
                place=self.path,
                got=", ".join(f"{name} {new[name]}" for name in changed),
                expected=", ".join(f"{name} {old.get(name)}" for name in changed),
                remedy="Leave them out, or give the run another name.",
            )
        done = self.read_record().steps_done
        if config.steps < done:
            raise UsageError(
                "the run has already gone further",
                place=self.path,
                got=f"{config.steps} steps",
                expected=f"{done} or more",
            )
        self.write_config(config)
        ends_otherwise = any(old.get(name) != new[name] for name in ("steps", "patience"))
        return self.update(steps=config.steps, **({"stopped": None} if ends_otherwise else {}))

    def read_config(self) -> dict[str, Any]:
        """The settings, as `TrainingConfig` takes them.

        Raises:
            DataError: there are none, or they cannot be read.
        """
        try:
            document = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise DataError(f"the run's settings cannot be read: {error}", place=self.config_file) from error
        if not isinstance(document, dict):
            raise DataError("not the settings of a run", place=self.config_file, expected="a YAML mapping")
        return document

    def write_config(self, config: "TrainingConfig") -> None:
        """Keep the settings."""
        text = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
        write_atomically(self.config_file, lambda file: file.write(text.encode()))

    def read_record(self) -> RunRecord:
        """The record.

        Raises:
            UsageError: there is no run here.
            DataError: it cannot be read.
        """
        if not self.record_file.is_file():
            raise UsageError("there is no run here", place=self.path, remedy="Start one with `curate train`.")
        try:
            return RunRecord.model_validate_json(self.record_file.read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(f"not the record of a run: {error}", place=self.record_file) from error

    def write_record(self, record: RunRecord) -> None:
        """Keep the record."""
        text = json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.record_file, lambda file: file.write(text.encode()))

    def update(self, **changes: Any) -> RunRecord:
        """Change some attributes of the record on disk and return it."""
        record = RunRecord.model_validate(self.read_record().model_dump() | changes)
        self.write_record(record)
        return record

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one line to the metrics."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(line)) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """The metrics, oldest first; a last line that a kill cut off is left out."""
        lines = self.metrics_file.read_text(encoding="utf-8").split("\n") if self.metrics_file.is_file() else []
        return [json.loads(line) for line in lines[:-1]]

    def drop_metrics_after(self, step: int) -> None:
        """Forget the metrics of steps that a checkpoint does not hold, because they will be done again."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(self.metrics_file, lambda file: file.write(text.encode()))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training in the same folder; this object may hold it more than once.

        Raises:
            UsageError: one already does.
        """
        from filelock import FileLock, Timeout

        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self._lock or FileLock(self.path / _LOCK, timeout=0)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UsageError(
                "another process is training this run", place=self.path, remedy="Wait for it, or end it."
            ) from error
        try:
            yield
        finally:
            self._lock.release()

    def _is_nothing(self, file: Path) -> bool:
        """What a kill may leave before there is a run."""
        return file.name == _LOCK or file.name.endswith(TEMPORARY)

    def remove_files(self) -> None:
        """Remove what a run writes, and nothing else.

        Raises:
            UsageError: the folder holds no run.
        """
        if not (self.config_file.is_file() or self.exists()):
            raise UsageError(
                "the folder is not empty and holds no run",
                place=self.path,
                remedy="Choose another name; it is not overwritten.",
            )
        written = [
            self.metrics_file,
            self.report_file,
            *self.path.glob("predictions_*"),
            *self.path.glob("evaluation_*.json"),
            *self.path.glob("errors_*.csv"),
            *self.path.glob("report_*.html"),
            *self.event_files.glob("events.out.tfevents.*"),
            *self.checkpoints.glob("*.pt"),
            *self.path.glob(f"*{TEMPORARY}"),
            *self.checkpoints.glob(f"*{TEMPORARY}"),
        ]
        # settings come first and go last, so that a kill at any time leaves a folder that is known as ours
        for file in [*written, self.record_file, self.config_file]:
            file.unlink(missing_ok=True)


def _with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that an older version began, which knew fewer."""
    from curate.run_folder.config import TrainingConfig

    return TrainingConfig.checked(**settings).model_dump()
