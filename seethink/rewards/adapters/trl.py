"""TRL: an instance is a reward function.

    from seethink.rewards.adapters.trl import SeethinkReward
    GRPOTrainer(model, reward_funcs=[SeethinkReward()], train_dataset=...)    # columns as `seethink export --format trl`

Read from TRL 1.16: called with completions (texts or message lists), every extra column as a keyword, and loggers. None is
allowed and leaves the sample out. The function may be pickled and called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

from seethink.rewards.adapters.common import Undecided, check_undecided, number, sample_from_truth, status_shares
from seethink.rewards.config import RewardConfig
from seethink.rewards.rewarder import Rewarder

TRUTH = ("id", "source", "kind", "gold", "solution", "alternatives", "choices", "meta", "question", "images")


class SeethinkReward:
    """Callable reward of a GRPOTrainer; `__name__` is the name under which TRL logs it."""

    __name__ = "seethink"

    def __init__(self, config: RewardConfig | None = None, undecided: Undecided = "none"):
        check_undecided(undecided, "TRL", get_args(Undecided))
        self._rewarder = Rewarder(config)
        self._undecided: Undecided = undecided

    def __call__(
        self,
        completions: Sequence[Any],
        prompts: Sequence[Any] = (),
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One reward per completion. Raises UserError for a data set without the columns of a sample."""
        names = [name for name in TRUTH if isinstance(columns.get(name), Sequence)]
        truths = [{name: columns[name][i] for name in names} for i in range(len(completions))]
        questions = [text_of(prompts[i]) if i < len(prompts) else "" for i in range(len(completions))]
        asked = zip(truths, questions, strict=True)
        samples = [sample_from_truth(truth, id=str(i), question=q) for i, (truth, q) in enumerate(asked)]
        rewards = self._rewarder.score_batch(samples, [text_of(completion) for completion in completions])
        if log_extra:
            log_extra("seethink_status", [reward.status for reward in rewards])
            log_extra("seethink_answer", [reward.answer or "" for reward in rewards])
        if log_metric:
            for name, share in status_shares(rewards).items():
                log_metric(f"seethink/{name}", share)
        return [number(reward, sample, self._undecided) for reward, sample in zip(rewards, samples, strict=True)]


def text_of(completion: Any) -> str:
    """Text of a completion that is a string or a list of messages, whose content may be a list of parts."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"] if completion else ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if part.get("type") == "text")
