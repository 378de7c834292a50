"""`seethink watch RUN`: a training run, or a whole study, in the terminal while it is written.

    seethink watch runs/grpo              curves, alarms and the last completions, every two seconds, until the run ends
    seethink watch runs/study --once      one look, for a log or a script

It reads what the run appends (metrics.jsonl, alarms.jsonl, rollouts.jsonl) and writes nothing, so it may be started, ended
and started again at will, on any machine that sees the folder.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group as Stack
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from seethink.ask.limits import duration
from seethink.core.errors import UserError
from seethink.core.run import read_log
from seethink.core.store import read_record
from seethink.core.terminal import clean, console, drawing_stream, one_line
from seethink.show.config import LiveConfig

BARS = "▁▂▃▄▅▆▇█"
CURVES = (
    "reward/mean", "held_out/accuracy", "held_out/reward", "loss", "completion/length", "completion/cut_share", "entropy",
    "no_format", "groups/zero_spread", "undecided", "kl", "grad_norm", "lr",
)  # fmt: skip
"""Of whatever a run logs, in this order."""
TAIL = 2 << 20
"""Bytes at the end of rollouts.jsonl that are read."""
ALARMS, WORDS_SHOWN = 5, 700
RUNNING, SILENT = "running", 600
WIDE = 110
"""Columns from which the two completions stand side by side."""
SPANNED, NUMBERS = 80, {False: 34, True: 58}
"""Columns from which a curve's lowest and highest value stand beside it, and those that all but the curve takes."""
DRAWN = ("sft", "grpo")
"""Verbs that log curves."""


@dataclass(frozen=True)
class Look:
    """A run folder as it stands."""

    folder: Path
    verb: str
    state: str
    """running, finished, or when it was last written."""
    unit: str
    total: int | None
    """Steps or rounds in all, where the settings say so."""
    metrics: list[dict[str, Any]]
    alarms: list[dict[str, Any]]
    last: list[dict[str, Any]]
    """Rollouts of the latest round."""


