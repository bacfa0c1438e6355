"""`loop`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder, MinSide, Overwrite
from curate.cli.output import EarlyNotes, counts_line, explain_interruption, progress_on_stderr, say, show
from curate.cli.table import SIZE_COLUMNS, SIZE_STYLES, Table, mark_best
from curate.cli.train import NOTHING_SAVED, Model, NewRun, as_arguments, takes_training_options
from curate.commands.training_options import LOOP, ROUNDS, given
from curate.formatting import count_of, points

if TYPE_CHECKING:
    from curate.run_folder.rounds import RoundReport

_REASONS = {
    "target_ap": "the target AP is reached",
    "patience": "early stopping, the last rounds did not improve AP",
    "rounds": "all rounds are finished",
}
_INDENT = " " * 9
_SAVED = "finished rounds and checkpoints are saved. Continue with the same command and --resume."


def round_lines(report: Mapping[str, Any]) -> str:
    """A finished round: AP by size and class, mistakes, and the changes since the round before."""
    before = report["before"]
    lines = [f"round {report['round']}: AP {_changed(report, before, 'ap')}, " + _sizes(report, before) + _rank(report)]
    if before is not None:
        lines += _data_lines(report, before)
    old = _class_aps(before)
    classes = (f"{name} {points(ap)}{_difference(old.get(name), ap)}" for name, ap in _class_aps(report).items())
    lines.append(f"{_INDENT}AP by class: {', '.join(classes)}")
    if report["ap_in_range"] is not None:
        lines.append(f"{_INDENT}AP in range: {_changed(report, before, 'ap_in_range')}")
    missed = f"{_INDENT}missed: {counts_line(report['missed'])}"
    lines.append(f"{missed}; false positives: {counts_line(report['false_positives'])}")
    return "\n".join(lines)


def _sizes(report: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    values = " / ".join(_changed(report, before, f"ap_{size}") for size in SIZE_STYLES)
    return f"{' / '.join(SIZE_STYLES)} {values}"


def _rank(report: Mapping[str, Any]) -> str:
    best = report["best"]
    if best["round"] == report["round"]:
        return "" if report["before"] is None else "; the best so far"
    return f"; round {best['round']} stays the best with {points(best['ap'])}"


def _data_lines(report: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    if report["version"] == before["version"]:
        return [f"{_INDENT}trained on version {report['version']}, as before"]
    names = dict.fromkeys([*before["boxes"], *report["boxes"]])
    counts = [(name, before["boxes"].get(name, 0), report["boxes"].get(name, 0)) for name in names]
    boxes = (f"{name} {now}" if now == old else f"{name} {old} → {now}" for name, old, now in counts)
    return [f"{_INDENT}version {before['version']} → {report['version']}, boxes: {', '.join(boxes)}"]


def _class_aps(report: Mapping[str, Any] | None) -> dict[str, float | None]:
    return {} if report is None else {entry["name"]: entry["ap"] for entry in report["classes"]}


def _changed(report: Mapping[str, Any], before: Mapping[str, Any] | None, key: str) -> str:
    return points(report[key]) + _difference(before[key] if before else None, report[key])


def _difference(old: float | None, new: float | None) -> str:
    return "" if old is None or new is None else f" ({round(100 * (new - old), 1) + 0.0:+.1f})"


def loop_tables(document: Mapping[str, Any]) -> RenderableType:
    """All rounds: AP and mistakes, boxes and AP per class, and why the loop ended."""
    reports, best_round = document["rounds"], document["best_round"]
    run = f"run {document['run']}: {document['model']}, {count_of(document['steps'], 'step')}"
    best = f"best: round {best_round}, val AP {points(document['ap'])}"
    shown = sorted({1, best_round, len(reports)})
    return Group(
        Text(f"{run}; {_REASONS[document['stopped']]}"),
        _rounds_table(reports, best_round),
        Text("* best round; change: since the round before, on the same images", style="dim"),
        _classes_table([reports[number - 1] for number in shown]),
        Text(best, style="bold"),
    )


def _rounds_table(reports: Sequence[Mapping[str, Any]], best_round: int) -> RenderableType:
    table = Table("rounds", "round", "version", "AP", "change", *SIZE_COLUMNS, "missed", "false positives")
    for report in reports:
        is_best = report["round"] == best_round
        change = _difference(report["before"]["ap"], report["ap"]) if report["before"] else ""
        aps = [points(report[f"ap_{size}"]) for size in SIZE_STYLES]
        counts = (str(sum(report[what].values())) for what in ("missed", "false_positives"))
        cells = [str(report["version"]), points(report["ap"]), change.strip(" ()"), *aps, *counts]
        table.add_row(mark_best(str(report["round"]), is_best), *cells, style="bold" if is_best else "")
    return table


def _classes_table(reports: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Boxes and AP per class, in some of the rounds."""
    headers = (f"round {report['round']}\n{what}" for report in reports for what in ("boxes", "AP"))
    table = Table("by class, in the first, the best and the last round", "class", *headers)
    for name in dict.fromkeys(name for report in reports for name in (*_class_aps(report), *report["boxes"])):
        cells = []
        for report in reports:
            cells += [str(report["boxes"].get(name, "–")), points(_class_aps(report).get(name))]
        table.add_row(name, *cells)
    return table


@takes_training_options(LOOP)
def loop(
    dataset: DatasetFolder,
    run: NewRun,
    model: Model = None,
    rounds: Annotated[
        int | None, typer.Option(metavar="N", help="Maximum number of rounds.", show_default=str(ROUNDS))
    ] = None,
    target_ap: Annotated[
        float | None, typer.Option(metavar="AP", help="Stop once the AP on val is at least this, 0 to 1.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Early stopping: stop after N rounds without a better AP.", show_default="never"
        ),
    ] = None,
    min_side: MinSide = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted loop, or a finished one with more --rounds.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    from curate.commands.loop import loop as command

    training, warn = given(as_arguments(options)), EarlyNotes()
    own = {name: training.pop(name, None) for name in ("weights", "steps")}
    with progress_on_stderr() as progress, explain_interruption(partial(_what_is_saved, dataset, run)):
        result = command(
            dataset,
            model=model,
            run=run,
            rounds=rounds,
            target_ap=target_ap,
            patience=patience,
            training=training,
            min_side=min_side,
            resume=resume,
            overwrite=overwrite,
            announce=_print_round,
            progress=progress,
            warn=warn,
            **own,
        )
    show(result, loop_tables, as_json=as_json, early=warn)


def _what_is_saved(dataset: Any, run: str) -> str:
    from curate.errors import CurateError
    from curate.run_folder.folder import RunFolder
    from curate.run_folder.rounds import has_checkpoint, runs_in

    try:
        return _SAVED if any(map(has_checkpoint, runs_in(RunFolder.named(dataset, run)))) else NOTHING_SAVED
    except CurateError as error:
        return str(error)


def _print_round(report: "RoundReport") -> None:
    from curate.result import as_json

    say(round_lines(as_json(report)), lines=True)


def loop_brief(document: Mapping[str, Any]) -> str:
    return f"{count_of(len(document['rounds']), 'round')}, val AP {points(document['ap'])}"
