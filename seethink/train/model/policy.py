"""A policy: an unmodified transformers model with its tokenizer and image processor, and prompts encoded for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from seethink.core.errors import UserError
from seethink.core.images import open_image
from seethink.core.nouns import Sample
from seethink.core.prompt import prompt_parts
from seethink.train.batches import micro_batches
from seethink.train.config import ModelConfig
from seethink.train.dist import Ranks, give_memory, groups, is_sharded
from seethink.train.model.linear import use_onednn
from seethink.train.model.lora import add_lora, begin_adapters
from seethink.train.model.parts import load_tools, render, set_stops
from seethink.train.model.vision import see, see_at_once
from seethink.train.model.weights import empty_model, read_weights, stored_precision

PATCHES_AT_ONCE = 32768  # that the vision tower of a GPU looks at: 2 GB of activations
FEATURES_LIMIT = 4 * 2**30  # bytes of image features kept on the CPU: a round of 512 prompts at the paper's image size


@dataclass
class Policy:
    """What generates and what is trained, and how it is asked."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    image_processor: Any
    """A Qwen image processor of transformers."""
    folder: Path
    """Where it was loaded from: side files are copied from here on saving."""
    system: str = ""
    """System prompt of every prompt."""
    dtype: torch.dtype = torch.float32
    """Of the computation; weights that train are fp32."""
    max_prompt_tokens: int = 0
    """Longer prompts are refused; 0: none are."""
    stored: torch.dtype | None = None
    """Precision of all weights in its folder; None: they have several, or it is not known."""
    features: dict[tuple[str, ...], Tensor] = field(default_factory=dict)
    """Image paths of a prompt -> [tokens, 1 + deep, hidden] of a frozen vision tower, on the CPU; latest FEATURES_LIMIT bytes."""
    ranks: Ranks = field(default_factory=Ranks)
    """The processes that its weights and work are split over."""

    @property
    def device(self) -> torch.device:
        return device_of(self.model)

    def fits(self, weight: Tensor) -> bool:
        """Whether a weight loses nothing in the precision of the computation; of one without memory its folder says it."""
        if weight.is_meta:
            return self.stored == self.dtype
        return torch.equal(weight.to(self.dtype).to(weight.dtype), weight)

    def autocast(self) -> AbstractContextManager:
        """The precision of the computation, around everything that runs the model."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @property
    def image_token(self) -> int:
        return self.model.config.image_token_id

    @property
    def banned(self) -> Tensor:
        """Ids [n] that a completion must never hold: one sampled image pad would break every later forward."""
        config = self.model.config
        names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
        ids = {getattr(config, name) for name in names}
        marks: Any = self.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>"])
        ids |= set(marks)
        size = config.text_config.vocab_size
        return torch.tensor(sorted(i for i in ids if i is not None and 0 <= i < size), device=self.device)

    @property
    def stop_ids(self) -> Tensor:
        """Ids [n] that end a completion."""
        settings: Any = self.model.generation_config
        eos, own = settings.eos_token_id, cast(int | None, self.tokenizer.eos_token_id)
        ids = {*(eos if isinstance(eos, list) else [eos]), own}
        return torch.tensor(sorted(i for i in ids if i is not None), device=self.device)


def device_of(model: nn.Module) -> torch.device:
    """Where a model computes. Its buffers are there, weights may rest on the host."""
    return next(model.buffers()).device


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt ready for the model.

    ids        [P] with image placeholders expanded to one id per image token
    positions  [3, P] M-RoPE positions (time, height, width)
    pixels     [patches, patch values] of all images, None for text
    grids      [images, 3] patches in time, height, width; None for text
    images     paths, the key of the feature cache
    """

    ids: Tensor
    positions: Tensor
    pixels: Tensor | None
    grids: Tensor | None
    images: tuple[str, ...] = ()

    @property
    def next_position(self) -> int:
        """Position of the first completion token, on all three axes."""
        return int(self.positions.max()) + 1


def load_policy(settings: ModelConfig, ranks: Ranks | None = None, weights: torch.dtype = torch.float32) -> Policy:
    """Policy from a Hugging Face folder of one of FAMILIES, held in `weights` precision. Raises UserError naming what is wrong.

    On several ranks its weights have no memory until they are split (`distribute`).

    torchvision is not needed: tokenizer, image processor and chat template are loaded one by one, not as a processor.
    """
    folder, ranks = settings.path, ranks or Ranks()
    _, tokenizer, processor, system = load_tools(settings)
    model = empty_model(folder, weights)
    set_stops(model, tokenizer, settings.stop, folder)
    use_onednn(model)
    if not ranks.mesh:
        give_memory(model, ranks.device)
        read_weights(model, folder)
        model.to(ranks.device)  # its buffers
    dtype, stored = compute_dtype(settings.dtype, ranks.device), stored_precision(folder)
    narrow(model, dtype)
    see_at_once(model, ranks.device, dtype)
    limit = settings.max_prompt_tokens
    return Policy(model.eval(), tokenizer, processor, folder, system, dtype, limit, stored, ranks=ranks)


