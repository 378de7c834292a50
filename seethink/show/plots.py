"""Charts as inline SVG that follows the page's colours, light or dark.

matplotlib draws with marker colours nobody would choose (#0101xx); in the SVG text they are replaced by CSS variables.
Every chart is drawn at the size of a phone column, so that nothing has to be scaled down to be read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seethink.study.stats import Interval

matplotlib.use("svg")

INK, MUTED, RULE, PAPER = "#010100", "#010101", "#010102", "#010103"
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"}
SERIES = 10  # CSS variables --series-0 ... --series-9
WIDTH = 360  # pixels; an inch of the figure is 72
STYLE: dict[Any, Any] = {  # matplotlib declares the keys as one long literal
    "svg.hashsalt": "seethink",  # the same study gives the same page
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and scaled
    "font.size": 11,
    "font.family": "sans-serif",
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class Mark:
    """How an arm looks in every chart: a series colour, hollow while it has not explored yet."""

    series: int
    hollow: bool = False

    @property
    def colour(self) -> str:
        """Marker colour; it becomes var(--series-<n>)."""
        return f"#0102{self.series % SERIES:02x}"


def forest(rows: Sequence[tuple[str, Interval, str]], title: str) -> Markup:
    """Differences in points with their intervals, one row each: (label, interval, verdict word)."""
    with matplotlib.rc_context(STYLE):
        axes = _rows_axes([label for label, _, _ in rows])
        for y, (_, interval, word) in enumerate(rows):
            distinct = word in ("better", "worse")
            _whisker(axes, y, interval, INK if distinct else MUTED, hollow=not distinct, scale=100)
        axes.axvline(0, color=MUTED, linewidth=1)
        return _svg(axes, title, "points of accuracy", "")


def by_arm(rows: Sequence[tuple[str, Mark, Interval | None]], title: str, xlabel: str, scale: float = 1) -> Markup:
    """One measure, one row per arm; an arm without a value keeps its empty row."""
    with matplotlib.rc_context(STYLE):
        axes = _rows_axes([label for label, _, _ in rows])
        for y, (_, mark, interval) in enumerate(rows):
            if interval:
                _whisker(axes, y, interval, mark.colour, mark.hollow, scale)
        axes.set_xlim(left=min(0, axes.get_xlim()[0]) if scale == 1 else None)
        return _svg(axes, title, xlabel, title)


def dumbbells(rows: Sequence[tuple[str, Mark, float | None, float | None]], title: str, xlabel: str) -> Markup:
    """Two values an arm, filled and hollow, joined by a line: (label, mark, filled, hollow)."""
    with matplotlib.rc_context(STYLE):
        axes = _rows_axes([row[0] for row in rows])
        for y, (_, mark, filled, hollow) in enumerate(rows):
            measured = [v for v in (filled, hollow) if v is not None]
            axes.plot(measured, [y] * len(measured), color=mark.colour, linewidth=1.2, alpha=0.6)
            for value, face in ((hollow, PAPER), (filled, mark.colour)):
                if value is not None:
                    axes.plot([value], [y], "o", color=mark.colour, markerfacecolor=face, markersize=6)
        return _svg(axes, title, xlabel, title)


def dots(groups: Mapping[str, Sequence[tuple[Mark, Interval | None]]], title: str, caption: str) -> Markup:
    """Shares with intervals, one block of rows per group (a kind), one row per arm."""
    with matplotlib.rc_context(STYLE):
        count = sum(len(rows) for rows in groups.values())
        axes = _axes(64 + 10.5 * count + 13 * len(groups))
        y, ticks = 0.0, []
        for rows in groups.values():
            ticks.append(y + (len(rows) - 1) / 2)
            for mark, interval in rows:
                if interval:
                    _whisker(axes, y, interval, mark.colour, mark.hollow, 100, size=4.5)
                y += 1
            y += 1.2
        axes.set_yticks(ticks, list(groups), color=INK)
        axes.set_ylim(y - 1.2, -1)
        axes.set_xlim(-2, 102)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        return _svg(axes, title, "accuracy, %", caption)


def curves(runs: Sequence[tuple[Mark, Sequence[Sequence[tuple[float, float]]]]], title: str, unit: str) -> Markup:
    """Lines of (round or step, value) of several arms: every seed thin, their mean thick."""
    with matplotlib.rc_context(STYLE):
        axes = _axes(220)
        for mark, seeds in runs:
            for points in seeds:
                axes.plot(*zip(*points, strict=True), color=mark.colour, linewidth=0.8, alpha=0.4)
            if mean := _mean_curve(seeds):
                axes.plot(*zip(*mean, strict=True), color=mark.colour, linewidth=2)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.margins(x=0.01)
        return _svg(axes, title, unit, title)


def _rows_axes(labels: Sequence[str]) -> Axes:
    """A chart of one row per label, the label above its row so that long names fit a phone."""
    axes = _axes(58 + 37 * len(labels))
    for y, label in enumerate(labels):
        at = (0, y)
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}  # lines of the chart stop behind the label
        place = ("axes fraction", "data"), "offset points"
        axes.annotate(label, at, (0, 13), *place, va="center", color=MUTED, bbox=box)
    axes.set_ylim(len(labels) - 0.65, -0.85)
    axes.set_yticks([])
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    return axes


def _whisker(
    axes: Axes, y: float, interval: Interval, colour: str, hollow: bool, scale: float, size: float = 6
) -> None:
    """An estimate with its interval, as one row."""
    low, middle, high = (scale * v for v in (interval.low, interval.estimate, interval.high))
    axes.plot([low, high], [y, y], color=colour, linewidth=1.7, solid_capstyle="round")
    axes.plot([middle], [y], "o", color=colour, markerfacecolor=PAPER if hollow else colour, markersize=size)


def _axes(height: float) -> Axes:
    """The axes of a figure of WIDTH x height pixels."""
    return Figure(figsize=(WIDTH / 72, height / 72), layout="constrained").add_subplot()


def _mean_curve(seeds: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Mean over the seeds at the steps that all of them recorded."""
    tables = [dict(points) for points in seeds]
    common = set.intersection(*(set(t) for t in tables)) if tables else set()
    return [(step, fmean(t[step] for t in tables)) for step in sorted(common)]


def _svg(axes: Axes, title: str, xlabel: str, heading: str) -> Markup:
    """The figure as an <svg> element with a title for screen readers, its colours as CSS variables."""
    axes.set_title(heading)
    axes.set_xlabel(xlabel)
    buffer, figure = io.StringIO(), axes.figure.figure
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"#0102([0-9a-f]{2})", lambda m: f"var(--series-{int(m[1], 16)})", svg)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)  # the page's own
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would reach the whole page
    prefix = re.sub(r"\W+", "-", title.lower()).strip("-")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    width, height = figure.get_size_inches() * 72
    name, size = Markup.escape(title), f'viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
    opening = f'<svg class="plot" role="img" aria-label="{name}" {size}><title>{name}</title>'
    return Markup(re.sub(r"<svg[^>]*>", opening, svg, count=1, flags=re.DOTALL))
