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

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from seethink.core.nouns import Reward, Sample
from seethink.core.stats import clustered, wilson
from seethink.core.store import write_json
from seethink.core.tags import compose
from seethink.core.terminal import between, one_line, print_table
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
    print(f"reward audit: finished, {len(rows)} rows" + (f", {config.out}" if config.out else ""))
    say(found)
    return found


def say(found: dict[str, Any]) -> None:
    """The findings as tables: what was looked for with its alarm, then the rewards of every kind."""
    alarms = {name: "ALARM" if finding.get("alarm") else "ok" for name, finding in found.items()}
    rows = [(alarms[name], name, IN_WORDS[name](finding)) for name, finding in found.items() if name in IN_WORDS]
    print_table(("", "finding", "what was found"), rows, texts=3)
    for example in found["canaries"]["examples"]:
        print(f"  paid {example['reward']:.3g}: {example['kind']} {example['id']}, answer {example['answer']!r}")
    for reply, reward in found["probes"]["paid"].items():
        print(f"  paid {reward:.3g}: the reply {reply!r}")
    if kinds := found["answers"]:
        print()
        cells = [
            (kind, one_line(row["most_common_answer"])[:30], f"{100 * row['most_common_share']:.0f}", row["n"], row["undecided"],
             between(row["mean"], row["mean_interval"], 3) or "undecided")
            for kind, row in kinds.items()
        ]  # fmt: skip
        headings = ("kind", "most common answer", "share, %", "answers", "undecided", "mean reward [95 %]")
        print_table(headings, cells, texts=2)


def _of_canaries(finding: Finding) -> str:
    if not finding["tried"]:
        return "no wrong answer could be made from these rows"
    limits = wilson(finding["paid"], finding["tried"])
    share = between(100 * finding["share"], (100 * limits.low, 100 * limits.high))
    return f"{finding['paid']} of {finding['tried']} wrong answers are paid: {share} %"


IN_WORDS: dict[str, Callable[[Finding], str]] = {
    "canaries": _of_canaries,
    "probes": lambda f: (
        f"{len(f['paid'])} of {f['replies']} degenerate replies are paid, on {f['questions']} open questions"
    ),
    "separation": lambda f: (
        "not measured: fewer than two open questions with a score"
        if f["auc"] is None
        else f"AUC {f['auc']:.3f} of references over others', {f['pairs']} open questions"
    ),
    "length": lambda f: (
        f"not measured: no spread among {f['answers']} open answers"
        if f["rho"] is None
        else f"rank correlation {f['rho']:.2f} of reward and length, {f['answers']} open answers"
    ),
    "second": lambda f: (
        f"math-verify differs on {f['differ']} of {f['compared']}: pays {f['only_math_verify_pays']} that we do "
        f"not, we {f['only_we_pay']} that it does not"
    ),
}
"""Findings in words, for a terminal; all of them stand in --out and --json."""


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
        "answers": summary(rewards, [s.id for s in samples]),
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


def summary(rewards: Sequence[Reward], ids: Sequence[str]) -> dict[str, Finding]:
    """Per kind: number, mean with its interval over samples (their `ids`), statuses, and the share of the most common answer."""
    found = {}
    for kind in sorted({r.kind for r in rewards}):
        mine = [r for r in rewards if r.kind == kind]
        decided = [
            (r.value, name) for r, name in zip(rewards, ids, strict=False) if r.kind == kind and r.value is not None
        ]
        values = [value for value, _ in decided]
        mean = clustered(values, [name for _, name in decided], share=True)
        answer, times = Counter((r.answer or "")[:60] for r in mine).most_common(1)[0]
        found[kind] = {
            "n": len(mine),
            "mean": mean and mean.estimate,
            "mean_interval": mean and [mean.low, mean.high],
            "undecided": len(mine) - len(values),
            "statuses": dict(Counter(r.status for r in mine)),
            "most_common_answer": answer,
            "most_common_share": times / len(mine),
        }
    return found
