"""The package as a library: few names, each documented, nothing loaded early, results with paths and numbers."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kills import build_world, settings

import seethink
from seethink.core.errors import UserError
from seethink.core.nouns import Sample

SCRIPT = """
import seethink
from pathlib import Path

def judge(rows: Path) -> float:
    samples = seethink.load_samples(rows)
    with seethink.Rewarder(seethink.RewardConfig(correct=0.5)) as rewarder:
        rewards = rewarder.score_batch(samples, ["<think>x</think> <answer>1</answer>"] * len(samples))
    return sum(reward.value or 0.0 for reward in rewards)

def train(model: str, rows: Path, out: Path) -> "float | None":
    trained: seethink.TrainingResult = seethink.grpo(model={"path": model}, data=rows, out=out)
    found = seethink.evaluate(model=str(trained.model), data=rows, out=out / "eval")
    return found.score if not found.done_before else found.accuracy
"""


def test_every_public_name_is_there_and_says_what_it_is():
    assert set(dir(seethink)) == set(seethink.__all__)
    for name in seethink.__all__:
        value = getattr(seethink, name)
        assert name == "__version__" or len(inspect.getdoc(value) or "") > 20, name
    with pytest.raises(AttributeError, match="seethink has no nonsense"):
        seethink.nonsense  # noqa: B018
    assert inspect.ismodule(__import__("seethink.study").study), "a package, which no function may hide"


def test_every_public_name_is_listed_in_the_page():
    page = (Path(seethink.__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    assert [name for name in seethink.__all__ if f"\n| `{name}" not in page] == [], "run: python docs/render.py"


def test_a_study_is_a_file_with_settings_over_it(tmp_path):
    with pytest.raises(UserError, match=r"Known: base, grpo, sft-hesitant"):
        seethink.run_study("@studies/pocket/common.toml", out=tmp_path / "o", reference="nothing")
    (tmp_path / "mine.toml").write_text("seedz = [0]")
    with pytest.raises(UserError, match=r"mine.toml: unknown config key 'seedz'. Did you mean seeds"):
        seethink.run_study(tmp_path / "mine.toml", out=tmp_path / "o")
    with pytest.raises(UserError, match="nowhere.toml: config file not found"):
        seethink.run_study("nowhere.toml", out=tmp_path / "o")


def test_asking_for_a_reward_loads_no_torch():
    code = "import seethink, sys; seethink.Rewarder, seethink.Sample, seethink.grpo; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_answer_is_scored_in_one_line():
    sample = Sample("1", "mine", (), "How many?", "2", "digit")
    assert seethink.score(sample, "<think>one, two</think> <answer>two</answer>").value == 1.0


def test_a_small_script_of_a_user_is_clean_for_a_type_checker(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    root = str(Path(seethink.__file__).parents[1])  # an editable installation hides it from type checkers
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "standard", "extraPaths": [root]}))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    found = json.loads(done.stdout)["generalDiagnostics"]
    assert [d["message"] for d in found if d["severity"] == "error"] == []


def test_what_is_wrong_is_said_as_on_the_command_line(tmp_path):
    with pytest.raises(UserError, match="data is required"):
        seethink.grpo(out=tmp_path / "run", model={"path": "m"})
    with pytest.raises(UserError, match="unknown config key 'epoch'"):
        seethink.sft(epoch=1, out=tmp_path / "run", model={"path": "m"}, data="x")


@pytest.mark.slow
def test_train_then_evaluate_then_the_same_again(tmp_path: Path):
    world = build_world(tmp_path / "world")
    given = {**settings("grpo", world, tmp_path / "run"), "rounds": 1}
    trained = seethink.grpo(**given)
    assert not trained.done_before and trained.summary["rounds"] == 1
    assert (trained.model / "config.json").is_file() and trained.metrics.is_file()
    again = seethink.grpo(**given)
    assert again.done_before and again.summary == trained.summary
    found = seethink.evaluate(
        model=str(trained.model), data=given["data"], out=tmp_path / "eval", max_tokens=16, limit=4
    )
    assert found.report.is_file() and found.scores.is_file() and found.summary["n"] == 4
    assert found.accuracy == pytest.approx(found.summary["right"] / found.decided)
    assert found.score is not None and 0 <= found.score <= 100


OFF = {
    "images as one text": ({"images": "clock.png"}, "images of a Sample is a str"),
    "choices as one text": ({"choices": "red"}, "choices of a Sample is a str"),
    "alternatives as one text": ({"alternatives": "23"}, "alternatives of a Sample is a str"),
    "a number": ({"gold": 2}, "gold of a Sample holds a int"),
    "several golds": ({"gold": ["2", "3"]}, "gold of a Sample holds a list"),
    "option numbers": ({"choices": (2, 4)}, "choices of a Sample holds a int"),
    "no kind of ours": ({"kind": "mcq"}, "kind of a Sample is 'mcq'"),
}


@pytest.mark.parametrize(("other", "said"), OFF.values(), ids=OFF)
def test_a_sample_made_by_hand_is_refused_where_it_would_be_read_otherwise(other, said):
    sound = {"id": "1", "source": "mine", "images": (), "question": "How many?", "gold": "2", "kind": "digit"}
    with pytest.raises(UserError, match=re.escape(said)):
        seethink.Sample(**{**sound, **other})
    assert seethink.Sample(**{**sound, "images": ["a.png"]}).images == ("a.png",)


@pytest.mark.parametrize("response", [None, 2, b"2", [{"role": "assistant", "content": "2"}]])
def test_a_response_that_is_no_text_is_no_wrong_answer(response):
    with pytest.raises(UserError, match="not a text"):
        seethink.score(seethink.Sample("1", "mine", (), "How many?", "2", "digit"), response)


WRONG_SETTINGS = {
    "true is no rate": ({"optim": {"lr": True}}, "lr takes a number, not true"),
    "false is no seed": ({"seed": False}, "seed takes a number, not false"),
    "a misspelt kind": ({"reward": {"kind_scale": {"digits": 0.5}}}, "'digits', which is no kind"),
}


@pytest.mark.parametrize(("settings", "said"), WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_settings_that_would_mean_something_else_are_refused(settings, said, tmp_path):
    with pytest.raises(UserError, match=said):
        seethink.grpo(data="rl.jsonl", model={"path": "pocket/base"}, out=tmp_path / "run", **settings)


def test_what_is_no_config_is_refused_in_words():
    with pytest.raises(UserError, match="as keywords"):
        seethink.grpo("train.jsonl")


def test_the_model_of_a_result_may_be_given_as_it_is(tmp_path):
    from seethink.api import _config
    from seethink.evals.config import EvalConfig

    made = _config(EvalConfig, None, {"model": tmp_path / "model", "data": tmp_path / "b.jsonl", "out": tmp_path / "o"})
    assert made.model == str(tmp_path / "model") and made.data == tmp_path / "b.jsonl"
