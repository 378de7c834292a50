"""The mixed reward: every sample is scored by its own kind, and an answer that cannot be extracted earns nothing.

    response -> extract -> digit | choice | math | box | open -> Reward

There are no weights between kinds and no format term: GRPO compares completions of one prompt, hence of one kind, and the
format reward is implicit (paper sec. 4.1). Scores depend on sample, response and config only, in any thread or process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from seethink.core.errors import UserError
from seethink.core.nouns import Reward, Sample
from seethink.core.tags import extract
from seethink.rewards.box import box
from seethink.rewards.config import RewardConfig
from seethink.rewards.decision import Decision, gold_error, malformed
from seethink.rewards.kinds import choice, digit, options_of
from seethink.rewards.maths.decide import decide, read_gold, symbolic_pair
from seethink.rewards.maths.workers import shared_pool
from seethink.rewards.open.formula import Formula, Scorer, score_open
from seethink.rewards.open.scorers import Cached, ChatRM, Embedding, Lexical, LocalRM

DEFAULT = RewardConfig()


def score(sample: Sample, response: str, config: RewardConfig = DEFAULT, scorer: Scorer | None = None) -> Reward:
    """Reward of one response. See `score_batch`."""
    return score_batch([sample], [response], config, scorer)[0]


def score_batch(
    samples: Sequence[Sample], responses: Sequence[str], config: RewardConfig = DEFAULT, scorer: Scorer | None = None
) -> list[Reward]:
    """Rewards in input order. `scorer` scores the open answers (none: token F1).

    Raises UserError when the scorer fails on more than `max_scorer_failures` of the batch, or math-verify cannot start.
    """
    rewards: dict[int, Reward] = {}
    pending: list[tuple[int, str]] = []
    for i, (sample, response) in enumerate(zip(samples, responses, strict=True)):
        start = time.perf_counter()
        answer, decision = _inline(sample, response, config)
        if decision is None:
            pending.append((i, answer or ""))
        else:
            rewards[i] = _reward(sample, answer, decision, config, time.perf_counter() - start)
    for step in (_symbolic, _open):
        start = time.perf_counter()
        mine = [(i, answer) for i, answer in pending if (samples[i].kind == "open") == (step is _open)]
        decisions = step([(samples[i], answer) for i, answer in mine], config, scorer) if mine else []
        seconds = (time.perf_counter() - start) / max(1, len(mine))
        for (i, answer), decision in zip(mine, decisions, strict=True):
            rewards[i] = _reward(samples[i], answer, decision, config, seconds)
    return [rewards[i] for i in range(len(samples))]


def is_correct(reward: Reward, config: RewardConfig = DEFAULT) -> bool | None:
    """Right, wrong or undecided (None), for accuracy. Boxes and open answers count from a threshold."""
    if reward.value is None:
        return None
    return reward.value >= {"box": config.box_correct, "open": config.open_correct}.get(reward.kind, 1.0)


def make_scorer(config: RewardConfig, log: Callable[..., None] | None = None) -> Scorer:
    """The scorer of open answers that the config asks for, cached. Raises UserError for what it lacks.

    `log` takes the seconds and sizes of every use of a local reward model as keywords.
    """
    if config.scorer == "lexical":
        return Lexical()
    if config.scorer == "judge":
        return Cached(_judge(config), config.scorer_cache)
    if not config.scorer_path:
        raise UserError(f"scorer {config.scorer!r} needs a model", remedy="Give --reward.scorer_path")
    if config.scorer == "embedding":
        return Cached(Embedding(config.scorer_path), config.scorer_cache)
    model = LocalRM if config.scorer == "model" else ChatRM
    return Cached(model(config.scorer_path, config.scorer_revision, log=log), config.scorer_cache)


def open_formula(config: RewardConfig, scorer: Scorer) -> Formula:
    mode = scorer.mode if config.open_mode == "auto" else config.open_mode
    return Formula(mode, config.beta, config.margin, config.calibration)


def _judge(config: RewardConfig) -> Scorer:
    from seethink.ask import Endpoint
    from seethink.rewards.open.judge import Judge

    if not config.judge_url or not config.judge_model:
        raise UserError(
            "a judge needs an endpoint and a model", remedy="Give --reward.judge_url and --reward.judge_model"
        )
    return Judge(Endpoint(base_url=config.judge_url, model=config.judge_model, api_key_env=config.judge_key_env))


def _inline(sample: Sample, response: str, config: RewardConfig) -> tuple[str | None, Decision | None]:
    """Answer and decision; no decision where a scorer or a symbolic comparison has to speak."""
    parsed = extract(response, config.extraction)
    if parsed.answer is None:
        return None, Decision(0.0, parsed.status)
    answer = parsed.answer
    if len(answer) > config.max_answer_chars:
        return answer[: config.max_answer_chars], Decision(0.0, "too_long", f"{len(answer)} characters")
    if sample.kind == "digit":
        return answer, digit(sample.gold, answer)
    if sample.kind == "choice":
        return answer, choice(sample.gold, answer, options_of(sample))
    if sample.kind == "box":
        return answer, box(sample.gold, answer, sample.meta, giou=config.box_measure == "giou")
    if sample.kind == "math":
        return answer, decide(sample.gold, answer)
    if not sample.gold.strip():
        return answer, gold_error("empty gold")
    return answer, None


def _symbolic(pairs: Sequence[tuple[Sample, str]], config: RewardConfig, scorer: Scorer | None) -> list[Decision]:
    """Rung 5 of the mathematical ladder."""
    texts = [symbolic_pair(sample.gold, answer) if config.symbolic else None for sample, answer in pairs]
    asked = list(dict.fromkeys(text for text in texts if text))
    verdicts = shared_pool(config.workers).compare(asked, config.item_seconds, config.batch_seconds) if asked else []
    known = dict(zip(asked, verdicts, strict=True))
    return [
        _symbolic_decision(sample.gold, known[text]) if text else malformed("not readable")
        for (sample, _), text in zip(pairs, texts, strict=True)
    ]


def _symbolic_decision(gold: str, verdict: str) -> Decision:
    """A gold that our own parser reads is never the reason for having no verdict."""
    return malformed("not readable") if verdict == "gold" and read_gold(gold).node else SYMBOLIC[verdict]


SYMBOLIC = {
    "equal": Decision(1.0, detail="by math-verify"),
    "different": Decision(0.0, detail="by math-verify"),
    "answer": malformed("not readable"),
    "gold": gold_error("gold is neither readable nor equal as text"),
    "timeout": Decision(0.0, "timeout", "symbolic comparison over its budget"),
}


def _open(pairs: Sequence[tuple[Sample, str]], config: RewardConfig, scorer: Scorer | None) -> list[Decision]:
    scorer = scorer or Lexical()
    return score_open(pairs, scorer, open_formula(config, scorer), config.max_scorer_failures)


def _reward(sample: Sample, answer: str | None, decision: Decision, config: RewardConfig, seconds: float) -> Reward:
    """The decision with the options of the config applied."""
    value = decision.value
    if value is not None:
        if sample.kind == "box" and config.box_threshold is not None:
            value = float(value >= config.box_threshold)
        value *= config.kind_scale.get(sample.kind, 1.0)
        if answer is not None:
            value = config.format_bonus + (1 - config.format_bonus) * value
        value = min(1.0, max(0.0, value))
    return Reward(value, decision.status, sample.kind, answer, decision.detail, seconds)
