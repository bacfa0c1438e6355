"""Anchors, and the encoding of boxes and landmarks relative to them.

An anchor is (centre x, centre y, width, height) in pixels. The target of a box is ((x − xa)/wa, (y − ya)/ha,
log(w/wa), log(h/ha)), that of a landmark ((x − xa)/wa, (y − ya)/ha) (Deng et al.: RetinaFace, arXiv 1905.00641, section
3.1), centres and landmarks divided by the first variance, sides by the second (as SSD's implementations do).
"""

import math

import torch
from torch import Tensor

_HIGHEST_LOG_SIDE = math.log(1000)  # so that no side overflows


def anchors_on(
    width: int, height: int, strides: tuple[int, ...], sizes: tuple[tuple[float, ...], ...], device: torch.device
) -> Tensor:
    """The anchors of all levels, level by level, row by row, cell by cell. (a, 4) float32

    Args:
        width: Of the canvas, in pixels.
        height: Of the canvas, in pixels.
        strides: Pixels between the cells of each level; the first cell's centre is half a stride from the edge.
        sizes: Sides of the square anchors of each level, in pixels.
        device: Of the result.
    """
    levels = []
    for stride, sides in zip(strides, sizes, strict=True):
        columns, rows = math.ceil(width / stride), math.ceil(height / stride)
        y = (torch.arange(rows, device=device) + 0.5) * stride
        x = (torch.arange(columns, device=device) + 0.5) * stride
        centre_y, centre_x = torch.meshgrid(y, x, indexing="ij")
        centres = torch.stack([centre_x, centre_y], dim=-1)[:, :, None].expand(-1, -1, len(sides), -1)
        side = torch.tensor(sides, dtype=torch.float32, device=device)[:, None].expand(rows, columns, -1, 2)
        levels.append(torch.cat([centres, side], dim=-1).reshape(-1, 4))
    return torch.cat(levels)


def to_corners(anchors: Tensor) -> Tensor:
    """Convert centres and sides to edges. (n, 4) → (n, 4) x0, y0, x1, y1"""
    half = anchors[:, 2:] / 2
    return torch.cat([anchors[:, :2] - half, anchors[:, :2] + half], dim=1)


def encode_boxes(boxes_xyxy: Tensor, anchors: Tensor, variances: tuple[float, float]) -> Tensor:
    """Encode each box relative to its anchor. (n, 4) pixels, (n, 4) → (n, 4)"""
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    offsets = (centres - anchors[:, :2]) / anchors[:, 2:] / variances[0]
    return torch.cat([offsets, torch.log(sides / anchors[:, 2:]) / variances[1]], dim=1)


def decode_boxes(encoded: Tensor, anchors: Tensor, variances: tuple[float, float]) -> Tensor:
    """The inverse of `encode_boxes`. (n, 4), (n, 4) → (n, 4) pixels, x0, y0, x1, y1"""
    centres = anchors[:, :2] + encoded[:, :2] * variances[0] * anchors[:, 2:]
    half = anchors[:, 2:] * torch.exp((encoded[:, 2:] * variances[1]).clamp(max=_HIGHEST_LOG_SIDE)) / 2
    return torch.cat([centres - half, centres + half], dim=1)


def encode_landmarks(landmarks: Tensor, anchors: Tensor, variances: tuple[float, float]) -> Tensor:
    """Encode five points relative to their anchor. (n, 10) pixels x0, y0, … x4, y4, (n, 4) → (n, 10)"""
    points = landmarks.reshape(-1, 5, 2)
    return ((points - anchors[:, None, :2]) / anchors[:, None, 2:] / variances[0]).reshape(-1, 10)


def decode_landmarks(encoded: Tensor, anchors: Tensor, variances: tuple[float, float]) -> Tensor:
    """The inverse of `encode_landmarks`. (n, 10), (n, 4) → (n, 10) pixels"""
    points = encoded.reshape(-1, 5, 2)
    return (anchors[:, None, :2] + points * variances[0] * anchors[:, None, 2:]).reshape(-1, 10)
