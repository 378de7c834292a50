"""The questions of configs/studies/: each is accepted as it stands, its comparisons name its arms, both scales ask the same, and published numbers add up."""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from seethink.cli import main
from seethink.core.config import load_file, resolve
from seethink.core.errors import UserError
from seethink.core.shipped import SHIPPED
from seethink.pocket.config import World
from seethink.study.config import StudyConfig
from seethink.study.plan import lineage, narrowed
from seethink.study.published import PublishedTable, published_table
from seethink.train.config import GRPOConfig, SFTConfig, system_prompt

ROOT = Path(__file__).parents[1]
STUDIES, CONFIGS = SHIPPED / "studies", SHIPPED / "paper"
SHARED = ("common", "many", "smaller", "arms")
"""Files that others include, which ask nothing."""
ONE_SCALE = {"style": "pocket", "cause": "pocket", "scorer": "paper", "text": "paper"}
ANSWERS = ("better", "never_worse", "worse", "never_better", "mixed", "same", "not_shown", "text", "comparisons")


def files(folder: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted((STUDIES / folder).glob("*.toml")) if path.stem not in SHARED}


QUESTIONS = files("questions")
PLANS = [(scale, name, path) for scale in ("pocket", "paper") for name, path in files(scale).items()]
PLAN = pytest.mark.parametrize(("scale", "name", "path"), PLANS, ids=[f"{scale}-{name}" for scale, name, _ in PLANS])


def settled(path: Path) -> StudyConfig:
    """The plan with the arms that run."""
    return narrowed(resolve(StudyConfig, [f"@{path}"]))


@PLAN
def test_every_study_is_accepted_by_a_dry_run_which_writes_nothing(scale, name, path, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["study", f"@{path}", "--out", str(tmp_path / "o"), "--dry-run"]) == 0, capsys.readouterr().err
    assert "grpo" in capsys.readouterr().out and not (tmp_path / "o").exists()


@PLAN
def test_what_runs_is_what_is_compared(scale, name, path):
    """Every arm of a comparison is there, and none runs that no comparison needs."""
    config = settled(path)
    compared = {arm for pair in config.comparisons for arm in pair}
    assert compared <= {"base", *config.arms, *config.bases}
    behind = {id(arm) for one in compared & config.arms.keys() for arm in lineage(config, one)}
    idle = {one for one, arm in config.arms.items() if id(arm) not in behind} - {config.reference}
    assert not idle, f"{idle} run for nothing"
    assert set(config.arms) == set(config.only), "only names every arm that runs, and so does its reader see them"
    assert len(config.comparisons) == len(set(config.comparisons))
    assert config.question.comparisons and set(config.question.comparisons) <= set(config.comparisons)


def test_both_scales_ask_the_same_of_the_same_arms():
    pocket, paper = files("pocket"), files("paper")
    alone = {**dict.fromkeys(pocket.keys() - paper, "pocket"), **dict.fromkeys(paper.keys() - pocket, "paper")}
    assert alone == ONE_SCALE and pocket.keys() | paper.keys() == QUESTIONS.keys()
    for name in pocket.keys() & paper.keys():
        here, there = settled(pocket[name]), settled(paper[name])
        assert here.question == there.question and here.comparisons == there.comparisons, name
        assert here.arms.keys() == there.arms.keys() and here.bases.keys() == there.bases.keys(), name
        for arm, twin in ((here.arms[a], there.arms[a]) for a in here.arms):
            assert (arm.stage, arm.start, arm.demos, arm.teacher) == (twin.stage, twin.start, twin.demos, twin.teacher)


def test_no_two_files_ask_the_same_and_each_has_its_own_answers():
    given = {name: load_file(path) for name, path in QUESTIONS.items()}
    texts = Counter(values["question"]["text"] for values in given.values())
    pairs = Counter(str(sorted(values["question"]["comparisons"])) for values in given.values())
    assert max(texts.values()) == 1
    shared = {pair for pair, n in pairs.items() if n > 1}
    assert not shared, f"two files rest on the same comparisons: {shared}"
    for name, path in QUESTIONS.items():  # of its own file: an answer of an included one would be to another question
        own = tomllib.loads(path.read_text(encoding="utf-8"))["question"]
        assert set(own) == set(ANSWERS), f"{name}: {set(ANSWERS) ^ set(own)}"
        assert len({own[word] for word in ANSWERS[:6]}) == 6, f"{name}: two outcomes have one answer"


