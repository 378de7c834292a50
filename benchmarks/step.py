"""One GRPO step and one SFT step on the benchmark's work, in pieces that can be timed and weighed one by one.

The same calls as `seethink grpo` and `seethink sft`, with the benchmark's reward and random completions to imitate.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from work import BETA, LEARNING_RATE, QUESTION, TEMPERATURE, Case, image_paths, reward

from seethink.core.nouns import Reward, Sample
from seethink.train.advantage import Group, Rollout, set_advantages
from seethink.train.config import GRPOConfig, ModelConfig, OptimConfig, SFTConfig
from seethink.train.dist import Ranks
from seethink.train.grpo import Learner, reference_model, update
from seethink.train.model.policy import EncodedPrompt, Policy, encode_prompt, load_policy, make_trainable
from seethink.train.optimiser import Optimiser
from seethink.train.rollout.engine import make_sampler
from seethink.train.rollout.sampler import decode
from seethink.train.sft import Encoded, backward


@dataclass(frozen=True)
class Choice:
    """What is trained."""

    lora_rank: int = 0
    freeze_vision: bool = True
    freeze_projector: bool = True
    checkpoint_layers: bool = False
    micro_tokens: int = 0
    """0: the default of the verb."""

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
    config = model_config(folder, choice, dtype)
    policy = load_policy(config, Ranks(device=device), getattr(torch, weights))
    make_trainable(policy, config)
    return policy


def model_config(folder: Path, choice: Choice, dtype: str) -> ModelConfig:
    return ModelConfig(
        path=folder,
        dtype=dtype,
        lora_rank=choice.lora_rank,
        freeze_vision=choice.freeze_vision,
        freeze_projector=choice.freeze_projector,
        **({"checkpoint_layers": True} if choice.checkpoint_layers else {}),
    )


def grpo_config(folder: Path, case: Case, choice: Choice, dtype: str, **settings) -> GRPOConfig:
    """Settings of a GRPO run on the benchmark's work."""
    return GRPOConfig(
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
        **({"micro_tokens": choice.micro_tokens} if choice.micro_tokens else {}),
        **settings,
    )


def encoded_prompts(policy: Policy, folder: Path, case: Case, step: int) -> tuple[list[Sample], list[EncodedPrompt]]:
    """Samples with pictures of their own in every step, read from their files and encoded."""
    paths = image_paths(folder, case.prompts * (step + 1))[case.prompts * step :]
    samples = [Sample(p, "bench", (p,), QUESTION, "1", "digit") for p in paths]
    return samples, [encode_prompt(policy, s) for s in samples]


class GRPO:
    """Model, reference, sampler and optimiser of a GRPO run."""

    def __init__(self, policy: Policy, folder: Path, case: Case, choice: Choice, dtype: str, **settings):
        self.policy, self.folder, self.case = policy, folder, case
        self.config = grpo_config(folder, case, choice, dtype, **settings)
        optimiser = Optimiser(policy, self.config.optim, total_steps=100)
        sampler = make_sampler(policy, self.config, 0)
        self.learner = Learner(self.config, policy, reference_model(policy), optimiser, sampler, None, BETA)

    def sample(self, samples: list[Sample], prompts: list[EncodedPrompt], step: int) -> list[Group]:
        config, groups = self.config, []
        found = self.learner.sampler.rollout(prompts, config.group, config.max_tokens, config.temperature, step)
        for place, (sample, prompt, completions) in enumerate(zip(samples, prompts, found, strict=True)):
            rewards = [Reward(reward(c.ids.tolist()), "ok", "digit") for c in completions]
            texts = [decode(self.policy, c) for c in completions]
            rollouts = [
                Rollout(*parts, c.log_probs) for *parts, c in zip(completions, texts, rewards, completions, strict=True)
            ]
            groups.append(Group(sample, prompt, place, rollouts))
        set_advantages(groups, config.std_norm)
        return groups

    def update(self, groups: list[Group]) -> dict:
        return update(self.learner, groups)

    def step(self, number: int) -> None:
        self.update(self.sample(*encoded_prompts(self.policy, self.folder, self.case, number), number))


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
        backward(self.policy, batch, self.config.micro_tokens)
        self.optimiser.update()
        self.good = self.optimiser.state_copy()
