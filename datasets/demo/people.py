"""The people of the demo's scenes: how they look, move and wear their masks.

Lengths are in units of the face's height, origin at the face's middle, x to the right, y downwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pen import ANGLES, HEIGHT, OVAL, WIDTH, Pen, arc, pick, shade, smooth, turn_matrix

WITH, WITHOUT, INCORRECT = "with_mask", "without_mask", "mask_weared_incorrect"

SKINS = [(255, 219, 190), (244, 200, 165), (226, 172, 130), (196, 138, 96), (150, 98, 66), (104, 68, 48)]
HAIRS = [(38, 28, 26), (70, 44, 30), (120, 76, 42), (196, 152, 84), (150, 66, 36), (176, 176, 180)]
SHIRTS = [(58, 92, 140), (170, 62, 58), (70, 130, 92), (214, 168, 70), (112, 84, 140), (70, 74, 84), (220, 214, 200)]
MASKS = [(244, 246, 248), (140, 196, 232), (150, 206, 236), (40, 42, 48), (242, 150, 190), (110, 200, 186)]
NOSE = [(-0.055, -0.015), (-0.03, 0.015), (0, 0.005), (0.03, 0.015), (0.055, -0.015)]
FRAME = (40, 36, 40)  # of glasses
CONTOUR = np.stack([0.4 * OVAL[:, 0] * (1 - 0.16 * np.maximum(OVAL[:, 1], 0) ** 2), 0.5 * OVAL[:, 1]], axis=1)


class Looks(NamedTuple):
    """How a person looks: each a share in 0..1, from which the drawing picks a colour or a shape."""

    skin: float
    hair: float
    style: float
    shirt: float
    cut: float
    smile: float
    extra: float  # a beard, glasses or nothing
    eyes: float
    mask: float
    cap: float


@dataclass(frozen=True)
class Person:
    """Who somebody is and how they move; lengths in px of the small image."""

    size_px: float
    x: float
    y: float
    sway: tuple[float, float, float]  # px to the sides, px up and down, share of the size
    tempo: tuple[float, float, float]  # turns a second
    phase: float
    kind: str
    slip_s: tuple[float, float]  # when the mask is pulled down
    slip_depth: float
    looks: Looks


def make_person(rng: np.random.Generator, size_px: float, ground: float) -> Person:
    """Choose where one person stands on the ground, how they move and look."""
    low = max(0.6 * size_px, ground - 5.2 * size_px)
    high = min(HEIGHT - 0.62 * size_px, ground + 4 * size_px + 20)
    sway = (rng.uniform(5, 15 + 0.4 * size_px), min(4, 0.05 * size_px) * rng.random(), rng.uniform(0.05, 0.2))
    tempo = (rng.uniform(0.03, 0.12), rng.uniform(0.1, 0.4), rng.uniform(0.04, 0.12))
    margin = 0.3 * size_px
    x, y = rng.uniform(margin, WIDTH - margin), rng.uniform(low, max(low, high))
    looks = Looks(*rng.random(len(Looks._fields)).tolist())
    return Person(size_px, x, y, sway, tempo, rng.random(), WITH, (1e9, 1e9), 0.0, looks)


def pose_at(person: Person, time_s: float) -> tuple[float, float, float, float]:
    """Return x, y, face height in px and tilt in radians at a time."""
    turns = [math.sin(2 * math.pi * (tempo * time_s + person.phase * (i + 1))) for i, tempo in enumerate(person.tempo)]
    x = min(max(person.x + person.sway[0] * turns[0], 0.15 * person.size_px), WIDTH - 0.15 * person.size_px)
    size = person.size_px * (1 + person.sway[2] * turns[2])
    return x, person.y + person.sway[1] * turns[1], size, 0.16 * turns[1] + 0.3 * (person.phase - 0.5)


def mask_drop(person: Person, time_s: float) -> float:
    """Say how far the mask is pulled down: 0 over the nose .. 1 at the lowest."""
    start_s, end_s = person.slip_s
    return float(np.clip(min(time_s - start_s, end_s - time_s) / 0.2 + 0.5, 0, 1))


def class_at(person: Person, time_s: float) -> str:
    """Name the class that a labeller would give."""
    return INCORRECT if person.kind == WITH and mask_drop(person, time_s) > 0.5 else person.kind


def face_box(person: Person, time_s: float) -> tuple[float, float, float, float]:
    """Return the box from forehead to chin as pixel edges of the small image, clipped to it."""
    x, y, size, tilt = pose_at(person, time_s)
    turned = CONTOUR @ turn_matrix(tilt) * size + (x, y)
    (x0, y0), (x1, y1) = np.maximum(turned.min(0), 0), np.minimum(turned.max(0), (WIDTH, HEIGHT))
    return float(x0), float(y0), float(x1), float(y1)


def draw_person(canvas: np.ndarray, person: Person, time_s: float) -> None:
    """Draw one person over the canvas."""
    x, y, size, tilt = pose_at(person, time_s)
    body, head = Pen(canvas, x, y, size, tilt * 0.2), Pen(canvas, x, y, size, tilt)
    look = person.looks
    skin, hair, yaw = pick(SKINS, look.skin), pick(HAIRS, look.hair), 0.07 * math.sin(time_s * 0.9 + 9 * person.phase)
    style = int(look.style * 5)  # 0, 1 short hair, 2 long, 3 curls, 4 cap
    draw_body(body, skin, pick(SHIRTS, look.shirt), look.cut)
    if style == 2:
        head.fill(smooth([(-0.5, -0.5), (0.5, -0.5), (0.56, 0.75), (0.3, 0.8), (-0.3, 0.8), (-0.56, 0.75)]), hair)
        body.fill(smooth([(-0.17, 0.3), (0.17, 0.3), (0.2, 0.66), (0, 0.8), (-0.2, 0.66)], 2), shade(skin, 0.8))
    if style == 3:
        for a in ANGLES[24::3]:
            head.oval(0.4 * math.cos(a), -0.12 + 0.42 * math.sin(a), 0.2, 0.2, hair)
    for side in (-1, 1):
        head.oval(side * 0.395 + yaw * 0.3, 0.02, 0.06, 0.1, shade(skin, 0.86))
    head.fill(CONTOUR, shade(skin, 0.82))
    head.fill(CONTOUR * (0.9, 0.93) + (0.015, -0.01), skin, soft=0.035)
    draw_features(head, skin, hair, yaw, look, blink=(time_s / 3.3 + person.phase) % 1 < 0.06)
    if person.kind == WITH:
        top = 0.02 + person.slip_depth * mask_drop(person, time_s)
        draw_mask(head, pick(MASKS, look.mask), top, yaw)
    draw_hair(head, hair, style, pick(SHIRTS, look.cap), look.smile)


def draw_body(pen: Pen, skin, shirt, cut: float) -> None:
    """Draw legs, torso and neck, upright below the head."""
    pen.oval(0, 6.75, 1.1, 0.2, (20, 20, 24), 0.45, 0.08)
    for side in (-1, 1):
        leg = [(side * 0.06, 2.7), (side * 0.68, 2.7), (side * 0.55, 6.7), (side * 0.12, 6.7)]
        pen.fill(leg, shade((64, 70, 92), 0.7 + 0.6 * cut))
    torso = [  # its right half
        (-0.2, 0.5),
        (0.2, 0.5),
        (0.62, 0.64),
        (0.86, 0.8),
        (1.02, 1.9),
        (0.9, 2.8),
        (0.7, 3.1),
    ]
    pen.fill(smooth(torso + [(-x, y) for x, y in torso[:1:-1]] + [(-0.62, 0.64)]), shirt)
    for side in (-1, 1):
        pen.stroke([(side * 0.62, 1.25), (side * 0.68, 2.6)], 0.03, shade(shirt, 0.75))
        pen.oval(side * 0.8, 3.02, 0.13, 0.17, skin)
    pen.fill(
        smooth([(-0.16, 0.3), (0.16, 0.3), (0.2, 0.62), (0, 0.68 + 0.25 * cut), (-0.2, 0.62)], 2), shade(skin, 0.8)
    )


def draw_features(pen: Pen, skin, hair, yaw: float, look: Looks, blink: bool) -> None:
    """Draw cheeks, eyes, brows, nose, mouth; a beard and glasses on some."""
    dark = shade(skin, 0.62)
    if look.extra < 0.18 and look.style < 0.4:  # a beard: dark like a black mask, but with a mouth in it
        beard = np.concatenate([CONTOUR[1:24], arc(-0.36, 0.36, 0.1, 0.1)])
        pen.fill(beard * (1, 0.99), shade(hair, 1.15), 0.85, 0.01)
    for side in (-1, 1):
        x = side * 0.16 + yaw
        pen.oval(x * 1.3, 0.15, 0.08, 0.06, (236, 110, 100), 0.28, 0.03)
        pen.stroke(arc(x - 0.075, x + 0.075, -0.15, -0.035), 0.032, shade(hair, 0.8))
        if blink:
            pen.stroke(arc(x - 0.06, x + 0.06, -0.05, 0.03), 0.02, dark)
            continue
        pen.oval(x, -0.05, 0.07, 0.055, (252, 252, 250))
        pen.oval(x + yaw * 0.3, -0.045, 0.042, 0.045, pick([(70, 46, 30), (60, 96, 130), (70, 100, 60)], look.eyes))
        pen.oval(x + yaw * 0.3, -0.045, 0.022, 0.024, (16, 14, 14))
        pen.oval(x + 0.018 + yaw * 0.3, -0.062, 0.012, 0.012, (255, 255, 255))
        pen.stroke(arc(x - 0.072, x + 0.072, -0.065, -0.045), 0.018, (48, 34, 30))
    nose = yaw * 1.5
    pen.oval(nose, 0.07, 0.03, 0.06, shade(skin, 1.12), 0.6, 0.02)
    pen.stroke(np.add(NOSE, (nose, 0.12)), 0.02, dark)
    smile, x = 0.03 + 0.07 * look.smile, yaw * 1.2
    lips = [arc(x - 0.14, x + 0.14, 0.25, smile * 0.4), arc(x + 0.14, x - 0.14, 0.25, smile + 0.05)]
    pen.fill(np.concatenate(lips), (176, 62, 66))
    if smile > 0.06:
        teeth = [arc(x - 0.1, x + 0.1, 0.262, smile * 0.35), arc(x + 0.1, x - 0.1, 0.262, smile * 0.75)]
        pen.fill(np.concatenate(teeth), (250, 246, 240))
    if 0.4 < look.extra < 0.58:
        for side in (-1, 1):
            pen.stroke(
                np.take(OVAL, range(49), axis=0, mode="wrap") * (0.115, 0.095) + (side * 0.16 + yaw, -0.045),
                0.018,
                FRAME,
            )
        pen.stroke(arc(yaw - 0.045, yaw + 0.045, -0.06, -0.02), 0.018, FRAME)


def draw_mask(pen: Pen, colour, top: float, yaw: float) -> None:
    """Draw a mask whose upper edge is at `top`: 0.02 covers the nose, from 0.15 on it does not."""
    inside = CONTOUR[(CONTOUR[:, 1] > top + 0.04) & (np.arange(48) < 25)]
    left, right = inside[-1, 0], inside[0, 0]
    shape = np.concatenate([inside * (1.02, 1.035), arc(left, right, top + 0.05, -0.07)])
    for side, x in ((-1, left), (1, right)):
        for ear, chin in ((-0.02, top + 0.1), (0.08, 0.3)):
            pen.stroke([(side * 0.42, ear), (x * 0.93, max(chin, top + 0.1))], 0.014, shade(colour, 0.9))
    edge = shade(colour, 0.8 if sum(colour) > 200 else 1.6)
    pen.fill(shape, edge)
    pen.fill((shape - (yaw, 0.25)) * (0.93, 0.93) + (yaw + 0.01, 0.245), colour, soft=0.02)
    for share in (0.3, 0.5, 0.7):  # folds
        y = top + (0.5 - top) * share
        half = 0.3 * math.sqrt(max(0.1, 1 - (y / 0.56) ** 2))
        pen.stroke(arc(yaw - half, yaw + half, y, 0.025), 0.012, edge)


def draw_hair(pen: Pen, hair, style: int, cloth, fringe: float) -> None:
    """Draw what lies over the forehead: hair or a cap."""
    outer = OVAL[23:] * (0.44, 0.54) + (0, -0.02)
    parting = (0.3 * (fringe - 0.5), -0.36 + 0.1 * fringe)
    line = [(0.41, -0.1), (0.34, -0.24), (0.2, -0.33), parting, (-0.22, -0.32), (-0.35, -0.22), (-0.41, -0.1)]
    pen.fill(np.concatenate([outer, line]), hair)
    pen.stroke(OVAL[28:36] * (0.33, 0.44) + (0, -0.02), 0.03, shade(hair, 1.35))
    if style == 4:
        pen.fill(np.concatenate([OVAL[24:] * (0.46, 0.6), [(0.46, -0.2), (-0.46, -0.2)]]), cloth)
        pen.fill(smooth([(-0.46, -0.27), (0.46, -0.27), (0.6, -0.17), (0, -0.2), (-0.6, -0.17)], 2), shade(cloth, 0.7))


def hidden_share(person: Person, nearer: list[Person] | tuple[Person, ...], time_s: float) -> float:
    """Say how much of a face, or of its lower half if that is more, lies behind nearer people's heads and bodies."""
    x, y, size, _ = pose_at(person, time_s)
    grid = np.stack(np.meshgrid(np.linspace(-0.36, 0.36, 9), np.linspace(-0.46, 0.46, 9)), axis=-1).reshape(-1, 2)
    points = grid[(grid[:, 0] / 0.4) ** 2 + (grid[:, 1] / 0.5) ** 2 < 1] * size + (x, y)
    covered = np.zeros(len(points), bool)
    for other in nearer:
        ox, oy, osize, _ = pose_at(other, time_s)
        u = (points - (ox, oy)) / osize
        covered |= (u[:, 0] / 0.6) ** 2 + ((u[:, 1] + 0.05) / 0.68) ** 2 < 1  # with the widest hair
        covered |= (np.abs(u[:, 0]) < 0.95) & (u[:, 1] > 0.62) & (u[:, 1] < 6.7)
    return float(max(covered.mean(), covered[points[:, 1] > y].mean()))
