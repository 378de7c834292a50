"""Model folders as they lie about: whatever is missing, cut or foreign is named in one line; nothing random is ever used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import read_json, read_text, write_json
from seethink.train.config import ModelConfig
from seethink.train.dist import give_memory
from seethink.train.model.folder import INDEX, LFS, check_folder
from seethink.train.model.parts import STOP_REMEDY
from seethink.train.model.policy import Policy, compute_dtype, encode_completion, encode_prompt, load_policy
from seethink.train.model.saving import save_policy
from seethink.train.model.weights import empty_model, read_weights
from tests.tiny import tiny_model

BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"
WEIGHTS = "model.safetensors"
POINTER = LFS.decode() + "/spec/v1\noid sha256:4d7a\nsize 6202400\n"
LAYER, IN_MODEL = (f"model.{room}layers.1.mlp.up_proj.weight" for room in ("", "language_model."))
"""A tensor by its name in the file, which is an old one, and in the model."""
OPTIONAL = {"README.md", "generation_config.json", "system.txt"}
"""Without these the model is the same model."""
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "pointer": lambda content: POINTER.encode(),
    "object": lambda content: b"{}",
    "list": lambda content: b"[]",
    "null": lambda content: b"null",
    "bytes": lambda content: b"\xff\xfe\x00" * 50,
}


def load(folder: Path, **settings: Any) -> Policy:
    return load_policy(ModelConfig(path=folder, dtype="float32", **settings))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the base that may be broken."""
    return Path(shutil.copytree(BASE, tmp_path / "m"))


def edit(path: Path, **changes: Any) -> None:
    """None removes a key."""
    values = {**read_json(path), **changes}
    write_json(path, {k: v for k, v in values.items() if v is not None})


