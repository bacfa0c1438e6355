"""A differentiable rasteriser with soft edges and soft occlusion, in plain torch.

Based on Liu, Li, Chen, Li: Soft Rasterizer (arXiv 1904.01786). At each pixel a triangle j has a presence D_j and weight

    w_j ∝ D_j · exp(−depth_j / γ),  C = A · Σ_j w_j C_j + (1 − A) · background

with C_j and depth_j at the triangle's point nearest to the pixel. It differs from that paper in two points.
D_j = exp(−d² / 2σ²), with d the distance to the triangle in pixels, is 1 inside: no seams show between neighbours. The
silhouette is A = max_j D_j: a fine mesh has no thicker rim than a coarse one. Only pairs of a triangle and a pixel
within `_REACH` σ of each other are computed, which makes it fast enough for a CPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_REACH = 4.0  # in σ; the presence there is 0.0003
_NEAR = 1e-3
_SMALLEST_AREA_PX2 = 1e-4  # the gradients of a triangle seen edge-on are unbounded


@dataclass(frozen=True)
class Softness:
    """Softness of edges and occlusion.

    Attributes:
        edge_px: σ. Half a pixel is about the blur of a photograph; with less, the shape gets hardly any gradient.
        depth: γ, in units of depth. A nose stands out by about 0.2 radii of a face.
    """

    edge_px: float = 0.5
    depth: float = 0.05


@dataclass(frozen=True, eq=False)
class _Frame:
    """The arguments that all images of one call share."""

    triangles: Tensor
    width_px: int
    softness: Softness
    background: float


def rasterise(
    screen: Tensor,
    colours: Tensor,
    triangles: Tensor,
    width_px: int,
    height_px: int,
    *,
    softness: Softness | None = None,
    background: float = 0.5,
    pairs_at_once: int = 2**18,
) -> Tensor:
    """Render p meshes with common triangles; gradients flow to `screen` and `colours`.

    Triangles with a corner behind the camera are left out. A mesh with a non-finite value gives an image of NaN, which
    a training reports.

    Args:
        screen: (p, v, 3): x and y in pixels from the top left edge, depth.
        colours: (p, v, 3)
        triangles: (t, 3) int64
        width_px: Of the images.
        height_px: Of the images.
        softness: Of edges and occlusion.
        background: Grey where no triangle is.
        pairs_at_once: Pairs of a triangle and a pixel, about 400 bytes each. With more in total, the backward pass
            recomputes the forward pass part by part.

    Returns:
        (p, 3, height_px, width_px)
    """
    frame = _Frame(triangles, width_px, softness or Softness(), background)
    pairs = _pairs_a_picture(screen.detach(), frame, height_px).tolist()
    portions = list(_portions(pairs, height_px, pairs_at_once))
    drawn: list[Tensor] = []
    for pictures, bands in portions:
        parts = []
        for rows in bands:
            draw = partial(_draw, frame=frame, rows=rows)
            if len(portions) > 1 or len(bands) > 1:
                draw = partial(checkpoint, draw, use_reentrant=False, preserve_rng_state=False)
            parts.append(draw(screen[pictures], colours[pictures]))
        drawn.append(torch.cat(parts, dim=2))
    if not drawn:
        return colours.new_zeros(0, 3, height_px, width_px)
    marks = 0 * (screen + colours).sum(dim=(1, 2))  # 0, or NaN
    return torch.cat(drawn) + marks[:, None, None, None]


def _portions(pairs: list[int], height_px: int, at_once: int) -> Iterator[tuple[slice, list[range]]]:
    """Groups of images of about `at_once` pairs each; a larger image is split into bands of rows."""
    start, total = 0, 0
    for index, count in enumerate(pairs):
        if total and total + count > at_once:
            yield slice(start, index), _bands(total, height_px, at_once)
            start, total = index, 0
        total += count
    if start < len(pairs):
        yield slice(start, len(pairs)), _bands(total, height_px, at_once)


def _bands(count: int, height_px: int, at_once: int) -> list[range]:
    bands = min(height_px, -(-count // at_once)) or 1
    ends = [height_px * band // bands for band in range(bands + 1)]
    return [range(top, end) for top, end in pairwise(ends)]


def _draw(screen: Tensor, colours: Tensor, frame: _Frame, rows: range) -> Tensor:
    """Render some rows of the images: (p, 3, len(rows), width)."""
    count, size = len(screen), len(rows) * frame.width_px
    triangle, column, row = _near_pairs(screen.detach(), frame, rows)
    corners = torch.cat([screen, colours], dim=-1).index_select(1, frame.triangles.flatten()).view(-1, 18)
    # (x y depth red green blue, corner, n): sums over the first dimensions are faster than over the last
    corners = corners.index_select(0, triangle).t().contiguous().view(3, 6, -1).transpose(0, 1)
    points = torch.stack([column, row]).to(screen.dtype) + 0.5
    nearness = -_distance2(points, corners[:2]) / (2 * frame.softness.edge_px**2)  # log D
    shares = _barycentric(points, corners[:2]) / corners[2]
    depth = 1 / shares.sum(dim=0)
    # barycentric coordinates in space: those on the screen, divided by depth
    colour = (shares * depth * corners[3:]).sum(dim=1).t()  # (n, 3)
    cell = triangle // len(frame.triangles) * size + (row - rows.start) * frame.width_px + column
    blended = _blended(nearness - depth / frame.softness.depth, colour, cell, count * size)
    nothing = nearness.new_zeros(count * size)
    coverage = nothing.scatter_reduce(0, cell, torch.exp(nearness), reduce="amax")[:, None]
    picture = coverage * blended + (1 - coverage) * frame.background
    return picture.view(count, len(rows), frame.width_px, 3).permute(0, 3, 1, 2)


def _blended(scores: Tensor, colour: Tensor, cell: Tensor, cells: int) -> Tensor:
    """Blend (n, 3) colours by a softmax of (n,) scores within each cell: (cells, 3), 0 in empty cells."""
    highest = scores.new_zeros(cells).scatter_reduce(0, cell, scores.detach(), reduce="amax", include_self=False)
    weights = torch.exp(scores - highest.index_select(0, cell))
    # the smallest positive number prevents 0 / 0 in empty cells and is negligible in all others, whose sum is 1 or more
    total = scores.new_full((cells,), torch.finfo(scores.dtype).tiny).scatter_add(0, cell, weights)
    sums = scores.new_zeros(cells, 3).scatter_add(0, cell[:, None].expand(-1, 3), weights[:, None] * colour)
    return sums / total[:, None]


@torch.no_grad()
def _near_pairs(screen: Tensor, frame: _Frame, rows: range) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs within reach: the triangle, counted over all images, and the pixel's column and row."""
    left, top, columns, lines = _boxes(screen, frame, rows)
    counts = columns * lines
    triangle = torch.repeat_interleave(torch.arange(len(counts), device=screen.device), counts)
    place = torch.arange(len(triangle), device=screen.device) - (counts.cumsum(0) - counts)[triangle]
    column = left[triangle] + place % columns[triangle]
    row = top[triangle] + place // columns[triangle]
    corners = screen[..., :2].index_select(1, frame.triangles.flatten()).view(-1, 6)
    corners = corners.index_select(0, triangle).t().contiguous().view(3, 2, -1).transpose(0, 1)
    points = torch.stack([column, row]).to(screen.dtype) + 0.5
    near = _distance2(points, corners) <= (_REACH * frame.softness.edge_px) ** 2
    return triangle[near], column[near], row[near]


