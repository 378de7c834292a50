"""The synthetic study with everything a report can show: further evaluations, curves of held-out accuracy, controls, a base
that leaves its thinking empty on some kinds. Its numbers are drawn by dice, as those of `synthetic_study`."""

from __future__ import annotations

import json
import random
from pathlib import Path

from seethink.core.store import read_json, write_json, write_jsonl
from seethink.core.tables import read_table, write_table
from tests import synthetic_study

DICE = synthetic_study.Dice
ARMS = {
    "base": ((), "", "base", DICE(0.42, 0.05, 0.15)),
    "grpo": (("grpo",), "", "base", DICE(0.66)),
    "grpo-coin": (("grpo",), "", "base", DICE(0.42, 0.05, 0.15)),
    "grpo-blank": (("grpo",), "", "base", DICE(0.45)),
    "base-b": ((), "", "", DICE(0.35, 0.05, 0.15)),
    "grpo-b": (("grpo",), "", "base-b", DICE(0.60)),
    "sft-hesitant": (("sft",), "hesitant", "base", DICE(0.33, 0.5, 0.30, 0.7, 0.04)),
    "sft-hesitant+grpo": (("sft", "grpo"), "hesitant", "sft-hesitant", DICE(0.40, 0.4, 0.22, 0.7, 0.02)),
}
COMPARISONS = [["sft-hesitant+grpo", "grpo"], ["grpo", "base"], ["grpo-coin", "base"], ["grpo-blank", "grpo"]]
DRAWS = 4  # answers per item of the evaluation `samples`


def build(folder: Path, items: int = 60, steps: int = 12) -> Path:
    """Write the study below `folder` and return it."""
    synthetic_study.build(folder, items=items, steps=steps, arms=ARMS)
    (folder / "arms/base/seed0/eval-hesitant/done.json").unlink()
    for evaluation in sorted(folder.glob("arms/*/seed*/eval")):
        leave_empty(evaluation, 0.8 if "base" in evaluation.parts else 0.0)
        further(evaluation)
    for run in sorted(folder.glob("arms/*/seed*/grpo")):
        watched(run)
    edit(folder / "arms", "grpo-coin", lambda config: config["reward"].update(placebo="random"))
    edit(folder / "arms", "grpo-blank", lambda config: config.update(images="blank"))
    plan = read_json(folder / "study.json")
    plan |= {
        "comparisons": COMPARISONS,
        "handicapped": ["box", "open"],
        "equivalent_within": 2.0,
        "published": "published.toml#before_grpo",
        "evals": {
            "blank": {"set": {"images": "blank"}},
            "samples": {"set": {"samples": DRAWS, "temperature": 1.0}},
            "sampled": {"set": {"temperature": 1.0, "against": "models/base"}},
            "old": {"board": "old"},
        },
    }
    plan["question"] |= {"comparisons": COMPARISONS[:1], "not_shown": "Whether a larger model would recover."}
    plan["arms"]["grpo-coin"]["set"] = {"reward": {"placebo": "random"}}
    plan["arms"]["grpo-blank"]["set"] = {"images": "blank"}
    write_json(folder / "study.json", plan)
    return folder


def edit(arms: Path, arm: str, change) -> None:
    """Change the settings of all GRPO runs of an arm."""
    for file in arms.glob(f"{arm}/seed*/grpo/config.json"):
        config = read_json(file)
        change(config)
        write_json(file, config)


def rewrite(folder: Path, name: str, change) -> None:
    """A further evaluation beside `folder`: its rows, changed one by one; `change` gives any number of rows for one."""
    home = folder.parent / name
    home.mkdir(exist_ok=True)
    for file in ("config.json", "manifest.json", "done.json"):
        write_json(home / file, read_json(folder / file))
    draw = random.Random(f"{name}/{folder.parent}")
    rows = [new for row in read_table(folder / "scores.parquet") for new in change(dict(row), draw)]
    write_table(home / "scores.parquet", rows)


def leave_empty(evaluation: Path, share: float) -> None:
    """Answers to boxes and open questions lose their thinking."""
    draw = random.Random(str(evaluation.parent.name) + evaluation.parents[1].name)

    def change(row, _):
        if row["kind"] in ("box", "open") and draw.random() < share and "</think>" in row["text"]:
            row["text"] = "<think>" + row["text"][row["text"].index("</think>") :]
        return [row]

    rewrite(evaluation, "eval", change)


def further(evaluation: Path) -> None:
    """Blank pictures, several draws, entropy and KL, and a board of old skills."""

    def again(row, draw, easier):
        if row["ok"] is not None:
            row["ok"] = draw.random() < (0.6 if row["ok"] else 0.2) + easier
        return row

    def samples(row, draw):
        return [{**again(dict(row), draw, 0.0), "draw": k} for k in range(DRAWS)]

    def scored(row, draw):
        return [{**row, "entropy": 0.2 + 0.1 * draw.random(), "kl": 0.02 * draw.random()}]

    rewrite(evaluation, "eval-blank", lambda row, draw: [again(row, draw, -0.1)])
    rewrite(evaluation, "eval-samples", samples)
    rewrite(evaluation, "eval-sampled", scored)
    rewrite(
        evaluation, "eval-old", lambda row, draw: [again({**row, "sample_id": "old-" + row["sample_id"]}, draw, 0.2)]
    )


def watched(run: Path) -> None:
    """Held-out accuracy before the first round and after every third."""
    draw = random.Random(str(run.parent.name) + run.parents[1].name)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    held = {r["round"]: {"held_out/accuracy": 0.4 * r["reward/mean"] + 0.2 + draw.gauss(0, 0.02)} for r in rows[2::3]}
    before = {"round": 0, "held_out/accuracy": 0.4 + draw.gauss(0, 0.01)}
    write_jsonl(run / "metrics.jsonl", [before, *({**row, **held.get(row["round"], {})} for row in rows)])


if __name__ == "__main__":  # python -m tests.rich_study OUT
    import sys

    build(Path(sys.argv[1]), items=200)
