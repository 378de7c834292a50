"""Contracts of the hooks: all five kinds in one call, from a worker thread, as each trainer calls them."""

from __future__ import annotations

import importlib.util
import json
import pickle
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seethink.core.errors import UserError
from seethink.core.tags import compose
from seethink.rewards import RewardConfig
from seethink.rewards.adapters import common, easyr1, openrlhf, verl
from seethink.rewards.adapters.trl import SeethinkReward, text_of

FOLDER = Path(common.__file__).parent
# kind, gold, choices, meta, answer, reward
CASES = [
    ("digit", "7", [], {}, "There are 7.", 1.0),
    ("choice", "C", ["10", "11", "12"], {}, "(C) 12", 1.0),
    ("math", "y=x^2-4x+3", [], {}, "y=(x-1)(x-3)", 1.0),
    ("math", r"\frac12", [], {}, r"\int_0^1 x\,dx", 1.0),  # needs a worker process
    ("box", "[0, 0, 100, 100]", [], {"coords": "pixel", "image_size": [100, 100]}, "[0, 0, 50, 100]", 0.5),
    ("open", "a man on a bicycle", [], {}, "a man on a bicycle", 1.0),
    ("mcq", "A", [], {}, "A or B", 0.0),
]
RESPONSES = [compose("hm", answer) for *_, answer, _ in CASES]
EXPECTED = [reward for *_, reward in CASES]
TRUTHS = [
    {"id": str(i), "kind": kind, "solution": gold, "choices": choices, "meta": json.dumps(meta)}
    for i, (kind, gold, choices, meta, _, _) in enumerate(CASES)
]
COLUMNS = {key: [truth[key] for truth in TRUTHS] for key in TRUTHS[0]}
BAD_GOLD = {"id": "bad", "kind": "math", "solution": "", "choices": [], "meta": "{}"}