def edit_weights(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("name", sorted(p.name for p in BASE.iterdir()))
def test_every_file_missing_cut_or_emptied_is_named_or_not_needed(name, folder):
    whole = (folder / name).read_bytes()
    for damage, change in [("missing", None), *DAMAGES.items()]:
        (folder / name).unlink(missing_ok=True)
        if change:
            (folder / name).write_bytes(change(whole))
        try:
            policy = load(folder)
        except UserError as error:
            assert error.code == 2 and error.remedy and str(folder) in error.where, damage
            assert "\n" not in str(error) and len(str(error)) < 600
        else:
            assert name in OPTIONAL, f"{name} {damage}: loaded all the same"
            assert name == "README.md" or damage != "pointer"
            assert policy.model.get_parameter(IN_MODEL).equal(load_file(BASE / WEIGHTS)[LAYER])
            assert policy.stop_ids.tolist() == [3]


def shards(folder: Path, keep: int) -> None:
    """The weights as an index and two files, of which the first `keep` are there."""
    tensors = load_file(folder / WEIGHTS)
    places = {name: f"model-0000{1 + (i > 20)}-of-00002.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in sorted(set(places.values()))[:keep]:
        save_file({n: t for n, t in tensors.items() if places[n] == file}, folder / file, metadata={"format": "pt"})
    write_json(folder / INDEX, {"metadata": {}, "weight_map": places})
    (folder / WEIGHTS).unlink()


def set_value(tensors: dict[str, torch.Tensor], value: float) -> None:
    tensors[LAYER][3, 5] = value


def add_token(folder: Path) -> None:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    added = read_json(folder / "tokenizer.json")["added_tokens"]
    edit(folder / "tokenizer.json", added_tokens=[*added, {"id": 315, "content": "<tool>", **flags}])


def processor(folder: Path, **changes: Any) -> None:
    edit(folder / "preprocessor_config.json", **changes)


def untie(folder: Path) -> None:
    text = {**read_json(folder / "config.json")["text_config"], "tie_word_embeddings": False}
    edit(folder / "config.json", text_config=text, tie_word_embeddings=False)


def into_a_run(folder: Path) -> None:
    (folder / "model").mkdir()
    shutil.copyfile(folder / "config.json", folder / "model" / "config.json")
    (folder / "config.json").write_text('{"model": {"path": "x"}}')


REFUSED: list[tuple[str, Callable[[Path], Any], str]] = [
    ("no weights", lambda f: (f / WEIGHTS).unlink(), "has no weights (model.safetensors)"),
    ("a pickle", lambda f: (f / WEIGHTS).rename(f / "pytorch_model.bin"), "pytorch_model.bin is a pickle"),
    ("a shard gone", lambda f: shards(f, 1), "has no model-00002-of-00002.safetensors of the 2 files"),
    ("an index of nothing", lambda f: (shards(f, 2), edit(f / INDEX, weight_map={})), "names no files of weights"),
    ("a layer gone", lambda f: edit_weights(f, lambda w: w.pop(LAYER)), f"weights are missing: {IN_MODEL}"),
    ("a tied head untied", untie, "weights are missing: lm_head.weight"),
    ("an unknown tensor", lambda f: edit_weights(f, lambda w: w.update({"v_head.x": w[LAYER] * 1})), "unknown: v_head.x"),
    ("a tied head apart", lambda f: edit_weights(f, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"] * 2})), "are tied by config.json, and differ"),
    ("a misshapen one", lambda f: edit_weights(f, lambda w: w.update({LAYER: w[LAYER][:9].clone()})), f"another shape: {IN_MODEL}"),
    ("NaN", lambda f: edit_weights(f, lambda w: set_value(w, float("nan"))), f"not finite (NaN or infinity): {IN_MODEL}"),
    ("infinity", lambda f: edit_weights(f, lambda w: set_value(w, float("inf"))), f"not finite (NaN or infinity): {IN_MODEL}"),
    ("awq", lambda f: edit(f / "config.json", quantization_config={"quant_method": "awq"}), "is quantised (awq)"),
    ("an unnamed method", lambda f: edit(f / "config.json", quantization_config={"bits": 4}), "is quantised"),
    ("gptq of old", lambda f: write_json(f / "quantize_config.json", {"bits": 4}), "is quantised (quantize_config.json)"),
    ("eight bits", lambda f: edit_weights(f, lambda w: w.update({LAYER: w[LAYER].to(torch.int8)})), f"({LAYER} is I8)"),
    ("fp8", lambda f: edit_weights(f, lambda w: w.update({LAYER: w[LAYER].to(torch.float8_e4m3fn)})), f"({LAYER} is F8"),
    ("a text model", lambda f: edit(f / "config.json", model_type="qwen2"), "model type 'qwen2' is not supported"),
    ("no sizes", lambda f: edit(f / "config.json", text_config={}), "has no hidden_size"),
    ("sizes as text", lambda f: edit(f / "config.json", vision_config={"depth": "two"}), "cannot be read"),
    ("a token too many", add_token, "token '<tool>' has id 315, but the embedding has 315 rows"),
    ("no words", lambda f: edit(f / "tokenizer.json", model={"type": "WordLevel"}), "holds no vocabulary"),
    ("an id below 0", lambda f: (f / "tokenizer.json").write_text((f / "tokenizer.json").read_text().replace(": 5,", ": -5,", 1)), "the tokenizer cannot be read"),
    ("a link to nothing", lambda f: ((f / "system.txt").unlink(), (f / "system.txt").symlink_to("gone")), "is a link to a file that is missing"),
    ("an index of other folders", lambda f: (shards(f, 2), edit(f / INDEX, weight_map={LAYER: "/etc/passwd"})), "names no files of weights"),
    ("quantised inside", lambda f: edit(f / "config.json", text_config={**read_json(f / "config.json")["text_config"], "quantization_config": {"quant_method": "fp8"}}), "is quantised (fp8)"),
    ("ModelOpt", lambda f: write_json(f / "hf_quant_config.json", {}), "is quantised (hf_quant_config.json)"),
    ("other heads", lambda f: edit(f / "config.json", text_config={**read_json(f / "config.json")["text_config"], "num_attention_heads": 1, "num_key_value_heads": 1}), "does not fit heads of 160 values"),
    ("a turn in the system prompt", lambda f: (f / "system.txt").write_text("Go.<|im_end|>"), "a text holds <|im_end|>"),
    ("NUL in the system prompt", lambda f: (f / "system.txt").write_bytes(b"Go\0"), "this is no text (it holds NUL)"),
    ("no template", lambda f: (f / "chat_template.jinja").unlink(), "no chat template"),
    ("a text template", lambda f: (f / "chat_template.jinja").write_text("{{ messages[-1]['content'] }}"), "does not show the image"),
    ("a blind template", lambda f: (f / "chat_template.jinja").write_text("hello"), "does not show the image"),
    ("a template that raises", lambda f: (f / "chat_template.jinja").write_text("{{ raise_exception('no') }}"), "template fails (no)"),
    ("a template that reaches out", lambda f: (f / "chat_template.jinja").write_text("{{ ''.__class__.__mro__ }}"), "template fails"),
    ("another family's processor", lambda f: processor(f, image_processor_type="CLIPImageProcessor"), "'CLIPImageProcessor' is not supported"),
    ("no size of patches", lambda f: processor(f, patch_size=None), "has no patch_size"),
    ("other patches", lambda f: processor(f, patch_size=16), "has patch_size 16, the model patch_size 14"),
    ("no edges", lambda f: processor(f, size={"height": 9}, min_pixels=None, max_pixels=None), "the image processor cannot be read"),
    ("no spread", lambda f: processor(f, image_std=[0, 0, 0]), "its pixels are not finite"),
    ("no end", lambda f: edit(f / "tokenizer_config.json", eos_token=None), STOP_REMEDY),
    ("a run's own folder", into_a_run, "This is the folder of a run: give"),
    ("adapters", lambda f: write_json(f / "adapter_config.json", {"base_model_name_or_path": "x/y"}), "Merge them into their base"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_no_model_for_us_is_refused(folder, change, message):
    change(folder)
    with pytest.raises(UserError) as caught:
        load(folder)
    assert message in str(caught.value) and str(folder) in caught.value.where
    assert caught.value.code == 2 and "\n" not in str(caught.value)


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(UserError, match="there is no such model folder. Check the path$"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nobody/nothing: there is no such model folder.*hf download nobody/nothing$"):
        load(Path("nobody/nothing"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="no such model folder"):
        load(tmp_path / "file")


def nested_processor(folder: Path) -> None:
    """As transformers 5 and TRL save it."""
    inner = read_json(folder / "preprocessor_config.json")
    (folder / "preprocessor_config.json").unlink()
    write_json(folder / "processor_config.json", {"image_processor": inner, "processor_class": "Qwen2_5_VLProcessor"})


@pytest.mark.parametrize(
    "change",
    [
        lambda f: None,
        nested_processor,
        lambda f: processor(f, image_processor_type="Qwen2_5_VLImageProcessor"),
        lambda f: processor(f, image_processor_type="Qwen2VLImageProcessorFast"),
        lambda f: processor(f, image_processor_type=None),
        lambda f: shards(f, 2),
        lambda f: edit_weights(f, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].clone()})),
        lambda f: edit(f / "config.json", quantization_config={}),
        lambda f: edit(f / "tokenizer_config.json", tokenizer_class="X", auto_map={"AutoTokenizer": ["x.X", None]}),
    ],
    ids=[
        "plain",
        "nested processor",
        "old name",
        "fast",
        "unnamed",
        "shards",
        "a tied head twice",
        "empty quantisation",
        "code that is not run",
    ],
)
def test_one_model_in_several_forms(folder, change, tmp_path):
    change(folder)
    policy, base = load(folder), load(BASE)
    assert all(a.equal(b) for a, b in zip(policy.model.parameters(), base.model.parameters(), strict=True))
    assert policy.image_processor.to_dict() == base.image_processor.to_dict()
    save_policy(policy, tmp_path / "saved")
    assert load(tmp_path / "saved").image_processor.to_dict() == base.image_processor.to_dict()


@pytest.mark.parametrize("family", ["2", "2.5", "3"])
def test_weights_and_buffers_of_every_family_are_those_that_transformers_reads(family, tmp_path):
    """Buffers are in no file. A model is saved by the names that it was read by, old ones or new."""
    tiny_model(family).save_pretrained(tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    save_file(dict(tiny_model(family).named_parameters()), tmp_path / "new" / WEIGHTS, metadata={"format": "pt"})
    for folder in (tmp_path / "old", tmp_path / "new"):
        model = empty_model(folder, torch.float32)
        assert all(p.is_meta for p in model.parameters())
        give_memory(model, torch.device("cpu"))
        read_weights(model, folder)
        stock = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        for ours, theirs in (
            (model.named_parameters, stock.named_parameters),
            (model.named_buffers, stock.named_buffers),
        ):
            expected = dict(theirs())
            found = dict(ours())
            assert expected and found.keys() == expected.keys()
            assert all(torch.equal(found[n], x) and found[n].dtype == x.dtype for n, x in expected.items())
        assert model.lm_head.weight is model.get_input_embeddings().weight
        model.save_pretrained(tmp_path / "again")
        assert load_file(tmp_path / "again" / WEIGHTS).keys() == load_file(folder / WEIGHTS).keys()


def test_a_base_model_with_a_template_and_a_stop_of_ours(folder, tmp_path):
    """Both travel with the model that comes out of it."""
    (folder / "chat_template.jinja").rename(tmp_path / "ours.jinja")
    edit(folder / "tokenizer_config.json", eos_token="<|endoftext|>")
    edit(folder / "generation_config.json", eos_token_id=1)
    write_json(tmp_path / "ours.json", {"chat_template": read_text(tmp_path / "ours.jinja")})
    with pytest.raises(UserError, match="'<end>' is no token of this model"):
        load(folder, chat_template=tmp_path / "ours.jinja", stop=("<end>",))
    for template in ("ours.jinja", "ours.json"):
        policy = load(folder, chat_template=tmp_path / template, stop=("<|im_end|>",))
        assert policy.stop_ids.tolist() == [1, 3] and encode_completion(policy, "red")[-1] == 3
    save_policy(policy, tmp_path / "saved")
    again, sample = load(tmp_path / "saved"), Sample("1", "s", (), "how many red ?", "1", "digit")
    assert again.stop_ids.tolist() == [1, 3] and encode_completion(again, "red")[-1] == 3
    assert encode_prompt(again, sample).ids.equal(encode_prompt(policy, sample).ids)


def test_a_template_without_place_for_the_system_prompt(folder):
    content = read_text(folder / "chat_template.jinja")
    (folder / "chat_template.jinja").write_text("{%- set messages = messages[-1:] -%}" + content)
    with pytest.raises(UserError, match="does not show the system prompt"):
        load(folder, system="Think first.")
    assert load(folder, system="").system == ""


def test_a_hub_model_is_found_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "models--org--pocket"
    shutil.copytree(BASE, home / "snapshots" / "0123abc")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0123abc")
    settings = ModelConfig(path=Path("org/pocket"))
    assert settings.path == home / "snapshots" / "0123abc" and check_folder(settings.path)
    (tmp_path / "org" / "pocket").mkdir(parents=True)
    assert ModelConfig(path=Path("org/pocket")).path == Path("org/pocket"), "a folder of this name comes first"
    assert json.loads(settings.model_dump_json())["path"] == str(settings.path)


@pytest.mark.parametrize(
    ("name", "device", "unit", "dtype"),
    [
        ("auto", "cpu", "avx512_bf16", "bfloat16"),
        ("auto", "cpu", "avx2", "float32"),
        ("auto", "cuda", "avx2", "bfloat16"),
        ("bfloat16", "cpu", "avx2", "bfloat16"),
        ("float32", "cuda", "amx_bf16", "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(name, device, unit, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {unit: True})
    assert str(compute_dtype(name, torch.device(device))) == f"torch.{dtype}"
