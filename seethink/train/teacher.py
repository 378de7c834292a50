"""On-policy distillation: the policy samples, a teacher says of every token how much better it finds it than the policy did.

The advantage of a token is log teacher - log policy, both of the distribution that is sampled from (temperature, banned ids).
In expectation its policy gradient is that of -KL(policy || teacher), the reverse KL, at the prefixes that the policy wrote: every
token is credited for itself alone, not for those after it (GKD, arXiv 2306.13649, with the gradient of its equation for the
reverse KL taken by sampling). No gold is needed: rewards are logged, and teach nothing.

Teacher and policy read the same token ids and image patches, so they must share tokenizer and vision geometry; sizes may differ.
"""

from __future__ import annotations

from seethink.core.errors import UserError
from seethink.train.advantage import Group
from seethink.train.config import GRPOConfig, ModelConfig
from seethink.train.dist import Ranks
from seethink.train.model.parts import Tools, load_tools
from seethink.train.model.policy import Policy, frozen, load_policy
from seethink.train.model.rescore import rescore

GEOMETRY = ("patch_size", "temporal_patch_size", "spatial_merge_size")
SHARED = "A teacher reads the policy's own tokens: take one of the same family"


def teacher_settings(config: GRPOConfig) -> ModelConfig | None:
    """How the teacher is loaded: as the policy is, without its adapters."""
    return config.teacher and config.model.model_copy(update={"path": config.teacher, "lora_rank": 0})


def load_teacher(config: GRPOConfig, ranks: Ranks) -> Policy | None:
    """The frozen teacher, held and computed as the policy is; None where none is asked for."""
    settings = teacher_settings(config)
    if settings is None:
        return None
    return frozen(load_policy(settings, ranks))


def refuse_stranger(config: GRPOConfig) -> None:
    """Raises UserError for a teacher that would read the policy's tokens or patches as something else. Loads no weights."""
    settings = teacher_settings(config)
    if settings is not None and (other := difference(load_tools(config.model), load_tools(settings))):
        raise UserError(f"the teacher has another {other} than the policy", where=settings.path, remedy=SHARED)


def difference(policy: Tools, teacher: Tools) -> str:
    """What of two models must be one and is not; empty where they fit together."""
    for name in ("model_type", "image_token_id"):
        if policy.config.get(name) != teacher.config.get(name):
            return name
    if policy.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
        return "vocabulary"
    visions = [tools.config["vision_config"] for tools in (policy, teacher)]
    return next((name for name in GEOMETRY if visions[0].get(name) != visions[1].get(name)), "")


def teach(policy: Policy, teacher: Policy, groups: list[Group], config: GRPOConfig, exact: bool) -> None:
    """Give every token of every rollout of this rank its advantage, before the round's first update. All ranks call it.

    `exact`: the log-probabilities of the rollouts are the policy's own; those of an engine are replaced by the policy's.
    """
    rollouts = [r for g in groups for r in g.rollouts]
    prompts, ids_BG = [g.prompt for g in groups], [[r.completion.ids for r in g.rollouts] for g in groups]
    if not exact:
        own = rescore(policy, prompts, ids_BG, config.temperature, config.micro_tokens)
        for rollout, log_probs in zip(rollouts, own, strict=True):
            rollout.before = log_probs
    theirs = rescore(teacher, prompts, ids_BG, config.temperature, config.micro_tokens, policy.banned)
    for rollout, log_probs in zip(rollouts, theirs, strict=True):
        rollout.by_token = log_probs - rollout.before
        rollout.advantage = float(rollout.by_token.mean())
