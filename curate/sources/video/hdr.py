"""Maps pictures of high dynamic range and wide gamut to what photographs are: Rec. 709 primaries, sRGB, 8 bits.

Light is counted in reference whites: the 203 cd/m² of a white sheet (ITU-R BT.2408, table 1) are 1. Up to 3/4 of that
light stays as it is. Brighter light is compressed, so that highlights keep their texture, and a display's peak of
1000 cd/m² becomes white.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc
from numpy.typing import NDArray

PIXEL_FORMAT = "rgb48le"
"""What `map_to_srgb` takes."""

_REFERENCE_WHITE, _PEAK = 203.0, 1000.0  # cd/m²
_KNEE = 0.75  # in reference whites
_LEVELS = 65535
_PIXELS_AT_ONCE = 2**15  # what stays in a processor's cache: three times as fast
_NAMES = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
_GAMUTS = {ColorPrimaries.BT709: "BT.709", ColorPrimaries.BT2020: "BT.2020", ColorPrimaries.SMPTE432: "Display P3"}
_RELATIVE_PEAK = _PEAK / _REFERENCE_WHITE
# chromaticities x, y of red, green and blue; white is D65 in all of them
_PRIMARIES = {
    ColorPrimaries.BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),  # ITU-R BT.709-6, 1.3
    ColorPrimaries.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # ITU-R BT.2020-2, table 3
    ColorPrimaries.SMPTE432: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3, SMPTE EG 432-1
}
_WHITE_D65 = (0.3127, 0.3290)
_LUMINANCE_BT2020 = (0.2627, 0.6780, 0.0593)


@dataclass(frozen=True)
class Colours:
    """How a picture's samples encode light.

    Attributes:
        transfer: PQ, HLG, or anything else for a usual curve.
        primaries: Those of `_PRIMARIES`.
    """

    transfer: ColorTrc | None
    primaries: ColorPrimaries

    @property
    def is_hdr(self) -> bool:
        return self.transfer is not None

    def __str__(self) -> str:
        gamut = _GAMUTS[self.primaries]
        return f"HDR ({_NAMES[self.transfer]}, {gamut})" if self.transfer else f"wide-gamut ({gamut})"


def find_colours(frame: VideoFrame) -> Colours | None:
    """The colours of a frame that have to be mapped, as its file tells; None for usual ones."""
    return _find_colours(int(frame.color_trc), int(frame.color_primaries))


@cache
def _find_colours(trc: int, color_primaries: int) -> Colours | None:
    transfer = next((known for known in _NAMES if known == trc), None)
    primaries = next((known for known in _PRIMARIES if known == color_primaries), None)
    if transfer is not None:
        return Colours(transfer, primaries or ColorPrimaries.BT2020)  # ITU-R BT.2100 has no other
    return Colours(None, primaries) if primaries not in (None, ColorPrimaries.BT709) else None


def map_to_srgb(pixels: NDArray[np.uint16], colours: Colours) -> NDArray[np.uint8]:
    """Map H×W×3 RGB of full range, 16 bits, to H×W×3 sRGB, 8 bits."""
    mapped = np.empty(pixels.shape, dtype=np.uint8)
    rows = max(_PIXELS_AT_ONCE // pixels.shape[1], 1)
    for top in range(0, len(pixels), rows):
        mapped[top : top + rows] = _map_rows(pixels[top : top + rows], colours)
    return mapped


def _map_rows(pixels: NDArray[np.uint16], colours: Colours) -> NDArray[np.uint8]:
    light = np.take(_light_of_level(colours.transfer), pixels)  # H×W×3, in reference whites
    if colours.transfer == ColorTrc.ARIB_STD_B67:
        # the display's brightness depends on the luminance of the scene: ITU-R BT.2100-2, table 5, for 1000 cd/m²
        luminance = light @ np.array(_LUMINANCE_BT2020, dtype=np.float32)
        light *= (np.maximum(luminance, 1e-6) ** 0.2 * _RELATIVE_PEAK)[..., None]
    light = np.asarray(cv2.transform(light, _matrix_to_bt709(colours.primaries)))
    np.maximum(light, 0.0, out=light)
    if colours.is_hdr:
        brightest = np.maximum(np.maximum(light[..., 0], light[..., 1]), light[..., 2])
        light *= _compression(brightest)[..., None]
    levels = np.minimum(light * _LEVELS + 0.5, _LEVELS).astype(np.uint16)
    return np.take(_srgb_of_level(), levels)


def _compression(brightest: NDArray[np.float32]) -> NDArray[np.float32]:
    """The factor for all channels of a pixel, by its brightest one, which keeps the hue. (h, w) → (h, w)

    Above the knee it is the extended curve of Reinhard et al., "Photographic Tone Reproduction for Digital Images"
    (2002), equation 4.
    """
    over = np.maximum(brightest - _KNEE, 0.0) / (1 - _KNEE)
    most = (_RELATIVE_PEAK - _KNEE) / (1 - _KNEE)
    compressed = over * (1 + over / most**2) / (1 + over)
    return np.where(over > 0, (_KNEE + (1 - _KNEE) * compressed) / np.maximum(brightest, _KNEE), 1.0).astype(np.float32)


@cache
def _light_of_level(transfer: ColorTrc | None) -> NDArray[np.float32]:
    """Light of each of the 65536 levels of a channel, in reference whites; of the scene, 0 to 1, for HLG."""
    signal = np.arange(_LEVELS + 1) / _LEVELS
    if transfer == ColorTrc.SMPTE2084:  # ITU-R BT.2100-2, table 4
        m1, m2, c1, c2, c3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128
        power = signal ** (1 / m2)
        light = 10_000 / _REFERENCE_WHITE * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    elif transfer == ColorTrc.ARIB_STD_B67:  # ITU-R BT.2100-2, table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    else:  # of sRGB, which the mapping ends with: greys stay the same
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@cache
def _srgb_of_level() -> NDArray[np.uint8]:
    """IEC 61966-2-1."""
    light = np.arange(_LEVELS + 1) / _LEVELS
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (signal * 255).round().astype(np.uint8)


@cache
def _matrix_to_bt709(primaries: ColorPrimaries) -> NDArray[np.float32]:
    """(3, 3), for columns of linear RGB."""
    return (np.linalg.inv(_matrix_to_xyz(ColorPrimaries.BT709)) @ _matrix_to_xyz(primaries)).astype(np.float32)


def _matrix_to_xyz(primaries: ColorPrimaries) -> NDArray[np.float64]:
    """SMPTE RP 177: columns are the primaries, scaled so that their sum is white. (3, 3)"""
    unscaled = np.array([_xyz(*point) for point in _PRIMARIES[primaries]]).T
    return unscaled * np.linalg.solve(unscaled, _xyz(*_WHITE_D65))


def _xyz(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])
