"""The vocabulary and tokenizer of the pocket model: one id per word, Qwen's special tokens, Qwen's chat shape.

Every word of every style is in it, and every edge of a box is a word ("36),(" is a top edge at 36 pixels). Decoding
joins words with blanks, which tags and reward parsers accept.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from seethink.core.store import write_json, write_text
from seethink.core.tags import TAGS
from seethink.pocket.questions import LETTERS, PLURALS, sections
from seethink.pocket.world import COLOURS, GRID, LATTICE, LESSONS, SHAPES, SIZE

UNKNOWN, PAD, END = "<unk>", "<|endoftext|>", "<|im_end|>"
CONTROL = (PAD, "<|im_start|>", END, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
EDGES = tuple(range(0, SIZE + 1, LATTICE))
EDGE_WORDS = tuple(tuple(form.format(edge) for edge in EDGES) for form in ("({},", "{}),(", "{},", "{})"))
"""[left, top, right, bottom][edge / 4] words of a box."""
ROW_WORDS = tuple(f"row-{n}" for n in range(1, GRID + 1))
COLUMN_WORDS = tuple(f"column-{n}" for n in range(1, GRID + 1))
LETTER_WORDS = tuple(f"{letter})" for letter in LETTERS)
NUMBERS = tuple(str(n) for n in range(-12, 21))
TERMS = tuple(
    sign + (str(a) if a > 1 else "") + x
    for x in ("x", "x^2")
    for a in range(1, LESSONS.steepest + 1)
    for sign in ("", "-")
)
_SIGNS = (".", ",", ":", "?", "=", "+", "-")
_GLUE = (
    "found",
    "system",
    "user",
    "assistant",
    "y",
    "at",
    "is",
    "a",
    "objects",
    "object",
    "empty",
    "next",
    "line",
    "parabola",
)
_SPLIT = r"(?<=[a-z])[,.](?=\s|$)|\?"  # a comma or stop after a word, but not inside a box


def words() -> list[str]:
    """All ordinary words in a fixed order."""
    texts = [text for name in ("questions", "unseen", "fillers") for lines in sections(name).values() for text in lines]
    texts += [prompt("system"), prompt("system_careful")]
    prose = [w for text in texts for w in re.sub(_SPLIT, r" \g<0> ", text).split() if "{" not in w]
    looks = (COLOURS, SHAPES, PLURALS.values(), ROW_WORDS, COLUMN_WORDS, LETTERS, LETTER_WORDS)
    groups = (_SIGNS, _GLUE, *looks, NUMBERS, TERMS, *EDGE_WORDS, prose)
    return list(dict.fromkeys(word for group in groups for word in group))


def prompt(name: str) -> str:
    """A prompt text that ships beside this file, trimmed."""
    return (files("seethink.pocket") / "prompts" / f"{name}.txt").read_text(encoding="utf-8").strip()


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Word-level tokenizer. Think and answer tags are ordinary added tokens: they survive skip_special_tokens."""
    vocabulary = {word: i for i, word in enumerate([UNKNOWN, *CONTROL, *TAGS, *words()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(_SPLIT), "isolated")]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        chat_template=(files("seethink.pocket") / "prompts" / "chat_template.jinja").read_text(encoding="utf-8"),
    )


def save_side_files(folder: Path) -> None:
    """Tokenizer, chat template, system prompt and image-processor settings of a model folder."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    write_text(folder / "chat_template.jinja", str(tokenizer.chat_template))
    write_text(folder / "system.txt", prompt("system") + "\n")
    write_json(folder / "preprocessor_config.json", PREPROCESSOR)


PREPROCESSOR = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "min_pixels": SIZE * SIZE,
    "max_pixels": SIZE * SIZE,
    "size": {"shortest_edge": SIZE * SIZE, "longest_edge": SIZE * SIZE},
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
}
