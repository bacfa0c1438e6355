"""The folder of one run: its configuration, record, metrics and checkpoints.

    DATASET/runs/NAME/config.yaml              the training configuration
                      run.json                 the record: classes, dataset version, steps done, AP
                      metrics.jsonl            one JSON object per line
                      tensorboard/             the same as event files
                      predictions_SPLIT.json   COCO results
                      evaluation_SPLIT.json    their scores
                      errors_SPLIT.csv         one mistake per row
                      report.html              the report on val; report_SPLIT.html on other splits
                      checkpoints/last.pt      to resume from
                      checkpoints/best.pt      for inference

Every file is written under a temporary name, synced and renamed: a kill leaves the old file or the new one.
"""

import json
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from curate.documents.json_reader import LARGEST_BYTES, parse_json, read_json, read_json_bytes
from curate.documents.shape import check_shape
from curate.documents.yaml_reader import read_yaml
from curate.errors import DataError, UsageError
from curate.files import failures_at, remove_leftovers, sync_folder, write_atomically
from curate.growing_files import append_line
from curate.paths import is_name, refuse_links
from curate.plain_text import check_name
from curate.run_folder.names import CONFIG_FILE, RECORD_FILE, no_run
from curate.run_folder.record import MetricsLine, RunClass, RunRecord, installed_versions
from curate.run_folder.written import LOCK, REPLACING, holds_nothing, was_begun, written_files

if TYPE_CHECKING:
    from filelock import FileLock

    from curate.dataset import Dataset
    from curate.run_folder.config import TrainingConfig

logger = logging.getLogger(__name__)

# settings that may change on resume, because the result of a step does not depend on them
_FREE_ON_RESUME = frozenset({"device", "processes", "workers", "checkpoint_every", "eval_every", "patience", "steps"})


