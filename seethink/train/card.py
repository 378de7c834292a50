"""The model card of a run, card.md: where the model comes from, how it was trained, what was measured, what to mind.

`seethink push` sends it as README.md. It stays out of the model folder, whose content is part of what later runs are known by.
Everything is read from the run; what is not known is not said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seethink import __version__
from seethink.core.config import identity
from seethink.core.run import Run, read_log
from seethink.core.stats import wilson
from seethink.core.store import read_json, write_text
from seethink.core.terminal import between, print_table
from seethink.train.config import GRPOConfig, SFTConfig

MEASURED = {
    "loss": "loss",
    "eval_loss": "held-out loss",
    "reward/mean": "reward",
    "completion/length": "completion tokens",
    "entropy": "entropy",
}
"""Metric -> its words, where a run has it."""


def write_card(folder: Run, config: SFTConfig | GRPOConfig) -> None:
    """Into the folder of a finished run."""
    write_text(folder.path("card.md"), card(folder, config))


def card(folder: Run, config: SFTConfig | GRPOConfig) -> str:
    verb = "GRPO" if isinstance(config, GRPOConfig) else "SFT"
    manifest, done = read_json(folder.path("manifest.json")), folder.summary
    base = base_name(config.model.path)
    front = [
        "---",
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        f"tags: [seethink, {verb.lower()}]",
    ]
    front += [f"base_model: {base}"] if "/" in base and not Path(base).is_absolute() else []
    rows = read_log(folder.path("metrics.jsonl"))
    alarms = [row["text"] for row in read_log(folder.path("alarms.jsonl"))]
    lines = [
        *front, "---", f"# {config.out.name}", "",
        f"{verb} of `{base}` by seethink {__version__}"
        f"{' (' + manifest['git'][:9] + ')' if manifest.get('git') else ''}, seed {config.seed}. "
        "Its licence is that of the model it comes from, as far as the data allow.", "",
        "## Trained on", "",
        f"`{config.data.name}` ({str(manifest['inputs'].get('data', ''))[:12]}): {done['prompts']:,} prompts in {done['optimiser_steps']:,} "
        f"optimiser steps, {done['tokens_trained']:,} completion tokens, {done['seconds'] / 3600:.2f} hours.", "",
        "| setting | value |", "|---|---|", *(f"| `{name}` | {value} |" for name, value in settings(config)), "",
        "## Measured", "", "| | first | last |", "|---|---|---|", *measured(rows), "",
        "## To mind", "",
        *([f"* {text}" for text in alarms] or ["* no alarm was raised while it trained"]), "",
        "Prompts are asked with the system prompt in `system.txt` where there is one. The folder loads in transformers and vLLM.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def base_name(path: Path) -> str:
    """org/name of a model from the cache of the Hub, else the last part of the path: a card tells nothing of a machine."""
    for part in path.parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    return path.name


def settings(config: SFTConfig | GRPOConfig) -> list[tuple[str, Any]]:
    """What differs from the defaults and changes results."""
    found = []

    def walk(own: dict[str, Any], default: dict[str, Any], prefix: str) -> None:
        for key, value in own.items():
            if isinstance(value, dict) and isinstance(default.get(key), dict):
                walk(value, default[key], f"{prefix}{key}.")
            elif value != default.get(key) and key not in ("path", "data", "out"):
                found.append((prefix + key, value))

    kind: Any = type(config)
    walk(identity(config), identity(kind(out=config.out, data=config.data, model={"path": config.model.path})), "")
    return found


def measured(rows: list[dict[str, Any]]) -> list[str]:
    """First and last value of every metric that the run has."""
    lines = []
    for name, words in MEASURED.items():
        values = [row[name] for row in rows if isinstance(row.get(name), int | float)]
        lines += [f"| {words} | {values[0]:.4g} | {values[-1]:.4g} |"] if values else []
    accuracy = [
        (name, row[name]) for row in rows for name in row if name == "held_out/accuracy" and row[name] is not None
    ]
    lines += [f"| held-out accuracy | {accuracy[0][1]:.3f} | {accuracy[-1][1]:.3f} |"] if accuracy else []
    return lines


def say(folder: Run) -> None:
    """First and last measurements of a finished run as a table, those over independent answers with their intervals."""
    rows, found = read_log(folder.path("metrics.jsonl")), []
    rewards = [folder.summary.get(f"reward_{end}") for end in ("first", "last")]  # earlier versions had none
    for name, words in MEASURED.items():
        values = [row[name] for row in rows if isinstance(row.get(name), int | float)]
        if name == "reward/mean" and all(rewards):
            found.append(
                (f"{words} [95 %]", *(between(r["mean"], r["interval"], 3) or "undecided" for r in rewards if r))
            )
        elif values:
            found.append((words, f"{values[0]:.4g}", f"{values[-1]:.4g}"))
    held = [row for row in rows if row.get("held_out/accuracy") is not None]
    if held:
        found.append(("held-out accuracy [95 %]", *(_held_out(row) for row in (held[0], held[-1]))))
    counts = [row["undecided"] for row in rows if isinstance(row.get("undecided"), int)]
    if any(counts):
        found.append(("undecided rewards", counts[0], counts[-1]))
    print_table(("", "first", "last"), found)


def _held_out(row: dict[str, Any]) -> str:
    decided, share = int(row.get("held_out/decided") or 0), row["held_out/accuracy"]
    found = wilson(round(share * decided), decided) if decided else None
    return between(share, found and (found.low, found.high), 3)
