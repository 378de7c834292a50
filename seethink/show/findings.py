"""`seethink findings`: one Markdown page from several studies, one question each, with a picture beside it.

    seethink findings runs/full/* --out docs/findings.md

Nothing on the page is typed: the answer follows from the verdicts of the comparisons that a study names for its question,
and under each answer stands what it does not show: the study's own words, and whatever limits its verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.stats import VERDICTS
from seethink.core.store import write_text
from seethink.show.beside import other_checkpoints
from seethink.show.config import FindingsConfig
from seethink.show.pages import asset, environment
from seethink.show.plots import forest, standalone
from seethink.study import results
from seethink.study.folder import Study, load_study


@dataclass(frozen=True, slots=True)
class AnsweredStudy:
    """One question and what a study found."""

    name: str
    """Of the study's folder; anchor of its section, and name of its picture."""
    study: Study
    answer: str
    primary: results.Contrast | None
    """The comparison that the answer begins with."""
    contrasts: list[results.Contrast]
    """All those that answer the question."""
    without_kinds: tuple[str, ...]
    """Kinds on which the base is held back by design."""
    without: results.Headline | None
    """The answer over all other kinds."""
    not_shown: list[str]
    picture: str | None
    """SVG; None where nothing was measured."""


def run(config: FindingsConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; its answers by question. Raises UserError for a folder that holds no study."""
    studies = [load_study(folder) for folder in config.runs]
    pictures = config.out.parent / config.out.stem
    if dry_run:
        print(f"{len(studies)} studies -> {config.out}, pictures in {pictures}")
        return
    found = [finding(study, name) for study, name in zip(studies, names_of(config.runs), strict=True)]
    for one in found:
        if one.picture:
            write_text(pictures / f"{one.name}.svg", one.picture)
    page = {"findings": found, "pictures": pictures.name, "verdicts": VERDICTS}
    text = environment(markdown=True).get_template("findings.md.j2").render(page)
    write_text(config.out, text.encode("utf-8", "replace").decode())
    for one in found:
        print(f"{one.study.question.text} {one.answer}")
    print(f"findings: {config.out}")
    return {"out": str(config.out), "answers": {one.study.question.text: one.answer for one in found}}


def names_of(folders: Sequence[Path]) -> list[str]:
    """A name for each study, of its folder, with nothing in it that a link would have to escape. Raises UserError for twins."""
    names = [re.sub(r"[^\w-]+", "-", folder.resolve().name).strip("-").lower() for folder in folders]
    if twins := {name for name in names if names.count(name) > 1}:
        raise UserError(f"two studies are called {min(twins)!r}", remedy="Rename the folder of one of them")
    return names


def finding(study: Study, name: str) -> AnsweredStudy:
    """The answer of one study, its evidence, and its limits."""
    contrasts = results.contrasts(study)
    headline = results.headline(study, contrasts)
    asked = [c for c in contrasts if (c.a, c.b) in study.question.comparisons] or contrasts
    measured = [(c.a, c.b, c.overall.interval, c.word) for c in asked if c.overall]
    picture = standalone(forest(measured, study.question.text), asset("base.css")) if measured else None
    return AnsweredStudy(
        name=name,
        study=study,
        answer=headline.answer,
        primary=headline.primary if headline.primary in asked else None,
        contrasts=asked,
        without_kinds=headline.without_kinds,
        without=headline.without,
        not_shown=limits_of(study, headline, asked),
        picture=picture,
    )


def limits_of(study: Study, headline: results.Headline, asked: Sequence[results.Contrast]) -> list[str]:
    """What an answer does not show: the study's own words first, then what follows from how it came out."""
    limits = [study.question.not_shown, *headline.warning.split("; ")]
    unseen = [c.detectable for c in asked if c.detectable is not None and c.word == "not distinguishable"]
    if unseen:
        limits.append(f"differences below {100 * max(unseen):.1f} points, which seeds and items like these would miss")
    limits.append(other_checkpoints(asked))
    if study.plan.get("simulated"):
        limits.append("anything beyond this simulated world and its simulated teachers")
    return list(dict.fromkeys(limit.strip().removesuffix(".") for limit in limits if limit.strip()))
