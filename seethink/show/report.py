"""`seethink report`: one self-contained page, and the same as Markdown, from a study folder.

    seethink report runs/study
    seethink report runs/data       a data run: show/distilled.py

Reads the run folders and nothing else; the page needs no network and no script. What was not measured says so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from seethink.core.errors import UserError
from seethink.core.stats import VERDICTS, p_text
from seethink.core.store import write_text
from seethink.data.facts import is_data_run
from seethink.show import distilled
from seethink.show.beside import (
    beside_published,
    empty_thinking_of,
    empty_thinking_said,
    measures_of,
    notes_of,
    this_checkpoint,
)
from seethink.show.config import ReportConfig
from seethink.show.items import Item, from_study
from seethink.show.pages import asset, environment, picture_uri
from seethink.show.plots import Mark, by_arm, curves, dots, dumbbells, forest
from seethink.show.trace_panel import TracePanel, trace_panel
from seethink.study import costs as ledger
from seethink.study import results
from seethink.study.alarms import study_alarms
from seethink.study.folder import Study, load_study
from seethink.study.matched import AXES, efforts
from seethink.traces.steps import Checker, load_checker

CURVES = (
    ("grpo", "held_out/accuracy", "Held-out accuracy, GRPO"),
    ("sft", "held_out/accuracy", "Held-out accuracy, SFT"),
    ("grpo", "reward/mean", "Reward"),
    ("grpo", "completion/length", "Tokens per completion"),
    ("grpo", "entropy", "Entropy, nats per token"),
    ("grpo", "kl", "KL to the start"),
    ("sft", "loss", "SFT loss"),
)
"""(stage, metric of its runs, title of the chart)."""
TRACE_CHARTS = ("Hesitation markers", "Pseudo-ahas", "True statements", "Truth of statements", "Lucky")
CONTENTS = {
    "arms": "Arms", "controls": "Fair?", "curves": "Curves", "kinds": "Kinds", "measures": "Measures", "traces": "Traces",
    "samples": "Samples", "published": "Published", "data": "Data", "alarms": "Alarms", "cost": "Time and cost", "reproduce": "Reproduce",
}  # fmt: skip


def run(config: ReportConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; of a study its headline and alarms. Raises UserError when there is no study or data run, or the board of a study is gone."""
    if is_data_run(config.study):
        print(f"{config.study} -> {(config.out or config.study) / 'report.html'}")
        return None if dry_run else distilled.write(config.study, config.out)
    study, out = load_study(config.study), config.out or config.study
    if dry_run:
        print(f"{len(study.arms)} arms, {len(study.runs)} finished runs -> {out / 'report.html'}")
        return
    page = assemble(study, config)
    for name, markdown in (("report.html", False), ("report.md", True)):
        text = environment(markdown).get_template(f"{name}.j2").render(page)
        write_text(out / name, text.encode("utf-8", "replace").decode())  # a lone surrogate in a name cannot be written
    print(f"report: {page['headline'].answer} {out / 'report.html'}")
    for alarm in page["study_alarms"]:
        print(f"  ! {alarm}", file=sys.stderr)
    if study.unchecked and not config.checker and study.plan.get("checker"):
        print(f"truth of statements is not measured: {study.unchecked}")
    headline = page["headline"]
    said = {"answer": headline.answer, "warning": headline.warning, "alarms": list(page["study_alarms"])}
    return {"out": str(out), "report": str(out / "report.html"), **said}


