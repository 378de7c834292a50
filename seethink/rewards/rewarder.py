"""The mixed reward: every sample is scored by its own kind, and an answer that cannot be extracted earns nothing.

    response -> extract -> normalise -> the rules of the sample's kind -> Reward

There are no weights between kinds and no format term: GRPO compares completions of one prompt, hence of one kind, and the
format reward is implicit (paper sec. 4.1). Rewards depend on sample, response and config only, in any thread or process.
What a kind knows stands in `kinds`; nothing here knows one by name. A reward of the user's own (`custom`) is asked before the
rules; a placebo (`placebo`) stands in the place of all this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.nouns import Reward, Sample, by_gold
from seethink.core.tags import extract
from seethink.rewards.config import RewardConfig
from seethink.rewards.custom import AskedReward, load_custom, refuse_failures
from seethink.rewards.decision import AnswerText, Decision
from seethink.rewards.kinds import RULES, Later
from seethink.rewards.open.formula import Scorer
from seethink.rewards.open.scorers import make_scorer, refuse
from seethink.rewards.placebo import PLACEBO, placebo_reward


class Begun(NamedTuple):
    """A batch whose easy part is decided."""

    samples: list[Sample]
    """Each sample once for each of its golds."""
    golds: list[int]
    """How many golds each sample of the batch has."""
    rewards: dict[int, Reward]
    """By place in `samples`."""
    waiting: dict[Later, list[tuple[int, AnswerText]]]
    """What decides a whole batch -> what it has to decide."""
    custom: dict[int, AskedReward]
    """What the user's own reward has to decide, by place."""


