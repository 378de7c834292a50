"""What a plan may ask beyond arms: bases, sets, further evaluations, starts at an export, and what each becomes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seethink.core.config import load_file, resolve
from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.store import read_json, save_examples, save_samples, write_json
from seethink.study import costs
from seethink.study import execute as running
from seethink.study.check import check, unmatched, unused
from seethink.study.config import StudyConfig
from seethink.study.efforts import efforts_of
from seethink.study.execute import Stage, execute
from seethink.study.folder import load_study
from seethink.study.plan import describe, narrowed, plan

BASE = Path(__file__).parents[1] / "seethink" / "pocket" / "base"


def sample(n: int) -> Sample:
    return Sample(f"q{n}", "s", (), f"How many? {n}", str(n), "digit")


@pytest.fixture
def make(tmp_path):
    """A plan with two bases and three data sets; other settings on top."""
    save_samples(tmp_path / "board.jsonl", [sample(n) for n in range(100, 104)])
    save_samples(tmp_path / "rl.jsonl", [sample(n) for n in range(6)])
    for name in ("a", "b"):
        save_examples(tmp_path / f"{name}.jsonl", [Example(sample(n), f"<think>{n}</think>") for n in range(10, 20)])

    def config(**changes) -> StudyConfig:
        data = {name: tmp_path / f"{name}.jsonl" for name in ("rl", "a", "b")}
        arms = {"grpo": {"stage": "grpo"}, "sft": {"stage": "sft", "data": "a"}}
        given = {"out": tmp_path / "o", "base": BASE, "board": tmp_path / "board.jsonl", "data": data, "arms": arms}
        return StudyConfig(**{**given, "seeds": [0, 1], "comparisons": [("sft", "grpo")], **changes})

    return config


def stages(config: StudyConfig) -> dict[str, Stage]:
    """By their run folder inside the study."""
    return {str(stage.out.relative_to(config.out)): stage for stage in plan(config)}


def after(config: StudyConfig, place: str) -> set[str]:
    return {str(path.relative_to(config.out)) for path in stages(config)[place].after}


def test_every_base_is_evaluated_once_and_starts_arms(make):
    config = make(bases={"zero": BASE}, arms={"x": {"stage": "grpo", "start": "zero"}}, comparisons=[("x", "zero")])
    found = stages(config)
    assert [place for place in found if "/eval" in place and "/x/" not in place] == [
        "arms/base/seed0/eval", "arms/zero/seed0/eval",
    ]  # fmt: skip
    assert found["arms/x/seed1/grpo"].settings["model"]["path"] == str(BASE)
    assert describe(config, [])["arms"]["zero"] == {"stages": []}
    check(config)


def test_an_arm_that_starts_at_an_export_makes_the_other_one_export(make):
    arms = {"sft": {"stage": "sft", "data": "a"}}
    arms |= {f"at{n}": {"stage": "grpo", "start": "sft", "at": n} for n in (4, 6)}
    config = make(arms=arms, comparisons=[("at4", "at6")])
    found = stages(config)
    assert found["arms/sft/seed1/sft"].settings["export_every"] == 2
    assert found["arms/at4/seed1/grpo"].settings["model"]["path"].endswith("arms/sft/seed1/sft/exports/step-000004")
    assert after(config, "arms/at4/seed1/grpo") == {"arms/sft/seed1/sft"}
    check(config)


def test_sets_are_made_once_or_once_per_seed_before_what_reads_them(make):
    sets = {
        "passes": {"verb": "eval", "of": "a", "set": {"samples": 4, "temperature": 1.0}},
        "filtered": {"verb": "curate", "of": "a", "set": {"scores": "passes", "pass_rate": [0.1, 0.9]}},
        "own": {"verb": "eval", "of": "rl", "model": "grpo"},
        "rejection": {"verb": "curate", "of": "rl", "set": {"from_scores": "own"}},
        "hard": {"verb": "select", "of": "filtered", "set": {"sizes": [3]}},
    }
    arms = {"grpo": {"stage": "grpo"}}
    arms |= {name: {"stage": "sft", "data": name} for name in ("filtered", "rejection", "hard")}
    config = make(sets=sets, arms=arms, comparisons=[("filtered", "grpo"), ("rejection", "hard")])
    check(config)
    found, order = stages(config), list(stages(config))
    assert found["sets/filtered/curate"].settings["scores"] == str(config.out / "sets/passes/eval")
    assert after(config, "sets/filtered/curate") == {"sets/passes/eval"}
    assert after(config, "sets/rejection/seed1/curate") == {"sets/own/seed1/eval"}
    assert found["sets/own/seed1/eval"].settings["model"] == str(config.out / "arms/grpo/seed1/grpo/model")
    assert found["sets/hard/select"].settings["models"] == [str(BASE)]
    assert found["arms/hard/seed1/sft"].settings["data"] == str(config.out / "sets/hard/select/highest-3.jsonl")
    assert found["arms/rejection/seed1/sft"].settings["data"] == str(
        config.out / "sets/rejection/seed1/curate/selected.jsonl"
    )
    for place, stage in found.items():
        assert all(order.index(str(path.relative_to(config.out))) < order.index(place) for path in stage.after), place


def test_demonstrations_teachers_and_further_evaluations_are_filled_in_by_name(make):
    arms = {
        "teacher": {"stage": "grpo"},
        "mixed": {"stage": "grpo", "demos": "a", "set": {"demos": {"weight": 0.5}}},
        "distilled": {"stage": "grpo", "teacher": "teacher"},
    }
    evals = {
        "sampled": {"set": {"temperature": 1.0, "against": "base"}},
        "blank": {"arms": ["base", "mixed"], "set": {"images": "blank"}},
        "old": {"board": "b"},
    }
    config = make(
        arms=arms, evals=evals, comparisons=[("mixed", "distilled")], grpo={"watch": {"data": "board", "every": 5}}
    )
    check(config)
    found = stages(config)
    assert found["arms/mixed/seed0/grpo"].settings["demos"] == {"data": str(config.data["a"]), "weight": 0.5}
    assert found["arms/mixed/seed0/grpo"].settings["watch"] == {"data": str(config.board), "every": 5}
    assert found["arms/distilled/seed1/grpo"].settings["teacher"] == str(config.out / "arms/teacher/seed1/grpo/model")
    assert after(config, "arms/distilled/seed1/grpo") == {"arms/teacher/seed1/grpo"}
    assert found["arms/mixed/seed1/eval-sampled"].settings["against"] == str(BASE)
    assert found["arms/mixed/seed1/eval-old"].settings["data"] == str(config.data["b"])
    assert {place for place in found if place.endswith("blank")} == {
        "arms/base/seed0/eval-blank", "arms/mixed/seed0/eval-blank", "arms/mixed/seed1/eval-blank",
    }  # fmt: skip


PASSES = {"passes": {"verb": "eval", "of": "a"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"x": {"stage": "grpo", "at": 3}}}, "at = 3, but base is no arm"),
        ({"arms": {"x": {"stage": "sft", "data": "a", "teacher": "base"}}}, "demos and teacher are for grpo"),
        ({"arms": {"x": {"stage": "grpo", "teacher": "y"}}}, "arms.x.teacher: unknown arm 'y'"),
        ({"arms": {"x": {"stage": "grpo", "teacher": "x"}}}, "arm 'x' starts from itself"),
        ({"arms": {"x": {"stage": "grpo", "demos": "y"}}}, "unknown data 'y'"),
        ({"sets": {"s": {"verb": "curate", "of": "y"}}}, "sets.s.of: unknown data 'y'"),
        ({"sets": {"s": {"verb": "curate", "of": "s"}}}, "set 's' is made of itself"),
        (
            {"sets": {"s": {"verb": "curate", "of": "a", "model": "base"}}},
            "sets.s.model is not used: curate asks no model",
        ),
        ({"sets": {"s": {"verb": "eval", "of": "a", "model": "y"}}}, "sets.s.model: unknown arm 'y'"),
        (
            {"sets": {"s": {"verb": "eval", "of": "a", "set": {"model": "m"}}}},
            "sets.s.set.model is not the plan's to say",
        ),
        ({"sets": {"s": {"verb": "curate", "of": "a", "set": {"data": "m"}}}}, "sets.s.set.data is not the plan's"),
        ({"sets": PASSES, "arms": {"x": {"stage": "sft", "data": "passes"}}}, "passes holds scored answers"),
        ({"evals": {"e": {"arms": ["y"]}}}, "evals.e.arms: unknown arm 'y'"),
        ({"evals": {"e": {"board": "y"}}}, "evals.e.board: unknown data 'y'"),
        ({"evals": {"e": {"set": {"model": "m"}}}}, "evals.e.set.model is not the plan's to say"),
        ({"evals": {"e": {"set": {"imges": "blank"}}}}, "unknown config key 'imges'"),
        ({"matched_on": ["luck"]}, "matched_on: unknown axis 'luck'"),
        ({"handicapped": ["smell"]}, "smell"),
        ({"only": ["y"]}, "only: unknown arm 'y'"),
        (
            {"arms": {"x": {"stage": "grpo", "set": {"rounds": 5}}, "y": {"stage": "grpo", "start": "x", "at": 6}}},
            "starts at its round 6, and it has 5",
        ),
        (
            {
                "arms": {
                    "x": {"stage": "grpo", "set": {"export_every": 4}},
                    "y": {"stage": "grpo", "start": "x", "at": 6},
                }
            },
            "export_every = 4 leaves out",
        ),
    ],
)
def test_what_a_plan_cannot_ask_is_refused(make, changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        check(narrowed(make(comparisons=[], **changes)))


@pytest.mark.parametrize(("first", "second"), [("arms", "bases"), ("data", "sets")])
def test_a_name_means_one_thing(make, first, second):
    both = {
        "arms": {"x": {"stage": "grpo"}},
        "bases": {"x": BASE},
        "data": {"x": BASE},
        "sets": {"x": PASSES["passes"]},
    }
    with pytest.raises(ValueError, match=f"x is a name of {first} and of {second}"):
        make(**{first: both[first], second: both[second]})


def test_only_keeps_what_the_named_arms_need(make):
    arms = {"grpo": {"stage": "grpo"}, "sft": {"stage": "sft", "data": "a"}, "c": {"stage": "sft", "data": "own"}}
    arms |= {"sft+grpo": {"stage": "grpo", "start": "sft"}, "t": {"stage": "grpo"}}
    sets = {"own": {"verb": "eval", "of": "rl", "model": "t"}}
    pairs = [("sft+grpo", "base"), ("grpo", "base"), ("c", "base")]
    evals = {"blank": {"arms": ["grpo", "sft"]}, "old": {"arms": ["grpo"], "board": "b"}}
    config = make(arms=arms, sets=sets, comparisons=pairs, evals=evals, only=["sft+grpo"])
    less = narrowed(config)
    assert list(less.arms) == ["sft", "sft+grpo"] and less.comparisons == pairs[:1]
    assert {name: one.arms for name, one in less.evals.items()} == {"blank": ["sft"]}
    assert list(narrowed(make(arms=arms, sets=sets, only=["c"])).arms) == ["c", "t"], (
        "what a set is made with is trained"
    )


def test_what_nothing_uses_is_said(make):
    sets = {"s": {"verb": "curate", "of": "b"}}
    arms = {"grpo": {"stage": "grpo"}, "sft": {"stage": "sft", "data": "a"}, "x": {"stage": "grpo"}}
    said = list(unused(make(sets=sets, bases={"zero": BASE}, arms=arms)))
    assert [text.partition(":")[0] for text in said] == ["data b", "set s", "base zero", "arm x"]
    assert list(unused(make(arms={**arms, "sft": {"stage": "sft", "data": "s"}}, sets=sets, comparisons=[]))) == [
        "data a: no arm and no evaluation uses it"
    ]


# ------------------------------------------------------------------------------------------------------------- efforts


def test_the_plan_counts_what_its_stages_will(make):
    arms = {
        "sft": {"stage": "sft", "data": "a"},
        "late": {"stage": "grpo", "start": "sft"},
        "early": {"stage": "grpo", "start": "sft", "at": 2},
        "set": {"stage": "sft", "data": "s"},
    }
    config = make(
        arms=arms,
        sets={"s": {"verb": "curate", "of": "a"}},
        sft={"epochs": 2, "batch_size": 3, "eval_share": 0.2},
        grpo={"rounds": 5, "prompts": 4, "group": 3, "update_prompts": 3},
    )
    ran = {"prompts": 20, "rollouts": 60, "optimiser steps": 10}
    assert efforts_of(config, "sft") == {"prompts": 16, "rollouts": 0, "optimiser steps": 6}
    assert efforts_of(config, "late") == {"prompts": 16 + 20, "rollouts": 60, "optimiser steps": 6 + 10}
    assert efforts_of(config, "early") == {"prompts": 2 * 3 + 20, "rollouts": 60, "optimiser steps": 2 + 10}
    assert efforts_of(config, "set") == {"prompts": None, "rollouts": 0, "optimiser steps": None}
    assert ran["rollouts"] == 5 * 4 * 3


def test_arms_that_the_plan_sets_apart_are_refused_unless_accepted(make):
    arms = {"grpo": {"stage": "grpo"}, "long": {"stage": "grpo", "set": {"rounds": 60}}}
    arms["more"] = {"stage": "grpo", "start": "grpo"}
    pairs = [("long", "grpo"), ("more", "grpo"), ("grpo", "base")]
    config = make(arms=arms, matched_on=["rollouts", "trained tokens"], comparisons=pairs, grpo={"rounds": 49})
    (found,) = unmatched(config)
    assert found == ("long", "grpo", f"rollouts ({60 * 512 * 4:,} / {49 * 512 * 4:,})")
    with pytest.raises(UserError, match="long and grpo are compared and not matched on rollouts"):
        check(config)
    check(config.model_copy(update={"accept_unmatched": True}))
    near = {**arms, "long": {"stage": "grpo", "set": {"rounds": 102}}}
    assert list(unmatched(make(arms=near, matched_on=["rollouts"], comparisons=pairs, grpo={"rounds": 100}))) == []


# ------------------------------------------------------------------------------------------------------- stages that run


@pytest.fixture
def pretend(monkeypatch):
    """Stages write what a run leaves, and nothing is computed; returns the labels of those that ran."""
    ran: list[str] = []

    class Child:
        def __init__(self, arguments, log, gpu):
            settings = read_json(Path(arguments[-1].removeprefix("@")))
            out = Path(settings["out"])
            ran.append(f"{out.parent.parent.name}/{out.parent.name}/{out.name} on [{gpu}]")
            (out / "model").mkdir(parents=True, exist_ok=True)
            (out / "model" / "weights").write_text(str(len(ran)))
            (out / "selected.jsonl").write_text(str(settings.get("seed")))
            write_json(out / "manifest.json", {"inputs": {}})
            write_json(out / "done.json", {"key": "", "summary": {}})

        def wait(self):
            return 0

        def terminate(self):
            pass

    monkeypatch.setattr(running, "start", Child)
    monkeypatch.setattr(running, "gpus", lambda: [])
    return ran


def names(ran: list[str]) -> list[str]:
    found = sorted(label.partition(" on ")[0] for label in ran)
    ran.clear()
    return found


def test_only_what_depends_on_a_change_runs_again(make, pretend, tmp_path, monkeypatch):
    sets = {"s": {"verb": "curate", "of": "b"}}
    arms = {
        "grpo": {"stage": "grpo"},
        "mixed": {"stage": "grpo", "demos": "s"},
        "distilled": {"stage": "grpo", "teacher": "grpo"},
    }
    config = make(arms=arms, sets=sets, seeds=[0], comparisons=[("mixed", "distilled")])
    execute(plan(config))
    assert len(names(pretend)) == len(plan(config)) == 1 + 1 + 3 * 2
    monkeypatch.chdir(tmp_path / "o")  # a setting that is left empty is no folder
    execute(plan(config))
    assert names(pretend) == []
    (tmp_path / "b.jsonl").write_text("")  # what the set is made of
    execute(plan(config))
    assert names(pretend) == ["mixed/seed0/eval", "mixed/seed0/grpo", "sets/s/curate"]
    (config.out / "sets/s/curate/selected.jsonl").write_text("by hand")
    execute(plan(config))
    assert names(pretend) == ["mixed/seed0/eval", "mixed/seed0/grpo"]
    (config.out / "arms/grpo/seed0/grpo/model/weights").write_text("another teacher")
    execute(plan(config))
    assert names(pretend) == ["distilled/seed0/eval", "distilled/seed0/grpo", "grpo/seed0/eval"]
    config = config.model_copy(update={"eval": {"max_tokens": 5}})
    execute(plan(config))
    assert names(pretend) == sorted(f"{arm}/seed0/eval" for arm in ("base", *arms))


def test_what_another_study_finished_is_copied_where_it_is_the_same(make, pretend, tmp_path):
    """Equal settings and inputs, under any name and at any place; never an arm that has only its name in common."""
    arms = {"grpo": {"stage": "grpo"}, "sft": {"stage": "sft", "data": "a"}}
    first = make(arms=arms, seeds=[0])
    execute(plan(first))
    write_json(first.out / "study.json", {})
    assert len(names(pretend)) == 5
    save_examples(tmp_path / "b.jsonl", [Example(sample(30), "<think>30</think>")])
    renamed = {"explore": {"stage": "grpo"}, "sft": {"stage": "sft", "data": "b"}}
    second = make(arms=renamed, seeds=[0], comparisons=[("sft", "explore")], out=tmp_path / "second")
    pretend += ["before"] * 9  # what a run writes is the number of those so far: other weights than any of the first
    execute(plan(second), reuse=[first.out])
    assert [name for name in names(pretend) if name != "before"] == ["sft/seed0/eval", "sft/seed0/sft"]
    taken, of = second.out / "arms/explore/seed0/grpo", first.out / "arms/grpo/seed0/grpo"
    assert (taken / "model/weights").read_text() == (of / "model/weights").read_text()
    assert read_json(taken.with_name("grpo.done.json"))["from"] == str(of)
    execute(plan(second))
    assert names(pretend) == []
    with pytest.raises(UserError, match="no study to reuse"):
        execute(plan(second), reuse=[tmp_path])


def test_a_study_killed_between_new_settings_and_their_run_runs_it(make, pretend):
    config = make(arms={"grpo": {"stage": "grpo"}}, seeds=[0], comparisons=[])
    execute(plan(config))
    names(pretend)
    config = config.model_copy(update={"grpo": {"rounds": 3}})
    stage = next(stage for stage in plan(config) if stage.verb == "grpo")
    write_json(stage.config_file, stage.settings)  # as far as it came
    execute(plan(config))
    assert "grpo/seed0/grpo" in names(pretend)


def test_a_prompt_in_a_file_counts_by_what_is_in_it(make, pretend, tmp_path):
    (tmp_path / "system.txt").write_text("Think.")
    config = make(
        arms={"grpo": {"stage": "grpo"}}, seeds=[0], comparisons=[], eval={"system": f"@{tmp_path / 'system.txt'}"}
    )
    execute(plan(config))
    names(pretend)
    (tmp_path / "system.txt").write_text("Think twice.")
    execute(plan(config))
    assert names(pretend) == ["base/seed0/eval", "grpo/seed0/eval"]


def test_a_stage_takes_as_many_gpus_as_it_works_with(make, pretend, monkeypatch):
    monkeypatch.setattr(running, "gpus", lambda: ["0", "1", "2"])
    config = make(grpo={"gpus": 3}, sft={"gpus": 2}, seeds=[0])
    execute(plan(config))
    cards = {label.split(" on ")[0]: label.split(" on ")[1][1:-1].split(",") for label in pretend}
    assert sorted(cards["grpo/seed0/grpo"]) == ["0", "1", "2"]
    assert len(cards["sft/seed0/sft"]) == 2 and len(cards["base/seed0/eval"]) == 1
    with pytest.raises(UserError, match="grpo seed 0 grpo works with 4 GPUs, and there are 3"):
        execute(plan(make(grpo={"gpus": 4}, seeds=[0])))


def test_sets_are_read_back_with_the_study(make, pretend):
    config = make(sets={"s": {"verb": "curate", "of": "a"}}, arms={"x": {"stage": "sft", "data": "s"}}, comparisons=[])
    execute(plan(config))
    write_json(config.out / "study.json", describe(config, plan(config)))
    lost = {
        "source": "s",
        "step": "curate",
        "in": 10,
        "dropped": {"wrong": 4},
        "pending": 0,
        "out": 6,
        "sft": 6,
        "rl": 0,
    }
    write_json(config.out / "sets/s/curate/funnel.json", [lost])
    study = load_study(config.out)
    assert [(found.name, found.steps) for found in costs.data_sets(study)] == [("s", ["curate"])]
    assert [(row.arm, row.stage, row.runs) for row in costs.costs(study)][:2] == [
        ("set s", "curate", 1),
        ("base", "eval", 1),
    ]
    assert [(run.arm, run.name) for run in study.sets["s"]] == [("set s", "curate")]
    assert study.plan["sets"]["s"]["of"] == "a" and study.arms["x"].style == "s"


# ------------------------------------------------------------------------------------------------- files that include


def test_a_plan_lies_over_those_it_includes(tmp_path):
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "a.toml").write_text(
        'label = "a"\nseeds = [1]\n[arms.x]\nstage = "grpo"\nset = {rounds = 1, group = 2}'
    )
    (tmp_path / "b.toml").write_text(
        'include = "low/a.toml"\nlabel = "b"\n[arms.x.set]\nrounds = 9\n[arms.y]\nstage = "grpo"'
    )
    config = resolve(StudyConfig, [f"@{tmp_path / 'b.toml'}", "--seeds", "[4]"])
    assert (config.label, config.seeds, list(config.arms)) == ("b", [4], ["x", "y"])
    assert config.arms["x"].set == {"rounds": 9, "group": 2}
    (tmp_path / "low" / "a.toml").write_text('include = "../b.toml"')
    with pytest.raises(UserError, match="includes it"):
        load_file(tmp_path / "b.toml")
    (tmp_path / "c.toml").write_text("include = 3")
    with pytest.raises(UserError, match="is no file name"):
        load_file(tmp_path / "c.toml")


def test_a_fault_names_the_included_file(tmp_path):
    (tmp_path / "a.toml").write_text("workers = -1")
    (tmp_path / "b.toml").write_text('include = "a.toml"\nlabel = "b"')
    with pytest.raises(UserError) as error:
        resolve(StudyConfig, [f"@{tmp_path / 'b.toml'}"])
    assert str(error.value).startswith(str(tmp_path / "a.toml"))
