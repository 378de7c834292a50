"""A tiny random Qwen2-VL, Qwen2.5-VL or Qwen3-VL, and prompts for it, without files."""

from __future__ import annotations

import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from seethink.core.nouns import Reward, Sample
from seethink.train.advantage import Group, Rollout
from seethink.train.config import GRPOConfig, ModelConfig
from seethink.train.grpo import Learner
from seethink.train.model.pack import ATTENTION
from seethink.train.model.policy import EncodedPrompt, Policy, load_policy, rope_positions
from seethink.train.rollout.decoding import Completion

IMAGE, VIDEO, STOP, VOCABULARY = 150, 151, 2, 200


def tiny_model(family: str = "2.5", vocabulary: int = VOCABULARY, **ids: int):
    """fp32 model with random weights (not near zero, so that errors would show); `ids` replace those of its tokens."""
    torch.manual_seed(0)
    text = dict(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=vocabulary, rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
        max_position_embeddings=2048, bos_token_id=1, eos_token_id=STOP, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    ids = dict(image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=152, vision_end_token_id=153) | ids
    if family == "2.5":
        vision = dict(depth=2, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=64, window_size=56)
        config = Qwen2_5_VLConfig(
            text_config=text, vision_config={**vision, "fullatt_block_indexes": [1]}, tie_word_embeddings=True, **ids
        )
        return Qwen2_5_VLForConditionalGeneration(config).eval()
    if family == "3":
        rope = {**text["rope_parameters"], "mrope_interleaved": True}
        text = {**text, "num_hidden_layers": 3, "head_dim": 16, "rope_parameters": rope}
        vision = dict(
            depth=3, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=64, patch_size=14,
            num_position_embeddings=36, deepstack_visual_indexes=[0, 1],
        )  # fmt: skip
        config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
        return Qwen3VLForConditionalGeneration(config).eval()
    vision = dict(depth=2, embed_dim=32, hidden_size=64, mlp_ratio=2, num_heads=2)
    return Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    ).eval()


class Tokens:
    """As much of a tokenizer as packing and sampling need."""

    eos_token_id = STOP

    def convert_tokens_to_ids(self, tokens):
        return [152 if "start" in t else 153 for t in tokens]


def tiny_policy(family: str = "2.5", trainable_vision: bool = True) -> tuple[Policy, torch.nn.Module]:
    """(policy on the shared-prefix layout, the stock model with equal weights)."""
    stock, model = tiny_model(family), tiny_model(family)
    model.load_state_dict(stock.state_dict())
    model.set_attn_implementation({"": "sdpa", "text_config": ATTENTION, "vision_config": "sdpa"})
    model.model.visual.requires_grad_(trainable_vision)
    return Policy(model, Tokens(), None, None), stock


def tiny_group(prompt: EncodedPrompt, completions: list[Completion], advantages: list, place: int, kind: str = "digit"):
    """A scored group whose advantages are given."""
    rollouts = [
        Rollout(c, "", Reward(0.0, "ok", kind), before=c.log_probs, advantage=a)
        for c, a in zip(completions, advantages, strict=True)
    ]
    return Group(Sample(str(place), "s", (), "?", "1", kind), prompt, place, rollouts)


def plain_policy(folder, system: str | None = None) -> Policy:
    """The policy of a folder, computed in fp32."""
    return load_policy(ModelConfig(path=folder, system=system, dtype="float32"))


class Given:
    """In a sampler's place, for rollouts that are there already."""

    kept: list = []

    def __init__(self, exact: bool = True):
        self.exact = exact


def tiny_learner(policy: Policy, config: GRPOConfig, reference=None, optimiser=None, sampler=None, beta: float = 0.0):
    """What an update needs."""
    return Learner(config, policy, reference, optimiser, sampler or Given(), None, beta)


def tiny_prompt(policy: Policy, text_tokens: int, images: int = 1, seed: int = 0) -> EncodedPrompt:
    """Prompt with `images` images of different shape between text tokens."""
    g = torch.Generator().manual_seed(seed + 100 * text_tokens + images)
    parts, grids, pixels = [torch.randint(3, 100, (3,), generator=g)], [], []
    for i in range(images):
        grid = [1, 4, 4 + 2 * ((i + text_tokens) % 3)]
        grids.append(grid)
        pixels.append(torch.randn(grid[1] * grid[2], 3 * 2 * 14 * 14, generator=g))
        parts += [torch.full((grid[1] * grid[2] // 4,), IMAGE), torch.randint(3, 100, (2,), generator=g)]
    ids = torch.cat([*parts, torch.randint(3, 100, (text_tokens,), generator=g)])
    grids = torch.tensor(grids) if images else None
    pixels = torch.cat(pixels) if images else None
    return EncodedPrompt(ids, rope_positions(policy, ids, grids), pixels, grids, (f"{text_tokens}-{images}-{seed}",))


def stock_log_probs(
    stock, prompt: EncodedPrompt, completion: torch.Tensor, temperature: float = 1.0, banned=(150, 151, 152, 153)
):
    """Log-probabilities [T] of one completion by transformers' own forward, one row, no sharing."""
    ids = torch.cat([prompt.ids, completion])[None]
    vision = {}
    if prompt.pixels is not None:
        vision = dict(
            pixel_values=prompt.pixels,
            image_grid_thw=prompt.grids,
            mm_token_type_ids=(ids == stock.config.image_token_id).int(),
        )
    logits = stock(input_ids=ids, **vision).logits[0].float() / temperature
    logits[:, list(banned)] = -torch.inf
    log_p = torch.log_softmax(logits, -1)[len(prompt.ids) - 1 : -1]
    return log_p.gather(1, completion[:, None])[:, 0]


def word_tokenizer(text: str):
    """A tokenizer with one id per word of a text, and a plain chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = sorted(set(text.replace(".", "").replace("?", "").split()))
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", "<user>", "<assistant>", ".", "?", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    fast.chat_template = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}"
    return fast


def byte_tokenizer():
    """A tokenizer of Qwen's kind with one id per byte, so that no two texts read alike, and a plain chat template."""
    from tokenizers import pre_tokenizers
    from transformers import Qwen2Tokenizer

    vocabulary = {token: i for i, token in enumerate(["<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], unk_token=None, eos_token="<pad>", pad_token="<pad>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    return tokenizer


def tiny_reward_model(folder) -> str:
    """Folder of a text-only reward model with random weights. Its scores of two texts differ by far more than rounding."""
    from transformers import Qwen2Config, Qwen2ForSequenceClassification

    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_labels=1, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    Qwen2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