class Rewarder:
    """Scores answers by one config. Close it, or use it as a context manager.

    The scorer of open answers is made when the first of them needs it, always the one that the config names. A rewarder
    pickles without it: every process makes its own.
    """

    def __init__(
        self,
        config: RewardConfig | None = None,
        *,
        scores: Path | None = None,
        ledger: Path | None = None,
        log: Callable[..., None] | None = None,
        scorer: Scorer | None = None,
    ):
        """
        scores  SQLite file that keeps the scores of open answers between runs; `config.open.cache` wins where it is set
        ledger  SQLite ledger of the run, in which the calls of a judge are recorded and paid; none: in memory
        log     takes the seconds and sizes of every use of a local reward model as keywords
        scorer  instead of the one that the config names; whoever gives it closes it

        Raises UserError for a config whose scorer could not work, or whose custom reward is not there.
        """
        self.config = config or RewardConfig()
        self._scores, self._ledger, self._log = self.config.open.cache or scores, ledger, log
        self._given, self._made = scorer, None
        if scorer is None and not self.config.placebo:
            refuse(self.config.open)
        self._custom = load_custom(self.config.custom) if self.config.custom else None

    def __enter__(self) -> Rewarder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None, "_custom": None}

    def close(self) -> None:
        """Release the scorer; it is made again where another answer needs one."""
        if self._made is not None:
            self._made.close()
            self._made = None

    def scorer(self) -> Scorer:
        """What scores open answers. Raises UserError for a model that cannot be loaded."""
        if self._given is not None:
            return self._given
        if self._made is None:
            self._made = make_scorer(self.config.open, self._scores, self._ledger, self._log)
        return self._made

    def score(self, sample: Sample, response: str) -> Reward:
        """Reward of one response. See `score_batch`."""
        return self.score_batch([sample], [response])[0]

    def score_batch(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[Reward]:
        """Rewards in input order; any gold of a sample makes an answer right.

        Raises UserError when the scorer of open answers, or a custom reward, fails on more than `open.max_failures` of the
        batch (code 3), when a judge's budget is spent (4), or when math-verify cannot start.
        """
        return self.finish(self.begin(samples, responses))

    def begin(self, samples: Sequence[Sample], responses: Sequence[str], begun: Begun | None = None) -> Begun:
        """What rules decide, within milliseconds, in any thread; more of a batch may be added to what was `begun`."""
        begun = begun or Begun([], [], {}, {}, {})
        samples, responses = list(samples), list(responses)
        for response in responses:
            if not isinstance(response, str):  # a list of messages would earn 0 for its form
                remedy = "Give the text of each answer"
                raise UserError(f"a response is a {type(response).__name__}, not a text", remedy=remedy)
        versions = [[sample] if self.config.placebo else by_gold(sample) for sample in samples]
        begun.golds.extend(map(len, versions))
        pairs = [(s, response) for golds, response in zip(versions, responses, strict=True) for s in golds]
        for sample, response in pairs:
            i, start = len(begun.samples), time.perf_counter()
            begun.samples.append(sample)
            if self.config.placebo:
                begun.rewards[i] = placebo_reward(sample, response, self.config)
                continue
            raw, decision = read_answer(response, self.config)
            if decision is not None:
                begun.rewards[i] = self._reward(sample, raw, decision, time.perf_counter() - start)
            elif self.config.custom:
                begun.custom[i] = AskedReward(sample, raw or "", response)
            else:
                self._by_rules(begun, i, raw or "", start)
        return begun

    def _by_rules(self, begun: Begun, i: int, raw: str, start: float) -> None:
        """What the rules of its kind say, or that they have to wait for the batch."""
        sample, answer = begun.samples[i], AnswerText(raw)
        rules = RULES[sample.kind]
        decision = rules.decide(sample, answer, self.config)
        if decision is None:
            begun.waiting.setdefault(rules.later, []).append((i, answer))
        else:
            begun.rewards[i] = self._reward(sample, raw, decision, time.perf_counter() - start)

    def finish(self, begun: Begun) -> list[Reward]:
        """Rewards in order, once the user's own reward, a scorer or a computer algebra system has decided the rest.

        Raises as `score_batch`.
        """
        samples, rewards = begun.samples, begun.rewards
        if begun.custom:
            start, name = time.perf_counter(), self.config.custom
            self._custom = self._custom or load_custom(name)  # once: a file that is edited meanwhile changes no run
            decisions = self._custom(list(begun.custom.values()))
            refuse_failures(decisions, self.config.open.max_failures, name)
            seconds = (time.perf_counter() - start) / len(decisions)
            for (i, given), decision in zip(begun.custom.items(), decisions, strict=True):
                if decision is None:  # not its business
                    self._by_rules(begun, i, given.answer, time.perf_counter())
                else:
                    rewards[i] = self._reward(samples[i], given.answer, decision, seconds)
        for later, mine in begun.waiting.items():
            start = time.perf_counter()
            decisions = later([(samples[i], answer) for i, answer in mine], self.config, self.scorer)
            seconds = (time.perf_counter() - start) / len(mine)
            for (i, answer), decision in zip(mine, decisions, strict=True):
                rewards[i] = self._reward(samples[i], answer.raw, decision, seconds)
        in_order = iter([rewards[i] for i in range(len(samples))])
        return [self._best([next(in_order) for _ in range(count)]) for count in begun.golds]

    def _best(self, rewards: list[Reward]) -> Reward:
        """Of the rewards by each gold: a right one, else one that cannot be decided, else the highest."""
        best = max(rewards, key=lambda reward: -1.0 if reward.value is None else reward.value)
        undecided = [reward for reward in rewards if reward.value is None]
        return undecided[0] if undecided and not self.is_correct(best) else best

    def is_correct(self, reward: Reward) -> bool | None:
        """Right, wrong or undecided (None: a placebo tells nothing), for accuracy. Some kinds count from a threshold."""
        if reward.value is None or reward.status == PLACEBO:
            return None
        least = self.config.correct
        return reward.value >= (RULES[reward.kind].correct(self.config) if least is None else least)

    def spending(self) -> list[dict[str, Any]]:
        """What a judge has cost: one row per step and model, as `Ledger.spending` gives them. Empty without one."""
        if self._given is None and self._made is None:  # nothing was asked, unless an earlier part of the run did
            earlier = self.config.open.scorer == "judge" and self._ledger is not None and self._ledger.exists()
            return self.scorer().spending() if earlier else []
        return self.scorer().spending()

    def _reward(self, sample: Sample, answer: str | None, decision: Decision, seconds: float) -> Reward:
        """The decision, scaled as the config says."""
        value = decision.value
        if value is not None:
            value *= self.config.kind_scale.get(sample.kind, 1.0)
            if answer is not None:
                value = self.config.format_bonus + (1 - self.config.format_bonus) * value
            value = min(1.0, max(0.0, value))
        return Reward(value, decision.status, sample.kind, answer, decision.detail, seconds)


def read_answer(response: str, config: RewardConfig) -> tuple[str | None, Decision | None]:
    """The answer of a response, and a decision where its form alone settles it: it has none, or one that is too long."""
    parsed = extract(response, config.extraction)
    if parsed.answer is None:
        return None, Decision(0.0, parsed.status)
    if len(parsed.answer) > config.max_answer_chars:
        cut = parsed.answer[: config.max_answer_chars]
        return cut, Decision(0.0, "too_long", f"{len(parsed.answer)} characters")
    return parsed.answer, None


def score(sample: Sample, response: str, config: RewardConfig | None = None) -> Reward:
    """Reward of one response, by a rewarder of its own."""
    with Rewarder(config) as rewarder:
        return rewarder.score(sample, response)
