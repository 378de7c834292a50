"""Looking for what a policy would learn instead of the task: rewards for wrong answers, and scorers that are easily pleased.

canaries   wrong answers in the right format, made from the data: paid ones are bugs of a rule
probes     degenerate replies to open questions: paid ones are bugs of a scorer
AUC        does the scorer prefer the reference of a question to references of other questions
length     rank correlation of open rewards with answer length
answers    share of the most common answer per kind, statuses
second     our mathematical verdicts against math-verify's, with examples
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seethink.core.nouns import Reward, Sample
from seethink.core.tags import compose, extract
from seethink.rewards.kinds import gold_letters, options_of
from seethink.rewards.maths.workers import shared_pool
from seethink.rewards.open.formula import OpenItem, Scorer, save_calibration
from seethink.rewards.rewarder import RewardConfig, open_formula, score_batch
from seethink.rewards.text import normalise

CANARY_LIMIT, PROBE_LIMIT, AUC_LIMIT, LENGTH_LIMIT = 0.01, 0.2, 0.8, 0.3
DEGENERATE = (
    "answer here",
    "1 or 2 or 3",
    "x = x",
    "0 = 0",
    "A, B, C, D",
    "[0, 0, 0, 0]",
    "?",
    "the correct answer",
    "N/A",
)

Finding = dict[str, Any]


def canaries(samples: Sequence[Sample], config: RewardConfig, seed: int = 0) -> Finding:
    """Share of wrong answers that earn anything; the first paid ones as examples."""
    pairs = [(sample, wrong) for sample in samples if sample.kind != "open" for wrong in wrong_answers(sample, seed)]
    rewards = score_batch([s for s, _ in pairs], [compose("a canary", wrong) for _, wrong in pairs], config)
    paid = [
        (s, w, r)
        for (s, w), r in zip(pairs, rewards, strict=True)
        if r.value is not None and r.value > _free(s, config)
    ]
    share = len(paid) / max(1, len(pairs))
    examples = [
        {"id": s.id, "kind": s.kind, "gold": s.gold[:100], "answer": w, "reward": r.value} for s, w, r in paid[:10]
    ]
    return {"tried": len(pairs), "paid": len(paid), "share": share, "alarm": share > CANARY_LIMIT, "examples": examples}


def wrong_answers(sample: Sample, seed: int = 0) -> list[str]:
    """Answers that are certainly wrong for this gold, and what claims everything at once."""
    rng = random.Random(f"{seed} {sample.id} {sample.gold}")
    gold = normalise(sample.gold)
    if sample.kind == "choice":
        options = options_of(sample)
        right = gold_letters(sample.gold, options)
        others = [letter for letter in options if letter not in right]
        return [*others[:3], ", ".join(options), " or ".join(options), *DEGENERATE[:4]] if right else []
    if sample.kind == "box":
        return ["[0, 0, 0.001, 0.001]", "[0, 0, 1]", "IoU = 1.0", "[0, 0, 1, 1]" * 101, *DEGENERATE]
    if not gold.lstrip("-").replace(".", "", 1).isdigit():
        return [*DEGENERATE[:4], "?"] if gold.lower() not in DEGENERATE else []
    step = rng.randint(1, 9)
    others = (reply for reply in DEGENERATE if gold not in reply)
    return [f"({gold})+{step}", f"{gold} or {gold}{step}", f"{gold}{step}", f"-{gold}9", *others]


def _free(sample: Sample, config: RewardConfig) -> float:
    """What a wrong answer may earn: the format's share, and a sliver of overlap for a box."""
    return config.format_bonus + (0.01 if sample.kind == "box" else 0.0)


def probes(samples: Sequence[Sample], scorer: Scorer, config: RewardConfig) -> Finding:
    """Mean and highest reward of every degenerate reply over the open samples."""
    lines = Path(__file__).with_name("probes.txt").read_text(encoding="utf-8").splitlines()
    replies = [line for line in lines if line and not line.startswith("#")]
    open_samples = [s for s in samples if s.kind == "open"][:50]
    pairs = [(s, reply) for reply in replies for s in open_samples]
    rewards = score_batch([s for s, _ in pairs], [compose("", reply) for _, reply in pairs], config, scorer)
    paid: dict[str, list[float]] = {reply: [] for reply in replies}
    for (_, reply), reward in zip(pairs, rewards, strict=True):
        paid[reply].append(reward.value or 0.0)
    worst = {reply: max(values) for reply, values in paid.items() if values and max(values) > PROBE_LIMIT}
    return {"replies": len(replies), "questions": len(open_samples), "paid": worst, "alarm": bool(worst)}


