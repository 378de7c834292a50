"""In-training evaluation: greedy answers to held-out samples every so many steps or rounds, and plain model folders on the way.

Training does not notice. The answers come from a sampler, prefixes and picture features of their own, without gradients and
without the global state of random numbers; their seconds are counted apart. What is due after a step is done before its row is
logged and its checkpoint written, so a killed run repeats it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from seethink.core.nouns import Sample
from seethink.core.overlap import overlap
from seethink.core.run import EXPORTS, Run, read_log
from seethink.core.store import load_samples
from seethink.rewards import RewardConfig, Rewarder
from seethink.train import alarms
from seethink.train.alarms import SECONDS, first_row
from seethink.train.batches import data_order
from seethink.train.config import GRPOConfig, SFTConfig
from seethink.train.model.policy import Policy, encode_prompt
from seethink.train.model.saving import save_policy
from seethink.train.rollout.decoding import Completion
from seethink.train.rollout.sampler import LocalSampler, decode

MAX_TOKENS = 1024  # of an answer, where training samples none
UNDISTORTED: dict[str, Any] = {"kind_scale": {}, "format_bonus": 0.0, "placebo": ""}
"""What a reward must be for accuracy to mean what it means in an evaluation: ablations of the training left out."""


@dataclass(frozen=True, slots=True)
class HeldOutAnswer:
    """One greedy answer, scored."""

    kind: str
    ok: bool | None
    """As an evaluation would have it; None: undecided."""
    reward: float | None
    """As the training pays."""
    cut: bool


class Watch:
    """What looks at a policy while it trains. Close it, or use it as a context manager."""

    def __init__(
        self, folder: Run, config: SFTConfig | GRPOConfig, policy: Policy, total: int, rewarder: Rewarder | None = None
    ):
        """`total`: steps or rounds of the run; `rewarder`: that of the training, where it has one."""
        self.folder, self.config, self.total = folder, config, total
        self.policy = replace(policy, features={})  # training's pictures stay cached, and are theirs alone
        self.samples = held_out(config) if config.watch.data else []
        self._stack = ExitStack()
        reward = config.reward if isinstance(config, GRPOConfig) else config.watch.reward
        self.rewarder = rewarder or self._own(reward)
        plain = reward.model_copy(update=UNDISTORTED)
        same = plain == reward or not self.samples
        self.judge = self.rewarder if same else self._own(plain, self.rewarder)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def begin(self, done: int) -> None:
        """The model before its first step, where this is the first process to come here; says what limits the evaluation."""
        raised = alarms.before_watch(self.total, self.config.export_every, len(self.samples), self._leaks())
        alarms.raise_new(self.folder, raised, None)
        first = first_row(read_log(self.folder.path("metrics.jsonl")), self.folder.unit)
        if self.samples and done == 0 and not self.policy.ranks.of_first(first):
            self.folder.log(0, **self.evaluate())

    def after(self, done: int) -> dict[str, Any]:
        """Exports and evaluates the model after so many steps or rounds, where that is due. Returns what is logged of it."""
        every = self.config.export_every
        if every and done % every == 0:
            save_policy(self.policy, self.folder.path(EXPORTS) / f"{self.folder.unit}-{done:06d}")
        due = self.samples and (done % self.config.watch.every == 0 or done == self.total)
        return self.evaluate() if due else {}

    def evaluate(self) -> dict[str, Any]:
        """Metrics of the model as it is; every rank answers its part. Raises UserError where rewards do."""
        began, policy, config, ranks = time.perf_counter(), self.policy, self.config, self.policy.ranks
        part = ranks.share(self.samples)
        longest = config.watch.max_tokens or (config.max_tokens if isinstance(config, GRPOConfig) else MAX_TOKENS)
        with ranks.together():
            prompts = [encode_prompt(policy, sample) for sample in part]
        sampler = LocalSampler(policy, capacity=config.watch.rows, prefill_tokens=config.micro_tokens)
        completions = [members[0] for members in sampler.rollout(prompts, 1, longest, temperature=0.0, seed=0)]
        sampler.close()
        with ranks.together():
            answers = self.score(part, completions)
        return {**held_out_metrics(ranks.gather(answers)), SECONDS: time.perf_counter() - began}

    def score(self, samples: Sequence[Sample], completions: Sequence[Completion]) -> list[HeldOutAnswer]:
        texts = [decode(self.policy, completion) for completion in completions]
        paid = self.rewarder.score_batch(samples, texts)
        judged = paid if self.judge is self.rewarder else self.judge.score_batch(samples, texts)
        return [
            HeldOutAnswer(s.kind, self.judge.is_correct(j), p.value, c.stop == "length")
            for s, c, p, j in zip(samples, completions, paid, judged, strict=True)
        ]

    def spending(self) -> list[dict[str, Any]]:
        """What a judge has cost over all ranks, where the evaluation alone asks one. Every rank calls it."""
        return [] if isinstance(self.config, GRPOConfig) else self.policy.ranks.gather(self.rewarder.spending())

    def _own(self, config: RewardConfig, scored_by: Rewarder | None = None) -> Rewarder:
        """A rewarder with files of its own; open answers by the scorer of `scored_by`, so that no model is loaded twice."""
        rank = self.policy.ranks.rank
        if scored_by and any(sample.kind == "open" for sample in self.samples):
            return self._stack.enter_context(Rewarder(config, scorer=scored_by.scorer()))
        scores, ledger = (self.folder.path(f"{name}-{rank}.sqlite") for name in ("scores", "ledger"))
        return self._stack.enter_context(Rewarder(config, scores=scores, ledger=ledger))

    def _leaks(self) -> int:
        """Held-out samples that stand in the training data."""
        demos = self.config.demos.data if isinstance(self.config, GRPOConfig) else None
        found: set[str] = set()
        with self.policy.ranks.together():
            for data in (self.config.data, demos) if self.samples and self.policy.ranks.first else ():
                found.update(overlap(self.samples, data) if data else ())
        return len(found)


def held_out(config: SFTConfig | GRPOConfig) -> list[Sample]:
    """The samples that are watched, in the order of their file."""
    assert config.watch.data
    samples = load_samples(config.watch.data)
    drawn = data_order([s.id for s in samples], len(samples), seed=0)[: config.watch.limit or None]
    return [samples[i] for i in sorted(drawn)]


def watch_summary(folder: Run) -> dict[str, Any]:
    """For the done-mark of a run: the models it exported, and the seconds of its evaluations, which no other count holds."""
    exports = sorted(path.name for path in folder.path(EXPORTS).glob(f"{folder.unit}-*"))
    seconds = sum(row.get(SECONDS, 0.0) for row in read_log(folder.path("metrics.jsonl")))
    return {"exports": [f"{EXPORTS}/{name}" for name in exports], "seconds_held_out": seconds}


def held_out_metrics(answers: Sequence[HeldOutAnswer]) -> dict[str, Any]:
    """Accuracy among the decided answers, in all and for each kind, and what they would earn; None where nothing is decided."""
    accuracy = lambda some: mean([a.ok for a in some if a.ok is not None])  # noqa: E731
    decided = lambda some: sum(a.ok is not None for a in some)  # noqa: E731
    metrics = {
        "held_out/accuracy": accuracy(answers),
        "held_out/reward": mean([a.reward for a in answers if a.reward is not None]),
        "held_out/cut_share": mean([a.cut for a in answers]),
        "held_out/decided": decided(answers),
    }
    for kind in sorted({a.kind for a in answers}):
        of_kind = [a for a in answers if a.kind == kind]
        metrics |= {f"held_out/{kind}": accuracy(of_kind), f"held_out/decided/{kind}": decided(of_kind)}
    return metrics


def mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