def assemble(study: Study, config: ReportConfig) -> dict[str, Any]:
    """Everything the templates print."""
    contrasts = results.contrasts(study)
    headline = results.headline(study, contrasts)
    marks = marks_of(study)
    measured = [(_label(c.a, marks), _label(c.b, marks), c.overall.interval, c.word) for c in contrasts if c.overall]
    spent = {name: efforts(study, name, study.reference) for name, arm in study.arms.items() if arm.stages}
    recorded = {e.axis for row in spent.values() for e in row if e.value is not None}
    costs = ledger.costs(study)
    checker, note = checker_of(study, config.checker)
    panel = trace_panel(study, checker) if study.items else None
    parts, pair = study.values_of("part"), headline.primary and (headline.primary.a, headline.primary.b)
    seed = study.seeds[0] if study.seeds else 0
    return {
        "base_css": asset("base.css"),
        "report_css": asset("report.css"),
        "contents": list(CONTENTS.items()),
        "label": study.label,
        "simulated": study.plan.get("simulated", False),
        "seeds": study.seeds,
        "items": len(study.items),
        "question": study.question.text,
        "headline": headline,
        "forest": forest(measured, "Planned comparisons") if measured else None,
        "marks": marks,
        "notes": notes_of(study),
        "bases": [name for name, arm in study.arms.items() if not arm.stages],
        "checkpoints": this_checkpoint(contrasts),
        "repeated": any(c.elsewhere for c in contrasts),
        **beyond_accuracy(study),
        "reference": study.reference,
        "arms": results.arm_results(study),
        "parts_of_board": parts if len(parts) > 1 else [],
        "contrasts": contrasts,
        "without": results.contrasts(study, headline.without_kinds) if headline.without else [],
        "margin": study.plan.get("equivalent_within", 0),
        "p_of_margin": lambda c: "–" if c.equivalence_p is None else p_text(c.equivalence_p),
        "verdicts": VERDICTS,
        "control_names": [c.name for c in contrasts[0].controls] if contrasts else [],
        "axes": [axis for axis in AXES if axis in recorded],
        "unrecorded": [axis for axis in AXES if axis not in recorded],
        "efforts": {name: [e for e in row if e.axis in recorded] for name, row in spent.items()},
        "curves": curve_charts(study, marks),
        "kind_plots": kind_charts(study, marks),
        "checked": checker is not None,
        "checker_note": note,
        "panel": panel,
        "panel_arms": list(panel.by_outcome) if panel else [],
        "trace_plots": trace_charts(panel, marks) if panel else [],
        "gallery": gallery(study, pair, seed, checker, config.gallery) if pair and study.board else [],
        "gallery_arms": pair,
        "gallery_seed": seed,
        "data_sets": ledger.data_sets(study),
        "alarms": ledger.alarms(study),
        "study_alarms": study_alarms(study, contrasts),
        "costs": costs,
        "total_seconds": sum(c.total_seconds or 0 for c in costs) if costs else None,
        "commands": study.plan.get("commands", []),
        "environment": environment_of(study),
    }


def beyond_accuracy(study: Study) -> dict[str, Any]:
    """What accuracy alone does not tell: kinds one by one, all other measures, what others have published, how seeds hang together."""
    measured, unmeasured = measures_of(study)
    empty = empty_thinking_of(measured)
    return {
        "kinds": results.kind_rows(study) if study.items else [],
        "empty": empty_thinking_said(empty),
        "empty_by_kind": empty.get("base", {}),
        "measured": measured,
        "measured_arms": list(measured[0].values) if measured else [],
        "unmeasured": unmeasured,
        "published": beside_published(study),
        "paired_seeds": bool(study.plan.get("pair_seeds")),
        "seed_correlation": results.seed_correlation(study),
    }


def gallery(study: Study, pair: tuple[str, str], seed: int, checker: Checker | None, size: int) -> list[dict[str, Any]]:
    """Two arms side by side: items with their pictures."""
    chosen = choose(from_study(study, pair, seed, checker), size)
    return [{"item": item, "images": [picture_uri(path) for path in item.sample.images]} for item in chosen]


