"""The options of a training, which `train` and `loop` share."""

from typing import Annotated

import typer

Model = Annotated[str, typer.Option(metavar="ENGINE:NAME", help="Such as torchvision:fasterrcnn_resnet50_fpn_v2.")]
Run = Annotated[str, typer.Option(metavar="RUN", help="Name of the run in DATASET/runs, or a path with a slash.")]
Weights = Annotated[
    str | None,
    typer.Option(metavar="FILE|package:NAME|none", help="Where to start from; default: the library's own."),
]
Steps = Annotated[int | None, typer.Option(help="Optimizer steps.")]
Epochs = Annotated[float | None, typer.Option(help="Instead of steps: how often every image is shown.")]
Batch = Annotated[int | None, typer.Option(help="Images a step.")]
LearningRate = Annotated[float | None, typer.Option("--lr", help="Highest learning rate.")]
ImageSize = Annotated[int | None, typer.Option(metavar="PX", help="Shorter side that the model sees.")]
Balance = Annotated[
    str | None,
    typer.Option(metavar="repeat-factor[:SHARE]", help="Show images of classes rarer than SHARE (0.3) more often."),
]
Loss = Annotated[str | None, typer.Option(metavar="focal", help="Weigh hard examples more, where the model can.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="The engine's own settings; may be given several times."),
]
Seed = Annotated[int | None, typer.Option(help="Of everything that chance decides.")]
Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")]
Processes = Annotated[int | None, typer.Option(metavar="N", help="Train on N GPUs.")]
EvalEvery = Annotated[int | None, typer.Option(metavar="STEPS", help="Steps between evaluations on val.")]
CheckpointEvery = Annotated[int | None, typer.Option(metavar="STEPS", help="Steps between checkpoints.")]
Workers = Annotated[int | None, typer.Option(help="Processes that read images.")]