class RunFolder:
    """A run's folder; it need not exist yet."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_file = self.path / CONFIG_FILE
        self.record_file = self.path / RECORD_FILE
        self.metrics_file = self.path / "metrics.jsonl"
        self.report_file = self.path / "report.html"
        self.event_files = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last.pt"
        self.best = self.checkpoints / "best.pt"
        self._replacing = self.path / REPLACING
        self._lock: FileLock | None = None

    @classmethod
    def named(cls, dataset_root: str | os.PathLike[str], run: str) -> "RunFolder":
        """The run of that name in DATASET/runs; a `run` with a slash is a path.

        Raises:
            UsageError: Not a valid name.
            StoreError: A folder on the way to the run is a link.
        """
        if "/" in run or os.sep in run:
            return cls(run)
        if not is_name(run.strip()) or run.startswith("-"):
            raise UsageError(
                "not a valid run name",
                place="--run",
                got=repr(run),
                expected="a name such as first, or a path with a slash",
            )
        check_name(run, "--run", "run")
        refuse_links(dataset_root, f"runs/{run}")  # nearly every command that takes a run writes into it
        return cls(Path(dataset_root) / "runs" / run)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def predictions_file(self, split: str) -> Path:
        """The file of the predictions on a split."""
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
        """Whether a run was started here."""
        return self.record_file.is_file()

    @property
    def has_learnt(self) -> bool:
        """Whether there is a checkpoint. A run without one has nothing to lose, and begins anew."""
        return (self.last.is_file() or self.best.is_file()) and not self._replacing.exists()

    @property
    def finished(self) -> bool:
        """Whether all steps are done or the training stopped early."""
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
        """Write configuration and record of a new run, or check that an existing run can be resumed.

        On resume, `steps` may grow and settings without influence on the result of a step may change; all others must
        be equal. A training that stopped early continues only if steps or patience changed. `overwrite` removes the
        files of an earlier run, and only files that a run writes. A run without a checkpoint begins anew, with or
        without `resume` and `overwrite`.

        Args:
            config: Of the training.
            dataset: The images to train on.
            dataset_version, dataset_mark, versions: See `RunRecord`.
            resume: Whether to continue an existing run.
            overwrite: Whether to replace an existing run.

        Raises:
            UsageError: The run exists already, there is none to resume, or it was started with other settings; or the
                folder has other files and no run.
        """
        if self.check_start(resume=resume, overwrite=overwrite):
            return self._resume(config)
        self.remove_files()
        record = self.new_record(config, dataset, dataset_version, dataset_mark, versions or installed_versions())
        self.write_new(config, record)
        return record

    def write_new(self, config: "TrainingConfig", record: RunRecord) -> None:
        """Write the first files of a run; the files of an earlier one are removed."""
        self.write_config(config)
        self.write_record(record)
        self._replacing.unlink(missing_ok=True)

    def check_start(self, *, resume: bool, overwrite: bool) -> bool:
        """Check whether a run may start here; changes nothing. Returns whether it is resumed.

        Raises:
            UsageError: See `start`.
        """
        self.refuse_both(resume=resume, overwrite=overwrite)
        if self.has_learnt and not overwrite:
            if not resume:
                raise self.already_exists()
            if not self.exists():
                remedy = "Restore the file, or replace the run with --overwrite."
                raise UsageError("the run has a checkpoint and no record", place=self.record_file, remedy=remedy)
            return True
        if resume and not self.path.exists():
            raise self.missing()
        if not (self.has_learnt or holds_nothing(self.path) or was_begun(self.path)):
            raise UsageError(
                "the folder is not empty and holds no run", place=self.path, remedy="Choose another --run."
            )
        written_files(self.path)
        return False

    def new_record(
        self,
        config: "TrainingConfig",
        dataset: "Dataset",
        dataset_version: int | None,
        dataset_mark: str | None,
        versions: Mapping[str, str],
    ) -> RunRecord:
        """The record of a run that has done no step yet; it is not written."""
        return RunRecord(
            run=self.name,
            model=config.model,
            classes=tuple(RunClass(id=entry.id, name=entry.name) for entry in dataset.classes),
            dataset_version=dataset_version,
            dataset_mark=dataset_mark,
            images=len(dataset.images),
            boxes=len(dataset.boxes),
            seed=config.seed,
            steps=config.steps,
            versions=versions,
        )

    def refuse_both(self, *, resume: bool, overwrite: bool) -> None:
        """Raise UsageError if a run is to be resumed and replaced."""
        if resume and overwrite:
            raise UsageError("--resume and --overwrite are mutually exclusive", place=self.path)

    def missing(self) -> UsageError:
        """The error for a run that is to be resumed, but does not exist."""
        return no_run(self.path, "there is no run to resume", otherwise="Start it without --resume.")

    def already_exists(self) -> UsageError:
        """The error for a run that is neither resumed nor replaced."""
        remedy = "Continue it with --resume, or replace it with --overwrite."
        return UsageError("the run exists already", place=self.path, remedy=remedy)

    def refuse_own_weights(self, weights: str) -> None:
        """Raise UsageError if a file of weights would be removed together with this run."""
        if Path(weights).resolve() in {file.resolve() for file in written_files(self.path)}:
            raise UsageError(
                "the initial weights belong to the run that would be replaced",
                place="--weights",
                got=weights,
                remedy="Copy the file, or choose another --run.",
            )

    def _resume(self, config: "TrainingConfig") -> RunRecord:
        old, new = _with_defaults(self.read_config()), config.as_dict()
        changed = sorted(name for name in new if name not in _FREE_ON_RESUME and old.get(name) != new[name])
        if changed:
            raise UsageError(
                f"the run was started with other settings: {', '.join(changed)}",
                place=self.path,
                got=", ".join(f"{name} {new[name]}" for name in changed),
                expected=", ".join(f"{name} {old.get(name)}" for name in changed),
                remedy="Leave these options out, or choose another --run.",
            )
        done = self.read_record().steps_done
        if config.steps < done:
            raise UsageError(
                "the run has already done more steps",
                place=self.path,
                got=f"{config.steps} steps",
                expected=f"{done} or more",
            )
        self.write_config(config)
        limits_changed = any(old.get(name) != new[name] for name in ("steps", "patience"))
        return self.update(steps=config.steps, **({"stopped": None} if limits_changed else {}))

    def read_config(self) -> dict[str, Any]:
        """Read the configuration, as arguments of `TrainingConfig`.

        Raises:
            DataError: It is missing or cannot be read.
        """
        document = read_yaml(self.config_file, "run's configuration")
        if not isinstance(document, dict):
            raise DataError("not the configuration of a run", place=self.config_file, expected="a YAML mapping")
        return document

    def earlier_config(self, *, resume: bool) -> dict[str, Any]:
        """The configuration of a run that is resumed, also if it has learnt nothing; empty for a new run.

        Raises:
            DataError: It cannot be read.
        """
        return self.read_config() if resume and self.config_file.is_file() else {}

    def write_config(self, config: "TrainingConfig") -> None:
        """Write the configuration."""
        text = yaml.safe_dump(config.as_dict(), sort_keys=False, allow_unicode=True)
        write_atomically(self.config_file, lambda file: file.write(text.encode()))

    def read_record(self) -> RunRecord:
        """Read the record.

        Raises:
            UsageError: There is no run here.
            DataError: It cannot be read.
        """
        if not self.record_file.is_file():
            raise no_run(self.path)
        return read_json(self.record_file, "run's record", RunRecord)

    def write_record(self, record: RunRecord) -> None:
        """Write the record."""
        text = json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.record_file, lambda file: file.write(text.encode()))

    def update(self, **changes: Any) -> RunRecord:
        """Change attributes of the record on disk and return it."""
        record = RunRecord.model_validate(self.read_record().model_dump() | changes)
        self.write_record(record)
        return record

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Append a line to the metrics.

        Raises:
            OSError: It cannot be written, as on a full disk; the file is as it was.
        """
        with failures_at(self.metrics_file):
            append_line(self.metrics_file, json.dumps(dict(line)).encode())

    def read_metrics(self) -> list[MetricsLine]:
        """Read the metrics, oldest first; an incomplete last line is left out.

        Raises:
            DataError: A line cannot be read.
        """
        if not self.metrics_file.is_file():
            return []
        lines = read_json_bytes(self.metrics_file, "metrics", LARGEST_BYTES).split(b"\n")[:-1]
        numbered = ((f"{self.metrics_file}, line {number}", line) for number, line in enumerate(lines, 1))
        return [
            check_shape(parse_json(line, place, "metrics", allow_nan=True), MetricsLine, place, "metrics")
            for place, line in numbered
        ]

    def drop_metrics_after(self, step: int) -> None:
        """Remove the metrics of steps after the last checkpoint, which will be done again."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(self.metrics_file, lambda file: file.write(text.encode()))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock, which keeps other processes from training it; the same object may lock it repeatedly.

        Raises:
            UsageError: Another process holds it.
        """
        from filelock import FileLock, Timeout

        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self._lock or FileLock(self.path / LOCK, timeout=0)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UsageError(
                "another process is training this run", place=self.path, remedy="Wait until it ends, or stop it."
            ) from error
        logger.debug("locked %s", self.path)
        try:
            yield
        finally:
            self._lock.release()

    def remove_files(self, keep: Collection[Path] = ()) -> None:
        """Remove what a run has written and nothing else, but for its configuration, which the next one replaces.

        After a kill in between, the folder is a run that has learnt nothing.

        Args:
            keep: Files that stay.

        Raises:
            StoreError: A folder of the run is a link.
        """
        files = written_files(self.path)
        if self.has_learnt:
            self._replacing.touch()
            sync_folder(self.path)
        for file in files:
            if file not in keep:
                file.unlink(missing_ok=True)
        for folder in (self.path, self.checkpoints):
            remove_leftovers(folder)


def _with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """A configuration with defaults for settings that older versions did not write."""
    from curate.run_folder.config import TrainingConfig

    return TrainingConfig.checked(**settings).as_dict()
