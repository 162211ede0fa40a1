"""Facts as a picture of training curves: a PNG, the same bytes for the same facts. Pure."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from io import BytesIO
from math import floor, isfinite, log10
from typing import Any

from record.events import Event, Progressed

PANELS = (("loss", "eval_loss"), ("reward",), ("kl",))  # metrics that share an axis; a panel without points is left out
WIDTH, HEIGHT = 960, 300  # pixels of a panel
LEFT, RIGHT, TOP, BOTTOM = 84, 20, 40, 56  # around its axes
SCALE = 2  # it is drawn larger and made smaller: Pillow draws no smooth lines
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito 2008
INK, GRID = "#333333", "#e3e3e3"

Line = list[tuple[int, float]]
Points = dict[tuple[str, int], tuple[datetime, dict[str, float]]]  # (job, step) -> when, and values by name


def curves(facts: Iterable[Event], jobs: Sequence[str]) -> bytes | None:
    """A panel for each kind of metric, a line for each job and metric; None where nothing finite was logged."""
    lines = _lines(facts, jobs)
    panels = [
        {f"{job} {name}": lines[job, name] for name in names for job in jobs if (job, name) in lines}
        for names in PANELS
    ]
    drawn = [(names[0], panel) for names, panel in zip(PANELS, panels, strict=True) if panel]
    if not drawn:
        return None
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE * len(drawn)), "white")
    for place, (name, panel) in enumerate(drawn):
        _panel(ImageDraw.Draw(image), place * HEIGHT, name, panel)
    file = BytesIO()
    image.reduce(SCALE).save(file, "PNG", optimize=True)
    return file.getvalue()


def points(facts: Iterable[Event], jobs: Collection[str]) -> Points:
    """What was logged and is finite, by job and step. A job that was started again says a step twice: the later one counts."""
    found: Points = {}
    for fact in facts:
        if isinstance(fact, Progressed) and fact.job in jobs:
            values = {n: v for n, v in fact.values.items() if not isinstance(v, str) and isfinite(v)}
            found[fact.job, fact.step] = (fact.at, found.get((fact.job, fact.step), (fact.at, {}))[1] | values)
    return dict(sorted(found.items()))


def ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from low to high, six at most."""
    raw = (high - low) / 5
    power = 10.0 ** floor(log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    first = -int(-low // step)
    return [n * step for n in range(first, floor(high / step) + 1)]


def _lines(facts: Iterable[Event], jobs: Sequence[str]) -> dict[tuple[str, str], Line]:
    found: dict[tuple[str, str], Line] = {}
    for (job, step), (_, values) in points(facts, jobs).items():
        for name, value in values.items():
            found.setdefault((job, name), []).append((step, value))
    return found


def _panel(draw: Any, top: int, name: str, panel: dict[str, Line]) -> None:
    steps = [step for line in panel.values() for step, _ in line]
    values = [value for line in panel.values() for _, value in line]
    pad = (max(values) - min(values)) * 0.05 or abs(values[0]) * 0.05 or 0.5
    x0, x1, y0, y1 = min(steps), max(max(steps), min(steps) + 1), min(values) - pad, max(values) + pad

    def at(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (step - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        y = top + TOP + (y1 - value) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
        return x * SCALE, y * SCALE

    for value in ticks(y0, y1):
        draw.line([at(x0, value), at(x1, value)], GRID, SCALE)
        draw.text(_beside(at(x0, value), -8, 0), f"{value:.4g}", INK, _font(13), anchor="rm")
    for step in ticks(x0, x1):
        if step == int(step):
            draw.text(_beside(at(step, y0), 0, 8), f"{step:.0f}", INK, _font(13), anchor="mt")
    draw.line([at(x0, y1), at(x0, y0), at(x1, y0)], INK, SCALE)
    draw.text(_beside(at((x0 + x1) / 2, y0), 0, 30), "step", INK, _font(14), anchor="mt")
    draw.text(_beside(at(x0, y1), -LEFT + 12, -30), name, INK, _font(15))
    right = WIDTH - RIGHT
    for place, (label, line) in reversed(list(enumerate(panel.items()))):
        colour = COLOURS[place % len(COLOURS)]
        points = [at(*point) for point in line]
        if len(points) > 1:
            draw.line(points, colour, 2 * SCALE, joint="curve")
        else:
            (x, y), r = points[0], 3 * SCALE
            draw.ellipse([x - r, y - r, x + r, y + r], colour)
        draw.text((right * SCALE, (top + 10) * SCALE), label, colour, _font(14), anchor="rt")
        right -= int(draw.textlength(label, _font(14)) / SCALE) + 24


def _beside(point: tuple[float, float], right: int, down: int) -> tuple[float, float]:
    return point[0] + right * SCALE, point[1] + down * SCALE


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size * SCALE)