def distribute(policy: Policy, reference: PreTrainedModel | None = None, seed: int = 0) -> None:
    """Split the weights over the ranks and read them, each rank its part; in a single process they are there already.

    The reference is read from the same folder: what training has made of the policy is restored later, and into the policy
    alone. Raises UserError as `load_policy` does.
    """
    ranks = policy.ranks
    if not ranks.mesh:
        return
    ranks.shard(policy.dtype, policy.model, reference)
    for model in dict.fromkeys((policy.model, reference or policy.model)):
        with ranks.together():
            read_weights(model, policy.folder)
        slim(policy, model)  # a whole vision tower, now that its values are known
    begin_adapters(policy.model, seed)


def compute_dtype(name: str, device: torch.device) -> torch.dtype:
    """Precision of a setting `dtype`. `auto` is bfloat16, but float32 on a CPU that has to emulate it, which takes four times as long."""
    if name == "auto":
        has = torch.cpu.get_capabilities()
        able = device.type != "cpu" or any(has.get(unit) for unit in ("avx512_bf16", "amx_bf16", "bf16"))
        name = "bfloat16" if able else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def make_trainable(policy: Policy, config: ModelConfig, seed: int = 0) -> None:
    """Choose what trains: LoRA adapters only, or all weights but a frozen vision tower and projector (its mergers).

    What does not train is held in the precision of the computation (`slim`).
    """
    if config.checkpoint_layers:
        for layer in policy.model.model.language_model.layers[:-1]:  # the last one is trimmed to what is read
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
            layer.train()  # transformers checkpoints only then; there is no dropout
    if config.lora_rank:
        add_lora(policy.model, config.lora_rank, config.lora_alpha)
        begin_adapters(policy.model, seed)
    else:
        for name, parameter in policy.model.named_parameters():
            projector = ".visual." in name and "merger" in name
            frozen = config.freeze_projector if projector else config.freeze_vision if ".visual." in name else False
            parameter.requires_grad_(not frozen)
    slim(policy, policy.model)


def slim(policy: Policy, model: nn.Module) -> None:
    """Hold the frozen weights of a model's linear layers in the precision of the policy's computation, in place.

    Autocast would cast them at every use, so no result changes, bit for bit. Embeddings and norms stay, since they are not
    cast; so does a weight that has more digits (`Policy.fits`), as it would be saved without them.
    """
    if policy.dtype == torch.float32:
        return
    shared = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}  # the head may be one of them
    for module in model.modules():
        if type(module) is nn.Linear and id(module.weight) not in shared:
            for weight in module.parameters(recurse=False):
                if not weight.requires_grad and not is_sharded(weight) and policy.fits(weight):
                    weight.data = weight.data.to(policy.dtype)


def narrow(model: Any, dtype: torch.dtype) -> None:
    """Let the norms before projections give the precision in which these compute: cast, and kept for backward, once.

    Autocast would cast for each of them, to the same values; only their gradients are then added up in `dtype`.
    """
    if dtype == torch.float32:
        return
    for layer in model.model.language_model.layers:
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            norm.register_forward_hook(partial(_in_precision, dtype))


def _in_precision(dtype: torch.dtype, _module: nn.Module, _inputs: Any, out: Tensor) -> Tensor:
    return out.to(dtype)


def frozen(policy: Policy) -> Policy:
    """The policy, to be asked and not trained."""
    slim(policy, policy.model.requires_grad_(False))
    return policy


def vision_frozen(policy: Policy) -> bool:
    """True when image features cannot change, so that they may be cached."""
    return not any(p.requires_grad for p in policy.model.model.visual.parameters())


class Pixels(NamedTuple):
    """The pictures of a prompt as its vision tower takes them: [patches, patch values] and [images, 3]; None for text."""

    values: Tensor | None
    grids: Tensor | None


def load_pixels(policy: Policy, sample: Sample) -> Pixels:
    """Reads, resizes and cuts up the pictures of a sample, which takes most of encoding it. Any thread may call it.

    Raises UserError for a broken picture.
    """
    if not sample.images:
        return Pixels(None, None)
    images = [open_image(path, where=f"sample {sample.id}") for path in sample.images]
    processed = policy.image_processor(images=images, return_tensors="pt")
    return Pixels(processed["pixel_values"], processed["image_grid_thw"])