def run(config: LiveConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb: until the run ends or Ctrl-C. Raises UserError for a folder that holds no run and no study."""
    folder = config.input
    if not (folder / "manifest.json").is_file() and not (folder / "study.json").is_file():
        raise UserError("no run and no study is here", where=folder, remedy="Name the --out of sft, grpo or study")
    if dry_run or config.once:
        screen = console(width=config.width or None)
        screen.print(page(folder, screen.width))
        return state_of(folder)
    stream = drawing_stream()
    screen = console(stream)
    with Live(page(folder, screen.width), console=screen, auto_refresh=False) as live:
        while not over(folder) and not getattr(stream, "fault", None):  # somebody looks
            time.sleep(config.every)
            live.update(page(folder, screen.width), refresh=True)
    return state_of(folder)


def over(folder: Path) -> bool:
    """Whether nothing more will come: all is finished, or for SILENT seconds no process has written here."""
    states = {path: _state(path) for path in _runs(folder)}
    waiting = [path for path, state in states.items() if state != "finished"]
    alive = RUNNING in states.values() or any(time.time() - _written(path) < SILENT for path in waiting)
    return not alive


def state_of(folder: Path) -> dict[str, Any]:
    """Run folder -> its state, with the last row of its metrics: for --json."""
    return {str(path): {"state": _state(path), **(_rows(path)[-1:] or [{}])[0]} for path in _runs(folder)}


def page(folder: Path, width: int = WIDE) -> Stack:
    """What is shown of a run in so many columns; of a study its stages, and of those that are running the curves."""
    if (folder / "manifest.json").is_file():
        return Stack(*_of_run(look(folder), width))
    runs = {path: _state(path) for path in _runs(folder)}
    table = Table(box=None, pad_edge=False, header_style="")
    for heading in ("stage", "state", "latest"):
        table.add_column(heading, overflow="fold")
    for path, state in runs.items():
        rows = _rows(path)
        latest = ", ".join(
            f"{name} {rows[-1][name]:.4g}" for name in CURVES[:4] if rows and _number(rows[-1].get(name))
        )
        table.add_row(*map(Text, (one_line(str(path.relative_to(folder))), state, latest)))
    running = [part for path, state in runs.items() if state == RUNNING for part in _of_run(look(path), width)]
    return Stack(
        Text(f"study {one_line(str(folder))}: {_of_stages(folder, list(runs.values()))}", "bold"), table, *running
    )


def _of_stages(folder: Path, states: list[str]) -> str:
    """How many stages of a study are where; its plan says how many there are."""
    plan = read_record(folder / "study.json")
    commands = plan.get("commands") if isinstance(plan, dict) else None
    finished, now = states.count("finished"), states.count(RUNNING)
    stopped, planned = (
        len(states) - finished - now,
        max(len(states), len(commands) if isinstance(commands, list) else 0),
    )
    found = {f"of {planned} stages finished": finished, "running": now, "stopped": stopped}
    return ", ".join(f"{n} {what}" for what, n in found.items() if n or what.startswith("of"))


def look(folder: Path) -> Look:
    """Read a run folder. Raises UserError for files that are none of ours."""
    manifest, settings = read_record(folder / "manifest.json"), read_record(folder / "config.json")
    metrics = _rows(folder)
    unit = next((name for name in ("round", "step") if metrics and name in metrics[-1]), "step")
    total = settings.get("rounds") if isinstance(settings, dict) else None
    rollouts = _tail(folder / "rollouts.jsonl")
    last = [row for row in rollouts if row.get("round") == rollouts[-1].get("round")]
    alarms = read_log(folder / "alarms.jsonl")
    return Look(folder, str(manifest.get("verb")), _state(folder), unit, total, metrics, alarms, last)


def curve(values: Sequence[float], width: int = 40) -> str:
    """Numbers as one line of bars: means of equal stretches, lowest to highest. A flat line stays at the bottom."""
    size = max(1, math.ceil(len(values) / width))
    means = [sum(part) / len(part) for i in range(0, len(values), size) if (part := values[i : i + size])]
    low, high = min(means), max(means)
    return "".join(BARS[int((v - low) / (high - low) * (len(BARS) - 1)) if high > low else 0] for v in means)


def _of_run(seen: Look, width: int) -> Iterator[Any]:
    at = seen.metrics[-1].get(seen.unit, 0) if seen.metrics else 0
    place = (
        f", {seen.unit} {at}{f' of {seen.total}' if seen.total else ''}" if seen.metrics or seen.verb in DRAWN else ""
    )
    yield Text(f"{seen.verb} {one_line(str(seen.folder))}: {seen.state}{place}", style="bold")
    span, wide = width >= SPANNED, width >= WIDE
    table = Table(box=None, pad_edge=False, show_header=False)
    for name in CURVES:
        values = [float(row[name]) for row in seen.metrics if _number(row.get(name))]
        if values:
            room = max(4, min(40, width - NUMBERS[span]))
            cells = (name, curve(values, room), f"{values[-1]:.4g}", f"{min(values):.4g} to {max(values):.4g}")
            table.add_row(*map(Text, cells[: 4 if span else 3]))
    if table.row_count:
        yield table
    for alarm in seen.alarms[-ALARMS:]:
        at = f"{seen.unit} {alarm[seen.unit]}: " if alarm.get(seen.unit) is not None else ""
        yield Text(f"! {at}{one_line(str(alarm.get('text', '')))}", style="bold")
    if seen.verb not in DRAWN:
        page = seen.folder / "report.html"
        yield Text(
            f"curves are those of {' and '.join(DRAWN)}" + (f"; {page} has the numbers" if page.is_file() else "")
        )
    if pair := _pair(seen.last):
        boxes = [_completion(row) for row in pair]
        grid = Table.grid(expand=True)
        for _ in boxes if wide else boxes[:1]:
            grid.add_column(ratio=1)
        for row in [boxes] if wide else [[box] for box in boxes]:
            grid.add_row(*row)
        yield grid


def _pair(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best and the worst completion of one prompt: of the group whose rewards differ most."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if _number(row.get("reward")):
            groups.setdefault(str(row.get("sample_id")), []).append(row)
    ranked = [sorted(group, key=lambda row: -row["reward"]) for group in groups.values()]
    best = max(ranked, key=lambda group: group[0]["reward"] - group[-1]["reward"], default=[])
    return [best[0], best[-1]] if len(best) > 1 else best


def _completion(row: dict[str, Any]) -> Panel:
    text = clean(str(row.get("text", "")))
    cut = f" ... {len(text) - WORDS_SHOWN} characters more" if len(text) > WORDS_SHOWN else ""
    title = f"{one_line(str(row.get('sample_id')))}: reward {row['reward']:.3g}, {row.get('status')}, {row.get('tokens')} tokens"
    return Panel(Text(text[:WORDS_SHOWN] + cut), title=Text(title))


def _runs(folder: Path) -> Iterator[Path]:
    """The run folder itself, or those of a study, in the order of their names."""
    if (folder / "manifest.json").is_file():
        yield folder
    else:
        yield from sorted(path.parent for path in folder.glob("arms/*/*/*/manifest.json"))


def _state(folder: Path) -> str:
    """By its done-mark, else by the lock that its process holds; of a run on another machine, when it last wrote."""
    if (folder / "done.json").is_file():
        return "finished"
    lock, locks = folder / ".lock", Path("/proc/locks")
    # looked up and not tried: a lock that we held for a moment would turn away a run that starts in it
    if lock.is_file() and locks.is_file() and f":{lock.stat().st_ino} " in locks.read_text(encoding="utf-8"):
        return RUNNING
    return f"not running here, last written {duration(time.time() - _written(folder))} ago"


def _written(folder: Path) -> float:
    """When a file of the folder was last written."""
    return max((path.stat().st_mtime for path in folder.iterdir() if path.is_file()), default=0.0)


def _rows(folder: Path) -> list[dict[str, Any]]:
    return read_log(folder / "metrics.jsonl")


def _tail(path: Path) -> list[dict[str, Any]]:
    """The last whole rows of a log; a run may be writing the one after them."""
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        lines = file.read().split(b"\n")[1 if size > TAIL else 0 : -1]
    return [row for line in lines if line.strip() and isinstance(row := json.loads(line), dict)]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
