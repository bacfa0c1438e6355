"""The files that `evaluate` writes: the mistakes as a table, and the pictures."""

import os
from pathlib import Path

from curate.dataset import Dataset
from curate.errors import UsageError
from curate.evaluation.error_table import check_error_file, list_errors, write_errors
from curate.evaluation.mistakes import Mistakes
from curate.steps.evaluation_result import EvaluateResult

PICTURES = ("ap_by_min_side.png", "confusion.png", "precision_recall.png", "scores.png", "errors.png")

Name = str | os.PathLike[str] | None


def check_places(errors: Name, plots: Name, *, overwrite: bool) -> None:
    """Refuse names before the long work: of no known kind, or taken.

    Raises:
        UsageError: the table's suffix is unknown, or a file is there already and may not be replaced.
    """
    files = [Path(plots) / name for name in PICTURES] if plots is not None else []
    if errors is not None:
        check_error_file(Path(errors))
        files.append(Path(errors))
    if taken := [file for file in files if file.exists() and not overwrite]:
        remedy = "Choose another name, or give --overwrite."
        raise UsageError("the file is there already", place=taken[0], remedy=remedy)


def write_files(
    result: EvaluateResult, truth: Dataset, mistakes: Mistakes, *, errors: Name = None, plots: Name = None
) -> None:
    """Write what has a name, over what is there."""
    if errors is not None:
        write_errors(list_errors(mistakes, truth), Path(errors))
    if plots is not None:
        _draw(result, Path(plots))


def _draw(result: EvaluateResult, folder: Path) -> None:
    from curate.plots import evaluation as plots
    from curate.plots.style import save_plot

    interest = result.range_of_interest
    figures = (
        plots.draw_ap_by_min_side(result.by_min_side, interest.min_side_px if interest else None),
        plots.draw_confusion(result.confusion),
        plots.draw_precision_recall(result.precision_recall),
        plots.draw_scores(result.score_histogram, result.operating_point.score),
        plots.draw_errors(result.errors),
    )
    for name, figure in zip(PICTURES, figures, strict=True):
        save_plot(figure, folder / name)
