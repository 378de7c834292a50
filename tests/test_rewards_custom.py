"""Rewards of the user's own: what a function may say, how its faults are told, and that its code is part of a run."""

from __future__ import annotations

import json

import pytest

from seethink import cli
from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.run import Run
from seethink.rewards import RewardConfig, Rewarder
from seethink.rewards.custom import load_custom
from seethink.train.config import GRPOConfig

FUNCTIONS = """
from fractions import Fraction

def half(sample, answer): return 0.5
def length(response): return len(response) / 100
def why(sample, answer): return 0.25, "malformed", f"{sample.gold} is not {answer}"
def cannot(sample, answer): return None
def cannot_say(sample, answer): return None, "blurred", "no picture"
def only_one(sample, answer): return NotImplemented if sample.id != "1" else Fraction(1, 4)
def breaks(sample, answer): raise KeyError("no such thing")
def leaves(sample, answer): raise SystemExit(3)
def too_much(sample, answer): return 1.5
def no_number(sample, answer): return "much"
def not_a_number(sample, answer): return float("nan")
def batch(samples, answers): return [float(a == s.gold) for s, a in zip(samples, answers)]
def short_batch(samples, answers): return [1.0]
def broken_batch(samples, answers): raise RuntimeError("down")
def wrong(prompts, completions): return [0.0]
def nothing(): return 0.0
VALUE = 3
"""
NO_TAGS, TAGGED = "no tags at all", "<think>look</think> <answer>7</answer>"


@pytest.fixture
def named(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FUNCTIONS)
    return lambda name: f"{path}:{name}"


def sample(id="1", gold="7", **more) -> Sample:
    return Sample(id, "mine", (), "How many?", gold, "digit", **more)


@pytest.mark.parametrize(
    ("name", "value", "status", "detail"),
    [
        ("half", 0.5, "ok", ""),
        ("length", len(TAGGED) / 100, "ok", ""),
        ("why", 0.25, "malformed", "7 is not 7"),
        ("cannot", None, "undecided", ""),
        ("cannot_say", None, "blurred", "no picture"),
        ("only_one", 0.25, "ok", ""),
        ("breaks", None, "custom_error", "KeyError: 'no such thing'"),
        ("leaves", None, "custom_error", "SystemExit: 3"),
        ("too_much", None, "custom_error", "not a number in [0, 1]: 1.5"),
        ("no_number", None, "custom_error", "not a number in [0, 1]: much"),
        ("not_a_number", None, "custom_error", "not a number in [0, 1]: nan"),
        ("batch", 1.0, "ok", ""),
    ],
)
def test_what_a_function_says_is_what_is_paid(named, name, value, status, detail):
    with Rewarder(RewardConfig(custom=named(name))) as rewarder:
        told, unread = rewarder.score_batch([sample(), sample("2")], [TAGGED, NO_TAGS])
    assert (told.value, told.status, told.detail) == (value, status, detail)
    assert (unread.value, unread.status) == (0.0, "no_format"), "no function is asked about an answer that is not there"


def test_what_is_not_its_business_is_left_to_the_rules(named):
    with Rewarder(RewardConfig(custom=named("only_one"))) as rewarder:
        mine, right, wrong, said = rewarder.score_batch(
            [sample("1"), sample("2"), sample("3", "8"), Sample("4", "m", (), "Where?", "in the red box", "open")],
            [TAGGED, TAGGED, TAGGED, "<think>x</think> <answer>in the red box</answer>"],
        )
    assert [r.value for r in (mine, right, wrong, said)] == [0.25, 1.0, 0.0, 1.0]


def test_any_gold_of_a_row_is_tried(named):
    with Rewarder(RewardConfig(custom=named("batch"))) as rewarder:
        assert rewarder.score(sample(gold="6", alternatives=("7",)), TAGGED).value == 1.0


@pytest.mark.parametrize("name", ["breaks", "broken_batch", "short_batch"])
def test_a_function_that_fails_on_many_ends_the_run_with_its_own_words(named, name):
    with Rewarder(RewardConfig(custom=named(name))) as rewarder:
        with pytest.raises(UserError, match="failed on 5 of 5 answers") as error:
            rewarder.score_batch([sample(str(n)) for n in range(5)], [TAGGED] * 5)
        assert error.value.code == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrong", r"takes \(prompts, completions\)"),
        ("nothing", r"takes \(\)"),
        ("VALUE", "is no function"),
        ("absent", "has no 'absent'"),
    ],
)
def test_what_is_no_such_function_is_refused_before_anything_runs(named, name, words):
    with pytest.raises(UserError, match=words):
        Rewarder(RewardConfig(custom=named(name)))


@pytest.mark.parametrize("given", [{"custom": "m:f", "placebo": "none"}, {"custom": "m:f", "correct": 2}])
def test_settings_that_contradict_each_other_are_refused(given):
    with pytest.raises(ValueError, match="custom|correct"):
        RewardConfig(**given)


def test_a_threshold_of_its_own_for_being_right(named):
    for least, right in ((None, False), (0.5, True), (0.6, False)):
        with Rewarder(RewardConfig(custom=named("half"), correct=least)) as rewarder:
            assert rewarder.is_correct(rewarder.score(sample(), TAGGED)) is right


def test_its_code_is_part_of_a_run(named, tmp_path):
    """The same command after the file has changed is another run, and is told so."""
    name, model = named("half"), tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (tmp_path / "rl.jsonl").write_text("{}")
    given = {"model": {"path": str(model)}, "data": tmp_path / "rl.jsonl", "out": tmp_path / "run"}
    settings = GRPOConfig.model_validate({**given, "reward": {"custom": name}})
    with Run.open(settings.out, "grpo", settings, {"model.system": ""}) as run:
        assert not run.done
    path, _, _ = name.rpartition(":")
    with open(path, "a") as file:
        file.write("# another line\n")
    with pytest.raises(UserError, match="reward.custom"):
        Run.open(settings.out, "grpo", settings, {"model.system": ""})


def test_reward_score_and_check_take_it(named, tmp_path, capsys):
    rows = [{"id": "1", "source": "mine", "question": "How many?", "gold": "7", "kind": "digit", "response": TAGGED}]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "scored.jsonl"
    given = [str(tmp_path / "answers.jsonl"), "--reward.custom", named("why")]
    assert cli.main(["reward", "score", *given, "--out", str(out)]) == 0
    assert json.loads(out.read_text())["reward"] == 0.25
    assert cli.main(["reward", "check", *given]) == 0
    assert cli.main(["reward", "check", *given[:2], named("breaks")]) == 2
    assert "KeyError" in capsys.readouterr().out


def test_a_function_is_loaded_once(named):
    assert load_custom(named("half")) is load_custom(named("half"))
