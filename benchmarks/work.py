"""What both sides of the benchmark do: one case, one tiny random model, the same images, question, lengths and reward.

Torch and transformers are imported inside functions: the parent process stays small, so that a child's peak memory is its own.
"""

from __future__ import annotations

import os
import platform
import random
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

from seethink.core.run import processor

PATCH, MERGE = 14, 2  # Qwen2.5-VL: an image token stands for 2 x 2 patches of 14 x 14 pixels
QUESTION = "how many red objects are in the image ? think , then answer with a number ."
BETA, LEARNING_RATE, TEMPERATURE = 0.04, 1e-6, 1.0
LONGEST = 256  # tokens of the longest completion of a ragged case


@dataclass(frozen=True)
class Case:
    """One comparison.

    prompts    prompts per step, each with its own image, new in every step
    group      completions per prompt
    length     tokens of every completion; 0: ragged, log-normal between 16 and LONGEST
    size       "tiny" (hidden 64, 2 layers), "small" (256, 4), "large" (512, 8) or "3B" (the shape of Qwen2.5-VL-3B)
    """

    name: str
    image_tokens: int
    group: int
    prompts: int = 4
    length: int = 64
    vocabulary: int = 2048
    size: str = "small"

    @property
    def max_tokens(self) -> int:
        return self.length or LONGEST

    def lengths(self, step: int) -> list[int]:
        """Tokens of each completion of a step, prompt by prompt."""
        if self.length:
            return [self.length] * (self.prompts * self.group)
        draw = random.Random(step)
        return [min(LONGEST, max(16, round(draw.lognormvariate(4.2, 0.7)))) for _ in range(self.prompts * self.group)]


def reward(ids: list[int]) -> float:
    """Cheap, deterministic, and different for nearly every completion, so that no group is skipped."""
    return sum(ids) % 101 / 100