def choose(items: Sequence[Item], size: int) -> list[Item]:
    """Items by rule, taking turns: flipped one way, flipped the other way, lucky, cut or undecided, ordinary."""
    pools: list[list[Item]] = [[], [], [], [], []]
    for item in items:
        verdicts = [a.ok for a in item.attempts]
        which = 4
        if "flipped" in item.flags:
            which = 0 if verdicts[0] is False else 1
        elif "lucky" in item.flags:
            which = 2
        elif {"truncated", "undecided"} & set(item.flags):
            which = 3
        pools[which].append(item)
    chosen: list[Item] = []
    while len(chosen) < size and any(pools):
        chosen += [pool.pop(0) for pool in pools if pool]
    return chosen[:size]


def checker_of(study: Study, name: str) -> tuple[Checker | None, str]:
    """The checker that the user named, or None and the reason why step truth is not measured."""
    if not name:
        return None, study.unchecked
    if not study.board:
        return None, "the board is gone"
    try:
        return load_checker(name), ""
    except UserError as error:
        return None, str(error)


def marks_of(study: Study) -> dict[str, Mark]:
    """One colour per family (an arm and what starts from it), grey for the base; hollow before exploring."""
    families: dict[str, int] = {}
    marks = {}
    notes = notes_of(study)
    for name, arm in study.arms.items():
        root = name
        while (start := study.arms[root].start) in study.arms and study.arms[start].stages:
            root = start
        series = 0 if not arm.stages else families.setdefault(root, len(families) + 1)
        tag = ", ".join(notes.get(name, {}))
        marks[name] = Mark(series, hollow=bool(arm.stages) and "grpo" not in arm.stages, tag=tag)
    return marks


def curve_charts(study: Study, marks: dict[str, Mark]) -> list[Markup]:
    """Reward, length, entropy and KL of the GRPO runs, and the loss of the SFT runs."""
    charts = []
    for stage, metric, title in CURVES:
        lines = {name: [run.curve(metric) for run in arm.of(stage)] for name, arm in study.arms.items()}
        drawn = [(marks[name], [line for line in seeds if line]) for name, seeds in lines.items() if any(seeds)]
        if drawn:
            charts.append(curves(drawn, title, "round" if stage == "grpo" else "step"))
    return charts


def kind_charts(study: Study, marks: dict[str, Mark]) -> list[Markup]:
    """One chart per part of the board."""
    charts = []
    for part in study.values_of("part"):
        kinds = results.by_kind(study, part).items()
        groups = {kind: [(marks[arm], share) for arm, share in arms.items()] for kind, arms in kinds}
        charts.append(dots(groups, f"Accuracy by kind, {part}", part))
    return charts


def trace_charts(panel: TracePanel, marks: dict[str, Mark]) -> list[Markup]:
    """The measures that carry the argument, and length against being right."""
    charts = []
    for row in panel.rows:
        if row.name in TRACE_CHARTS and any(row.values.values()):
            share = row.unit == "%"
            label = f"% {row.note}" if share else row.unit
            values = [(_label(arm, marks), marks[arm], value) for arm, value in row.values.items()]
            charts.append(by_arm(values, row.name, label, 100 if share else 1))
    outcomes = panel.by_outcome.items()
    lengths = [(_label(a, marks), marks[a], s["right"]["mean"], s["wrong"]["mean"]) for a, s in outcomes]
    charts.append(dumbbells(lengths, "Length against being right", "words of thinking, right ● and wrong ○"))
    return charts


def _label(arm: str, marks: dict[str, Mark]) -> str:
    """An arm as charts name it, with what it must not be taken for."""
    return f"{arm} ({marks[arm].tag})" if marks[arm].tag else arm


def environment_of(study: Study) -> dict[str, Any]:
    """Versions and machine of the first run, as its manifest recorded them."""
    first = study.runs[0].manifest if study.runs else {}
    keys = ("seethink", "python", "platform", "cores")
    git = study.plan.get("git") or first.get("git")
    versions = found if isinstance(found := first.get("versions"), dict) else {}
    return {**{key: first.get(key) for key in keys}, "git": git, "versions": versions}
