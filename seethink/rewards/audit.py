"""`seethink reward audit`: what would a policy learn instead of the task?

    seethink reward audit answers.jsonl --second math-verify

canaries    wrong answers in the right format, made from the data: paid ones are bugs of a rule
probes      degenerate replies to open questions: paid ones are bugs of a scorer
separation  does the scorer prefer the reference of a question to references of other questions (AUC)
length      rank correlation of open rewards with answer length
answers     share of the most common answer per kind, statuses
second      our mathematical verdicts against math-verify's, with examples
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seethink.core.nouns import Reward, Sample
from seethink.core.store import write_json
from seethink.core.tags import compose
from seethink.rewards.answers import FORMAT, read_answers
from seethink.rewards.config import AuditConfig
from seethink.rewards.kinds import RULES
from seethink.rewards.maths.peer import second_opinion
from seethink.rewards.open.probe import audit_scorer
from seethink.rewards.placebo import refuse_placebo
from seethink.rewards.rewarder import Rewarder

CANARY_LIMIT = 0.01
SLIVER = 0.01
"""A wrong answer may earn this much besides the format's share: a box that overlaps by accident does."""

Finding = dict[str, Any]


def run(config: AuditConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; its findings. Raises UserError for rows that are no samples."""
    refuse_placebo(config.reward, "reward audit")
    rows = [row for row in read_answers(config.input, need_response=False) if row.kind != FORMAT]
    if dry_run:
        print(f"reward audit: {len(rows)} rows")
        return
    with Rewarder(config.reward) as rewarder:
        found = audit([row.sample for row in rows], [row.response for row in rows], rewarder, config)
    if config.out:
        write_json(config.out, found)
    for name, finding in found.items():
        alarm = "ALARM " if finding.get("alarm") else ""
        print(f"{alarm}{name}: {json.dumps(finding, ensure_ascii=False, default=str)}")
    return found


def audit(
    samples: Sequence[Sample], responses: Sequence[str], rewarder: Rewarder, config: AuditConfig
) -> dict[str, Finding]:
    """All findings; those about responses only where every sample has one."""
    answered = all(responses)
    rewards = rewarder.score_batch(samples, responses) if answered else []
    unique = list({(s.kind, s.question, s.gold): s for s in samples}.values())
    found = {
        "canaries": canaries([replace(s, images=()) for s in unique], rewarder),
        **audit_scorer(unique, rewards, rewarder, config.calibration),
        "answers": summary(rewards),
    }
    if config.second != "none" and answered and responses:
        found["second"] = second_opinion(samples, responses, rewarder, config.examples)
    return found


def canaries(samples: Sequence[Sample], rewarder: Rewarder, seed: int = 0) -> Finding:
    """Share of wrong answers that earn anything; the first paid ones as examples."""
    samples = [s for s in samples if not s.alternatives]  # what is wrong by one gold may be right by another
    draws = [random.Random(f"{seed} {s.id} {s.gold}") for s in samples]
    pairs = [(s, w) for s, rng in zip(samples, draws, strict=True) for w in RULES[s.kind].wrong(s, rng)]
    rewards = rewarder.score_batch([s for s, _ in pairs], [compose("a canary", wrong) for _, wrong in pairs])
    free = rewarder.config.format_bonus + SLIVER
    paid = [(s, w, r) for (s, w), r in zip(pairs, rewards, strict=True) if r.value is not None and r.value > free]
    share = len(paid) / max(1, len(pairs))
    examples = [
        {"id": s.id, "kind": s.kind, "gold": s.gold[:100], "answer": w, "reward": r.value} for s, w, r in paid[:10]
    ]
    return {"tried": len(pairs), "paid": len(paid), "share": share, "alarm": share > CANARY_LIMIT, "examples": examples}


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
