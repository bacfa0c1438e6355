"""The places of the demo's scenes: six backgrounds, and round things that are no faces."""

from __future__ import annotations

import cv2
import numpy as np
from pen import HEIGHT, WIDTH, ZOOM, Pen, arc, rectangle, shade

TOYS = [(222, 70, 66), (250, 196, 70), (84, 170, 220), (236, 190, 160), (130, 190, 110), (196, 140, 100)]


def paint_gradient(canvas: np.ndarray, y0: float, y1: float, top, bottom) -> None:
    """Fill the rows from y0 to y1 (px) with a vertical gradient."""
    rows = slice(int(y0 * ZOOM), int(y1 * ZOOM))
    share = np.linspace(0, 1, canvas[rows].shape[0])[:, None, None]
    canvas[rows] = (np.array(top) * (1 - share) + np.array(bottom) * share).astype(np.uint8)


def paint_toy(pen: Pen, rng: np.random.Generator, ground: float) -> None:
    """Draw something round that is no face: a ball on the ground, a balloon in the air or a sign on its pole."""
    colour, kind = TOYS[rng.integers(len(TOYS))], rng.integers(3)
    x, share, r = rng.uniform(10, WIDTH - 10), rng.random(), float(np.exp(rng.uniform(1.1, 3)))
    y = (ground + 10 + share * (HEIGHT - ground - 30), 20 + share * (ground - 20), ground - r - 10 - 50 * share)[kind]
    if kind == 0:
        pen.oval(x, y + r, r, r * 0.2, (20, 20, 20), 0.4, r * 0.1)
        pen.oval(x, y, r, r, colour)
        low, high = arc(x - r, x + r, y - r * 0.2, r * 0.4), arc(x + r, x - r, y + r * 0.1, r * 0.5)
        pen.fill(np.concatenate([low, high]), (246, 244, 236))
    elif kind == 1:
        pen.stroke([(x, y + r), (x + r * 0.2, y + 2 * r), (x, y + 4 * r)], 0.8, (90, 90, 90))
        pen.oval(x, y, r * 0.85, r * 1.1, colour)
    else:
        pen.fill(rectangle(x - 1, y, x + 1, ground + 14), (120, 122, 126))
        pen.oval(x, y, r, r, colour)
        pen.oval(x, y, r * 0.75, r * 0.75, (248, 248, 246))
        pen.fill(rectangle(x - r * 0.5, y - r * 0.15, x + r * 0.5, y + r * 0.15), colour)
    pen.oval(x - r * 0.35, y - r * 0.4, r * 0.25, r * 0.2, (255, 255, 255), 0.5, r * 0.08)


def paint_park(canvas, pen, rng, ground) -> None:
    """Sky, clouds, hills, trees, grass."""
    paint_gradient(canvas, 0, ground, (120, 178, 226), (214, 232, 240))
    for _ in range(9):
        x, y = rng.uniform(0, WIDTH), rng.uniform(5, ground * 0.6)
        pen.oval(x, y, rng.uniform(15, 40), rng.uniform(4, 10), (255, 255, 255), 0.8, 3)
    xs = np.arange(0, WIDTH + 8, 8)
    for lift, colour in ((26, (142, 176, 160)), (12, (112, 158, 116))):
        ys = ground - lift - lift * 0.5 * np.sin(xs * rng.uniform(0.02, 0.05) + rng.uniform(0, 6))
        pen.fill([*zip(xs, ys, strict=True), (WIDTH, ground + 2), (0, ground + 2)], colour)
    paint_gradient(canvas, ground, HEIGHT, (126, 172, 92), (84, 132, 66))
    for _ in range(6):
        x, r = rng.uniform(0, WIDTH), rng.uniform(12, 26)
        pen.fill(rectangle(x - 2, ground - 2 * r, x + 2, ground + 4), (104, 76, 56))
        for _ in range(7):
            tone = rng.uniform(0.8, 1.15)
            side, lift = rng.uniform(-0.7, 0.7) * r, rng.uniform(-0.6, 0.6) * r
            pen.oval(x + side, ground - 2 * r + lift, r * 0.6, r * 0.55, shade((78, 132, 74), tone))


def paint_street(canvas, pen, rng, ground) -> None:
    """Sky, a row of houses with windows, pavement."""
    paint_gradient(canvas, 0, ground, (190, 206, 224), (236, 230, 218))
    x = -10.0
    while x < WIDTH:
        wide, roof = rng.uniform(40, 75), rng.uniform(2, ground * 0.5)
        wall = TOYS[rng.integers(3, len(TOYS))] if rng.random() < 0.4 else (196, 178, 160)
        wall = shade(wall, rng.uniform(0.7, 1.05))
        pen.fill(rectangle(x, roof, x + wide, ground + 2), wall)
        for wx in np.arange(x + 6, x + wide - 10, 14):
            for wy in np.arange(roof + 7, ground - 14, 19):
                glass = (250, 226, 150) if rng.random() < 0.25 else (96, 118, 140)
                pen.fill(rectangle(wx, wy, wx + 8, wy + 12), glass)
        x += wide
    paint_gradient(canvas, ground, HEIGHT, (168, 164, 160), (120, 118, 118))
    for x in np.linspace(-2, 2, 14) * WIDTH:
        pen.stroke([(WIDTH / 2 + x * 0.5, ground), (WIDTH / 2 + x * 2, HEIGHT)], 0.5, (140, 136, 134))


