"""A second opinion on mathematical answers: math-verify's. It is a peer, not the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seethink.core.nouns import Sample
from seethink.core.tags import compose, extract
from seethink.rewards.maths.workers import shared_pool
from seethink.rewards.rewarder import Rewarder
from seethink.rewards.text import normalise


def second_opinion(
    samples: Sequence[Sample], responses: Sequence[str], rewarder: Rewarder, shown: int = 20
) -> dict[str, Any]:
    """Agreement on the extracted answers to mathematical samples, and what math-verify says where we differ."""
    config, limits = rewarder.config, rewarder.config.symbolic
    said = [(s, extract(r).answer) for s, r in zip(samples, responses, strict=True) if s.kind == "math"]
    items = [(s, answer) for s, answer in said if answer and len(answer) <= config.max_answer_chars]
    ours = rewarder.score_batch([s for s, _ in items], [compose("", answer) for _, answer in items])
    texts = [(normalise(s.gold).replace("$", ""), normalise(answer).replace("$", "")) for s, answer in items]
    theirs = shared_pool(limits.workers).compare(texts, limits.item_seconds, max(limits.batch_seconds, len(texts)))
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
