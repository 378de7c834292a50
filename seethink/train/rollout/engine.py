"""Rollouts from an engine with its own copy of the weights, which is compared with the policy after every push."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor

from seethink.core.errors import UserError
from seethink.core.images import open_image
from seethink.train.config import GRPOConfig
from seethink.train.dist import Ranks
from seethink.train.model.lora import full_weights
from seethink.train.model.policy import EncodedPrompt, Policy
from seethink.train.model.rescore import rescore
from seethink.train.rollout.decoding import Completion
from seethink.train.rollout.sampler import LocalSampler, Sampler
from seethink.train.rollout.vllm import Answer, Engine, InProcessEngine, Request, engine_settings, sampling_params
from seethink.train.rollout.vllm_launch import LaunchedEngine
from seethink.train.rollout.vllm_server import ServerEngine, VllmServer
from seethink.train.rollout.vllm_weights import choose_transfer

PROBED_PROMPTS, PROBED_TOKENS = 4, 16


def make_sampler(policy: Policy, config: GRPOConfig, version: int) -> Sampler:
    """The sampler that the config names, with the policy's weights of `version` optimiser steps."""
    if config.sampler.engine == "local":
        keep = min(config.update_prompts, config.prompts) if reuses_prefill(config, policy.ranks) else 0
        return LocalSampler(policy, version, config.rollout_prompts * config.group, config.micro_tokens, keep)
    with ExitStack() as failed:
        with policy.ranks.together():
            engine = make_engine(policy, config)
            failed.callback(engine.close)
        sampler = EngineSampler(policy, engine, config)
        sampler.push(version)  # also at step 0: a transfer that fails should fail now
        failed.pop_all()
    return sampler


def reuses_prefill(config: GRPOConfig, ranks: Ranks) -> bool:
    """Whether first updates may train through the rollout's prefill, where that is asked for.

    Not with checkpointed layers (one computed again would be another prefill), and not on several ranks, where a kept graph
    would need the gathered weights until the update.
    """
    return config.reuse_prefill and not config.model.checkpoint_layers and not ranks.mesh


def make_engine(policy: Policy, config: GRPOConfig) -> Engine:
    """vLLM as the config asks for it. Raises UserError where it cannot be had.

    In this process only where that is one process on a CPU: on a GPU sleep and the process groups of the run want it apart.
    """
    ranks, chosen = policy.ranks, config.sampler
    if chosen.engine == "vllm-server":
        servers = [VllmServer(url.strip().rstrip("/")) for url in chosen.url.split(",")]
        first = ranks.rank * len(servers) // ranks.world  # ranks begin at servers of their own
        folder = (chosen.weights or config.out) / "pushed"
        choose = lambda: choose_transfer(chosen.transfer, servers, folder, policy.device)  # noqa: E731
        return ServerEngine(servers[first:] + servers[:first], choose)
    longest = policy.model.config.text_config.max_position_embeddings
    length = min(config.model.max_prompt_tokens + config.max_tokens, longest)
    gpu = policy.device.type == "cuda"
    if not gpu and ranks.world == 1 and chosen.python is None:
        return InProcessEngine(policy.folder, policy.device, policy.dtype, length, chosen.memory)
    settings = engine_settings(policy.folder, gpu, policy.dtype, length, chosen.memory)
    python = chosen.python or Path(sys.executable)
    return LaunchedEngine(settings, policy.device, python, config.out, ranks.rank)