def test_a_name_is_the_same_arm_in_every_question():
    seen: dict[str, tuple[str, dict]] = {}
    for name, path in QUESTIONS.items():
        for arm, values in load_file(path)["arms"].items():
            where, before = seen.setdefault(arm, (name, values))
            assert values == before, f"{arm} in {name} is not that of {where}"


def test_sft_and_grpo_agree_in_what_no_arm_names(monkeypatch):
    """One model table for both, and the studies hold the settings of seethink/configs/paper."""
    monkeypatch.chdir(ROOT)
    given = ["--model.path", "m", "--data", "d", "--out", "o"]
    sft = resolve(SFTConfig, [f"@{CONFIGS / 'sft.toml'}", *given])
    grpo = resolve(GRPOConfig, [f"@{CONFIGS / 'grpo.toml'}", *given])
    assert sft.model == grpo.model
    assert all(tag in system_prompt(sft.model) for tag in ("<think>", "</think>", "<answer>", "</answer>"))
    common = load_file(STUDIES / "paper" / "common.toml")
    for verb in ("sft", "grpo"):
        own = {key: value for key, value in common[verb].items() if key not in ("gpus", "reward")}
        assert own == load_file(CONFIGS / f"{verb}.toml")
    assert common["eval"]["system"] == common["sft"]["model"]["system"] == common["grpo"]["model"]["system"]


@pytest.mark.parametrize("verb", ["sft", "grpo", "select"])
def test_the_configs_are_accepted_by_a_dry_run(verb, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    base = str(ROOT / "seethink" / "pocket" / "base")
    assert (
        main(["pocket", "build", "--out", str(tmp_path / "w"), "--sft", "5", "--rl", "5", "--board", "5", "--ood", "0"])
        == 0
    )
    data = next((tmp_path / "w").glob("sft-*.jsonl")) if verb != "grpo" else tmp_path / "w" / "rl_pool.jsonl"
    arguments = [verb, f"@{CONFIGS / f'{verb}.toml'}", "--data", str(data), "--out", str(tmp_path / "o"), "--dry-run"]
    arguments += (
        ["--models", base, "--sizes", "2"] if verb == "select" else ["--model.path", base, "--model.system", ""]
    )
    assert main(arguments) == 0, capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def optimiser_steps(config: StudyConfig, arm: str, examples: int) -> int:
    """Of an arm and what is behind it, by the plan."""
    total = 0
    for one in lineage(config, arm):
        settings = {**(config.sft if one.stage == "sft" else config.grpo), **one.set}
        if one.stage == "sft":
            share = 1 - settings.get("eval_share", SFTConfig.model_fields["eval_share"].default)
            total += math.ceil(settings["epochs"] * round(share * examples) / settings["batch_size"])
        else:
            total += settings["rounds"] * math.ceil(settings["prompts"] / settings["update_prompts"])
    return total


def test_the_longer_grpo_has_as_many_steps_as_imitation_and_exploring():
    for scale, examples in (("pocket", World.model_fields["examples"].default), ("paper", 25_000)):
        config = settled(STUDIES / scale / "compute.toml")
        if scale == "pocket":
            examples = config.prepare.settings.get("examples", examples)
        long, both = (optimiser_steps(config, arm, examples) for arm in ("grpo-long", "sft-hesitant+grpo"))
        assert long == pytest.approx(both, rel=0.02), scale


def test_a_constant_rate_ends_as_high_as_its_peak():
    for scale in ("pocket", "paper"):
        config = settled(STUDIES / scale / "tuning.toml")
        assert config.arms["grpo-basic"].set["optim"]["lr_floor"] == config.grpo["optim"]["lr"], scale


def test_the_page_names_every_question_and_every_result():
    page = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    asked, tested = page.split("## Results of the field")[0], page.split("## Results of the field")[1].split("\n## ")[0]
    linked = re.findall(r"\| \[(\w+)\]\(\.\./seethink/configs/studies/questions/(\w+)\.toml\)", asked)
    assert sorted(linked) == sorted((name, name) for name in QUESTIONS)
    only = {name: scale for name, scale in re.findall(r"questions/(\w+)\.toml\) \((pocket|paper)\)", asked)}
    assert only == ONE_SCALE
    rows = re.findall(r"^\| (\d) \|[^|]*\| ([^|]*) \|", tested, re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 9))
    assert {name for _, named in rows for name in named.split(", ")} <= QUESTIONS.keys()


