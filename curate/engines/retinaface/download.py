"""The published weights of the light detector: their URL, checksum and place in the cache. Does not import torch.

They were trained on WIDER FACE by the authors of Face-Detector-1MB-with-landmark and have the MIT licence.
"""

import hashlib
from pathlib import Path

from curate.engines.base import PublishedWeights
from curate.engines.models import torch_cache

LIGHT_SHA256 = "ed6fa7d45a5179f03cb5ce82c73b0c6711372968e53782e88395acee88d319e1"
LIGHT_URL = (
    "https://github.com/biubug6/Face-Detector-1MB-with-landmark/raw/2b075657aef954b9426f938ac7fce100b6910fe6"
    "/weights/mobilenet0.25_Final.pth"
)


def light_file() -> Path:
    """The file's place in torch's download cache; it need not exist."""
    return torch_cache() / f"retinaface_mobilenet0.25-{LIGHT_SHA256[:8]}.pth"


def is_complete(file: Path) -> bool:
    """Whether a file exists and has the checksum of the published one."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == LIGHT_SHA256
    except OSError:
        return False


def published_weights() -> PublishedWeights:
    """See `EngineEntry.weights`."""
    file = light_file()
    return PublishedWeights(
        name="RetinaFace weights",
        needed_for="finding faces with `retinaface:mobilenet0.25`",
        file=file,
        is_complete=is_complete(file),
        remedy=f"The first training downloads them; or fetch {LIGHT_URL} (1.8 MB, MIT) and pass it with --weights.",
    )