def encode_prompt(policy: Policy, sample: Sample, pixels: Pixels | None = None) -> EncodedPrompt:
    """Chat-templated prompt with its images. Raises UserError for a broken image or a prompt over `max_prompt_tokens`.

    Prompts are never truncated: a cut image is the field's most common crash ("image features and tokens do not match").
    """
    text = render(policy.tokenizer, policy.system, prompt_parts(sample))
    ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
    values, grids = pixels or load_pixels(policy, sample)
    if grids is not None:
        ids = _expand_images(ids, grids, policy)
    if policy.max_prompt_tokens and len(ids) > policy.max_prompt_tokens:
        size = "" if grids is None else f" ({int(grids.prod(1).sum())} image patches)"
        raise UserError(
            f"prompt of sample {sample.id} has {len(ids)} tokens{size}, more than {policy.max_prompt_tokens}",
            remedy="Raise max_prompt_tokens, lower max_pixels or drop the row",
        )
    ids = torch.tensor(ids)
    return EncodedPrompt(ids, rope_positions(policy, ids, grids), values, grids, sample.images)


def encode_completion(policy: Policy, text: str) -> Tensor:
    """Completion ids [T] with the end-of-turn token appended. Raises UserError if it holds vision tokens."""
    ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"] + [policy.tokenizer.eos_token_id]
    if set(ids) & set(policy.banned.tolist()):
        raise UserError("completion holds vision tokens", remedy="Remove them from the text")
    return torch.tensor(ids)


def rope_positions(policy: Policy, ids: Tensor, grids: Tensor | None) -> Tensor:
    """M-RoPE positions [3, P], computed by the model's own rule; plain positions for text."""
    if grids is None:
        return torch.arange(len(ids)).expand(3, -1)
    types = (ids == policy.image_token).int()
    positions, _ = policy.model.model.get_rope_index(ids[None], mm_token_type_ids=types[None], image_grid_thw=grids)
    return positions[:, 0]


def image_features(policy: Policy, prompts: list[EncodedPrompt]) -> Tensor | None:
    """`vision_features` of all prompts in order; cached while the vision tower is frozen."""
    if not vision_frozen(policy):
        return vision_features(policy.model, prompts)
    prompts = [p for p in prompts if p.pixels is not None]
    if not prompts:
        return None
    merge = policy.model.config.vision_config.spatial_merge_size**2
    unseen = list({p.images: p for p in prompts if p.images not in policy.features}.values())
    # on a CPU one by one: rounding depends on the company, and that on past resumes
    at_once = PATCHES_AT_ONCE if policy.device.type == "cuda" else 0
    for places in micro_batches([p.pixels.shape[0] for p in unseen if p.pixels is not None], at_once):
        part = [unseen[i] for i in places]
        with torch.no_grad():
            seen = cast(Tensor, vision_features(policy.model, part)).cpu()
        sizes = [int(p.grids.prod(1).sum()) // merge for p in part if p.grids is not None]
        for prompt, features in zip(part, seen.split(sizes), strict=True):
            policy.features[prompt.images] = features.clone()  # alone in memory, so that it can leave alone
    found = torch.cat([policy.features[p.images] for p in prompts]).to(policy.device)
    while sum(f.nbytes for f in policy.features.values()) > FEATURES_LIMIT:
        del policy.features[next(iter(policy.features))]  # the oldest
    return found


def vision_features(model: PreTrainedModel, prompts: list[EncodedPrompt]) -> Tensor | None:
    """Image tokens [sum of tokens, 1 + deep, hidden] of all prompts by this model's own vision tower.

    Beside its embedding a token of Qwen3-VL has features for the first language layers; Qwen2-VL and Qwen2.5-VL have none.
    """
    prompts = [p for p in prompts if p.pixels is not None]
    if not prompts:
        return no_features(model) if groups(model.model.visual) else None
    pixels = torch.cat([p.pixels for p in prompts if p.pixels is not None])
    return see(model, pixels, torch.cat([p.grids for p in prompts if p.grids is not None]))


def idle_prompt(policy: Policy) -> EncodedPrompt:
    """One text token: what a rank computes on, without weight, while only others have work."""
    return EncodedPrompt(policy.stop_ids[:1].cpu(), torch.zeros(3, 1, dtype=torch.long), None, None)


def no_features(model: PreTrainedModel) -> Tensor:
    """[0, 1 + deep, hidden] by way of the vision tower: its layers are sharded, and other ranks may run them on images now."""
    config = model.config.vision_config
    size = config.spatial_merge_size  # one image token
    values = config.in_channels * config.temporal_patch_size * config.patch_size**2
    return see(model, torch.zeros(size**2, values), torch.tensor([[1, size, size]]))[:0]


def _expand_images(ids: list[int], grids: Tensor, policy: Policy) -> list[int]:
    """One placeholder per image becomes one id per image token."""
    merge = policy.image_processor.merge_size**2
    counts = [int(n) // merge for n in grids.prod(1)]
    if ids.count(policy.image_token) != len(counts):
        raise UserError(
            f"prompt has {ids.count(policy.image_token)} image placeholders for {len(counts)} images",
            remedy="Remove image tokens from the question",
        )
    remaining = iter(counts)
    return [i for token in ids for i in ([token] * next(remaining) if token == policy.image_token else [token])]