class EngineSampler:
    """Completions from an engine. Its arithmetic is not the policy's, so updates correct by importance weights.

    Engines give no entropy: that of a token is estimated by its negative log-probability, right on average.

    Each rank samples its own prompts; the first one loads the weights of an engine that all share. From `push` to `sleep`
    weights are whole on every rank, so rollouts and probes call no collectives: an error on one leaves no other waiting.
    """

    exact = False

    def __init__(self, policy: Policy, engine: Engine, config: GRPOConfig) -> None:
        self.policy, self.engine, self.config = policy, engine, config
        self.version, self.kept = 0, []
        self.probe: list[EncodedPrompt] = []
        self.tolerance = config.sampler.tolerance or (1e-3 if policy.dtype == torch.float32 else 0.5)

    def rollout(
        self, prompts: list[EncodedPrompt], group: int, max_tokens: int, temperature: float, seed: int
    ) -> list[list[Completion]]:
        fresh = not self.probe
        # the next push is probed with prompts of this round: were a cache kept, it would hold them
        self.probe = sorted(prompts, key=lambda p: p.pixels is None)[:PROBED_PROMPTS]
        if fresh and prompts:
            self.compare()
        return self.sample(prompts, group, max_tokens, temperature, seed)

    def push(self, version: int) -> None:
        ranks, self.version = self.policy.ranks, version
        ranks.gather_weights(self.policy.model)
        with ranks.together():
            if ranks.first or not self.engine.shared:
                self.engine.load(PlainWeights(self.policy))
        with ranks.together():
            if self.probe:
                self.compare()

    def sleep(self) -> None:
        self.engine.sleep()
        self.policy.ranks.release_weights(self.policy.model)

    def close(self) -> None:
        self.engine.close()
        self.policy.ranks.release_weights(self.policy.model)

    def sample(
        self, prompts: list[EncodedPrompt], group: int, max_tokens: int, temperature: float, seed: int
    ) -> list[list[Completion]]:
        return sample_engine(self.policy, self.engine, prompts, group, max_tokens, temperature, seed)

    def compare(self) -> float:
        """Largest difference of log-probabilities between engine and policy, on short completions of the engine.

        Sampled, not re-scored: prompt log-probabilities bypass vLLM's prefix cache, and so would miss a stale one.
        Raises UserError with both numbers when they differ by more than the tolerance.
        """
        groups = self.sample(self.probe, 1, PROBED_TOKENS, self.config.temperature, seed=0)
        # a resumed run probes at other moments, so a probe leaves nothing in the caches of either side
        if (
            self.policy.ranks.world == 1 or not self.engine.shared
        ):  # else requests of other ranks may be running, in an order that never repeats
            self.engine.forget()
        policy = replace(self.policy, features={}, ranks=Ranks())  # weights are whole: no rank waits for another
        theirs = torch.cat([c.log_probs for g in groups for c in g])
        ids = [[c.ids for c in g] for g in groups]
        ours = torch.cat(rescore(policy, self.probe, ids, self.config.temperature, self.config.micro_tokens))
        gaps = (theirs - ours).abs()
        worst = int(gaps.argmax())
        if not gaps[worst] <= self.tolerance:
            raise UserError(
                f"the sampler is not the policy of {self.version} steps: log-probability {theirs[worst]:.6f} against "
                f"{ours[worst]:.6f}, tolerance {self.tolerance:g}",
                where="sampler",
                remedy="Check that the engine serves this model in this precision, or raise sampler.tolerance",
                code=1,
            )
        return float(gaps[worst])


def sample_engine(
    policy: Policy,
    engine: Engine,
    prompts: list[EncodedPrompt],
    group: int,
    max_tokens: int,
    temperature: float,
    seed: int,
) -> list[list[Completion]]:
    """`group` completions of an engine for each prompt; each prompt has its own stream of random numbers."""
    stops, banned = policy.stop_ids.tolist(), policy.banned.tolist()
    requests = []
    for b, prompt in enumerate(prompts):
        own = int(np.random.SeedSequence((seed % 2**64, b)).generate_state(1)[0])
        params = sampling_params(group, max_tokens, temperature, own, stops, banned)
        requests.append(Request(placeholders(prompt, policy), sized_images(prompt, policy), params))
    return [completions(p, a) for p, a in zip(prompts, engine.generate(requests), strict=True)]


@dataclass(frozen=True)
class PlainWeights:
    """Weights by the plain model's names in the precision of its arithmetic, adapters merged; to be gone through repeatedly.

    Tied ones come under both names: vLLM waits for both.
    """

    policy: Policy

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        model, dtype = self.policy.model, self.policy.dtype
        head, embedding = model.lm_head, model.get_input_embeddings()
        for name, weight in full_weights(model):
            yield name, weight.to(dtype)
            if name.endswith("embed_tokens.weight") and head.weight is embedding.weight:
                yield "lm_head.weight", weight.to(dtype)


def placeholders(prompt: EncodedPrompt, policy: Policy) -> list[int]:
    """Prompt ids with one placeholder per image; vision start and end keep neighbouring images apart."""
    ids = []
    for token, run in groupby(prompt.ids.tolist()):
        ids += [token] if token == policy.image_token else run
    return ids


def sized_images(prompt: EncodedPrompt, policy: Policy) -> list[Image]:
    """Images of a prompt, resized as our image processor resizes them, so that both engines see equal pixels."""
    patch, how = policy.image_processor.patch_size, Resampling(policy.image_processor.resample)
    grids = [] if prompt.grids is None else prompt.grids.tolist()
    return [
        open_image(path).resize((width * patch, height * patch), how)
        for path, (_, height, width) in zip(prompt.images, grids, strict=True)
    ]


def completions(prompt: EncodedPrompt, answer: Answer) -> list[Completion]:
    """Completions of an answer. Raises UserError when the engine saw another prompt than the policy will."""
    if answer.prompt != prompt.ids.tolist():
        raise UserError(
            f"the engine sees a prompt of {len(answer.prompt)} tokens, the policy one of {len(prompt.ids)}",
            where="sampler",
            remedy="Start the server with --mm-processor-kwargs '{\"do_resize\": false}' and the same model folder",
        )
    found = []
    for ids, log_probs, stop in answer.completions:
        if stop not in ("stop", "length"):
            raise RuntimeError(f"the engine gave up a completion: {stop}")
        log_probs = torch.tensor(log_probs)
        found.append(Completion(torch.tensor(ids), log_probs, -log_probs, stop))
    return found
