"""vLLM in this process or behind HTTP: requests, answers, weights, caches, sleep. Only this file knows its interfaces.

Checked with vLLM 0.32. Weight transfer, above all, changes between its releases.
"""

from __future__ import annotations

import base64
import http.client
import importlib
import io
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from seethink.core.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

Weights = Iterator[tuple[str, Tensor]]
CPU_CACHE = 2**29  # bytes of key-value cache on a CPU, where vLLM would else reserve nearly all memory
PARALLEL = 64  # requests on their way to a server


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


class InProcessEngine:
    """vLLM colocated with the policy: weights are handed over in memory, and while it sleeps the policy has the GPU.

    Sleep is level 2: weights are dropped, not parked in host memory, since new ones come before it wakes.
    """

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
        self.vllm, self.gpu, self.asleep = vllm, device.type == "cuda", False
        on_cpu = {
            "enforce_eager": True, "skip_mm_profiling": True, "kv_cache_memory_bytes": CPU_CACHE,
            "enable_chunked_prefill": False,  # a seeded request cut in two dies: CPU generators cannot step back
            "max_num_batched_tokens": max(8192, max_tokens),
        }  # fmt: skip
        on_gpu = {"gpu_memory_utilization": memory, "enable_sleep_mode": True}
        self.llm = vllm.LLM(
            model=str(folder),
            dtype=str(dtype).removeprefix("torch."),
            max_model_len=max_tokens,
            logprobs_mode="processed_logprobs",  # of the distribution sampled from, as ours are
            distributed_executor_backend="uni",
            limit_mm_per_prompt={"video": 0},
            mm_processor_kwargs={"do_resize": False},  # torchvision resizes otherwise than PIL: |dlogp| up to 1e-2
            generation_config="vllm",
            disable_log_stats=True,
            use_tqdm_on_load=False,
            **(on_gpu if self.gpu else on_cpu),
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
        if self.asleep:
            torch.cuda.empty_cache()  # what the update freed is still held by torch's allocator
            self.llm.wake_up(tags=["weights"])
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        if self.asleep:
            self.llm.wake_up(tags=["kv_cache"])
            self.asleep = False
        self.forget()

    def forget(self) -> None:
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not reset its prefix cache: requests are still running")
        self.llm.reset_mm_cache()
        self.llm.llm_engine.reset_encoder_cache()

    def sleep(self) -> None:
        if self.gpu and not self.asleep:
            self.llm.sleep(level=2)
            self.asleep = True

    def close(self) -> None:
        self.llm.llm_engine.engine_core.shutdown()
        self.vllm.distributed.cleanup_dist_env_and_memory()  # it had made itself a process group


class ServerEngine:
    """vLLM servers of the same model: requests in turn, weights for all of them through a folder that they see.

    VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out --logprobs-mode processed_logprobs
        --mm-processor-kwargs '{"do_resize": false}'

    Development mode has the endpoints that load weights and reset caches, scale-out the one that takes token ids.
    """

    def __init__(self, urls: list[str], folder: Path) -> None:
        self.urls = [url.strip().rstrip("/") for url in urls]
        self.folder = Path(folder).resolve() / "pushed"

    def generate(self, requests: list[Request]) -> list[Answer]:
        with ThreadPoolExecutor(PARALLEL) as pool:
            return list(pool.map(self._generate, cycle(self.urls), requests))

    def _generate(self, url: str, request: Request) -> Answer:
        body = {"token_ids": request.ids, "sampling_params": request.params, "return_token_ids": True}
        if request.images:
            body["content_parts"] = [{"type": "image_url", "url": data_url(image)} for image in request.images]
        answer = self._post(url, path := "/inference/v1/generate", body)
        try:
            return Answer(
                answer["prompt_token_ids"],
                [
                    (c["token_ids"], [at["logprob"] for at in c["logprobs"]["content"]], c["finish_reason"])
                    for c in sorted(answer["choices"], key=lambda c: c["index"])
                ],
            )
        except (KeyError, TypeError) as error:
            raise _no_vllm(
                url, path, f"without {error}" if isinstance(error, KeyError) else "of another shape"
            ) from None

    def load(self, weights: Weights) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        copies = {name: w.detach().cpu().clone() for name, w in weights}  # a file cannot hold tied tensors twice
        save_file(copies, self.folder / "model.safetensors")
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(self.folder)}}
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(lambda url: self._post(url, "/collective_rpc", body), self.urls))
        self.forget()

    def forget(self) -> None:
        for url in self.urls:
            done = self._post(url, "/reset_prefix_cache")
            if not (isinstance(done, dict) and done.get("success")):
                what = "the server did not reset its prefix cache"
                raise UserError(what, where=url, remedy="Let no one else's requests run there", code=3)
            self._post(url, "/reset_mm_cache")
            self._post(url, "/reset_encoder_cache")

    def sleep(self) -> None:
        """Its memory is its own."""

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _post(self, url: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("VLLM_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(url + path, json.dumps(body or {}).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=3600) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            missing = error.code == 404 and "Start the server with VLLM_SERVER_DEV_MODE=1"
            detail = error.read().decode(errors="replace")[:500]
            raise UserError(
                f"{path} answers {error.code} ({detail})", where=url, remedy=missing or "See its log", code=3
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise UserError(
                f"vLLM server cannot be reached ({error})", where=url, remedy="Start it, or fix sampler.url", code=3
            ) from None
        try:
            return json.loads(text) if text else None
        except (ValueError, RecursionError):
            raise _no_vllm(url, path, f"{text[:80]!r}") from None


def _no_vllm(url: str, path: str, what: str) -> UserError:
    remedy = "Start a vLLM server there, or fix sampler.url"
    return UserError(f"the answer to {path} is none of vLLM's ({what})", where=url, remedy=remedy, code=3)


def data_url(image: Image) -> str:
    """The image as PNG, which loses nothing."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