def separation(samples: Sequence[Sample], scorer: Scorer, calibration: Path | None = None) -> Finding:
    """AUC of references over references of other questions, by the scorer's own scores."""
    from scipy.stats import mannwhitneyu

    chosen = [s for s in samples if s.kind == "open"][:200]
    if len(chosen) < 2:
        return {"pairs": 0, "auc": None, "alarm": False}
    shuffled = [*chosen[1:], chosen[0]]
    right = [OpenItem(s.question, s.gold, s.gold, s.images) for s in chosen]
    wrong = [
        OpenItem(s.question, o.gold, s.gold, s.images)
        for s, o in zip(chosen, shuffled, strict=True)
        if o.gold != s.gold
    ]
    scores = scorer.score_batch([*right, *wrong])
    ours, others = ([v for v in part if v is not None] for part in (scores[: len(right)], scores[len(right) :]))
    if not ours or not others:
        return {"pairs": 0, "auc": None, "alarm": True}
    if calibration:
        reference = dict(zip([item.question for item in right], scores, strict=False))
        differences = [
            v - (reference[item.question] or 0.0)
            for item, v in zip(wrong, scores[len(right) :], strict=True)
            if v is not None
        ]
        save_calibration(calibration, [0.0] * len(ours), differences)
    auc = float(mannwhitneyu(ours, others).statistic) / (len(ours) * len(others))
    return {"pairs": len(chosen), "auc": auc, "alarm": auc < AUC_LIMIT}


def length_correlation(rewards: Sequence[Reward]) -> Finding:
    """Spearman's rho of open rewards and answer length; a long answer is not a better one."""
    from scipy.stats import spearmanr

    pairs = [(r.value, len(r.answer or "")) for r in rewards if r.kind == "open" and r.value is not None]
    if len({value for value, _ in pairs}) < 2 or len({length for _, length in pairs}) < 2:
        return {"answers": len(pairs), "rho": None, "alarm": False}
    rho = float(spearmanr([v for v, _ in pairs], [n for _, n in pairs]).statistic)
    return {"answers": len(pairs), "rho": rho, "alarm": len(pairs) >= 30 and abs(rho) > LENGTH_LIMIT}


def summary(rewards: Sequence[Reward]) -> dict[str, Finding]:
    """Per kind: number, mean, statuses, and the share of the most common answer."""
    found = {}
    for kind in sorted({r.kind for r in rewards}):
        mine = [r for r in rewards if r.kind == kind]
        values = [r.value for r in mine if r.value is not None]
        answer, times = Counter((r.answer or "")[:60] for r in mine).most_common(1)[0]
        found[kind] = {
            "n": len(mine),
            "mean": sum(values) / len(values) if values else None,
            "undecided": len(mine) - len(values),
            "statuses": dict(Counter(r.status for r in mine)),
            "most_common_answer": answer,
            "most_common_share": times / len(mine),
        }
    return found


def second_opinion(
    samples: Sequence[Sample], responses: Sequence[str], config: RewardConfig, shown: int = 20
) -> Finding:
    """Agreement with math-verify on extracted answers, and what it says where we differ. It is a peer, not the truth."""
    items = [
        (s, answer)
        for s, r in zip(samples, responses, strict=True)
        if s.kind == "math" and (answer := extract(r).answer)
    ]
    items = [(s, answer) for s, answer in items if len(answer) <= config.max_answer_chars]
    ours = score_batch([s for s, _ in items], [compose("", answer) for _, answer in items], config)
    texts = [(_bare(s.gold), _bare(answer)) for s, answer in items]
    theirs = shared_pool(config.workers).compare(texts, config.item_seconds, max(config.batch_seconds, len(texts)))
    differ = [
        {"id": s.id, "gold": s.gold[:200], "answer": a[:200], "ours": o.value, "status": o.status, "math_verify": t}
        for (s, a), o, t in zip(items, ours, theirs, strict=True)
        if (o.value is not None and o.value >= 1) != (t == "equal")
    ]
    paid = sum(d["ours"] == 1 for d in differ)
    return {
        "compared": len(items),
        "differ": len(differ),
        "only_we_pay": paid,
        "only_math_verify_pays": len(differ) - paid,
        "examples": differ[:shown],
    }


def audit(
    samples: Sequence[Sample], responses: Sequence[str], config: RewardConfig, scorer: Scorer, **options: Any
) -> dict[str, Finding]:
    """All findings. `options`: `second` (bool), `examples` (int), `calibration` (path to write)."""
    rewards = score_batch(samples, responses, config, scorer) if responses else []
    unique = list({(s.kind, s.question, s.gold): s for s in samples}.values())
    found = {
        "canaries": canaries([replace(s, images=()) for s in unique], config),
        "probes": probes(unique, scorer, config),
        "separation": {
            **separation(unique, scorer, options.get("calibration")),
            "mode": open_formula(config, scorer).mode,
        },
        "length": length_correlation(rewards),
        "answers": summary(rewards),
    }
    if options.get("second") and responses:
        found["second"] = second_opinion(samples, responses, config, options.get("examples", 20))
    return found


def _bare(text: str) -> str:
    return normalise(text).replace("$", "")