def paint_room(canvas, pen, rng, ground) -> None:
    """Striped wallpaper, round lamps, a picture, floor boards."""
    base = [(214, 196, 172), (176, 200, 190), (206, 182, 190), (178, 190, 212)][rng.integers(4)]
    paint_gradient(canvas, 0, ground, base, shade(base, 0.85))
    wide = rng.uniform(7, 16)
    for x in np.arange(0, WIDTH, 2 * wide):
        pen.fill(rectangle(x, 0, x + wide, ground), shade(base, 1.12), 0.6)
    paint_gradient(canvas, ground, HEIGHT, (168, 122, 84), (120, 82, 56))
    for y in np.geomspace(ground + 5, HEIGHT, 8):
        pen.stroke([(0, y), (WIDTH, y)], 0.7, (104, 70, 48))
    pen.fill(rectangle(0, ground - 4, WIDTH, ground + 1), (240, 236, 228))
    for _ in range(3):
        x, y, r = rng.uniform(15, WIDTH - 15), rng.uniform(14, 50), rng.uniform(6, 15)
        pen.stroke([(x, 0), (x, y)], 0.8, (70, 66, 64))
        pen.oval(x, y, r * 2, r * 2, (255, 240, 190), 0.35, r * 0.6)
        pen.oval(x, y, r, r * 1.1, (255, 236, 196))


def paint_bricks(canvas, pen, rng, ground) -> None:
    """A brick wall over a pavement."""
    canvas[:] = (186, 170, 156)
    base = [(168, 92, 74), (150, 110, 88), (132, 128, 130)][rng.integers(3)]
    for row, y in enumerate(np.arange(0, ground, 8)):
        for x in np.arange(-16 + 8 * (row % 2), WIDTH, 16):
            pen.fill(rectangle(x + 0.6, y + 0.6, x + 15.4, y + 7.4), shade(base, rng.uniform(0.8, 1.15)))
    paint_gradient(canvas, ground, HEIGHT, (150, 146, 142), (108, 106, 106))


def paint_night(canvas, pen, rng, ground) -> None:
    """A dark town out of focus: coloured lights and their reflections."""
    paint_gradient(canvas, 0, ground, (34, 40, 66), (74, 66, 92))
    paint_gradient(canvas, ground, HEIGHT, (62, 56, 76), (34, 34, 50))
    for _ in range(34):
        x, y, r = rng.uniform(0, WIDTH), rng.uniform(0, ground + 10), rng.uniform(3, 15)
        colour = [(250, 190, 110), (240, 120, 100), (140, 190, 240), (250, 226, 170)][rng.integers(4)]
        pen.oval(x, y, r, r, colour, rng.uniform(0.25, 0.6), 0.5)
        pen.oval(x, 2 * ground + 20 - y, r * 0.7, r * 2, colour, 0.15, 4)


def paint_shop(canvas, pen, rng, ground) -> None:
    """Shelves with boxes, bottles and fruit."""
    canvas[:] = (224, 214, 196)
    for y in np.arange(20, ground - 4, 28):
        x = 2.0
        while x < WIDTH:
            wide, tall = rng.uniform(7, 18), rng.uniform(10, 22)
            colour = shade(TOYS[rng.integers(len(TOYS))], rng.uniform(0.6, 1))
            if rng.random() < 0.3:
                pen.oval(x + wide / 2, y - wide / 2, wide / 2, wide / 2, colour)
            else:
                pen.fill(rectangle(x, y - tall, x + wide, y), colour)
            x += wide + rng.uniform(1, 5)
        pen.fill(rectangle(0, y, WIDTH, y + 3), (150, 112, 80))
    paint_gradient(canvas, ground, HEIGHT, (206, 204, 200), (160, 158, 158))


PLACES = [  # how to paint it, and how far down its ground begins (share of the height)
    (paint_park, 0.38),
    (paint_street, 0.4),
    (paint_room, 0.52),
    (paint_night, 0.42),
    (paint_bricks, 0.54),
    (paint_shop, 0.58),
]


def paint_place(canvas: np.ndarray, rng: np.random.Generator, number: int) -> float:
    """Paint one place over the canvas; return where its ground begins, in px."""
    paint, share = PLACES[number % len(PLACES)]
    ground = (share + rng.uniform(-0.04, 0.04)) * HEIGHT
    pen = Pen(canvas)
    paint(canvas, pen, rng, ground)
    for _ in range(int(rng.integers(3, 7))):
        paint_toy(pen, rng, ground)
    grain = cv2.resize(
        rng.uniform(-6, 6, (HEIGHT // 4, WIDTH // 4)), canvas.shape[1::-1], interpolation=cv2.INTER_CUBIC
    )
    canvas[:] = np.clip(canvas + grain[..., None], 0, 255)
    return ground
