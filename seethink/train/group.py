"""The groups of a round: a prompt with its completions, rewards and advantages, and what is logged of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from seethink.core.nouns import Reward, Rollout, Sample
from seethink.traces import lexicon
from seethink.train.model.policy import EncodedPrompt
from seethink.train.rollout.sampler import Completion


@dataclass
class Group:
    """One prompt with its completions, their rewards and advantages (None: takes no part in the update)."""

    sample: Sample
    prompt: EncodedPrompt
    completions: list[Completion]
    texts: list[str]
    rewards: list[Reward]
    advantages: list[float | None]
    place: int
    """Which prompt of the round."""

    @property
    def trained(self) -> list[tuple[Completion, float]]:
        return [(c, a) for c, a in zip(self.completions, self.advantages, strict=True) if a is not None]

    @property
    def tokens(self) -> int:
        return len(self.prompt.ids) + sum(len(c.ids) for c, _ in self.trained)

    def without_pixels(self) -> Group:
        """What the log of a round needs."""
        return replace(self, prompt=replace(self.prompt, pixels=None, grids=None))


def describe(groups: list[Group]) -> dict:
    """Metrics of the rollouts of one round."""
    rewards = [r for g in groups for r in g.rewards]
    metrics = summary(groups) | {
        "undecided": sum(r.value is None for r in rewards),
        "no_format": sum(r.status == "no_format" for r in rewards) / len(rewards),
        "markers_per_100_words": hesitation([t for g in groups for t in g.texts]),
        "tokens/generated": sum(len(c.ids) for g in groups for c in g.completions),
        "tokens/prompt": sum(len(g.prompt.ids) for g in groups),
        "seconds/reward": sum(r.seconds for r in rewards),
    }
    for kind in sorted({g.sample.kind for g in groups}):
        of_kind = summary([g for g in groups if g.sample.kind == kind])
        metrics |= {f"{name.removesuffix('/mean')}/{kind}": value for name, value in of_kind.items()}
    return metrics


def summary(groups: list[Group]) -> dict:
    """What is worth knowing of all groups, and of those of each kind."""
    completions = [c for g in groups for c in g.completions]
    decided = [r.value for g in groups for r in g.rewards if r.value is not None]
    tokens = sum(len(c.ids) for c in completions)
    return {
        "reward/mean": sum(decided) / len(decided) if decided else None,
        "completion/length": tokens / len(completions),
        "completion/cut_share": sum(c.stop == "length" for c in completions) / len(completions),
        "entropy": float(sum(c.entropy.sum() for c in completions)) / tokens,
        "groups/zero_spread": sum(not g.trained for g in groups) / len(groups),
    }


def scorer_use(uses: list[dict]) -> dict:
    """Metrics of a local reward model that visits the accelerator to score; nothing without one."""
    if not uses:
        return {}
    return {
        "seconds/reward_transfer": sum(u["transfer_seconds"] for u in uses),
        "scorer/on_cpu": sum(u["on_cpu"] for u in uses),
    }


def hesitation(texts: list[str]) -> float:
    """Hesitation markers per 100 words."""
    words = lexicon.load("word")
    return 100 * sum(len(lexicon.find(t, words)) for t in texts) / max(sum(len(t.split()) for t in texts), 1)


def rollout_rows(step: int, groups: list[Group], version: int) -> list[dict]:
    rows = []
    for group in groups:
        for g, (c, text, reward, advantage) in enumerate(
            zip(group.completions, group.texts, group.rewards, group.advantages, strict=True)
        ):
            rows.append(
                asdict(
                    Rollout(
                        step + 1, group.sample.id, g, text, c.stop, len(c.ids), reward.value, reward.status,
                        advantage, float(c.entropy.mean()), version,
                    )
                )
            )  # fmt: skip
    return rows
