"""A study that says nothing says so: nothing learned, at the floor, at the ceiling, trained on its board."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from seethink.core import stats
from seethink.core.nouns import Sample
from seethink.core.overlap import overlap
from seethink.core.store import load_samples, read_json, read_jsonl, save_samples, write_json, write_jsonl
from seethink.core.tables import read_table, write_table
from seethink.data.behind import data_behind
from seethink.evals import metrics
from seethink.evals.config import EvalConfig
from seethink.evals.run import trained_on
from seethink.show.config import ReportConfig
from seethink.show.report import run
from seethink.study import matched, results
from seethink.study.alarms import study_alarms
from seethink.study.config import Question
from seethink.study.execute import tell
from seethink.study.folder import Study, load_study
from seethink.train import alarms
from tests import synthetic_study

ARMS = {name: synthetic_study.ARMS[name] for name in ("base", "grpo", "sft-hesitant", "sft-hesitant+grpo")}


@pytest.fixture
def folder(tmp_path):
    return synthetic_study.build(tmp_path / "study", seeds=(0, 1, 2), items=30, arms=ARMS, steps=12)


def rescore(folder: Path, pattern: str, **changes: object) -> None:
    for path in folder.glob(f"arms/{pattern}/*/eval/scores.parquet"):
        write_table(path, [{**row, **changes} for row in read_table(path)])


def remeasure(folder: Path, pattern: str, **changes: object) -> None:
    for path in folder.glob(f"arms/{pattern}/metrics.jsonl"):
        write_jsonl(path, [{**row, **changes} for _, row in read_jsonl(path)])


def outcome(folder: Path) -> tuple[Study, dict[tuple[str, str], results.Contrast], results.Headline]:
    study = load_study(folder)
    found = results.contrasts(study)
    return study, {(c.a, c.b): c for c in found}, results.headline(study, found)


def pages(folder: Path) -> list[str]:
    run(ReportConfig(study=folder, gallery=0))
    return [(folder / name).read_text() for name in ("report.html", "report.md")]


PAIR = ("sft-hesitant+grpo", "grpo")


@pytest.mark.parametrize(
    ("ok", "word", "answer"),
    [
        (False, "at the floor", "Nothing can be seen: the board is too hard for these arms."),
        (True, "at the ceiling", "Nothing can be seen: the board is too easy for these arms."),
    ],
)
def test_a_board_without_room_is_no_finding(folder, ok, word, answer):
    rescore(folder, "*", ok=ok)
    study, found, head = outcome(folder)
    assert found[PAIR].word == word and head.answer == answer and word in head.warning
    assert found[PAIR].detectable == pytest.approx(3 / 30)
    interval = found[PAIR].overall.interval
    assert (interval.low, interval.high) == pytest.approx((-0.1, 0.1)), "no variance is no certainty"
    assert any(text.startswith(f"grpo is {word}") for text in study_alarms(study, []))
    for page in pages(folder):
        assert answer in page and "No difference" not in page and "[0.0, 0.0]" not in page


def test_one_lucky_answer_does_not_lift_a_board_from_the_floor(tmp_path):
    folder = synthetic_study.build(tmp_path / "study", items=80, arms=ARMS, steps=12)
    rescore(folder, "*", ok=False)
    path = folder / "arms/grpo/seed0/eval/scores.parquet"
    write_table(path, [{**row, "ok": i == 3} for i, row in enumerate(read_table(path))])
    assert outcome(folder)[1][PAIR].word == "at the floor"


@pytest.mark.parametrize(
    ("logged", "why"),
    [
        ({"reward/mean": 0.0, "groups/zero_spread": 1.0, "tokens/trained": 0}, "every reward was 0"),
        ({"reward/mean": 0.0}, "every reward was 0"),
        ({"reward/mean": None}, "no reward was decided"),
        ({"groups/zero_spread": 1.0}, "no group had a spread of rewards"),
        ({"tokens/trained": 0}, "no token was trained"),
        ({"loss": None}, "no loss was finite"),
    ],
)
def test_arms_without_a_signal_learned_nothing_whatever_the_numbers_say(folder, logged, why):
    remeasure(folder, "grpo/*/grpo", **logged)
    rescore(folder, "grpo", ok=False)  # by the numbers, imitating first is far better
    rescore(folder, "sft-hesitant+grpo", ok=True)
    study, found, head = outcome(folder)
    assert (found[PAIR].word, found[PAIR].why) == ("nothing learned", f"grpo: {why}")
    assert head.answer == "Nothing was learned." and why in head.warning
    assert f"grpo learned nothing: {why}" in study_alarms(study, list(found.values()))


def test_a_stage_that_learned_nothing_after_one_that_did_leaves_a_difference(folder):
    remeasure(folder, "sft-hesitant+grpo/*/grpo", **{"groups/zero_spread": 1.0})
    assert outcome(folder)[1][PAIR].word == "nothing learned", "without a difference, this is why"
    rescore(folder, "sft-hesitant+grpo", ok=False)
    study, found, head = outcome(folder)
    assert found[PAIR].word == "worse" and head.answer == "Explore. Imitating first hurt."
    assert "sft-hesitant+grpo learned nothing: no group had a spread of rewards" in study_alarms(study, [])


def test_one_seed_that_learned_nothing_is_named(folder):
    remeasure(folder, "grpo/seed1/grpo", **{"reward/mean": 0.0})
    study, found, _ = outcome(folder)
    assert found[PAIR].word == "not distinguishable"
    assert "grpo learned nothing in 1 of 3 seeds: every reward was 0" in study_alarms(study, [])


@pytest.mark.parametrize("key", ["tokens_trained", "optimiser_steps"])
def test_a_summary_without_training_is_enough(folder, key):
    for path in folder.glob("arms/grpo/*/grpo/done.json"):
        done = read_json(path)
        write_json(path, {**done, "summary": {**done["summary"], key: 0}})
    assert outcome(folder)[1][PAIR].why == "grpo: no token was trained"


def test_an_arm_that_answers_word_for_word_as_its_start_learned_nothing(folder):
    for seed in range(3):
        shutil.copy(folder / "arms/base/seed0/eval/scores.parquet", folder / f"arms/grpo/seed{seed}/eval")
    assert outcome(folder)[1][PAIR].why == "grpo: it answers word for word as base"


def test_an_arm_whose_model_is_that_of_its_start_learned_nothing(folder):
    for path in folder.glob("arms/grpo/*/eval/manifest.json"):
        write_json(
            path, {**read_json(path), "inputs": read_json(folder / "arms/base/seed0/eval/manifest.json")["inputs"]}
        )
    assert outcome(folder)[1][PAIR].why == "grpo: its model is that of base"


def test_training_on_cut_completions_alone_is_no_finding(folder):
    remeasure(folder, "grpo/*/grpo", **{"completion/cut_share": 1.0})
    study, found, _ = outcome(folder)
    why = "grpo: every completion was cut at max_tokens in training"
    assert (found[PAIR].word, found[PAIR].why) == ("nothing learned", why) and why in study_alarms(study, [])


def test_answers_that_were_all_cut_are_named(folder):
    rescore(folder, "grpo", stop="length")
    study, found, _ = outcome(folder)
    assert "every answer of grpo was cut at max_tokens" in study_alarms(study, list(found.values()))


def test_answers_that_are_all_undecided_are_named(folder):
    rescore(folder, "grpo", ok=None)
    study, found, head = outcome(folder)
    assert found[PAIR].word == "not measured" and head.answer == "Not measured yet."
    assert "no answer of grpo is decided" in study_alarms(study, [])


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["nothing learned", "at the floor"], "Nothing was learned."),
        (["at the floor"], results.SILENT["at the floor"]),
        (["not matched", "not matched"], results.SILENT["not matched"]),
        (["equivalent"], "No difference can be seen. The arms are the same within 2 points."),
        (["equivalent", "not distinguishable"], "No difference can be seen."),
        (["equivalent", "better"], "Sometimes better, never worse."),
        (["nothing learned", "worse"], "Sometimes worse, never better."),
        (["nothing learned", "not distinguishable"],
         "No difference can be seen. 1 of 2 comparisons say nothing (nothing learned)."),
    ],
)  # fmt: skip
def test_words_that_say_nothing_are_no_votes(words, answer):
    assert results._answer(Question(), words, 2.0) == answer
    assert {*words, *results.SILENT} <= stats.VERDICTS.keys()


@pytest.mark.parametrize(("seeds", "items"), [(1, 5), (1, 4000), (3, 60), (5, 20_000)])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_no_difference_that_could_be_detected_is_zero(seeds, items, level):
    same = stats.compare(np.full((seeds, items), level), np.full((seeds, items), level), draws=50)
    assert same.detectable() == pytest.approx(min(1, 3 / items)) and same.interval.low < 0 < same.interval.high
    assert stats.verdict(same.interval, same.p) == "not distinguishable"
    share = stats.estimate(np.full((seeds, items), level), share=True, draws=50)
    assert share.low < share.high


# --------------------------------------------------------------------------------------------- the board inside the data


def picture(path: Path, colour: str, **settings: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path, **settings)
    return str(path)


def sample(name: str, image: str, question: str = "How many?", gold: str = "3", **values: object) -> Sample:
    return replace(Sample(name, "s", (image,), question, gold, "digit"), **values)


@pytest.mark.parametrize(
    ("change", "held"),
    [
        (lambda s, other: s, True),
        (lambda s, other: replace(s, question="  how\nMANY ？"), True),
        (lambda s, other: replace(s, gold=" 3 "), True),
        (lambda s, other: replace(s, gold="4"), False),
        (lambda s, other: replace(s, question="How many dogs?"), False),
        (lambda s, other: replace(s, images=(other,)), False),
        (lambda s, other: replace(s, images=()), False),
        (lambda s, other: replace(s, kind="choice", gold="B", choices=("2", "3")), True),
        (lambda s, other: replace(s, kind="choice", gold="A", choices=("2", "3")), False),
    ],
)
def test_an_item_is_known_by_what_it_asks_and_shows(tmp_path, change: Callable, held):
    board = [sample("board-1", picture(tmp_path / "a.png", "red"))]
    again = picture(tmp_path / "elsewhere" / "b.png", "red", compress_level=0)  # other bytes, the same picture
    trained = change(sample("train-9", again), picture(tmp_path / "c.png", "blue"))
    save_samples(tmp_path / "data.jsonl", [sample("other", again, "What?", "x", kind="open"), trained])
    assert overlap(board, tmp_path / "data.jsonl") == (["board-1"] if held else [])


def leak(folder: Path, count: int) -> None:
    """Board items in the RL data, under other ids and beside pictures of other names."""
    held = load_samples(folder / "world/board.jsonl")[:count]
    (folder / "data/concise/pictures").mkdir()
    for i, s in enumerate(held):
        shutil.copy(s.images[0], folder / f"data/concise/pictures/{i}.png")
    path = folder / "data/concise/rl.jsonl"
    save_samples(
        path, [replace(s, id=f"x{i}", images=(str(path.parent / f"pictures/{i}.png"),)) for i, s in enumerate(held)]
    )


def test_a_board_inside_the_training_data_is_an_alarm_and_a_control(folder):
    leak(folder, 4)
    study, found, head = outcome(folder)
    control = next(c for c in found[PAIR].controls if c.name == matched.HELD_OUT)
    assert control.same is False and control.detail == "4 items in rl"
    assert "the board stands in the training data (4 items in rl)" in head.warning
    assert "4 of 30 board items stand in the training data rl" in study_alarms(study, list(found.values()))


def test_a_board_outside_the_data_is_a_control_too(folder):
    other = Sample("o", "s", (), "Another question?", "1", "digit")
    for name in ("concise/rl", "hesitant/sft"):
        save_samples(folder / f"data/{name}.jsonl", [other])
    study, found, head = outcome(folder)
    assert next(c for c in found[PAIR].controls if c.name == matched.HELD_OUT).same is True
    assert "training data" not in head.warning and study.board_in_data == {"hesitant": 0, "rl": 0}
    (folder / "data/hesitant/sft.jsonl").unlink()
    control = next(c for c in outcome(folder)[1][PAIR].controls if c.name == matched.HELD_OUT)
    assert control.same is None and control.detail == "not recorded"


def test_the_data_behind_a_model_are_found_over_its_lineage(folder):
    arm = folder / "arms/grpo/seed0/grpo"
    (arm / "model").mkdir()
    board = folder / "world/board.jsonl"
    manifest = read_json(arm / "manifest.json")
    assert list(data_behind(arm / "model")) == [], "another file than the one it was trained on"
    manifest["inputs"]["data"] = synthetic_study.hash_file(board)
    write_json(arm / "manifest.json", manifest)
    assert list(data_behind(arm / "model")) == [board]
    assert list(data_behind(folder)) == []


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, set()),
        ({"stop": "length"}, {"all_cut"}),
        ({"ok": None}, {"undecided"}),
        ({"ok": False}, {"at_the_floor"}),
        ({"ok": None, "stop": "error"}, set()),  # what never came is said elsewhere
    ],
)
def test_answers_that_say_nothing_about_a_model_are_named(folder, changes, names):
    scores = [replace(score, **changes) for score in load_study(folder).arms["grpo"].of("eval")[0].scores]
    assert set(metrics.alarms(scores)) == names


def test_an_evaluation_on_training_data_says_so(folder, tmp_path):
    arm, board = folder / "arms/grpo/seed0/grpo", folder / "world/board.jsonl"
    (arm / "model").mkdir()
    manifest = read_json(arm / "manifest.json")
    write_json(arm / "manifest.json", {**manifest, "inputs": {"data": synthetic_study.hash_file(board)}})
    config = EvalConfig(out=tmp_path, model=str(arm / "model"), data=board)
    (text,) = trained_on(config, load_samples(board)).values()
    assert text.startswith("30 of 30 items of the board stand in ")
    assert trained_on(config.model_copy(update={"base_url": "http://x"}), load_samples(board)) == {}


def test_alarms_of_running_stages_are_said_once(tmp_path, capsys):
    stage, told = SimpleNamespace(out=tmp_path, label="grpo seed 0 grpo"), set()
    for _ in range(2):
        (tmp_path / "alarms.jsonl").write_text(
            json.dumps({"round": 1, "alarm": "x", "text": "every reward was 0"}) + "\n"
        )
        tell([stage], told)
    assert capsys.readouterr().err == "  ! grpo seed 0 grpo: every reward was 0\n"


def test_every_word_is_explained():
    page = (Path(__file__).parents[1] / "docs/alarms.md").read_text()
    assert all(word in page for word in stats.VERDICTS)
    rows = [{**{key: value}, "undecided": 0} for key, value, _ in alarms.NOTHING]
    names = (
        {name for row in rows for name in alarms.grpo([row])}
        | set(alarms.before_grpo(2, 1))
        | set(alarms.at_the_end([]))
    )
    assert all(f"`{name}`" in page for name in names)
