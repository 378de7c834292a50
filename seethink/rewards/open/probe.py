"""How easily a scorer of open answers is pleased: by degenerate replies, by other questions' references, by length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import mannwhitneyu, spearmanr

from seethink.core.nouns import Reward, Sample
from seethink.core.tags import compose
from seethink.rewards.open.formula import OpenItem, formula_of, save_calibration
from seethink.rewards.rewarder import Rewarder
from seethink.rewards.text import lines_of

PROBE_LIMIT, AUC_LIMIT, LENGTH_LIMIT = 0.2, 0.8, 0.3


def audit_scorer(
    samples: Sequence[Sample], rewards: Sequence[Reward], rewarder: Rewarder, calibration: Path | None
) -> dict[str, dict[str, Any]]:
    """All findings, from the open ones among these samples and rewards."""
    samples = [s for s in samples if s.kind == "open"]
    return {
        "probes": probes(samples, rewarder),
        "separation": separation(samples, rewarder, calibration),
        "length": length_correlation([r for r in rewards if r.kind == "open"]),
    }


def probes(samples: Sequence[Sample], rewarder: Rewarder) -> dict[str, Any]:
    """The highest reward of every degenerate reply over open samples, where it is too high."""
    replies, samples = lines_of(Path(__file__).with_name("probes.txt")), samples[:50]
    pairs = [(s, reply) for reply in replies for s in samples]
    rewards = rewarder.score_batch([s for s, _ in pairs], [compose("", reply) for _, reply in pairs])
    highest: dict[str, float] = {}
    for (_, reply), reward in zip(pairs, rewards, strict=True):
        highest[reply] = max(highest.get(reply, 0.0), reward.value or 0.0)
    worst = {reply: value for reply, value in highest.items() if value > PROBE_LIMIT}
    return {"replies": len(replies), "questions": len(samples), "paid": worst, "alarm": bool(worst)}


def separation(samples: Sequence[Sample], rewarder: Rewarder, calibration: Path | None = None) -> dict[str, Any]:
    """AUC of references over references of other questions, by the scorer's own scores of open samples.

    Writes their differences to `calibration`, for mode calibrated.
    """
    scorer, chosen = rewarder.scorer(), samples[:200]
    mode = formula_of(rewarder.config.open, scorer).mode
    if len(chosen) < 2:
        return {"pairs": 0, "auc": None, "alarm": False, "mode": mode}
    others = zip(chosen, [*chosen[1:], chosen[0]], strict=True)
    right = [OpenItem(s.question, s.gold, s.gold, s.images) for s in chosen]
    wrong = [OpenItem(s.question, o.gold, s.gold, s.images) for s, o in others if o.gold != s.gold]
    scores = scorer.score_batch([*right, *wrong])
    ours, theirs = ([v for v in part if v is not None] for part in (scores[: len(right)], scores[len(right) :]))
    if not ours or not theirs:
        return {"pairs": 0, "auc": None, "alarm": True, "mode": mode}
    if calibration:
        reference = dict(zip([item.question for item in right], scores, strict=False))
        pairs = zip(wrong, scores[len(right) :], strict=True)
        differences = [v - (reference[item.question] or 0.0) for item, v in pairs if v is not None]
        save_calibration(calibration, [0.0] * len(ours), differences)
    auc = float(mannwhitneyu(ours, theirs).statistic) / (len(ours) * len(theirs))
    return {"pairs": len(chosen), "auc": auc, "alarm": auc < AUC_LIMIT, "mode": mode}


def length_correlation(rewards: Sequence[Reward]) -> dict[str, Any]:
    """Spearman's rho of open rewards and answer length; a long answer is not a better one."""
    pairs = [(r.value, len(r.answer or "")) for r in rewards if r.value is not None]
    if len({value for value, _ in pairs}) < 2 or len({length for _, length in pairs}) < 2:
        return {"answers": len(pairs), "rho": None, "alarm": False}
    found: Any = spearmanr([v for v, _ in pairs], [n for _, n in pairs])
    rho = float(found.statistic)
    return {"answers": len(pairs), "rho": rho, "alarm": len(pairs) >= 30 and abs(rho) > LENGTH_LIMIT}
