"""Controls of training: placebo rewards, blank and shuffled pictures, kinds left out, and that a run says which it had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kills import BASE, build_world
from PIL import Image
from safetensors.torch import load_file

from seethink.cli import main
from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.pictures import exchanged, own_pictures
from seethink.core.run import read_log
from seethink.core.store import load_examples, load_samples, read_json, save_examples, save_samples
from seethink.core.tables import read_table
from seethink.core.tags import compose
from seethink.rewards import RewardConfig, Rewarder
from seethink.train import grpo, sft
from seethink.train.config import GRPOConfig, SFTConfig
from seethink.train.dist import Ranks
from seethink.train.preflight import check_data

RIGHT, WRONG, FORMLESS = compose("so", "3"), compose("so", "4"), "it is 3"


def sample(name: str, kind: str = "digit", gold: str = "3") -> Sample:
    return Sample(name, "s", (), "How many?", gold, kind, ("1", "2") if kind == "choice" else ())  # type: ignore[arg-type]


def values(placebo: str, responses: list[str], names: list[str] | None = None) -> list[float | None]:
    rows = [sample(name) for name in names or ["a"] * len(responses)]
    with Rewarder(RewardConfig(placebo=placebo)) as rewarder:  # type: ignore[arg-type]
        return [r.value for r in rewarder.score_batch(rows, responses)]


# --------------------------------------------------------------------------------------------------------------------- rewards


@pytest.mark.parametrize(("placebo", "expected"), [("", [1, 0, 0]), ("none", [0, 0, 0]), ("format", [1, 1, 0])])
def test_a_placebo_does_not_look_at_the_answer(placebo, expected):
    assert values(placebo, [RIGHT, WRONG, FORMLESS]) == expected


def test_the_coin_is_fair_and_falls_the_same_for_the_same_sample_and_text():
    texts = [compose("so", str(i)) for i in range(2000)]
    first = values("random", texts)
    assert set(first) == {0.0, 1.0} and 0.45 < sum(first) / 2000 < 0.55
    assert values("random", texts[::-1]) == first[::-1], "whatever the company"
    assert values("random", [RIGHT] * 200) == [first[3]] * 200
    of_samples = values("random", [RIGHT] * 2000, [str(i) for i in range(2000)])
    assert 0.45 < sum(of_samples) / 2000 < 0.55, "another sample, another coin"
    agree = sum(a == b for a, b in zip(first, values("random", texts, ["b"] * 2000), strict=True))
    assert 0.45 < agree / 2000 < 0.55


@pytest.mark.parametrize("placebo", ["none", "format", "random"])
@pytest.mark.parametrize("kind", ["digit", "choice", "math", "box", "open"])
def test_a_placebo_says_so_for_every_kind_and_needs_no_gold_or_scorer(placebo, kind):
    config = RewardConfig(placebo=placebo, open={"scorer": "judge"})  # one that could not be asked
    with Rewarder(config) as rewarder:
        rewards = [rewarder.score(sample("a", kind, gold="?!"), text) for text in (RIGHT, FORMLESS)]
        assert [(r.status, r.kind, r.answer) for r in rewards] == [("placebo", kind, "3"), ("placebo", kind, None)]
        assert [r.detail for r in rewards] == [f"{placebo}, ok", f"{placebo}, no_format"]
        assert [rewarder.is_correct(r) for r in rewards] == [None, None], "no accuracy"


def test_a_placebo_is_not_scaled():
    for scaled in ({"format_bonus": 0.1}, {"kind_scale": {"open": 0.5}}):
        with pytest.raises(ValueError, match="not scaled"):
            RewardConfig(placebo="none", **scaled)


@pytest.mark.parametrize(
    "line",
    [
        "reward check rows.jsonl",
        "reward audit rows.jsonl",
        "eval --model m --base_url http://127.0.0.1:9 --data rows.jsonl --out e",
    ],
)
def test_a_placebo_judges_nothing(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_samples(Path("rows.jsonl"), [sample("a")])
    assert main([*line.split(), "--reward.placebo", "random"]) == 2
    assert "judges no answer" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------------- rows of a run


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return build_world(tmp_path_factory.mktemp("world"))


def explore(world: Path, out: Path, **changes) -> list[dict]:
    """A small run of GRPO in this process; its rollouts."""
    small = {"rounds": 1, "prompts": 4, "group": 3, "max_tokens": 8, "temperature": 1.0, "optim": {"lr": 1e-4}}
    small |= {"model": {"path": BASE, "dtype": "float32"}, "device": "cpu", "data": world / "rl_pool.jsonl"}
    grpo.run(GRPOConfig.model_validate({**small, "out": out, **changes}))
    return read_table(out / "rollouts.parquet")


def written(rollouts: list[dict]) -> list[tuple[str, str]]:
    return [(row["sample_id"], row["text"]) for row in rollouts]


def with_pictures(world: Path, file: Path, kind: str) -> Path:
    """The samples of the world with the pictures of a control, made here."""
    samples = load_samples(world / "rl_pool.jsonl")
    if kind == "shuffled":
        shown = exchanged(samples, 0)
        assert own_pictures(samples, shown) == 0
    else:
        grey = {path: file.parent / f"{i}.png" for i, path in enumerate({p for s in samples for p in s.images})}
        for path, made in grey.items():
            with Image.open(path) as image:
                Image.new("RGB", image.size, (128, 128, 128)).save(made)
        shown = [replace(s, images=tuple(str(grey[p]) for p in s.images)) for s in samples]
    save_samples(file, shown)
    return file


@pytest.mark.parametrize("images", ["blank", "shuffled"])
def test_grpo_under_a_control_is_grpo_on_such_pictures(images, world, tmp_path):
    control = explore(world, tmp_path / "control", images=images)
    by_hand = explore(world, tmp_path / "by-hand", data=with_pictures(world, tmp_path / "rows.jsonl", images))
    assert written(control) == written(by_hand) != written(explore(world, tmp_path / "own"))
    ours, theirs = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("control", "by-hand"))
    assert all(theirs[name].equal(weight) for name, weight in ours.items())


@pytest.mark.parametrize("images", ["blank", "shuffled"])
def test_sft_under_a_control_is_sft_on_such_pictures(images, world, tmp_path):
    samples = load_samples(with_pictures(world, tmp_path / "pool.jsonl", images))
    own = load_samples(world / "rl_pool.jsonl")
    losses = {}
    for name, rows in (("control", own), ("by-hand", samples), ("own", own)):
        save_examples(tmp_path / f"{name}.jsonl", [Example(s, compose("let me look .", s.gold)) for s in rows])
        model = {"path": BASE, "dtype": "float32"}
        shared = {"epochs": 0.5, "batch_size": 6, "device": "cpu", "eval_share": 0.2}
        control = {"images": images} if name == "control" else {}
        out, data = tmp_path / name, tmp_path / f"{name}.jsonl"
        sft.run(SFTConfig.model_validate({"model": model, "out": out, "data": data, **shared, **control}))
        losses[name] = [(row["loss"], row.get("eval_loss")) for row in read_log(out / "metrics.jsonl")]
    assert losses["control"] == losses["by-hand"] and losses["control"][0] != losses["own"][0]


def test_an_exchange_that_is_not_whole_is_an_alarm_and_one_without_pictures_refused(world, tmp_path):
    samples = load_samples(world / "rl_pool.jsonl")
    same = [replace(s, images=samples[0].images) for s in samples]
    save_samples(tmp_path / "same.jsonl", same)
    explore(world, tmp_path / "run", data=tmp_path / "same.jsonl", images="shuffled", prompts=2)
    alarms = {row["alarm"]: row["text"] for row in read_log(tmp_path / "run" / "alarms.jsonl")}
    assert f"{len(same)} items keep a picture of their own" in alarms["own_pictures"]
    save_samples(tmp_path / "text.jsonl", [replace(s, images=()) for s in samples])
    with pytest.raises(UserError, match="no item has a picture"):
        explore(world, tmp_path / "none", data=tmp_path / "text.jsonl", images="blank")


def test_only_the_wanted_kinds_are_used_in_their_order(world, tmp_path, capsys):
    config = GRPOConfig(out=tmp_path, data=world / "rl_pool.jsonl", model={"path": BASE}, kinds=("math", "IoU"))
    found = [e.sample for e in check_data(config, [], Ranks()).examples]
    expected = [s for s in load_samples(config.data) if s.kind in ("box", "math")]
    assert found == expected and {s.kind for s in found} == {"box", "math"}
    limited = check_data(config.model_copy(update={"limit": 2}), [], Ranks()).examples
    assert [e.sample for e in limited] == expected[:2], "a limit counts the rows that are used"
    save_samples(tmp_path / "math.jsonl", [s for s in expected if s.kind == "math"])
    check_data(config.model_copy(update={"data": tmp_path / "math.jsonl"}), [], Ranks())
    assert "no row of kind box" in capsys.readouterr().err
    with pytest.raises(UserError, match="no row is of kind digit"):
        check_data(config.model_copy(update={"data": tmp_path / "math.jsonl", "kinds": ("digit",)}), [], Ranks())
    with pytest.raises(UserError, match="unknown reward kind 'maths'"):
        GRPOConfig(out=tmp_path, data=tmp_path, model={"path": BASE}, kinds=("maths",))


# ------------------------------------------------------------------------------------------------------------- what a run says


def alarms_of(run: Path) -> dict[str, str]:
    return {row["alarm"]: row["text"] for row in read_log(run / "alarms.jsonl")}


def test_a_run_without_any_reward_learns_nothing_and_says_so(world, tmp_path):
    rollouts = explore(world, tmp_path / "run", reward={"placebo": "none"}, rounds=2, kl=0)
    assert {(row["reward"], row["status"], row["advantage"]) for row in rollouts} == {(0.0, "placebo", None)}
    assert "every reward was 0" in alarms_of(tmp_path / "run")["nothing_learned"]
    summary = read_json(tmp_path / "run" / "done.json")["summary"]
    assert summary["placebo"] == "none" and summary["tokens_trained"] == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (BASE, tmp_path / "run" / "model"))
    assert all(before[name].float().equal(weight.float()) for name, weight in after.items())


def test_demonstrations_and_teachers_teach_without_rewards(world, tmp_path):
    """Imitation beside a placebo, and a teacher that is the policy itself and so has nothing to say after one update."""
    demos = {"data": world / "sft.jsonl", "batch": 2}
    explore(world, tmp_path / "demos", reward={"placebo": "none"}, demos=demos)
    row = read_log(tmp_path / "demos" / "metrics.jsonl")[0]
    assert row["tokens/trained"] == 0 < row["demos/tokens"] and row["grad_norm"] > 0
    assert not alarms_of(tmp_path / "demos").keys() & {"nothing_learned", "nothing_trained"}
    explore(world, tmp_path / "teacher", reward={"placebo": "none"}, teacher=BASE)
    row = read_log(tmp_path / "teacher" / "metrics.jsonl")[0]
    assert abs(row["teacher/kl"]) < 1e-4 and row["tokens/trained"] > 0 and row["groups/zero_spread"] == 0
    assert not alarms_of(tmp_path / "teacher").keys() & {"nothing_learned", "nothing_trained"}
    changed = load_examples(world / "sft.jsonl")[1:]
    save_examples(tmp_path / "fewer.jsonl", changed)
    with pytest.raises(UserError, match="demos.data"):
        demos = {"data": tmp_path / "fewer.jsonl", "batch": 2}
        explore(world, tmp_path / "demos", reward={"placebo": "none"}, demos=demos)


def test_the_entropy_before_the_first_update_is_in_the_summary(world, tmp_path):
    rollouts = explore(world, tmp_path / "run", rounds=2)
    first = [row for row in rollouts if row["round"] == 1]
    mean = sum(row["entropy"] * row["tokens"] for row in first) / sum(row["tokens"] for row in first)
    summary = read_json(tmp_path / "run" / "done.json")["summary"]
    assert summary["entropy_before"] == pytest.approx(mean) and summary["placebo"] == ""
    assert {row["weights_version"] for row in first} == {0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reward": {"placebo": "random"}}, "rewards are a placebo (random)"),
        ({"teacher": BASE}, "advantages from"),
        ({"demos": {"batch": 2, "apart": True}}, "40 demonstrations, 2 in a step apart of every round"),
        ({"images": "blank", "kinds": ["digit", "math"]}, "images blank; only digit, math"),
    ],
)
def test_a_dry_run_says_what_is_not_as_usual(changes, words, world, tmp_path, capsys):
    if "demos" in changes:
        changes = {"demos": {**changes["demos"], "data": world / "sft.jsonl"}}
    settings = {"out": tmp_path / "run", "data": world / "rl_pool.jsonl", "model": {"path": BASE}, "rounds": 3}
    grpo.run(GRPOConfig.model_validate({**settings, **changes}), dry_run=True)
    assert words in capsys.readouterr().out and not (tmp_path / "run").exists()
