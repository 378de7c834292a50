"""The same folder again: a longer run goes on as if it had been planned so long, on the settings that it began with."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seethink.cli import main
from seethink.core.nouns import Example, Sample
from seethink.core.run import read_log
from seethink.core.store import read_json, save_examples
from seethink.core.tables import read_table
from seethink.core.tags import compose
from seethink.train import memory, sft
from seethink.train.config import OptimConfig
from seethink.train.optimiser import learning_rate

BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"
STEADY = {"optim.schedule": "constant", "optim.warmup": 0}
SMALL, LARGE = 1.0, 1e12  # bytes of a GPU: nothing fits, all does


@pytest.fixture
def call(tmp_path):
    """Runs a verb over eight questions into a folder; its exit code."""
    samples = [Sample(str(i), "s", (), f"how many red things ? {i}", str(i % 3), "digit") for i in range(8)]
    save_examples(tmp_path / "rows.jsonl", [Example(s, compose("so", s.gold)) for s in samples])
    fixed = {
        "model.path": BASE,
        "model.dtype": "float32",
        "device": "cpu",
        "data": tmp_path / "rows.jsonl",
        "optim.lr": 1e-3,
    }
    of_verb = {
        "sft": {"batch_size": 2, "eval_share": 0},
        "grpo": {
            "prompts": 2,
            "update_prompts": 1,
            "group": 4,
            "max_tokens": 6,
            "temperature": 1.5,
            "reward.placebo": "random",
        },
    }

    def run(verb: str, out: str, *flags: str, **settings) -> int:
        given = {**fixed, **of_verb[verb], **settings, "out": tmp_path / out}
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        return main([verb, *words, *flags])

    return run


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def learned(out: Path) -> list[dict]:
    """What the log says of the training itself."""
    names = ("step", "round", "loss", "grad_norm", "lr", "reward/mean", "kl_coefficient", "completion/length")
    return [{name: row[name] for name in names if name in row} for row in read_log(out / "metrics.jsonl")]


def same(ours: Path, theirs: Path) -> bool:
    a, b = weights(ours), weights(theirs)
    order = [read_json(out / "done.json")["summary"]["data_order"] for out in (ours, theirs)]
    return learned(ours) == learned(theirs) and order[0] == order[1] and all(a[n].equal(b[n]) for n in b)


IN_8_BITS = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
SHORT, LONG = {"epochs": 0.5}, {"epochs": 1}


@pytest.mark.parametrize(
    ("verb", "short", "long"),
    [
        ("sft", SHORT, LONG),
        ("grpo", {"rounds": 1}, {"rounds": 3}),
        pytest.param("sft", *({**n, "optim.moments": "8bit"} for n in (SHORT, LONG)), marks=IN_8_BITS),
    ],
)
def test_a_finished_run_made_longer_is_the_longer_run(call, tmp_path, verb, short, long):
    assert call(verb, "long", **long, **STEADY) == 0
    assert call(verb, "grown", "--keep_state", **short, **STEADY) == 0
    first = weights(tmp_path / "grown")
    assert call(verb, "grown", **long, **STEADY) == 0
    assert same(tmp_path / "grown", tmp_path / "long")
    assert not all(weights(tmp_path / "grown")[name].equal(first[name]) for name in first)
    assert not (tmp_path / "grown" / "checkpoint").exists(), "nobody asked to keep it this time"
    if verb == "grpo":
        tables = [read_table(tmp_path / name / "rollouts.parquet") for name in ("grown", "long")]
        assert tables[0] == tables[1] and {row["round"] for row in tables[0]} == {1, 2, 3}


def test_a_cosine_is_not_bent_but_goes_on_at_its_floor_where_that_is_said(call, tmp_path, capsys):
    floor = {"optim.lr_floor": 1e-4}
    assert call("sft", "run", "--keep_state", epochs=1, **floor) == 0
    before = learned(tmp_path / "run")
    capsys.readouterr()
    assert call("sft", "run", epochs=2, **floor) == 2
    said = capsys.readouterr().err
    assert (
        "laid out over 4 optimiser steps" in said and "--optim.decay_steps 4: from step 4 on the rate is 0.0001" in said
    )
    assert call("sft", "run", epochs=2, **floor, **{"optim.decay_steps": 4}) == 0
    rows = learned(tmp_path / "run")
    assert rows[:4] == before and [row["lr"] for row in rows[4:]] == [1e-4] * 4
    assert call("sft", "planned", epochs=2, **floor, **{"optim.decay_steps": 4}) == 0
    assert same(tmp_path / "run", tmp_path / "planned")


def test_what_cannot_be_made_longer_says_why(call, capsys):
    assert call("sft", "gone", epochs=1, **STEADY) == 0
    assert call("sft", "gone", epochs=2, **STEADY) == 2
    assert "the state of its optimiser went with that" in capsys.readouterr().err
    assert call("sft", "uneven", "--keep_state", batch_size=3, epochs=1, **STEADY) == 0
    assert call("sft", "uneven", batch_size=3, epochs=2, **STEADY) == 2
    assert "its last step had fewer rows" in capsys.readouterr().err
    assert call("sft", "kept", "--keep_state", epochs=2, **STEADY) == 0
    for change in ({"epochs": 1}, {"epochs": 3, "seed": 1}):
        assert call("sft", "kept", **{"epochs": 2, **STEADY, **change}) == 2
        assert "other settings or inputs (epochs: 2.0 -> " in capsys.readouterr().err


def test_the_rate_after_warm_up_is_constant_or_falls_to_its_floor_and_stays():
    config = OptimConfig(lr=1.0, lr_floor=0.1, warmup=0.5, decay_steps=4)
    assert [learning_rate(i, 9, config) for i in range(6)] == pytest.approx([0.5, 1.0, 1.0, 0.1, 0.1, 0.1])
    steady = config.model_copy(update={"schedule": "constant"})
    assert [learning_rate(i, 9, steady) for i in range(6)] == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert learning_rate(3, 8, steady.model_copy(update={"decay_steps": 0})) == 1.0


def test_a_run_keeps_what_was_chosen_for_the_gpu_that_it_began_on(call, tmp_path, monkeypatch, capsys):
    """The second GPU would choose otherwise; both are pretended, so that all is computed here."""

    def killed(*_):
        raise KeyboardInterrupt

    def on(capacity: float) -> None:
        monkeypatch.setattr(memory, "capacity_of", lambda _: capacity)

    def recorded() -> tuple[int, bool]:
        config = read_json(tmp_path / "run" / "config.json")
        return config["micro_tokens"], config["model"]["checkpoint_layers"]

    on(SMALL)
    with monkeypatch.context() as patched:
        patched.setattr(sft, "finish", killed)
        assert call("sft", "run") == 130
    assert recorded() == (4096, True) and "planned are" in capsys.readouterr().err
    on(LARGE)
    assert call("sft", "run", "--dry-run") == 0
    assert "inputs of layers, and all of the last one" in capsys.readouterr().out, "planned with layers computed again"
    with monkeypatch.context() as patched:
        patched.setattr(sft, "finish", killed)
        assert call("sft", "run", micro_tokens=9000) == 130
        assert recorded() == (9000, True) and "changed (micro_tokens)" in capsys.readouterr().err
    assert call("sft", "run") == 0 and recorded() == (9000, True)
    assert main(["sft", f"@{tmp_path / 'run' / 'config.json'}"]) == 0, "config.json repeats the run"
    assert call("sft", "run", micro_tokens=5000) == 2, "a finished one was computed as it was"
    assert call("sft", "other") == 0 and read_json(tmp_path / "other" / "config.json")["micro_tokens"] == 16384
    assert call("sft", "run", "--overwrite", seed=1) == 0 and recorded() == (16384, False), "another run chooses again"