def _pairs_a_picture(screen: Tensor, frame: _Frame, height_px: int) -> Tensor:
    _, _, columns, lines = _boxes(screen, frame, range(height_px))
    return (columns * lines).view(len(screen), len(frame.triangles)).sum(dim=1)


def _boxes(screen: Tensor, frame: _Frame, rows: range) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each triangle of each image: first column, first row, number of columns and of rows within reach."""
    corners = screen[:, frame.triangles].flatten(0, 1)  # (p · t, 3, 3)
    flat = corners[..., :2]
    is_drawn = corners.isfinite().all(dim=2).all(dim=1) & (corners[..., 2] > _NEAR).all(dim=1)
    is_drawn &= _cross((flat[:, 1] - flat[:, 0]).t(), (flat[:, 2] - flat[:, 0]).t()).abs() > _SMALLEST_AREA_PX2
    flat = torch.where(is_drawn[:, None, None], flat, torch.zeros_like(flat))
    reach = _REACH * frame.softness.edge_px
    first = torch.tensor([0, rows.start], device=screen.device)
    end = torch.tensor([frame.width_px, rows.stop], device=screen.device)
    # a pixel's centre is at half a pixel; clamped before the conversion, which could overflow
    low = torch.ceil(flat.amin(dim=1) - reach - 0.5).clamp(min=first, max=end).long()
    high = torch.floor(flat.amax(dim=1) + reach + 0.5).clamp(min=first, max=end).long()
    sides = (high - low).clamp(min=0) * is_drawn[:, None]
    return low[:, 0], low[:, 1], sides[:, 0], sides[:, 1]


def _distance2(points: Tensor, corners: Tensor) -> Tensor:
    """(n,) squared distances of (2, n) points to (2, 3, n) triangles, 0 inside."""
    sides = corners.roll(-1, dims=1) - corners
    offsets = points[:, None] - corners
    along = ((offsets * sides).sum(dim=0) / (sides**2).sum(dim=0)).clamp(0, 1)
    distances2 = ((offsets - along * sides) ** 2).sum(dim=0).amin(dim=0)
    turns = _cross(sides, offsets)  # (3, n), all of one sign inside
    is_inside = (turns >= 0).all(dim=0) | (turns <= 0).all(dim=0)
    return torch.where(is_inside, torch.zeros_like(distances2), distances2)


def _barycentric(points: Tensor, corners: Tensor) -> Tensor:
    """(3, n) barycentric coordinates on the screen; for points outside, those of a point on the edge."""
    sides = corners.roll(-1, dims=1) - corners
    areas = _cross(sides, points[:, None] - corners).roll(-1, dims=0)  # side i + 1 is opposite corner i
    shares = (areas / areas.sum(dim=0)).clamp(min=0)
    return shares / shares.sum(dim=0)


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return first[0] * second[1] - first[1] * second[0]
