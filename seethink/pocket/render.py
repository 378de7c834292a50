"""Scenes as pictures. Drawn at four times the size and reduced, so that edges are smooth and results repeat exactly."""

from __future__ import annotations

from PIL import Image, ImageDraw

from seethink.pocket.world import SIZE, Curve, Scene, Thing

PAPER, AXIS = (245, 245, 240), (150, 150, 150)
RGB = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 90, 200),
    "yellow": (240, 205, 30),
    "purple": (140, 60, 190),
    "orange": (255, 127, 14),
}
ZOOM = 4
UNIT = 14  # pixels per unit of the axes
MARKED, MARK, MARKER = (0, 1), 3, (20, 20, 20)  # places x of the dots on a curve, their radius and colour


def render(scene: Scene) -> Image.Image:
    """RGB picture of 112 x 112 pixels."""
    image = Image.new("RGB", (SIZE * ZOOM, SIZE * ZOOM), PAPER)
    draw = ImageDraw.Draw(image)
    for thing in scene.things:
        _draw_thing(draw, thing)
    if scene.curve:
        _draw_curve(draw, scene.curve)
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def _draw_thing(draw: ImageDraw.ImageDraw, thing: Thing) -> None:
    x1, y1, x2, y2 = (ZOOM * v for v in thing.box)
    third, fill = (x2 - x1) // 3, RGB[thing.colour]
    if thing.shape == "circle":
        draw.ellipse((x1, y1, x2 - 1, y2 - 1), fill=fill)
    elif thing.shape == "square":
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=fill)
    elif thing.shape == "triangle":
        draw.polygon(((x1, y2 - 1), ((x1 + x2) // 2, y1), (x2 - 1, y2 - 1)), fill=fill)
    else:
        draw.rectangle((x1 + third, y1, x2 - 1 - third, y2 - 1), fill=fill)
        draw.rectangle((x1, y1 + third, x2 - 1, y2 - 1 - third), fill=fill)


def _draw_curve(draw: ImageDraw.ImageDraw, curve: Curve) -> None:
    """On axes with a tick at every unit; its points at x = 0 and x = 1 are marked."""
    middle, end, tick, unit = SIZE * ZOOM // 2, SIZE * ZOOM, 2 * ZOOM, UNIT * ZOOM
    draw.line((0, middle, end, middle), fill=AXIS, width=ZOOM)
    draw.line((middle, 0, middle, end), fill=AXIS, width=ZOOM)
    for k in range(0, end, unit):
        draw.line((k, middle - tick, k, middle + tick), fill=AXIS, width=ZOOM)
        draw.line((middle - tick, k, middle + tick, k), fill=AXIS, width=ZOOM)
    places = [step / 16 for step in range(-64, 65)]
    points = [(middle + x * unit, middle - curve.at(x) * unit) for x in places]
    draw.line(points, fill=RGB[curve.colour], width=2 * ZOOM)
    for x in MARKED:
        across, down, radius = middle + x * unit, middle - curve.at(x) * unit, MARK * ZOOM
        draw.ellipse((across - radius, down - radius, across + radius, down + radius), fill=MARKER)
