"""`seethink report`: one self-contained page, and the same as Markdown, from a study folder.

    seethink report runs/study

Reads the run folders and nothing else; the page needs no network and no script. What was not measured says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seethink.core.errors import UserError
from seethink.core.store import write_text
from seethink.show.config import ReportConfig

if TYPE_CHECKING:
    from seethink.show.items import Item
    from seethink.show.plots import Mark
    from seethink.show.trace_panel import TracePanel
    from seethink.study.folder import Study
    from seethink.study.results import Contrast, Headline
    from seethink.traces.steps import Checker

CURVES = {
    "reward/mean": "Reward",
    "completion/length": "Tokens per completion",
    "entropy": "Entropy, nats per token",
    "kl": "KL to the start",
}
"""Metric of a GRPO run -> title of its chart."""
TRACE_CHARTS = ("Hesitation markers", "Pseudo-ahas", "True statements", "False statements repaired", "Lucky")
CONTENTS = {
    "arms": "Arms", "controls": "Fair?", "curves": "Curves", "kinds": "Kinds", "traces": "Traces", "samples": "Samples",
    "data": "Data", "alarms": "Alarms", "cost": "Time and cost", "reproduce": "Reproduce",
}  # fmt: skip


def run(config: ReportConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError when there is no study, or its board is gone."""
    from seethink.show.pages import environment
    from seethink.study.folder import load_study

    study, out = load_study(config.study), config.out or config.study
    if dry_run:
        print(f"{len(study.arms)} arms, {len(study.runs)} finished runs -> {out / 'report.html'}")
        return
    page = assemble(study, config.gallery)
    write_text(out / "report.html", environment().get_template("report.html.j2").render(page))
    write_text(out / "report.md", environment(escape=False).get_template("report.md.j2").render(page))
    print(f"report: {out / 'report.html'}")


def assemble(study: Study, gallery_size: int) -> dict[str, Any]:
    """Everything the templates print."""
    from seethink.study import costs as ledger
    from seethink.study import results

    checker, note = checker_of(study)
    contrasts = results.contrasts(study)
    head = results.headline(study, contrasts)
    reference = results.reference_of(study)
    costs = ledger.costs(study)
    return {
        "label": study.label,
        "simulated": study.plan.get("simulated", False),
        "seeds": study.seeds,
        "items": len(study.items),
        "parts_of_board": parts_of(study),
        "headline": head,
        "contrasts": contrasts,
        "reference": reference,
        "arms": results.arm_results(study),
        "control_names": [c.name for c in contrasts[0].controls] if contrasts else [],
        **budgets(study, reference),
        "funnels": ledger.funnels(study),
        "alarms": ledger.alarms(study),
        "study_alarms": results.study_alarms(study, contrasts),
        "costs": costs,
        "total_seconds": sum(c.total_seconds or 0 for c in costs) if costs else None,
        "commands": study.plan.get("commands", []),
        "environment": environment_of(study),
        "contents": list(CONTENTS.items()),
        **pictures(study, contrasts, checker, note),
        **samples(study, head, checker, gallery_size),
    }


def budgets(study: Study, reference: str) -> dict[str, Any]:
    """Budgets of the trained arms on the axes that any run recorded; the names of the others."""
    from seethink.study import matched

    rows = {name: matched.budgets(study, name, reference) for name, arm in study.arms.items() if arm.stages}
    recorded = {b.axis for row in rows.values() for b in row if b.value is not None}
    return {
        "axes": [axis for axis in matched.AXES if axis in recorded],
        "unrecorded": [axis for axis in matched.AXES if axis not in recorded],
        "budgets": {name: [b for b in row if b.axis in recorded] for name, row in rows.items()},
    }


def pictures(study: Study, contrasts: Sequence[Contrast], checker: Checker | None, note: str) -> dict[str, Any]:
    """Charts, the table behind the trace charts, and the looks of the arms."""
    from seethink.show import pages, plots
    from seethink.show.trace_panel import trace_panel

    marks = marks_of(study)
    panel = trace_panel(study, checker) if study.items else None
    measured = [(f"{c.a} − {c.b}", c.overall.interval, c.word) for c in contrasts if c.overall]
    return {
        "base_css": pages.asset("base.css"),
        "report_css": pages.asset("report.css"),
        "marks": marks,
        "forest": plots.forest(measured, "Planned comparisons") if measured else None,
        "curves": curve_charts(study, marks),
        "kind_plots": kind_charts(study, marks),
        "checked": checker is not None,
        "checker_note": note,
        "panel": panel,
        "panel_arms": list(panel.by_outcome) if panel else [],
        "trace_plots": trace_charts(panel, marks) if panel else [],
    }


