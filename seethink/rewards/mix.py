"""The mixed reward: every sample is scored by its own kind, and an answer that cannot be extracted earns nothing.

    response -> extract -> digit | choice | math | box | open -> Reward

There are no weights between kinds and no format term: GRPO compares completions of one prompt, hence of one kind, and the
format reward is implicit (paper sec. 4.1). Scores depend on sample, response and config only, in any thread or process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from seethink.core.config import Config
from seethink.core.errors import UserError
from seethink.core.tags import extract
from seethink.core.types import Reward, Sample
from seethink.rewards.box import box
from seethink.rewards.decision import Decision, gold_error, malformed
from seethink.rewards.kinds import choice, digit, options_of
from seethink.rewards.math import decide, read_gold, symbolic_pair
from seethink.rewards.open import Formula, Scorer, score_open
from seethink.rewards.scorers import Cached, ChatRM, Embedding, Lexical, LocalRM
from seethink.rewards.workers import shared_pool


class RewardConfig(Config):
    """What a reward depends on besides the sample and the response."""

    extraction: Literal["strict", "prefilled", "lenient"] = Field(
        "strict", description="how the tags are read; lenient for evaluation only"
    )
    max_answer_chars: int = Field(2000, ge=1, description="longer answers are too_long")
    kind_scale: dict[str, float] = Field({}, description="factor in [0, 1] per kind, for ablations; default 1")
    format_bonus: float = Field(0.0, ge=0, le=1, description="share of the reward paid for the format alone")
    box_measure: Literal["iou", "giou"] = Field(
        "iou", description="overlap of two boxes; giou also tells near misses apart"
    )
    box_threshold: float | None = Field(None, description="pay 1 from this overlap and 0 below, instead of the overlap")
    box_correct: float = Field(0.5, description="overlap from which a box counts as correct in accuracy")
    scorer: Literal["lexical", "embedding", "model", "chat_model", "judge"] = Field(
        "lexical", description="what scores open answers"
    )
    scorer_path: str = Field("", description="folder or name of the reward model or sentence encoder")
    scorer_revision: str = Field("", description="pinned commit of a model that brings its own code")
    scorer_cache: Path | None = Field(None, description="SQLite file that keeps scores between runs")
    judge_url: str = Field("", description="OpenAI-compatible endpoint of the judge")
    judge_model: str = Field("", description="model name of the judge")
    judge_key_env: str = Field("OPENAI_API_KEY", description="environment variable with the judge's key")
    open_mode: Literal["auto", "plain", "vlaa", "shifted", "sigmoid", "calibrated"] = Field(
        "auto", description="formula; auto: the paper's vlaa for reward models, plain for scorers with values in [0, 1]"
    )
    beta: float = Field(
        0.2, gt=0, description="steepness of the open reward (ScoreRS, whose formula the paper takes, uses 0.2)"
    )
    margin: float = Field(1.0, ge=0, description="what mode shifted adds to the difference")
    calibration: Path | None = Field(None, description="differences of right and wrong answers for mode calibrated")
    open_correct: float = Field(0.8, description="reward from which an open answer counts as correct in accuracy")
    max_scorer_failures: float = Field(0.05, ge=0, le=1, description="larger share of missing scores stops the run")
    symbolic: bool = Field(True, description="let math-verify decide what the own parser cannot read")
    workers: int = Field(2, ge=1, description="processes for math-verify")
    item_seconds: float = Field(10.0, gt=0, description="wall clock per symbolic comparison")
    batch_seconds: float = Field(60.0, gt=0, description="wall clock for all symbolic comparisons of a batch")


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
    from seethink.rewards.judge import Judge

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
