"""A differentiable rasteriser: triangles with soft edges and soft occlusion, in plain torch.

After Liu, Li, Chen, Li: Soft Rasterizer (arXiv 1904.01786): at each pixel a triangle j has a presence D_j and a weight

    w_j ∝ D_j · exp(−depth_j / γ),  C = A · Σ_j w_j C_j + (1 − A) · background

with C_j and depth_j at the triangle's point nearest to the pixel. Two things differ. D_j = exp(−d² / 2σ²), with d the
distance to the triangle in pixels, is 1 inside, so that no seams show between neighbours; and the silhouette is
A = max_j D_j, so that a fine mesh has no thicker rim than a coarse one. Only pairs of a triangle and a pixel that are
within `_REACH` σ of each other are ever made, which is what makes it small enough for a CPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_REACH = 4.0  # of σ; a presence of 0.0003 is left there
_NEAR = 1e-3
_SMALLEST_AREA_PX2 = 1e-4  # a triangle seen from its edge has no inside to speak of, and its gradients no bound


@dataclass(frozen=True)
class Softness:
    """How far a pixel feels what does not cover it.

    Attributes:
        edge_px: σ. Half a pixel is about as blurred as a picture is anyway; less starves gradients of shape.
        depth: γ, in the units of depth. A nose stands out by about 0.2 radii of a face.
    """

    edge_px: float = 0.5
    depth: float = 0.05


@dataclass(frozen=True, eq=False)
class _Frame:
    """What all pictures of one call have in common."""

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
    """Draw p meshes that share their triangles; gradients go to all of `screen` and `colours`.

    Triangles with a corner behind the camera are left out. A mesh with a value that is not finite gives a picture of
    NaN, so that a training notices.

    Args:
        screen: (p, v, 3): x and y in pixels from the top left edge, depth.
        colours: (p, v, 3)
        triangles: (t, 3) int64
        width_px: of the pictures.
        height_px: of the pictures.
        softness: of edges and occlusion.
        background: grey where no triangle is.
        pairs_at_once: of a triangle and a pixel. Each takes about 400 bytes; with more than these in all, the backward
            pass computes the forward pass again, part by part.

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
    """Runs of pictures, and bands of rows where one picture is too much: about `at_once` pairs each."""
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
    """The rows of the pictures: (p, 3, len(rows), width)."""
    count, size = len(screen), len(rows) * frame.width_px
    triangle, column, row = _near_pairs(screen.detach(), frame, rows)
    corners = torch.cat([screen, colours], dim=-1).index_select(1, frame.triangles.flatten()).view(-1, 18)
    # (x y depth red green blue, corner, n): sums are over the first dimensions, as those over the last are slow
    corners = corners.index_select(0, triangle).t().contiguous().view(3, 6, -1).transpose(0, 1)
    points = torch.stack([column, row]).to(screen.dtype) + 0.5
    nearness = -_distance2(points, corners[:2]) / (2 * frame.softness.edge_px**2)  # log D
    shares = _shares(points, corners[:2]) / corners[2]
    depth = 1 / shares.sum(dim=0)
    # in space: those on the screen, divided by depth
    colour = (shares * depth * corners[3:]).sum(dim=1).t()  # (n, 3)
    cell = triangle // len(frame.triangles) * size + (row - rows.start) * frame.width_px + column
    blended = _blended(nearness - depth / frame.softness.depth, colour, cell, count * size)
    nothing = nearness.new_zeros(count * size)
    coverage = nothing.scatter_reduce(0, cell, torch.exp(nearness), reduce="amax")[:, None]
    picture = coverage * blended + (1 - coverage) * frame.background
    return picture.view(count, len(rows), frame.width_px, 3).permute(0, 3, 1, 2)


def _blended(scores: Tensor, colour: Tensor, cell: Tensor, cells: int) -> Tensor:
    """Softmax of (n,) scores within each cell, over (n, 3) colours: (cells, 3), 0 where there is none."""
    highest = scores.new_zeros(cells).scatter_reduce(0, cell, scores.detach(), reduce="amax", include_self=False)
    weights = torch.exp(scores - highest.index_select(0, cell))
    # the smallest number keeps empty cells from 0 / 0, and is nothing beside a sum that holds a 1
    total = scores.new_full((cells,), torch.finfo(scores.dtype).tiny).scatter_add(0, cell, weights)
    sums = scores.new_zeros(cells, 3).scatter_add(0, cell[:, None].expand(-1, 3), weights[:, None] * colour)
    return sums / total[:, None]


@torch.no_grad()
def _near_pairs(screen: Tensor, frame: _Frame, rows: range) -> tuple[Tensor, Tensor, Tensor]:
    """Each pair within reach: the triangle, counted over all pictures, and the pixel's column and row."""
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
    """For each triangle of each picture: first column, first row, columns and rows that may be within reach."""
    corners = screen[:, frame.triangles].flatten(0, 1)  # (p · t, 3, 3)
    flat = corners[..., :2]
    is_drawn = corners.isfinite().all(dim=2).all(dim=1) & (corners[..., 2] > _NEAR).all(dim=1)
    is_drawn &= _cross((flat[:, 1] - flat[:, 0]).t(), (flat[:, 2] - flat[:, 0]).t()).abs() > _SMALLEST_AREA_PX2
    flat = torch.where(is_drawn[:, None, None], flat, torch.zeros_like(flat))
    reach = _REACH * frame.softness.edge_px
    first = torch.tensor([0, rows.start], device=screen.device)
    end = torch.tensor([frame.width_px, rows.stop], device=screen.device)
    # a pixel's middle is half a pixel in; clamped before they are integers, which may be too small for them
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


def _shares(points: Tensor, corners: Tensor) -> Tensor:
    """(3, n) barycentric coordinates on the screen; from outside, those of a point on the edge."""
    sides = corners.roll(-1, dims=1) - corners
    areas = _cross(sides, points[:, None] - corners).roll(-1, dims=0)  # side i + 1 lies opposite to corner i
    shares = (areas / areas.sum(dim=0)).clamp(min=0)
    return shares / shares.sum(dim=0)


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return first[0] * second[1] - first[1] * second[0]