def samples(study: Study, head: Headline, checker: Checker | None, size: int) -> dict[str, Any]:
    """The gallery: two arms of the headline's comparison, side by side."""
    from seethink.show.items import from_study
    from seethink.show.pages import picture_uri

    if head.primary is None or not study.board:
        return {"gallery": [], "gallery_arms": (), "gallery_seed": 0}
    arms, seed = (head.primary.a, head.primary.b), study.seeds[0] if study.seeds else 0
    chosen = choose(from_study(study, arms, seed, checker), size)
    shown = [{"item": item, "images": [picture_uri(path) for path in item.sample.images]} for item in chosen]
    return {"gallery": shown, "gallery_arms": arms, "gallery_seed": seed}


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


def checker_of(study: Study) -> tuple[Checker | None, str]:
    """The plan's checker, or None and the reason why step truth is not measured."""
    from seethink.traces.steps import load_checker

    if not study.plan.get("checker"):
        return None, "the study names no checker"
    if not study.board:
        return None, "the board is gone"
    try:
        return load_checker(study.plan["checker"]), ""
    except UserError as error:
        return None, str(error)


def marks_of(study: Study) -> dict[str, Mark]:
    """One colour per family (an arm and what starts from it), grey for the base; hollow before exploring."""
    from seethink.show.plots import Mark

    families: dict[str, int] = {}
    marks = {}
    for name, arm in study.arms.items():
        root = name
        while study.arms[root].start in study.arms and study.arms[root].start != "base" and study.arms[root].stages:
            root = study.arms[root].start
        series = 0 if not arm.stages else families.setdefault(root, len(families) + 1)
        marks[name] = Mark(series, hollow=bool(arm.stages) and "grpo" not in arm.stages)
    return marks


def curve_charts(study: Study, marks: dict[str, Mark]) -> list[Any]:
    """Reward, length, entropy and KL of the GRPO runs, and the loss of the SFT runs."""
    from seethink.show.plots import curves

    charts = []
    for stage, metric, title in [*(("grpo", key, title) for key, title in CURVES.items()), ("sft", "loss", "SFT loss")]:
        runs = []
        for name, arm in study.arms.items():
            seeds = [
                [(m.get("round", m.get("step")), m[metric]) for m in run.metrics if m.get(metric) is not None]
                for run in arm.of(stage)
            ]
            if any(seeds):
                runs.append((marks[name], [points for points in seeds if points]))
        if runs:
            charts.append(curves(runs, title))
    return charts


def kind_charts(study: Study, marks: dict[str, Mark]) -> list[Any]:
    """One chart per part of the board."""
    from seethink.show.plots import dots
    from seethink.study.results import by_kind

    charts = []
    for part in study.values_of("part"):
        groups = {kind: [(marks[a], v) for a, v in arms.items()] for kind, arms in by_kind(study, part).items()}
        charts.append(dots(groups, f"Accuracy by kind, {part}", part))
    return charts


def trace_charts(panel: TracePanel, marks: dict[str, Mark]) -> list[Any]:
    """The measures that carry the argument, and length against being right."""
    from seethink.show.plots import by_arm, dumbbells

    charts = []
    for row in panel.rows:
        if row.name in TRACE_CHARTS and any(row.values.values()):
            share = row.unit == "%"
            label = f"% {row.note}" if share else row.unit
            values = [(arm, marks[arm], value) for arm, value in row.values.items()]
            charts.append(by_arm(values, row.name, label, 100 if share else 1))
    lengths = [(a, marks[a], s["right"]["mean"], s["wrong"]["mean"]) for a, s in panel.by_outcome.items()]
    charts.append(dumbbells(lengths, "Length against being right", "words of thinking, right ● and wrong ○"))
    return charts


def parts_of(study: Study) -> list[str]:
    """Parts of the board, when there are several."""
    parts = study.values_of("part")
    return parts if len(parts) > 1 else []


def environment_of(study: Study) -> dict[str, Any]:
    """Versions and machine of the first run, as its manifest recorded them."""
    first = study.runs[0].manifest if study.runs else {}
    keys = ("seethink", "python", "platform", "cores")
    git = study.plan.get("git") or first.get("git")
    return {**{key: first.get(key) for key in keys}, "git": git, "versions": first.get("versions", {})}
