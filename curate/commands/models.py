"""`models`: the models to train, with size, published AP, and whether their weights are at hand."""

from dataclasses import dataclass
from importlib.util import find_spec

from curate.engines.base import ENGINES
from curate.engines.models import KnownModel, known_models
from curate.result import Result


@dataclass(frozen=True)
class ModelRow:
    """A model.

    Attributes:
        model: ENGINE:NAME, for `--model`.
        installed: Whether the packages of its engine are installed.
        parameters: Their number, for COCO's 80 classes; None if not published.
        ap: Published AP on COCO val2017, 0 to 1; None where the weights are of no COCO detector.
        trained_on: Data of the weights that a training starts from.
        weights: "here": a training downloads nothing; "package": an installed package holds other weights, for
            `--weights`; "download": the first training downloads them.
        weights_from: Path of the weights, or `package:NAME`; None for a download.
        download_mb: Size of the download; None if not published.
        licence: Of the weights.
    """

    model: str
    installed: bool
    parameters: int | None
    ap: float | None
    trained_on: str
    weights: str
    weights_from: str | None
    download_mb: float | None
    licence: str


@dataclass(frozen=True)
class ModelsResult(Result):
    """The models of all engines."""

    models: tuple[ModelRow, ...]


def models() -> ModelsResult:
    """List the models of all engines. No detector library is loaded; engines that are not installed are listed, too."""
    missing = {
        name: [package for package in entry.packages if find_spec(package.module) is None]
        for name, entry in ENGINES.items()
    }
    notes = [
        f"{name} models need {', '.join(one.name for one in packages)}, not installed here. {packages[0].remedy}"
        for name, packages in missing.items()
        if packages
    ]
    rows = tuple(_row(model, installed=not missing[model.engine]) for model in known_models())
    return ModelsResult(models=rows, notes=tuple(notes))


def _row(model: KnownModel, *, installed: bool) -> ModelRow:
    cached, package = model.cached_file(), model.installed_package()
    if cached is not None:
        weights, place = "here", str(cached)
    elif package is not None:
        weights, place = "package", f"package:{package}"
    else:
        weights, place = "download", None
    return ModelRow(
        model.full_name,
        installed,
        model.parameters,
        model.ap,
        model.trained_on,
        weights,
        place,
        model.download_mb,
        model.licence,
    )
