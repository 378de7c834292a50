"""A study folder as `seethink study` leaves it, with SYNTHETIC numbers: traces are drawn by the dice below, no model
was trained. Used to test report, viewer and statistics on a folder whose truth is known."""

from __future__ import annotations

import math
import random
import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from PIL import Image, ImageDraw

from seethink.core.nouns import Sample, Score
from seethink.core.store import hash_file, save_samples, write_json, write_jsonl
from seethink.core.tables import write_table
from seethink.core.tags import compose
from seethink.traces.steps import Step

COLOURS = {"red": "#d9483b", "blue": "#2f6fd0", "green": "#2c9a57", "yellow": "#e2b93b"}
SHAPES = ("circle", "square")
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
LABEL = "synthetic numbers for tests, no model was trained"


@dataclass(frozen=True)
class Dice:
    """What the traces of an arm look like."""

    right: float
    hesitation: float = 0.02
    false: float = 0.03
    repaired: float = 0.5
    cut: float = 0.005


ARMS = {
    "base": ((), "", "base", Dice(0.46, 0.05, 0.15)),
    "grpo": (("grpo",), "", "base", Dice(0.56)),
    "sft-concise": (("sft",), "concise", "base", Dice(0.49, 0.01, 0.10)),
    "sft-concise+grpo": (("sft", "grpo"), "concise", "sft-concise", Dice(0.56)),
    "sft-hesitant": (("sft",), "hesitant", "base", Dice(0.38, 0.5, 0.30, 0.7, 0.04)),
    "sft-hesitant+grpo": (("sft", "grpo"), "hesitant", "sft-hesitant", Dice(0.46, 0.4, 0.22, 0.7, 0.02)),
}
COMPARISONS = [["sft-hesitant+grpo", "grpo"], ["sft-concise+grpo", "grpo"], ["sft-hesitant+grpo", "sft-concise+grpo"]]

QUESTION = {**tomllib.loads((files("seethink.pocket") / "study.toml").read_text(encoding="utf-8"))["question"]}
QUESTION["comparisons"] = COMPARISONS[:2]


def check(sample: Sample, thinking: str) -> list[Step]:
    """The checker of this world: `I see N colour shapes` and `a + b = c`; other sentences cannot be checked."""
    scene, steps = sample.meta["scene"], []
    for text in (t.strip() for t in re.split(r"[.!?]", thinking)):
        if seen := re.search(r"I see (\d+) (\w+) (\w+?)s?$", text):
            truth = sum(t[:2] == [seen[2], seen[3]] for t in scene) == int(seen[1])
            steps.append(Step(text, truth, "count", f"{seen[2]} {seen[3]}"))
        elif added := re.search(r"(\d+) \+ (\d+) = (\d+)$", text):
            steps.append(Step(text, int(added[1]) + int(added[2]) == int(added[3]), "sum", "sum"))
        elif text:
            steps.append(Step(text, None, "other"))
    return steps


def draw_sample(index: int, folder: Path, part: str) -> Sample:
    """A board item with its picture: coloured circles and squares, and a question of one of the five kinds."""
    rng = random.Random(f"{part}-{index}")
    scene = [
        [rng.choice(list(COLOURS)), rng.choice(SHAPES), x * 28 + 5, y * 28 + 5]
        for x in range(4)
        for y in range(4)
        if rng.random() < 0.4
    ] or [["red", "circle", 5, 5]]
    picture = Image.new("RGB", (112, 112), "#f4f1ea")
    pen = ImageDraw.Draw(picture)
    for colour, shape, x, y in scene:
        (pen.ellipse if shape == "circle" else pen.rectangle)((x, y, x + 18, y + 18), fill=COLOURS[colour])
    path = folder / "images" / f"{part}-{index:04d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    colour, shape, x, y = scene[0]
    kind = ("digit", "choice", "math", "box", "open")[index % 5]
    question, gold, choices = {
        "digit": (f"How many {shape}s are there?", str(sum(t[1] == shape for t in scene)), ()),
        "choice": ("Which colour does the first object have?", "ABCD"[list(COLOURS).index(colour)], tuple(COLOURS)),
        "math": ("Give the equation of the line.", f"y = {index % 7} x + 1", ()),
        "box": (f"Where is the first {colour} {shape}?", f"[{x}, {y}, {x + 18}, {y + 18}]", ()),
        "open": ("Describe the picture.", " ".join(f"{t[0]} {t[1]}" for t in scene), ()),
    }[kind]
    source = {"digit": "clevr_math", "choice": "arxivqa", "math": "math_puma", "box": "coco", "open": "allava_laion"}[
        kind
    ]
    meta = {"scene": scene, "part": part}
    return Sample(f"{part}-{index:04d}", source, (str(path),), question, gold, kind, choices, meta=meta)


