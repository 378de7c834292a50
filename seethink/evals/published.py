"""The paper's table of six benchmarks (published.toml), and what of an evaluation of ours is known not to match it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from seethink.evals.evaluated import Evaluated


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One model of the paper's table, in percent."""

    model: str
    scores: dict[str, float]
    """task -> score"""
    average: float


@dataclass(frozen=True, slots=True)
class Published:
    """The table and its small print."""

    columns: dict[str, str]
    """task -> heading, in the order of the paper"""
    rows: list[PublishedRow]
    settings: dict[str, Any]
    numbers: dict[str, str]
    """task -> which number of the benchmark it is"""
    differs: dict[str, list[str]]
    """task -> sentences on what cannot match, whatever the settings"""


@cache
def published() -> Published:
    """The table as it stands in the package."""
    text = (files("seethink.evals") / "published.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    columns = table["columns"]
    rows = [
        PublishedRow(row["model"], dict(zip(columns, row["scores"], strict=True)), row["average"])
        for row in table["rows"]
    ]
    numbers = {task: board["number"] for task, board in table["boards"].items()}
    differs = {task: [*board["differs"], *table["every"]["differs"]] for task, board in table["boards"].items()}
    return Published(columns, rows, table["settings"], numbers, differs)


def mismatches(run: Evaluated) -> list[str]:
    """Sentences on what this run did otherwise than the paper; what is known to differ for everybody is `differs`."""
    summary, settings = run.summary, published().settings
    found = []
    if summary.get("complete") is False:
        found.append("not the whole published set")
    if run.elsewhere:
        found.append("the answers were made elsewhere: prompt, pixels, token cap and temperature are not known here")
    else:
        found += _asked_otherwise(summary, settings)
    if (profile := summary.get("profile")) != settings["profile"]:
        found.append(f"scored by the rules of the profile {profile}, published by VLMEvalKit's")
    if judge := summary.get("judge"):
        found.append(f"judged by {judge}")
    elif summary.get("unparsed"):
        found.append("no judge: answers that rules cannot read count as not right")
    if left_out := summary.get("left_out"):
        found.append(f"{len(left_out)} published items left out: {', '.join(sorted(left_out)[:3])}")
    return found


def _asked_otherwise(summary: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    found = []
    for key, word in (("max_pixels", "pixels at most"), ("max_tokens", "tokens at most")):
        if (value := summary.get(key)) != settings[key]:
            ours = "the model's own limit" if value is None else str(value)
            found.append(f"{ours} {word}, published {settings[key]}".replace("limit pixels at most", "pixel limit"))
    if (images := summary.get("images", "own")) != settings["images"]:
        found.append(f"{images} pictures: a control, no result")
    if (samples := summary.get("samples", 1)) != settings["samples"]:
        found.append(f"the mean of {samples} answers to every item")
    if temperature := summary.get("temperature"):
        found.append(f"temperature {temperature:g}; VLMEvalKit asks the paper's models all but greedily")
    if not summary.get("system_hash"):
        found.append("no system prompt")
    return found