def in_thread(function, *arguments, **named):
    """The result of a call off the main thread, where no alarm signal would work."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments, **named).result(timeout=600)


def load(name: str):
    """A hook file as trainers load it: by path."""
    spec = importlib.util.spec_from_file_location(f"custom_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_trl_takes_texts_and_messages_and_logs():
    extra, metrics = {}, {}
    reward = pickle.loads(pickle.dumps(SeethinkReward()))
    more = {
        "trainer_state": None,
        "log_extra": extra.__setitem__,
        "log_metric": metrics.__setitem__,
        "completion_ids": [[1]] * len(CASES),
    }
    assert in_thread(reward, prompts=["q"] * len(CASES), completions=RESPONSES, **COLUMNS, **more) == EXPECTED
    assert extra["seethink_status"][-1] == "ambiguous" and metrics["seethink/reward/box"] == 0.5
    messages = [[{"role": "assistant", "content": r}] for r in RESPONSES]
    prompts = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "q"}]}]] * len(CASES)
    assert reward(prompts=prompts, completions=messages, **COLUMNS) == EXPECTED


@pytest.mark.parametrize("word", ["none", "zeros", ""])
def test_a_trainer_that_adds_up_numbers_is_not_told_none(word):
    """It was: EasyR1 got a silent 0, verl and OpenRLHF a None."""
    label = json.dumps({**BAD_GOLD, "gold": ""})
    asked = (
        lambda: easyr1.compute_score([{"response": RESPONSES[0], "ground_truth": label}], undecided=word),
        lambda: verl.compute_score("s", RESPONSES[0], "", BAD_GOLD, undecided=word),
        lambda: openrlhf.reward_func([RESPONSES[0]], [""], [label], undecided=word),
        *([lambda: SeethinkReward(undecided=word)] if word != "none" else []),
    )
    for ask in asked:
        with pytest.raises(UserError, match=f"undecided is '{word}'"):
            ask()


def test_trl_leaves_undecided_samples_out_or_stops():
    columns = {key: [value] for key, value in BAD_GOLD.items()}
    response = [compose("", "3")]
    assert SeethinkReward()(completions=response, **columns) == [None]
    assert SeethinkReward(undecided="zero")(completions=response, **columns) == [0.0]
    with pytest.raises(UserError, match="reward check"):
        SeethinkReward(undecided="raise")(completions=response, **columns)
    with pytest.raises(UserError, match="kind"):
        SeethinkReward()(completions=response, prompt_tokens=[3])


def test_texts_of_completions():
    assert text_of("a") == "a"
    assert text_of([{"content": "a"}, {"content": [{"type": "text", "text": "b"}, {"type": "image"}]}]) == "b"
    assert text_of([]) == ""


def test_verl():
    module = load("verl")
    found = [
        in_thread(module.compute_score, data_source="s", solution_str=r, ground_truth=t["solution"], extra_info=t)
        for r, t in zip(RESPONSES, TRUTHS, strict=True)
    ]
    assert [f["score"] for f in found] == EXPECTED and found[-1]["status"] == "ambiguous"
    with pytest.raises(UserError):
        verl.compute_score("s", RESPONSES[0], "", BAD_GOLD)
    assert verl.compute_score("s", RESPONSES[0], "", BAD_GOLD, undecided="zero")["score"] == 0.0
    half = verl.compute_score("s", RESPONSES[0], "7", {"kind": "digit"}, kind_scale={"digit": 0.5})
    assert half["score"] == 0.5
    with pytest.raises(UserError, match="box.threshold"):
        verl.compute_score("s", RESPONSES[0], "7", {"kind": "digit"}, box={"treshold": 0.5})


def test_easyr1():
    module = load("easyr1")
    assert (module.REWARD_NAME, module.REWARD_TYPE) == ("seethink", "batch")
    inputs = [
        {"response": r, "response_length": len(r), "ground_truth": json.dumps(t)}
        for r, t in zip(RESPONSES, TRUTHS, strict=True)
    ]
    found = in_thread(module.compute_score, inputs)
    assert [f["overall"] for f in found] == EXPECTED
    assert all(isinstance(value, float) for f in found for value in f.values())
    assert found[4]["accuracy"] == 1.0 and found[-1]["format"] == 1.0
    with pytest.raises(UserError, match="not the JSON"):
        easyr1.compute_score([{"response": "x", "response_length": 1, "ground_truth": "7"}])


CHAT = "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n"


def test_openrlhf():
    module = load("openrlhf")
    labels = [json.dumps(t) for t in TRUTHS]
    queries = [CHAT + r + "<|im_end|>" for r in RESPONSES]
    for query, label, expected in zip(queries, labels, EXPECTED, strict=True):  # one at a time, as the trainer does
        found = in_thread(module.reward_func, [query], [CHAT], [label])
        assert found["rewards"].tolist() == found["scores"].tolist() == [expected]
        assert all(isinstance(value, float) for value in found["extra_logs"].values())
    assert module.reward_func(queries, [CHAT] * len(queries), labels)["rewards"].tolist() == EXPECTED


def test_openrlhf_cuts_at_the_header_not_at_the_length():
    expanded = CHAT.replace("What?", "<|image_pad|>" * 16 + "What?")
    assert openrlhf.response_of(expanded + "answer", CHAT.replace("What?", "<|image_pad|>What?")) == "answer"
    written = "a<|im_start|>assistant\nb"  # a header that the policy wrote is part of its response
    assert openrlhf.response_of(CHAT + written, CHAT) == written
    assert openrlhf.response_of("promptanswer", "prompt") == "answer"


def test_ms_swift(monkeypatch):
    package, module = types.ModuleType("swift.rewards"), types.ModuleType("swift.rewards.orm")

    class ORM:
        def __init__(self, args=None, **kwargs):
            self.args = args

    module.ORM, module.orms = ORM, {}
    for name, found in (
        ("swift", types.ModuleType("swift")),
        ("swift.rewards", package),
        ("swift.rewards.orm", module),
    ):
        monkeypatch.setitem(sys.modules, name, found)
    load("ms_swift")
    reward = module.orms["seethink"](args=None)
    messages = [[{"role": "user", "content": "q"}]] * len(CASES)
    assert in_thread(reward, RESPONSES, **COLUMNS, messages=messages, trainer_state=None) == EXPECTED


def test_settings_come_from_a_file_where_a_trainer_passes_none(tmp_path, monkeypatch):
    (tmp_path / "reward.toml").write_text("kind_scale = { digit = 0.25 }\n")
    monkeypatch.setenv(common.CONFIG_VARIABLE, str(tmp_path / "reward.toml"))
    common.shared_rewarder.cache_clear()
    found = openrlhf.reward_func([CHAT + RESPONSES[0]], [CHAT], [json.dumps(TRUTHS[0])])
    common.shared_rewarder.cache_clear()
    assert found["rewards"].tolist() == [0.25]


def test_grpo_trainer_takes_a_real_step(tmp_path):
    """TRL's own trainer on a tiny random text model (its image processors would need torchvision)."""
    pytest.importorskip("trl")
    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    vocabulary = {
        w: i
        for i, w in enumerate(
            ["<pad>", "<eos>", "<unk>", "<think>", "</think>", "<answer>", "</answer>", "7", "C", "x", "how", "many"]
        )
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    torch.manual_seed(0)
    sizes = dict(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2
    )
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(vocabulary), pad_token_id=0, eos_token_id=1, **sizes))
    rows = [{"prompt": "how many", **truth} for truth in (TRUTHS[0], BAD_GOLD, TRUTHS[1], TRUTHS[0])]
    config = GRPOConfig(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=4, num_generations=2, max_completion_length=6, use_cpu=True,
        report_to=[], logging_steps=1, save_strategy="no", temperature=1.0, bf16=False, disable_tqdm=True,
    )  # fmt: skip
    reward = SeethinkReward(RewardConfig(format_bonus=0.1))
    trainer = GRPOTrainer(
        model, reward_funcs=[reward], args=config, train_dataset=Dataset.from_list(rows), processing_class=fast
    )
    trainer.train()
    logged = trainer.state.log_history[0]
    assert "rewards/seethink/mean" in logged and any(key.startswith("seethink/status/") for key in logged)