NAMES = list(tomllib.loads((ROOT / "seethink/study/published.toml").read_text(encoding="utf-8")))


def table_of(name: str) -> PublishedTable:
    return published_table(f"published.toml#{name}")


def test_published_means_are_the_means_of_their_rows_but_for_two_which_the_table_names():
    off = {}
    for name in ("main", "sizes"):
        for row in table_of(name).rows:
            mean = sum(row.scores[:-1]) / 6
            if abs(row.scores[-1] - mean) > 0.06:
                off[row.scores[-1]] = mean
    assert off == pytest.approx({20.3: 20.633, 30.7: 30.3}, abs=1e-3)
    assert any("20.3" in note and "30.7" in note for note in table_of("main").not_matched)


def test_published_changes_of_sft_give_its_published_means():
    """Tables that the paper gives apart: base x (1 + change), averaged over the six, is the mean of SFT alone."""
    scores = {row.model: row.scores[:-1] for row in table_of("main").rows}["Qwen2.5-VL-3B"]
    changes = {row.arm: row.scores for row in table_of("sft_relative").rows}
    means = {row.arm: row.scores[0] for row in table_of("sft").rows}
    for arm in ("sft-hesitant", "sft-all"):
        ours = sum(s * (1 + c / 100) for s, c in zip(scores, changes[arm], strict=True)) / 6
        assert ours == pytest.approx(means[arm], abs=0.06), arm


def test_published_rows_stand_beside_arms_that_a_study_has():
    """The table that a study names has rows for its arms, and no row of any table is for an arm that no study has."""
    known: set[str] = {""}
    for scale, name, path in PLANS:
        config = settled(path)
        here = {"base", *config.arms, *config.bases}
        known |= here
        if config.published:
            assert scale == "paper", "the pocket world has no published counterpart"
            table = published_table(config.published)
            assert table.name == "cues" or here & {row.arm for row in table.rows}, name
    for name in NAMES:
        table = table_of(name)
        assert table.not_matched and {row.arm for row in table.rows} <= known, name


def test_a_missing_table_is_named():
    with pytest.raises(UserError, match="no published table 'nothing'"):
        published_table("published.toml#nothing")


def test_a_table_of_ones_own_is_read_and_a_row_of_another_length_refused(tmp_path):
    text = '[mine]\ntitle = "t"\nnot_matched = ["another board"]\ncolumns = { average = "Mean" }\n'
    (tmp_path / "own.toml").write_text(text + 'rows = [{ model = "m", arm = "grpo", scores = [1.5] }]\n')
    assert published_table("own.toml#mine", tmp_path).rows[0].scores == (1.5,)
    (tmp_path / "own.toml").write_text(text + 'rows = [{ model = "m", scores = [1.5, 2.0] }]\n')
    with pytest.raises(UserError, match="another number of scores"):
        published_table("own.toml#mine", tmp_path)


def test_of_several_included_files_the_last_lies_on_top_and_the_file_itself_over_them(tmp_path):
    (tmp_path / "low.toml").write_text("a = 1\nb = 1\n[t]\nx = 1\ny = 1\n")
    (tmp_path / "high.toml").write_text("b = 2\nc = 2\n[t]\ny = 2\n")
    (tmp_path / "own.toml").write_text('include = ["low.toml", "high.toml"]\nc = 3\n[t]\nz = 3\n')
    assert load_file(tmp_path / "own.toml") == {"a": 1, "b": 2, "c": 3, "t": {"x": 1, "y": 2, "z": 3}}
    for wrong, message in (('include = ["low.toml", 1]', "is no file name"), ('include = ["own.toml"]', "includes it")):
        (tmp_path / "own.toml").write_text(wrong)
        with pytest.raises(UserError, match=message):
            load_file(tmp_path / "own.toml")
