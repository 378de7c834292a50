"""One setting changes one value: over every verb and every nested key, by option, by file and by an arm of a study."""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from seethink.cli import VERBS, load, main, split_verb
from seethink.core.config import Config, build, describe, resolve
from seethink.core.errors import UserError
from seethink.data.config import DataConfig
from seethink.evals.config import EvalConfig
from seethink.study.plan import merge
from seethink.train.config import GRPOConfig, ModelConfig, SFTConfig

CONFIGS = {verb: load(settings) for verb, (settings, _, _) in VERBS.items()}
NESTED = [(verb, key) for verb, config in CONFIGS.items() for key, _ in describe(config) if "." in key]
NEEDED = {"base_url": "http://h/v1", "format": "trl", "models": ["m"], "runs": ["x"]}
ONE_OF = {EvalConfig: {"model": "x"}}
"""What a config needs of several settings that each have a default."""
BESIDE = {"sampler.transfer": ("sampler.engine", "vllm-server"), "sampler.python": ("sampler.engine", "vllm")}
"""Settings that another one must ask for."""
OTHERS = [True, False, 1, 0.25, 3, "x", "http://h", ["x"], [1.0, 2.0], [["a", "b"]], {"a": 1}, {"digit": 0.5}]


def settings_of(config: Config) -> dict[str, Any]:
    """Dotted key -> value of every setting."""
    return {key: reduce(getattr, key.split("."), config) for key, _ in describe(type(config))}


def needed(config: type[Config], key: str = "") -> dict[str, Any]:
    """Values for what has no default, and for what `key` wants beside it."""
    required = [key for key, (_, default, _) in describe(config) if default == "required"]
    return merge(
        *(nested(key, NEEDED.get(key, "x")) for key in required),
        ONE_OF.get(config, {}),
        nested(*BESIDE[key]) if key in BESIDE else {},
    )


def nested(key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}


def with_another_value(config: type[Config], key: str) -> tuple[Any, Config]:
    """(a value of this key that is valid and not its default, the settings with it)."""
    before = settings_of(build(config, needed(config, key)))
    kind = dict(describe(config))[key][0]
    words = kind.removeprefix("Literal[").rstrip("]").replace("'", "").split(", ") if kind.startswith("Lit") else []
    for value in words or OTHERS:
        try:
            made = build(config, merge(needed(config, key), nested(key, value)))
        except UserError:
            continue
        if settings_of(made)[key] != before[key]:
            return value, made
    raise AssertionError(f"no other value of {key} was found")


@pytest.mark.parametrize(("verb", "key"), NESTED)
def test_a_nested_override_changes_nothing_else(verb, key, tmp_path):
    config = CONFIGS[verb]
    before = settings_of(build(config, needed(config, key)))
    value, by_arm = with_another_value(config, key)
    table, _, leaf = key.rpartition(".")
    inline = json.dumps(value).replace('": ', '"= ')  # TOML writes {"a"= 1}
    (tmp_path / "needed.json").write_text(json.dumps(needed(config, key)))
    (tmp_path / "one.toml").write_text(f"[{table}]\n{leaf} = {inline}\n")
    option = [f"--{key}", value if isinstance(value, str) else inline]
    by_option, by_file = (
        resolve(config, [f"@{tmp_path / 'needed.json'}", *more]) for more in (option, [f"@{tmp_path / 'one.toml'}"])
    )
    assert by_option == by_file == by_arm
    after = settings_of(by_arm)
    follows = {"optim.lr"} if key == "model.lora_rank" else set()
    assert {k for k in before if before[k] != after[k]} == {key} | follows


@pytest.mark.parametrize("verb", CONFIGS)
def test_help_shows_the_defaults_of_this_verb(verb):
    config = CONFIGS[verb]
    made = settings_of(build(config, needed(config)))
    shown = {key: default for key, (_, default, _) in describe(config) if default != "required"}
    shown = {key: default for key, default in shown.items() if key not in ONE_OF.get(config, {})}
    assert shown == {key: repr(made[key]) for key in shown}


