"""One GRPO step and one SFT step on the benchmark's work, in pieces that can be timed and weighed one by one.

The same calls as `seethink grpo` and `seethink sft`, with the benchmark's reward and random completions to imitate.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from work import BETA, LEARNING_RATE, QUESTION, TEMPERATURE, Case, image_paths, reward

from seethink.core.nouns import Reward, Sample
from seethink.train.config import GRPOConfig, ModelConfig, OptimConfig, SFTConfig
from seethink.train.dist import Ranks
from seethink.train.group import Group
from seethink.train.grpo import improve, reference_model
from seethink.train.loss import group_advantages
from seethink.train.model.policy import EncodedPrompt, Policy, encode_prompt, load_policy, make_trainable
from seethink.train.optim import Optimiser, autocast
from seethink.train.rollout.sampler import LocalSampler, decode
from seethink.train.sft import Encoded, imitate


@dataclass(frozen=True)
class Choice:
    """What is trained."""

    lora_rank: int = 0
    freeze_vision: bool = True
    freeze_projector: bool = True

    @property
    def name(self) -> str:
        if self.lora_rank:
            return f"LoRA {self.lora_rank}"
        parts = ["language"] + ["projector"] * (not self.freeze_projector) + ["vision"] * (not self.freeze_vision)
        return " + ".join(parts)


LORA = Choice(lora_rank=32)
CHOICES = [LORA, *(Choice(0, vision, projector) for vision in (True, False) for projector in (True, False))]


def load(folder: Path, choice: Choice, device: torch.device, weights: str, dtype: str) -> Policy:
    """The policy of a prepared folder, held in `weights` precision; `dtype` is that of the computation."""
    policy = load_policy(folder, Ranks(device=device), getattr(torch, weights))
    make_trainable(policy, model_config(folder, choice, dtype))
    return policy


def model_config(folder: Path, choice: Choice, dtype: str) -> ModelConfig:
    return ModelConfig(
        path=folder,
        dtype=dtype,
        lora_rank=choice.lora_rank,
        freeze_vision=choice.freeze_vision,
        freeze_projector=choice.freeze_projector,
    )


def encoded_prompts(policy: Policy, folder: Path, case: Case, step: int) -> tuple[list[Sample], list[EncodedPrompt]]:
    """Samples with pictures of their own in every step, read from their files and encoded."""
    paths = image_paths(folder, case.prompts * (step + 1))[case.prompts * step :]
    samples = [Sample(p, "bench", (p,), QUESTION, "1", "digit") for p in paths]
    return samples, [encode_prompt(policy, s, "") for s in samples]


class GRPO:
    """Model, reference, sampler and optimiser of a GRPO run."""

    def __init__(self, policy: Policy, folder: Path, case: Case, choice: Choice, dtype: str, **settings):
        self.policy, self.folder, self.case = policy, folder, case
        self.config = GRPOConfig(
            out=folder / "unused",
            data=folder / "unused.jsonl",
            model=model_config(folder, choice, dtype),
            optim=OptimConfig(lr=LEARNING_RATE, warmup=0),
            prompts=case.prompts,
            group=case.group,
            update_prompts=case.prompts,
            temperature=TEMPERATURE,
            max_tokens=case.max_tokens,
            kl=BETA,
            kl_target=0,
            **settings,
        )
        self.reference = reference_model(policy)
        self.optimiser = Optimiser(policy, self.config.optim, total_steps=100)
        keep = case.prompts if self.config.reuse_prefill else 0
        self.sampler = LocalSampler(policy, 0, case.prompts * case.group, self.config.micro_tokens, keep)

    def explore(self, samples: list[Sample], prompts: list[EncodedPrompt], step: int) -> list[Group]:
        config, groups = self.config, []
        with autocast(self.policy, config.model):
            completions = self.sampler.rollout(prompts, config.group, config.max_tokens, config.temperature, step)
        for place, (sample, prompt, group) in enumerate(zip(samples, prompts, completions, strict=True)):
            rewards = [Reward(reward(c.ids.tolist()), "ok", "digit") for c in group]
            advantages = group_advantages([r.value for r in rewards], config.std_norm)
            texts = [decode(self.policy, c) for c in group]
            groups.append(Group(sample, prompt, group, texts, rewards, advantages, place))
        return groups

    def improve(self, groups: list[Group]) -> dict:
        return improve(self.policy, self.reference, self.optimiser, self.config, groups, BETA, self.sampler.kept)

    def step(self, number: int) -> None:
        self.improve(self.explore(*encoded_prompts(self.policy, self.folder, self.case, number), number))


class SFT:
    """Model and optimiser of an SFT run, with the copy of both that it keeps for rolling back."""

    def __init__(self, policy: Policy, folder: Path, case: Case, choice: Choice, dtype: str):
        self.policy, self.folder, self.case = policy, folder, case
        self.config = SFTConfig(
            out=folder / "unused", data=folder / "unused.jsonl", model=model_config(folder, choice, dtype)
        )
        self.optimiser = Optimiser(policy, OptimConfig(lr=LEARNING_RATE, warmup=0), total_steps=100)
        self.good = self.optimiser.state_copy()

    def step(self, number: int) -> None:
        """As many completions as the GRPO step has, each with its prompt."""
        _, prompts = encoded_prompts(self.policy, self.folder, self.case, number)
        draw = torch.Generator().manual_seed(number)
        texts = torch.randint(100, 1000, (self.case.prompts * self.case.group, self.case.max_tokens), generator=draw)
        batch = [Encoded(prompts[i // self.case.group], ids) for i, ids in enumerate(texts)]
        imitate(self.policy, self.config, batch)
        self.optimiser.update()
        self.good = self.optimiser.state_copy()