def write_trace(sample: Sample, dice: Dice, rng: random.Random) -> tuple[str, bool, str, int]:
    """(completion, right, stop, tokens)."""
    said = []
    for colour in COLOURS:
        for shape in SHAPES:
            n = sum(t[:2] == [colour, shape] for t in sample.meta["scene"])
            if n == 0 and rng.random() < 0.7:
                continue
            if rng.random() < dice.hesitation:
                said.append(
                    rng.choice(
                        ["Hmm, let me look at the picture.", "Wait, I should double-check.", "Let me check again."]
                    )
                )
            wrong = rng.random() < dice.false
            said.append(f"I see {n + wrong} {colour} {shape}{'' if n + wrong == 1 else 's'}.")
            if wrong and rng.random() < dice.repaired:
                said.append(f"Wait, that is a mistake. I see {n} {colour} {shape}{'' if n == 1 else 's'}.")
    right = rng.random() < dice.right
    answer = (
        sample.gold
        if right
        else {"digit": str(int(sample.gold) + 1) if sample.kind == "digit" else ""}.get(sample.kind, "E")
    )
    said.append(f"So the answer is {answer if rng.random() < 0.95 else 'unclear'}.")
    text, stop = compose(" ".join(said), answer), "stop"
    if rng.random() < dice.cut:
        text, right, stop = text[: len(text) // 2], False, "length"
    return text, right, stop, len(text) // 4


def build(folder: Path, seeds: tuple[int, ...] = (0, 1, 2), items: int = 60, arms=ARMS, steps: int = 20) -> Path:
    """Write the whole study below `folder` and return it. Every 17th item is undecided; one trace is hostile."""
    world = folder / "world"
    samples = [draw_sample(i, world, "iid" if i < items * 3 // 4 else "ood") for i in range(items)]
    save_samples(world / "board.jsonl", samples)
    for name in ("hesitant", "concise"):
        write_funnel(folder / "data" / name)
    commands = []
    for name, (stages, _, _, dice) in arms.items():
        for seed in seeds if stages else (0,):
            home = folder / "arms" / name / f"seed{seed}"
            if stages:
                (write_sft if stages[-1] == "sft" else write_grpo)(home / stages[-1], name, seed, dice, samples, steps)
                commands.append(f"seethink {stages[-1]} @{home.relative_to(folder)}/{stages[-1]}.json")
            write_eval(home / "eval", name, seed, dice, samples)
    write_eval(
        folder / "arms/base/seed0/eval-hesitant", "base", 0, Dice(0.41, 0.4, 0.22), samples, system="Think hesitantly."
    )
    planned = [pair for pair in COMPARISONS if set(pair) <= set(arms)]
    planned = planned or [[name, "base"] for name in arms if name != "base"]
    plan = {
        "label": LABEL,
        "simulated": True,
        "seeds": list(seeds),
        "arms": {
            n: {"stages": list(s), "style": y, "start": b, "data": y or "rl", "set": {}}
            for n, (s, y, b, _) in arms.items()
        },
        "reference": "grpo" if "grpo" in arms else "base",
        "comparisons": planned,
        "question": {**QUESTION, "comparisons": [pair for pair in planned if pair in QUESTION["comparisons"]]},
        "board": "world/board.jsonl",
        "data": {
            "hesitant": "data/hesitant/sft.jsonl",
            "concise": "data/concise/sft.jsonl",
            "rl": "data/concise/rl.jsonl",
        },
        "base": "models/base",
        "checker": "tests.synthetic_study:check",
        "git": "0123456789abcdef",
        "commands": commands,
        "config": {"seeds": list(seeds), "note": "synthetic"},
    }
    write_json(folder / "study.json", plan)
    return folder


def write_eval(folder: Path, arm: str, seed: int, dice: Dice, samples: list[Sample], system: str = "") -> None:
    scores = []
    for i, sample in enumerate(samples):
        harder = (
            0.12 * (sample.meta["part"] == "ood") + 0.1 * (sample.kind == "digit") - 0.1 * (sample.kind == "choice")
        )
        lot = Dice(max(0.02, dice.right - harder), dice.hesitation, dice.false, dice.repaired, dice.cut)
        text, right, stop, tokens = write_trace(sample, lot, random.Random(f"{arm}/{seed}/{sample.id}"))
        if i == 1:
            text = compose(f"I look. {HOSTILE} Wait, let me check. I see 1 red circle.", f"{HOSTILE}")
        undecided = i % 17 == 16
        ok = None if undecided else right
        status = "judge_failed" if undecided else "right" if right else "wrong"
        scores.append(
            Score("board", sample.meta["part"], sample.id, sample.kind, ok, None if undecided else float(right), status,
                  text.split("<answer>")[1][:-9] if stop == "stop" else None, text, stop, tokens, 0.01)
        )  # fmt: skip
    config = {
        "board": str(folder.parents[3] / "world/board.jsonl"),
        "system": system,
        "temperature": 0.0,
        "max_tokens": 256,
        "limit": 0,
    }
    decided = [s for s in scores if s.ok is not None]
    summary = {
        "accuracy": sum(s.ok for s in decided) / len(decided),
        "n": len(decided),
        "length": sum(s.tokens for s in scores) / len(scores),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "scores.parquet", scores)
    finish(folder, "eval", config, {"data": "b0a4d", "model": f"{arm}-{seed}"}, summary, 30)


def write_sft(folder: Path, arm: str, seed: int, dice: Dice, samples: list[Sample], steps: int) -> None:
    rng = random.Random(f"{arm}/{seed}")
    rows = [
        {
            "step": s + 1,
            "loss": 2.2 * math.exp(-s / 6) + 0.4 + rng.gauss(0, 0.03),
            "grad_norm": 1.0,
            "lr": 1e-4,
            "tokens": 3000,
            "seconds": 1.1,
        }
        for s in range(steps)
    ]
    write_jsonl(folder / "metrics.jsonl", rows)
    if "hesitant" in arm and seed == 1:
        text = "loss 4.10 is 3.2 times its median: weights rolled back, batch skipped"
        write_jsonl(folder / "alarms.jsonl", [{"step": 7, "alarm": "loss_spike", "text": text}])
    summary = {
        "optimiser_steps": steps, "prompts": 600, "rollouts": 0, "tokens_generated": 0, "tokens_trained": 3000 * steps,
        "seconds": 1.1 * steps, "data_order": f"order-{seed}",
    }  # fmt: skip
    config = {
        "data": f"data/{arm}.jsonl",
        "model": {"path": "models/base"},
        "epochs": 3,
        "batch_size": 32,
        "optim": {"lr": 5e-4},
        "seed": seed,
    }
    finish(folder, "sft", config, {"data": arm, "model": "base", "model.system": ""}, summary, 22)


def write_grpo(folder: Path, arm: str, seed: int, dice: Dice, samples: list[Sample], steps: int) -> None:
    rng = random.Random(f"{arm}/{seed}")
    length = 30 + 90 * dice.hesitation
    rows, rollouts = [], []
    for s in range(steps):
        reward = dice.right * (0.75 + 0.3 * (1 - math.exp(-s / 8))) + rng.gauss(0, 0.02)
        rows.append({
            "round": s + 1, "reward/mean": reward, "completion/length": length - 0.2 * s + rng.gauss(0, 1.5), "completion/cut_share": 0.0,
            "entropy": (0.1 + 0.4 * dice.hesitation) * math.exp(-s / 40) + rng.gauss(0, 0.004), "kl": 0.0004 * s + abs(rng.gauss(0, 4e-4)),
            "groups/zero_spread": 0.3, "undecided": 0, "seconds": 1.2 + dice.hesitation, "tokens/generated": int(length * 128),
        })  # fmt: skip
        for g in range(4 if s % 5 == 0 else 0):
            sample = samples[s % len(samples)]
            text, right, stop, tokens = write_trace(sample, dice, random.Random(f"{arm}/{seed}/{s}/{g}"))
            rollouts.append({
                "round": s + 1, "sample_id": sample.id, "group": g, "text": text, "stop": stop, "tokens": tokens, "reward": float(right),
                "status": "ok", "advantage": 0.5 - g / 4, "entropy": 0.2, "weights_version": s,
            })  # fmt: skip
    write_jsonl(folder / "metrics.jsonl", rows)
    write_table(folder / "rollouts.parquet", rollouts)
    tokens = sum(r["tokens/generated"] for r in rows)
    summary = {
        "rounds": steps, "optimiser_steps": steps, "prompts": 16 * steps, "rollouts": 128 * steps, "tokens_generated": tokens,
        "tokens_trained": int(tokens * 0.7), "seconds": sum(r["seconds"] for r in rows), "data_order": f"order-{seed}",
    }  # fmt: skip
    config = {
        "data": str(folder.parents[3] / "world/board.jsonl"), "model": {"path": "models/base", "freeze_vision": True}, "optim": {"lr": 1e-4}, "rounds": steps,
        "prompts": 16, "group": 8, "reward": {"box": {"correct": 0.5}}, "seed": seed, "out": str(folder), "temperature": 1.0,
    }  # fmt: skip
    finish(folder, "grpo", config, {"data": "rl", "model": arm, "model.system": ""}, summary, 40)


def write_funnel(folder: Path) -> None:
    """Rows as the data pipeline writes them."""
    rows = []
    for source, here in (("clevr_math", 400), ("arxivqa", 380), ("math_puma", 300)):
        for step, reasons in (
            ("caption", {}), ("distill", {"format": 9, "length": 4}), ("rewrite", {"length_gap": 6}), ("verify", {"judged_wrong": 21}), ("split", {}),
        ):  # fmt: skip
            out = here - sum(reasons.values())
            rows.append({"source": source, "step": step, "in": here, "dropped": reasons, "pending": 0, "out": out})
            here = out
        rows[-1] |= {"sft": here * 2 // 3, "rl": here - here * 2 // 3}
    write_json(folder / "funnel.json", rows)
    write_jsonl(
        folder / "spend.jsonl", [{"step": "distill", "model": "pocket-r1-hesitant", "usd": None, "prompt_tokens": 9000}]
    )


def finish(folder: Path, verb: str, config: dict, inputs: dict, summary: dict, seconds: int) -> None:
    """config, manifest and done-mark; `seconds` after the start."""
    manifest = {
        "key": "k", "verb": verb, "config": config, "inputs": inputs, "seethink": "0.1.0", "git": "0123456789abcdef", "python": "3.11.2",
        "platform": "test", "cores": 2, "versions": {"numpy": "2.4"}, "started": "2026-05-01T10:00:00+0000",
    }  # fmt: skip
    write_json(folder / "config.json", config)
    write_json(folder / "manifest.json", manifest)
    write_json(
        folder / "done.json", {"key": "k", "finished": f"2026-05-01T10:00:{seconds:02d}+0000", "summary": summary}
    )


if __name__ == "__main__":  # python -m tests.synthetic_study OUT
    import sys

    print(hash_file(build(Path(sys.argv[1]), items=400) / "study.json"))