def test_one_key_of_a_table_keeps_the_others(tmp_path):
    needs = ["--source", "s", "--out", "o", "--base_url", "http://h/v1"]
    one = resolve(DataConfig, [*needs, "--reasoner.params.temperature", "0.2", "--reasoner.params.top_p", "0.9"])
    assert one.reasoner.params == {"temperature": 0.2, "max_tokens": 16384, "top_p": 0.9}
    table = tmp_path / "own.toml"
    table.write_text("[reasoner]\nparams = {max_completion_tokens = 9}\n")
    own = resolve(DataConfig, [*needs, f"@{table}", "--reasoner.params.top_p", "0.9"])
    assert own.reasoner.params == {"max_completion_tokens": 9, "top_p": 0.9}
    whole = resolve(DataConfig, [*needs, "--reasoner.params", "{max_completion_tokens = 9}"])
    assert whole.reasoner.params == {"max_completion_tokens": 9} and whole.reasoner.model == "deepseek-reasoner"


@pytest.mark.parametrize(("config", "own"), [(SFTConfig, 1e-5), (GRPOConfig, 1e-6)])
@pytest.mark.parametrize(
    ("given", "rate"),
    [
        ({}, None),
        ({"optim": {"weight_decay": 0.1}}, None),
        ({"model": {"lora_rank": 0}}, None),
        ({"model": {"lora_rank": 8}}, 1e-4),
        ({"model": {"lora_rank": 8}, "optim": {"weight_decay": 0.1}}, 1e-4),
        ({"model": {"lora_rank": 8}, "optim": {"lr": 1e-6}}, 1e-6),
    ],
)
def test_lora_has_a_rate_of_its_own(config, own, given, rate):
    found = build(config, merge(needed(config), given))
    assert found.optim.lr == (rate or own)
    assert build(config, found.model_dump(mode="json")) == found, "config.json holds the number"


def test_settings_made_in_python_keep_their_rate():
    plain = SFTConfig(out=Path("o"), data=Path("d"), model=ModelConfig(path=Path("m")))
    model = ModelConfig(path=Path("m"), lora_rank=4)
    assert SFTConfig(out=Path("o"), data=Path("d"), model=model).optim.lr == 1e-4
    with_lora = SFTConfig(out=Path("o"), data=Path("d"), model=model, optim=plain.optim)
    assert with_lora.optim.lr == 1e-5
    with pytest.raises(UserError, match="model.lora_rank = '8'"):  # a text would pass for a number, and 0 for a rank
        build(SFTConfig, merge(needed(SFTConfig), {"model": {"lora_rank": "8"}}))


def test_earlier_names_are_understood_and_said(capsys):
    given = ["--data", "d", "--out", "o", "--model.path", "m"]
    assert resolve(GRPOConfig, [*given, "--steps", "3"]).rounds == 3
    assert "--steps is --rounds now" in capsys.readouterr().err
    assert split_verb(["rank", "--out", "o"]) == ("select", ["--out", "o"])
    assert build(GRPOConfig, {"data": "d", "out": "o", "model": {"path": "m"}, "steps": 5}).rounds == 5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "inf"),
        ("optim.lr", "inf"),
        ("optim.lr", "nan"),
        ("optim.max_grad_norm", "nan"),
        ("seed", str(10**30)),
    ],
)
def test_numbers_that_nothing_can_be_computed_with_are_refused(key, value):
    with pytest.raises(UserError, match=f"{key} = "):
        resolve(SFTConfig, ["--out", "o", "--data", "d", "--model.path", "m", f"--{key}", value])


def test_a_folder_is_no_file_of_settings(tmp_path, capsys):
    assert main(["sft", f"@{tmp_path}"]) == 2
    assert "Is a directory" in capsys.readouterr().err
