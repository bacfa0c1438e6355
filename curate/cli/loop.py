"""`loop`, `runs`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli import train_options as of
from curate.cli.options import AsJson, DatasetFolder, MinSide, Overwrite, assignments
from curate.cli.output import interruption_told, progress_on_stderr, show

if TYPE_CHECKING:
    from curate.run_folder.rounds import RoundReport

_KEPT = "finished rounds are kept, and of the one at hand what was learnt. Go on with the same command and --resume."


def loop(
    dataset: DatasetFolder,
    model: of.Model,
    run: of.Run,
    weights: of.Weights = None,
    rounds: Annotated[int | None, typer.Option(metavar="N", help="At most so many; default: 3.")] = None,
    target_ap: Annotated[
        float | None, typer.Option(metavar="AP", help="Stop once AP on val is so high, 0 to 1.")
    ] = None,
    patience: Annotated[int | None, typer.Option(metavar="N", help="Stop after N rounds without a better AP.")] = None,
    min_side: MinSide = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps of each round.")] = None,
    epochs: of.Epochs = None,
    batch: of.Batch = None,
    lr: of.LearningRate = None,
    image_size: of.ImageSize = None,
    balance: of.Balance = None,
    loss: of.Loss = None,
    setting: of.Setting = None,
    seed: Annotated[int | None, typer.Option(help="Of the first round; each round takes the next.")] = None,
    device: of.Device = None,
    processes: of.Processes = None,
    eval_every: of.EvalEvery = None,
    checkpoint_every: of.CheckpointEvery = None,
    workers: of.Workers = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the loop stopped, also with more --rounds.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune and evaluate in rounds, each on the newest labels, and say what changed."""
    from curate.cli.run_tables import loop_tables
    from curate.commands.loop import loop as step

    training = {
        "epochs": epochs,
        "batch": batch,
        "lr": lr,
        "image_size": image_size,
        "balance": balance,
        "loss": loss,
        "settings": assignments(setting) or None,
        "seed": seed,
        "device": device,
        "processes": processes,
        "eval_every": eval_every,
        "checkpoint_every": checkpoint_every,
        "workers": workers,
    }
    with progress_on_stderr() as progress, interruption_told(_KEPT):
        result = step(
            dataset,
            model=model,
            run=run,
            weights=weights,
            steps=steps,
            rounds=rounds,
            target_ap=target_ap,
            patience=patience,
            training={name: value for name, value in training.items() if value is not None},
            min_side=min_side,
            resume=resume,
            overwrite=overwrite,
            announce=_tell,
            progress=progress,
        )
    show(result, loop_tables, as_json=as_json)


def runs(
    dataset: DatasetFolder,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw AP by size over rounds and steps.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """List the runs of a dataset and compare their AP by size."""
    from curate.cli.run_tables import runs_tables
    from curate.commands.runs import runs as step

    show(step(dataset, plot=plot, overwrite=overwrite), runs_tables, as_json=as_json)


def _tell(report: "RoundReport") -> None:
    from curate.cli.run_tables import round_lines
    from curate.result import as_json

    typer.echo(round_lines(as_json(report)), err=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("loop", rich_help_panel="Train and judge")(loop)
    app.command("runs", rich_help_panel="Train and judge")(runs)
