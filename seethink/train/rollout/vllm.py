"""vLLM as an engine: what it is asked, what it answers, and vLLM in this process.

Only the files vllm*.py know its interfaces: vllm_server.py speaks to its servers, vllm_weights.py brings them weights,
vllm_launch.py starts one. Checked with vLLM 0.32. Weight transfer, above all, changes between its releases.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from seethink.core.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

Weights = Iterable[tuple[str, Tensor]]
"""Names and values of a plain model; every pass over it yields the same names, types and shapes in the same order."""
CPU_CACHE = 2**29  # bytes of key-value cache on a CPU, where vLLM would else reserve nearly all memory


@dataclass(frozen=True)
class Request:
    """A prompt and how to continue it.

    ids     one placeholder per image: vLLM expands them itself
    images  at the size at which the vision tower sees them
    params  fields of vLLM's SamplingParams
    """

    ids: list[int]
    images: list[Image]
    params: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What an engine made of a request: the prompt as it saw it, and (ids, log-probabilities, finish reason) of each
    completion."""

    prompt: list[int]
    completions: list[tuple[list[int], list[float], str]]


class Engine(Protocol):
    """Where requests are answered, from weights of its own.

    shared  True when all ranks ask the same engine, so that the first one loads its weights for all
    """

    shared: bool

    def generate(self, requests: list[Request]) -> list[Answer]: ...

    def load(self, weights: Weights) -> None:
        """Wake up, replace all weights by those of the plain model, forget what was computed with the old ones."""

    def forget(self) -> None:
        """Drop cached prefixes, images and image features. One kept cache mixes two policies or ends the engine."""

    def sleep(self) -> None: ...

    def close(self) -> None: ...


def sampling_params(
    group: int, max_tokens: int, temperature: float, seed: int, stop_ids: list[int], banned: list[int]
) -> dict[str, Any]:
    """SamplingParams that sample as we do: no top-p, no penalties, banned ids at probability exactly 0 in fp32."""
    return {
        "n": group, "max_tokens": max_tokens, "temperature": temperature, "seed": seed, "logprobs": 0,
        "stop_token_ids": stop_ids, "ignore_eos": True, "detokenize": False, "logit_bias": dict.fromkeys(banned, -1e9),
    }  # fmt: skip


def engine_settings(folder: Path, gpu: bool, dtype: torch.dtype, max_tokens: int, memory: float) -> dict[str, Any]:
    """Arguments of vLLM's engine so that its log-probabilities are ours; `memory` is its share of a GPU."""
    on_cpu = {
        "enforce_eager": True, "skip_mm_profiling": True, "kv_cache_memory_bytes": CPU_CACHE,
        "enable_chunked_prefill": False,  # a seeded request cut in two dies: CPU generators cannot step back
        "max_num_batched_tokens": max(8192, max_tokens),
    }  # fmt: skip
    return {
        "model": str(folder),
        "dtype": str(dtype).removeprefix("torch."),
        "max_model_len": max_tokens,
        "logprobs_mode": "processed_logprobs",  # of the distribution sampled from, as ours are
        "limit_mm_per_prompt": {"video": 0},
        "mm_processor_kwargs": {"do_resize": False},  # torchvision resizes otherwise than PIL: |dlogp| up to 1e-2
        "generation_config": "vllm",
        **({"gpu_memory_utilization": memory} if gpu else on_cpu),
    }


class InProcessEngine:
    """vLLM in this process: weights are handed over in memory, and nothing is given back before it is closed."""

    shared = False

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype, max_tokens: int, memory: float) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # else its process would need the weights copied
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        try:  # an environment of its own has it, and importing it takes long
            vllm: Any = importlib.import_module("vllm")
            importlib.import_module("vllm.distributed")
        except ImportError as error:
            raise UserError(
                f"vLLM cannot be imported ({error})",
                remedy="Install vllm beside seethink, or use --sampler.engine local (eval: --engine local)",
            ) from None
        self.vllm = vllm
        self.llm = vllm.LLM(
            **engine_settings(folder, device.type == "cuda", dtype, max_tokens, memory),
            distributed_executor_backend="uni",
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )

    def generate(self, requests: list[Request]) -> list[Answer]:
        prompts = [
            {"prompt_token_ids": r.ids, **({"multi_modal_data": {"image": r.images}} if r.images else {})}
            for r in requests
        ]
        params = [self.vllm.SamplingParams(**r.params) for r in requests]
        outputs = self.llm.generate(prompts, params, use_tqdm=False)
        return [
            Answer(
                list(output.prompt_token_ids),
                [
                    (list(c.token_ids), [at[i].logprob for i, at in zip(c.token_ids, c.logprobs, strict=True)], c.finish_reason)
                    for c in output.outputs
                ],
            )
            for output in outputs
        ]  # fmt: skip

    def load(self, weights: Weights) -> None:
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
        self.forget()

    def forget(self) -> None:
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not reset its prefix cache: requests are still running")
        self.llm.reset_mm_cache()
        self.llm.llm_engine.reset_encoder_cache()

    def sleep(self) -> None:
        """On a GPU that is shared with training vLLM has a process of its own (vllm_launch.py)."""

    def close(self) -> None:
        self.llm.llm_engine.engine_core.shutdown()
        self.vllm.distributed.cleanup_dist_env_and_memory()  # it had made itself a process group
