"""A pen for smooth shapes on an enlarged picture: what people and places are drawn with."""

from __future__ import annotations

import math

import cv2
import numpy as np

WIDTH, HEIGHT, ZOOM = 320, 240, 3  # px; drawn ZOOM times larger, then averaged down

ANGLES = np.linspace(0, 2 * math.pi, 48, endpoint=False)
OVAL = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)  # (48, 2), clockwise on the screen, from the right


def turn_matrix(tilt: float) -> np.ndarray:
    """Return the (2, 2) matrix that turns rows of points clockwise by `tilt` radians."""
    return np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])


class Pen:
    """Draws smooth shapes, given in face lengths, at one place, size and angle of an enlarged canvas."""

    def __init__(self, canvas: np.ndarray, x: float = 0, y: float = 0, size: float = 1, tilt: float = 0):
        self.canvas, self.size = canvas, size * ZOOM
        self.matrix, self.origin = turn_matrix(tilt) * self.size, np.array([x, y]) * ZOOM

    def place(self, points) -> np.ndarray:
        """Turn (n, 2) face lengths into canvas pixels."""
        return np.asarray(points, float) @ self.matrix + self.origin

    def fill(self, points, colour, alpha: float = 1.0, soft: float = 0.0) -> None:
        """Fill a polygon, see-through by `alpha`, its edge blurred by `soft` (sigma)."""
        placed = self.place(points)
        sigma = soft * self.size
        low = np.maximum(np.floor(placed.min(0) - 3 * sigma - 2), 0).astype(int)
        high = np.minimum(np.ceil(placed.max(0) + 3 * sigma + 2), (WIDTH * ZOOM, HEIGHT * ZOOM)).astype(int)
        if (high <= low).any():
            return
        if alpha == 1 and sigma <= 0.3:
            cv2.fillPoly(self.canvas, [np.round(placed * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
            return
        part = self.canvas[low[1] : high[1], low[0] : high[0]]
        mask = np.zeros(part.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round((placed - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        if sigma > 0.3:
            mask = cv2.GaussianBlur(mask, (0, 0), sigma)
        weight = mask[..., None].astype(np.float32) * np.float32(alpha / 255)
        part[:] = (part + (np.float32(colour) - part) * weight + 0.5).astype(np.uint8)

    def oval(self, x, y, rx, ry, colour, alpha: float = 1.0, soft: float = 0.0) -> None:
        """Fill an ellipse."""
        self.fill(OVAL * (rx, ry) + (x, y), colour, alpha, soft)

    def stroke(self, points, thickness, colour) -> None:
        """Draw an open line with round ends."""
        placed = np.round(self.place(points) * 16).astype(np.int32)
        cv2.polylines(self.canvas, [placed], False, colour, max(1, round(thickness * self.size)), cv2.LINE_AA, 4)


def rectangle(x0, y0, x1, y1) -> list[tuple[float, float]]:
    """Corners of an upright rectangle."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def smooth(points, rounds: int = 3) -> np.ndarray:
    """Round a polygon's corners (Chaikin's corner cutting)."""
    points = np.asarray(points, float)
    for _ in range(rounds):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1).reshape(-1, 2)
    return points


def arc(x0, x1, y, bend, count: int = 12) -> np.ndarray:
    """Points from (x0, y) to (x1, y) on a parabola that dips by `bend` in the middle."""
    share = np.linspace(-1, 1, count)
    return np.stack([x0 + (x1 - x0) * (share + 1) / 2, y + bend * (1 - share**2)], axis=1)


def shade(colour, factor: float) -> tuple[int, ...]:
    """Darken (< 1) or lighten (> 1) a colour."""
    return tuple(min(255, int(c * factor)) for c in colour)


def pick(colours, share: float):
    """Choose by a share in 0..1."""
    return colours[int(share * len(colours)) % len(colours)]