def prepare(folder: Path, case: Case, steps: int, seed: int = 0, device: str = "cpu") -> None:
    """Model folder and images of a case; on a GPU the weights are made there, in bf16."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from seethink.core.store import write_json
    from seethink.pocket.tokens import PREPROCESSOR, make_tokenizer

    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 1_000_000
    control = {
        name: tokenizer.convert_tokens_to_ids(f"<|{name}|>")
        for name in ("image_pad", "video_pad", "vision_start", "vision_end")
    }
    if case.length:
        tokenizer.eos_token = "<|vision_end|>"  # a stop that both sides ban: every completion has full length
    torch.manual_seed(seed)
    config = Qwen2_5_VLConfig(
        text_config={
            **TEXT[case.size],
            "vocab_size": case.vocabulary,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config=VISION[case.size],
        image_token_id=control["image_pad"],
        video_token_id=control["video_pad"],
        vision_start_token_id=control["vision_start"],
        vision_end_token_id=control["vision_end"],
        tie_word_embeddings=True,
    )
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration(config)
    if device != "cpu":
        model.to(torch.bfloat16)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    any_size = {"min_pixels": 28 * 28, "max_pixels": 2**22, "size": {"shortest_edge": 28 * 28, "longest_edge": 2**22}}
    write_json(folder / "preprocessor_config.json", {**PREPROCESSOR, **any_size})
    draw_images(folder, case, steps)


def draw_images(folder: Path, case: Case, steps: int) -> None:
    """As many pictures as the steps of a case want."""
    import torch
    from PIL import Image

    folder.mkdir(exist_ok=True)
    side = round(case.image_tokens**0.5) * PATCH * MERGE
    for path in image_paths(folder, case.prompts * steps):
        colours = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8).numpy()
        Image.fromarray(colours).resize((side, side)).save(path)


def image_paths(folder: Path, count: int) -> list[str]:
    return [str(folder / f"image{i:03}.png") for i in range(count)]


def parameter_counts(model) -> dict[str, int]:
    """Parameters of language layers, embedding (tied with the head) and vision tower."""
    count = {"embedding": 0, "vision": 0, "language": 0}
    for name, parameter in model.named_parameters():
        part = "vision" if ".visual." in name else "embedding" if "embed_tokens" in name else "language"
        count[part] += parameter.numel()
    return count


@dataclass
class Turns:
    """A child's end of the conversation: it works when it is told to, and says what that cost.

    Messages in: "step" (timed), "count" (floating point operations counted instead), None (stop).
    """

    connection: object
    began: tuple[float, float] = (0.0, 0.0)
    counter: object = None
    attention: object = None
    phases: dict[str, float] = field(default_factory=dict)
    phase_flops: dict[str, int] = field(default_factory=dict)

    def ready(self, **facts) -> None:
        self.connection.send({**facts, "idle_mb": peak_mb()})

    def wait(self) -> bool:
        """Sleep until the next turn; False: no more turns."""
        command = self.connection.recv()
        if command == "count":
            import torch
            from torch.nn.attention import SDPBackend, sdpa_kernel
            from torch.utils.flop_counter import FlopCounterMode

            self.attention = sdpa_kernel(SDPBackend.MATH)  # as matmuls, so that the counter sees attention
            self.counter = FlopCounterMode(
                display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: linear_flops}
            )
            self.attention.__enter__()
            self.counter.__enter__()
        self.began = (time.process_time(), time.perf_counter())
        return command is not None

    def phase(self, name: str) -> None:
        """CPU seconds, and counted operations, of the turn so far, under a name."""
        self.phases[name] = time.process_time() - self.began[0]
        if self.counter:
            self.phase_flops[name] = self.counter.get_total_flops()

    def done(self, **facts) -> None:
        """Report the turn."""
        cpu, wall = time.process_time() - self.began[0], time.perf_counter() - self.began[1]
        if self.counter:
            self.counter.__exit__(None, None, None)
            self.attention.__exit__(None, None, None)
            facts["flops"], facts["phase_flops"] = self.counter.get_total_flops(), self.phase_flops
            self.counter = None
        self.connection.send({**facts, "cpu": cpu, "wall": wall, "phases": dict(self.phases), "peak_mb": peak_mb()})


def linear_flops(x: list[int], weight: list[int], *_, out_shape=None, **__) -> int:
    """Operations of oneDNN's linear layer, which torch's counter does not know: x [..., K], weight [N, K]."""
    rows = 1
    for n in x[:-1]:
        rows *= n
    return 2 * rows * weight[0] * weight[1]


def machine() -> dict:
    """What the numbers depend on."""
    return {
        "cpu": f"{processor()} ({instructions()})",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers")},
    }


def instructions() -> str:
    """The widest vector instructions of this processor: kernels, and with them the ratios, hang on them."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.is_file() else []
    names = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}
    return next((name for flag, name in names.items() if flag in flags), "no AVX2")


def call(context, function, *args) -> None:
    """Run a function in a process of its own, so that this one stays small."""
    process = context.Process(target=function, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def peak_mb() -> float:
    """Peak resident memory of this process so far."""
    return getrusage(RUSAGE_SELF).ru_maxrss / 2**10


# Vision compute per image token is 0.9 times that of the language layers, as in the 3B model (0.4 in the 7B model).
TEXT = {
    "tiny": dict(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        rope_parameters={"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e6},
    ),
    "small": dict(
        hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 1e6},
    ),
    "large": dict(
        hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 1e6},
    ),
    "3B": dict(
        hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16, num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
        max_position_embeddings=128_000,
    ),
}  # fmt: skip
VISION = {
    "tiny": dict(
        depth=2, hidden_size=32, intermediate_size=64, num_heads=1, out_hidden_size=64, fullatt_block_indexes=[1],
    ),
    "small": dict(
        depth=4, hidden_size=128, intermediate_size=256, num_heads=2, out_hidden_size=256, fullatt_block_indexes=[3],
    ),
    "large": dict(
        depth=8, hidden_size=256, intermediate_size=768, num_heads=4, out_hidden_size=512, fullatt_block_indexes=[3, 7],
    ),
    "3B": dict(
        depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16, out_hidden_size=2048,
        fullatt_block_indexes=[7, 15, 23, 31], window_size=112,
    ),
}  # fmt: skip
