"""`evaluate`."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.options import (
    Against,
    AsJson,
    DatasetFolder,
    FocalPx,
    MaxDistance,
    MinSide,
    ObjectHeight,
    Overwrite,
    SplitName,
)
from curate.cli.output import counts_line, progress_on_stderr, show, written_lines
from curate.cli.table import SIZE_STYLES, Column, Kind, Table
from curate.formatting import count_of, metres, points
from curate.formatting import score as score_text
from curate.operating_point import DEFAULT_POINT, MAX_DETECTIONS, OperatingPoint

_NO_MATCH = "no match"  # of any class; "missed" in the other tables is without a match of the object's own class


def evaluation_tables(document: Mapping[str, Any]) -> RenderableType:
    """`evaluation_summary`; then confusion, thresholds and sizes of this run."""
    return Group(
        evaluation_summary(document), _confusion_table(document), _threshold_table(document), _side_table(document)
    )


def evaluation_summary(document: Mapping[str, Any]) -> RenderableType:
    """What was found, in sentences; AP, mistakes and classes, beside another run if given."""
    from curate.evaluation.finding import describe_finding, missed_words

    other = document.get("against")
    columns = [(other["run"], other), ("this run", document)] if other else [("", document)]
    first, *more = describe_finding(document)
    finding = Text("\n").join([Text(first, style="bold"), *map(Text, more)])
    misses = [Text(sentence, style="dim"), Text()] if (sentence := missed_words(document)) else []
    classes = [_class_table(title, one) for title, one in columns]
    return Group(
        finding, Text(), _metrics_table(columns), _errors_table(columns), _kinds_table(columns), *misses, *classes
    )


def _metrics_table(columns: list[tuple[str, Mapping[str, Any]]]) -> RenderableType:
    document = columns[-1][1]
    title = f"{document['split']}: {count_of(document['images'], 'image')}, {count_of(document['truth'], 'object')}"
    title += ", without difficult ones" if document.get("ignore_difficult") else ""
    table = Table(title, "", *(name or "all" for name, _ in columns))
    limit = f"AR {document.get('max_detections', MAX_DETECTIONS)}"  # a pipeline may have kept an older document
    table.add_row("classes", *(str(len(one["classes"])) for _, one in columns))
    for label, key in (("AP", "ap"), ("AP50", "ap50"), ("AP75", "ap75"), (limit, "ar_100")):
        table.add_row(label, *(points(one[key]) for _, one in columns), style="bold" if key == "ap" else "")
    for size in SIZE_STYLES:
        table.add_row(f"AP {size}", *(points(one[f"ap_{size}"]) for _, one in columns), style=SIZE_STYLES[size])
    if any(one["range_of_interest"] for _, one in columns):
        interest = document["range_of_interest"] or {}
        sides = f"shorter side ≥ {interest.get('min_side_px', 0):g} px" if interest else "in range"
        table.add_section()
        for label, key in (("AP", "ap"), ("AP50", "ap50"), (limit, "ar_100")):
            cells = (points((one["range_of_interest"] or {}).get(key)) for _, one in columns)
            table.add_row(f"{label}, {sides}", *cells)
    return table


def _errors_table(columns: list[tuple[str, Mapping[str, Any]]]) -> RenderableType:
    document = columns[-1][1]
    point = document["operating_point"]
    title = f"mistakes at score ≥ {point['score']:g}, IoU ≥ {point['iou']:g}"
    if document["range_of_interest"]:
        title += f", shorter side ≥ {document['range_of_interest']['min_side_px']:g} px"
    counts = [(one["errors"]["missed"], one["errors"]["false_positives"]) for _, one in columns]
    rows = {size: [[str(by_size[size]) for by_size in both] for both in counts] for size in SIZE_STYLES}
    rows["all"] = [[str(sum(by_size.values())) for by_size in both] for both in counts]
    runs, styles = [name for name, _ in columns], SIZE_STYLES | {"all": "bold"}
    return _by_run(title, "size", ("missed", "false positives"), runs, rows, styles)


def _kinds_table(columns: list[tuple[str, Mapping[str, Any]]]) -> RenderableType:
    from curate.evaluation.chart_content import kind_label

    cost = f"costs {OperatingPoint(**columns[-1][1]['operating_point']).ap_name}"
    rows = {}
    for kind in columns[0][1]["errors"]["kinds"]:
        # evaluations that were saved by an older version have no costs
        costs = [one["errors"].get("ap_cost", {}).get(kind) for _, one in columns]
        rows[kind] = [
            (str(one["errors"]["kinds"][kind]), points(cost)) for (_, one), cost in zip(columns, costs, strict=True)
        ]
    rows = {kind_label(kind): cells for kind, cells in rows.items()}
    return _by_run(
        "kinds of mistakes; cost over all scores", "kind", ("count", cost), [name for name, _ in columns], rows
    )


def _by_run(
    title: str,
    header: str,
    measures: Sequence[str],
    runs: Sequence[str],
    rows: Mapping[str, Sequence[Sequence[str]]],
    styles: Mapping[str, str] = MappingProxyType({}),
) -> Table:
    """A row per name with the measures of all runs; where that is too wide, a row per name and run."""
    narrow = Table(title, header, Column("run", Kind.TEXT), *measures)
    table = Table(title, header, *(f"{run} {what}".strip() for run in runs for what in measures), narrow=narrow)
    for name, cells_by_run in rows.items():
        table.add_row(name, *(cell for cells in cells_by_run for cell in cells), style=styles.get(name, ""))
        for run, cells in zip(runs, cells_by_run, strict=True):
            narrow.add_row(name, run, *cells, style=styles.get(name, ""))
    return table


def _confusion_table(document: Mapping[str, Any]) -> RenderableType:
    names, matrix = document["confusion"]["classes"], document["confusion"]["matrix"]
    title = "confusion: class of the highest-scored detection on each object"
    table = Table(title, "truth", *names[:-1], _NO_MATCH, narrow=_confusion_list(title, names, matrix))
    for place, (name, counts) in enumerate(zip(names, matrix, strict=True)):
        cells = [Text(str(count), style="bold" if column == place else "") for column, count in enumerate(counts)]
        table.add_row(name, *(cells if place < len(names) - 1 else [*cells[:-1], ""]))
    return table


def _confusion_list(title: str, names: Sequence[str], matrix: Sequence[Sequence[int]]) -> Table:
    """The confusion matrix as one row per class, without the zeros."""
    table = Table(title, "truth", "correct", _NO_MATCH, Column("detected as", Kind.DETAIL))
    for place, (name, counts) in enumerate(zip(names, matrix, strict=True)):
        others = counts_line({names[n]: count for n, count in enumerate(counts[:-1]) if count and n != place}, none="")
        is_class = place < len(names) - 1
        table.add_row(name, *((str(counts[place]), str(counts[-1])) if is_class else ("", "")), others)
    return table


def _threshold_table(document: Mapping[str, Any]) -> RenderableType:
    precision = document["wished_precision"]
    headers = ["best F1", "from score", "precision", "recall"]
    if precision is not None:
        headers += [f"precision ≥ {precision:g} from score", "recall"]
    table = Table("score thresholds", "class", *headers)
    for entry in document["thresholds"]:
        best = entry["best_f1"] or {}
        cells = [points(best.get("f1")), score_text(best.get("score")), points(best.get("precision"))]
        cells.append(points(best.get("recall")))
        if precision is not None:
            cells += [score_text(entry["score"]), points(entry["recall"])]
        table.add_row(entry["class"], *cells)
    return table


def _side_table(document: Mapping[str, Any]) -> RenderableType:
    from curate.evaluation.chart_content import fold_sides
    from curate.evaluation.scores import SideScores

    entries = document["by_min_side"]
    has_distances = any(entry["distance_m"] is not None for entry in entries)
    headers = ["up to", "objects", "AP", "AP50"] if has_distances else ["objects", "AP", "AP50"]
    table = Table("AP by minimum shorter side", "shorter side", *headers)
    chosen = (document["range_of_interest"] or {}).get("min_side_px")
    for row in fold_sides([SideScores(**entry) for entry in entries], chosen):
        distance = [metres(row.scores.distance_m)] if has_distances else []
        cells = [*distance, str(row.scores.truth), points(row.scores.ap), points(row.scores.ap50)]
        table.add_row(row.label, *cells, style="bold" if row.scores.min_side_px == chosen else "")
    return table


def _class_table(title: str, document: Mapping[str, Any]) -> RenderableType:
    sizes = (f"AP {size}" for size in SIZE_STYLES)
    table = Table(f"by class{f', {title}' if title else ''}", "class", "objects", "AP", "AP50", *sizes)
    for entry in document["classes"]:
        cells = [points(entry[key]) for key in ("ap", "ap50", *(f"ap_{size}" for size in SIZE_STYLES))]
        table.add_row(entry["name"], str(entry["truth"]), *cells)
    return table


def evaluate(
    dataset: DatasetFolder,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Run to evaluate, by name or path.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="COCO results to evaluate instead of a run.")
    ] = None,
    split: SplitName = "val",
    min_side: MinSide = None,
    max_distance: MaxDistance = None,
    object_height: ObjectHeight = None,
    focal_px: FocalPx = None,
    score: Annotated[
        float, typer.Option(metavar="SCORE", help="Lowest score of a detection that counts as a match or mistake.")
    ] = DEFAULT_POINT.score,
    precision: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Report the score threshold at which each class reaches this precision."),
    ] = None,
    max_detections: Annotated[
        int,
        typer.Option(metavar="N", help="Highest number of detections per image and class in AP and AR, as in COCO."),
    ] = MAX_DETECTIONS,
    ignore_difficult: Annotated[
        bool,
        typer.Option("--ignore-difficult", help="Count difficult objects neither as found nor as missed, as in VOC."),
    ] = False,
    image_ids: Annotated[
        str | None,
        typer.Option(
            metavar="dataset|names|FILE",
            help="Image ids of --predictions: the dataset's, file names, or those of a COCO file.",
            show_default="what fits",
        ),
    ] = None,
    class_ids: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Class ids of --predictions, such as the class_ids.json of export-coco.",
            show_default="the dataset's",
        ),
    ] = None,
    against: Against = None,
    errors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a table of all mistakes (.csv or .parquet).")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write plots of curves and counts (.png) into this folder.")
    ] = None,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Do not write report.html into the run's folder.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Also show confusion, score thresholds and AP by minimum shorter side.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.evaluate import PLOTS
    from curate.commands.evaluate import evaluate as command

    with progress_on_stderr() as progress:
        result = command(
            dataset,
            run=run,
            predictions=predictions,
            split=split,
            min_side=min_side,
            max_distance=max_distance,
            object_height=object_height,
            focal_px=focal_px,
            score=score,
            precision=precision,
            max_detections=max_detections,
            ignore_difficult=ignore_difficult,
            image_ids=image_ids,
            class_ids=class_ids,
            against=against,
            errors=errors,
            plots=plots,
            report=not no_report,
            overwrite=overwrite,
            progress=progress,
        )
    written = {"mistakes": errors, "plots": f"{plots}: {', '.join(PLOTS)}" if plots else None}
    show(result, partial(_answer, full=full, written=written), as_json=as_json)


def _answer(document: Mapping[str, Any], *, full: bool, written: Mapping[str, object]) -> Group:
    """Sentences and tables, what was written, and what else there is to see."""
    parts = [evaluation_tables(document) if full else evaluation_summary(document)]
    if not full and document["wished_precision"] is not None:
        parts.append(_threshold_table(document))
    if not full:
        parts.append(Text("--full also shows confusion, score thresholds and AP by minimum shorter side", style="dim"))
    return Group(*parts, written_lines({**written, "report": document["report"]}))


def evaluate_brief(document: Mapping[str, Any]) -> str:
    missed = sum(document["errors"]["missed"].values())
    interest = document["range_of_interest"]
    objects = f"{count_of(interest['truth'], 'object')} in range" if interest else count_of(document["truth"], "object")
    return f"AP {points(document['ap'])} on {document['split']}, {missed} of {objects} missed"
