"""Charts as inline SVG that follows the page's colours, light or dark.

matplotlib draws with marker colours nobody would choose (#0101xx); in the SVG text they are replaced by CSS variables.
Every chart is drawn at the size of a phone column, so that nothing has to be scaled down to be read.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seethink.core.stats import Interval
from seethink.core.store import hash_text
from seethink.core.terminal import one_line

matplotlib.use("svg")

INK, MUTED, RULE, PAPER = "#010100", "#010101", "#010102", "#010103"
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"}
SERIES = 10  # CSS variables --series-0 ... --series-9
WIDTH = 360  # pixels; an inch of the figure is 72
UNDER = 40  # letters of a line under a chart
LINE, LETTER, COLUMN = 14, 6.4, 22  # of a row label: height of a line and width of a letter in pixels, letters a line
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
    "text.parse_math": False,  # names are text, whatever is in them
    "text.usetex": False,
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
    tag: str = ""
    """What it must not be taken for, in a word or two: placebo."""

    @property
    def colour(self) -> str:
        """Marker colour; it becomes var(--series-<n>)."""
        return f"#0102{self.series % SERIES:02x}"


def forest(rows: Sequence[tuple[str, str, Interval, str]], title: str) -> Markup:
    """Differences in points with their intervals, one row each: (arm a, arm b, interval of a - b, verdict word)."""
    with matplotlib.rc_context(STYLE):
        axes = _rows_axes([(a, f"− {b}") for a, b, _, _ in rows])
        for y, (_, _, interval, word) in enumerate(rows):
            distinct = word in ("better", "worse")
            _whisker(axes, y, interval, INK if distinct else MUTED, hollow=not distinct, scale=100)
        axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
        return _svg(axes, title, "points of accuracy", "")


def by_arm(rows: Sequence[tuple[str, Mark, Interval | None]], title: str, xlabel: str, scale: float = 1) -> Markup:
    """One measure, one row per arm; an arm without a value keeps its empty row."""
    with matplotlib.rc_context(STYLE):
        axes = _rows_axes([(label,) for label, _, _ in rows])
        for y, (_, mark, interval) in enumerate(rows):
            if interval:
                _whisker(axes, y, interval, mark.colour, mark.hollow, scale)
        axes.set_xlim(left=min(0, axes.get_xlim()[0]) if scale == 1 else None)
        return _svg(axes, title, xlabel, title)


def dumbbells(rows: Sequence[tuple[str, Mark, float | None, float | None]], title: str, xlabel: str) -> Markup:
    """Two values an arm, filled and hollow, joined by a line: (label, mark, filled, hollow)."""
    with matplotlib.rc_context(STYLE):
        axes = _rows_axes([(row[0],) for row in rows])
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
        axes.set_yticks(ticks, [one_line(group) for group in groups], color=INK)
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


def standalone(svg: Markup, css: str) -> str:
    """A chart as a file of its own: with the colours that `css` declares for `:root`, light and dark, and paper behind it."""
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    colours = "".join(re.findall(r"^:root \{.*?^\}|^@media \(prefers-color-scheme: dark\) \{.*?^\}", css, re.S | re.M))
    behind = f'<style>{colours} text {{ font-family: var(--sans); }}</style><rect width="100%" height="100%" fill="var(--paper)"/>'
    opening, end, rest = str(svg).replace(f'width="{WIDTH}"', f'width="{WIDTH * 3 // 2}"', 1).partition(">")
    return f"<svg {spaces}{opening.removeprefix('<svg')}{end}{behind}{rest}\n"


def _rows_axes(labels: Sequence[Sequence[str]]) -> Axes:
    """A chart of one row per label; the lines of a label stand in a column of their own, left of everything drawn."""
    lines = [[part for line in label for part in _wrap(line)] for label in labels]
    rows = max(map(len, lines), default=1)
    axes = _axes(50 + (LINE * rows + 10) * len(labels))
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks([])
    column = max((len(part) for label in lines for part in label), default=0) * LETTER
    for y, label in enumerate(lines):
        for i, part in enumerate(label):
            at = (-column, -LINE * (i - (len(label) - 1) / 2))  # points left of the axes, and above or below the row
            style: dict[str, Any] = {"va": "center", "color": INK if i == 0 else MUTED, "annotation_clip": False}
            axes.annotate(part, (0, y), at, ("axes fraction", "data"), "offset points", **style)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    return axes


def _wrap(text: str) -> list[str]:
    """A label on lines that leave most of a phone to the chart."""
    return textwrap.wrap(one_line(text), COLUMN) or [""]


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
    """The figure as an <svg> element with a title for screen readers, its colours as CSS variables.

    Only attributes are rewritten: texts are the user's, and stay as they are.
    """
    axes.set_title(one_line(heading))
    axes.set_xlabel("\n".join(textwrap.wrap(one_line(xlabel), UNDER)))
    buffer, figure = io.StringIO(), axes.figure.figure
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with warnings.catch_warnings(action="ignore"):  # of glyphs that its font has not: the page has its own
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    root, prefix = ElementTree.fromstring(buffer.getvalue()), f"plot-{hash_text(one_line(title))}-"
    for element in list(root.iter()):
        for child in [
            c for c in element if c.tag.endswith(("}metadata", "}style"))
        ]:  # a style would reach the whole page
            element.remove(child)
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {_plain(name): _for_page(name, value, prefix) for name, value in element.attrib.items()}
    width, height = figure.get_size_inches() * 72
    size = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}"}
    root.attrib = {"class": "plot", "role": "img", "aria-label": one_line(title), **size}
    name = ElementTree.Element("title")
    name.text = one_line(title)
    root.insert(0, name)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _plain(name: str) -> str:
    """Name of an attribute in HTML, which knows one namespace."""
    return name.replace("{http://www.w3.org/1999/xlink}", "xlink:")


def _for_page(name: str, value: str, prefix: str) -> str:
    """An attribute with CSS variables for marker colours, ids that are the page's only ones, and the page's font."""
    if name == "id":
        return prefix + value
    if name.endswith("href"):
        return f"#{prefix}{value.removeprefix('#')}"
    for colour, variable in VARIABLES.items():
        value = value.replace(colour, f"var({variable})")
    value = re.sub(r"#0102([0-9a-f]{2})", lambda m: f"var(--series-{int(m[1], 16)})", value)
    value = re.sub(r" font-family: [^;]*;", "", value)
    return value.replace("url(#", f"url(#{prefix}")
