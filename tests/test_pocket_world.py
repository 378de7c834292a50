"""The pocket world: scenes, questions, captions, traces and their checker agree with one another."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from seethink.core.nouns import KINDS, Sample, sample_to_row
from seethink.core.store import hash_json, load_examples, load_samples
from seethink.core.tags import extract
from seethink.pocket.build import build, draw_sample
from seethink.pocket.captions import read_caption, write_caption
from seethink.pocket.checker import check
from seethink.pocket.questions import TASKS_OF_KIND, answer, answerable, phrase, read, sections
from seethink.pocket.render import MARKER, RGB, render
from seethink.pocket.teacher import PERSONAS, Persona, distort, plan, reason
from seethink.pocket.world import (
    IID,
    LESSONS,
    OOD,
    UNSEEN,
    UNSEEN_AS_HARD,
    UNSEEN_CURVES,
    Curve,
    Scene,
    Thing,
    draw_curve,
    scene_from_json,
    scene_to_json,
)
from seethink.rewards import score

CIRCLE = Thing("red", "circle", 1, 2, (28, 4, 52, 28))
SQUARE = Thing("blue", "square", 1, 4, (84, 0, 100, 16))
CROSS = Thing("red", "cross", 3, 1, (4, 60, 24, 80))
SCENE = Scene((CIRCLE, SQUARE, CROSS))


def drawn(count=200, hardness=IID):
    return [draw_sample("test", index, hardness) for index in range(count)]


def ask_about(scene, question, choices=()):
    return Sample("x", "", (), question, "", "digit", choices, meta={"scene": scene_to_json(scene)})


def test_samples_repeat_and_streams_differ():
    assert draw_sample("a-0", 7) == draw_sample("a-0", 7)
    assert draw_sample("a-0", 7)[1] != draw_sample("b-0", 7)[1]


def test_the_five_kinds_take_turns():
    assert [sample.kind for sample, _ in drawn(5)] == ["digit", "choice", "math", "box", "open"]


def test_the_world_is_the_one_that_was_published():
    """Whatever kinds of question the house learns, the questions of this world stay as they are."""
    rows = [sample_to_row(draw_sample("rl-0", index)[0]) for index in range(50)]
    assert hash_json(rows) == "30a6b9c55e3fdf86"
    assert set(TASKS_OF_KIND) <= set(KINDS)


@pytest.mark.parametrize("hardness", [IID, OOD])
def test_scenes_keep_their_bounds(hardness):
    for sample, scene in drawn(150, hardness):
        for thing in scene.things:
            x1, y1, x2, y2 = thing.box
            assert all(edge % 4 == 0 for edge in thing.box) and x2 - x1 == y2 - y1
            assert (thing.column - 1) * 28 <= x1 < x2 <= thing.column * 28
            assert (thing.row - 1) * 28 <= y1 < y2 <= thing.row * 28
        if sample.kind != "math":
            assert hardness.things[0] <= len(scene.things) <= hardness.things[1]
            assert any((t.colour, t.shape) in UNSEEN for t in scene.things) == hardness.unseen_pairs


def test_a_thing_is_drawn_where_its_box_says():
    pixels = np.asarray(render(Scene((CIRCLE,)))).astype(int)
    inked = np.argwhere(np.abs(pixels - RGB["red"]).sum(-1) < 30)
    (top, left), (bottom, right) = inked.min(0), inked.max(0) + 1
    assert pixels.shape == (112, 112, 3)
    assert np.abs(np.array([left, top, right, bottom]) - CIRCLE.box).max() <= 1


def test_a_line_passes_through_its_points_and_two_of_them_are_marked():
    pixels = np.asarray(render(Scene(curve=Curve("line", 2, -1, "blue")))).astype(int)
    for x, y, colour in ((-1, -3, RGB["blue"]), (0, -1, MARKER), (1, 1, MARKER), (2, 3, RGB["blue"])):
        spot = pixels[56 - 14 * y, 56 + 14 * x]
        assert np.abs(spot - colour).sum() < 120


def test_lessons_show_no_curve_that_is_held_out():
    rng = Random(0)
    shown, harder, unseen = (
        {(curve.a, curve.b) for curve in (draw_curve(rng, hardness).curve for _ in range(2000))}
        for hardness in (LESSONS, OOD, UNSEEN_AS_HARD)
    )
    assert not shown & (harder | unseen) and unseen == UNSEEN_CURVES
    assert len(shown) == 66 - len(harder) - len(unseen), "every other curve whose two points are in the picture"


@pytest.mark.parametrize(
    ("curve", "equation"),
    [
        (Curve("line", 2, 1, "red"), "y = 2x + 1"),
        (Curve("line", -1, -2, "red"), "y = -x - 2"),
        (Curve("line", 1, 0, "red"), "y = x"),
        (Curve("parabola", -3, 2, "red"), "y = -3x^2 + 2"),
    ],
)
def test_equations(curve, equation):
    assert curve.equation == equation


@pytest.mark.parametrize("hardness", [IID, OOD])
def test_scene_caption_and_question_read_back(hardness):
    for sample, scene in drawn(200, hardness):
        assert scene_from_json(sample.meta["scene"]) == scene
        assert read_caption(write_caption(scene)) == scene
        query = read(sample.question)
        assert answerable(scene, query) and answer(scene, query) == sample.gold
        assert read(phrase(query, Random(0))) == query


def test_nothing_is_read_from_other_text():
    assert read_caption("A photograph of a dog.") is None
    assert read("Who painted this?") is None
    assert not answerable(SCENE, read("Where is the red object?"))  # there are two
    assert not answerable(SCENE, read("What is the equation of the graph?"))


@pytest.mark.parametrize(
    ("question", "gold"),
    [
        ("How many reds are there?", "2"),
        ("Count the crosses.", "1"),
        ("Subtract all reds. How many objects are left?", "1"),
        ("Which colour is at row-1 column-4? A) red B) green C) blue D) orange", "C"),
        ("Which shape comes right after the red circle? A) cross B) square C) circle D) triangle", "B"),
        ("Where is the cross?", "(4, 60),( 24, 80)"),
        ("Describe row-1 from left to right.", "red circle blue square"),
    ],
)
def test_gold_answers(question, gold):
    assert answer(SCENE, read(question)) == gold


STATEMENTS = [
    ("row-1 column-2 red circle column-4 blue square", True, "row-1"),
    ("row-1 column-2 red circle", False, "row-1"),
    ("row-2 empty", True, "row-2"),
    ("row-1 empty", False, "row-1"),
    ("red cross at row-3 column-1", True, "place"),
    ("red cross at row-3 column-2", False, "place"),
    ("next column-4 blue square", True, "next"),
    ("next column-3 blue square", False, "next"),
    ("red : 2", True, "count red"),
    ("objects : 4", False, "count objects"),
    ("3 - 1 = 2", True, "difference"),
    ("3 - -1 = 2", False, "difference"),
    ("square is B", True, "option"),
    ("square is D", False, "option"),
    ("hmm , let me see", None, ""),
    ("the red circle is pretty", None, ""),
    ("row-9 column-2 mauve blob", None, ""),
]


@pytest.mark.parametrize(("text", "truth", "slot"), STATEMENTS)
def test_checker(text, truth, slot):
    sample = ask_about(
        SCENE, "Which shape comes right after the red circle?", ("cross", "square", "circle", "triangle")
    )
    (step,) = check(sample, f"{text} .")
    assert (step.text, step.truth, step.slot) == (text, truth, slot)


def test_checker_of_curves():
    sample = ask_about(Scene(curve=Curve("line", 2, -1, "red")), "Which equation describes the graph?")
    steps = check(sample, "a parabola . no , i made a mistake . a line . x = 0 y = -1 . x = 1 y = 3 .")
    assert [(s.truth, s.slot) for s in steps] == [
        (False, "form"),
        (None, ""),
        (True, "form"),
        (True, "y at 0"),
        (False, "y at 1"),
    ]


@pytest.mark.parametrize("garbage", ["", " . . ", "x = 99999999 y = 1 .", "<b>row-1</b>", "row-1 " * 5000, "\x00 ."])
def test_checker_survives_anything(garbage):
    assert all(step.truth is None for step in check(ask_about(SCENE, ""), garbage))


def test_personas_do_what_they_say():
    false, doubts, said = {}, {}, {}
    for name, persona in PERSONAS.items():
        steps, words = [], []
        for index, (sample, scene) in enumerate(drawn(150)):
            think, _ = reason(scene, read(sample.question), persona, Random(index))
            slots = {s.slot: s for s in check(sample, think) if s.slot}  # the last statement of each slot
            steps += [(s.truth, slots[s.slot].truth) for s in check(sample, think) if s.slot]
            words += think.split()
        false[name] = (sum(not now for now, _ in steps), sum(not last for _, last in steps))
        said[name] = len(words)
        doubts[name] = sum(word in ("hmm", "wait", "double-check", "mistake", "check") for word in words)
    true = [f"pocket-r1-{style}" for style in ("concise", "careful", "glance")]
    assert [false[name] for name in true] == [(0, 0)] * 3
    assert false["pocket-r1-corrected"][0] > 50 and false["pocket-r1-corrected"][1] == 0
    assert min(false[f"pocket-r1-{style}"][1] for style in ("hesitant", "false", "ungrounded")) > 10
    hesitant = {f"pocket-r1-{style}" for style in ("careful", "corrected", "hesitant")}
    assert {name for name, words in doubts.items() if words} == hesitant and min(map(doubts.get, hesitant)) > 100
    assert said["pocket-r1-glance"] < 0.7 * said["pocket-r1-concise"]


def test_wrong_answers_are_wrong_and_right_ones_right():
    for index, (sample, scene) in enumerate(drawn(60)):
        query = read(sample.question)
        _, right = reason(scene, query, Persona(wrong_answer=0.0), Random(index))
        _, wrong = reason(scene, query, Persona(wrong_answer=1.0), Random(index))
        assert right == sample.gold != wrong
        assert score(sample, f"<think>a</think><answer>{right}</answer>").value == 1.0
        assert score(sample, f"<think>a</think><answer>{wrong}</answer>").value < 1.0


def test_distorted_statements_are_false():
    for index, (sample, scene) in enumerate(drawn(60)):
        for statement in plan(scene, read(sample.question)):
            false = distort(statement, sample, Random(index))
            assert false is None or check(sample, false)[0].truth is False


def test_concise_fillers_hold_no_cue_of_the_paper():
    cues = ("wait", "again", "double-check", "hmm", "mistake", "alternatively", "check", "i should confirm")
    text = " ".join(sections("fillers")["neutral"] + sections("fillers")["leak"])
    assert not any(cue in text for cue in cues)


def test_build_writes_what_other_verbs_read(tmp_path):
    rows = build(tmp_path, seed=3, sft=10, rl=10, board=10, ood=5)
    assert rows["board.jsonl"] == 15
    board = load_samples(tmp_path / "board.jsonl")
    assert [s.meta["part"] for s in board] == ["iid"] * 10 + ["ood"] * 5
    ids = [s.id for name in ("sft_pool", "rl_pool", "board") for s in load_samples(tmp_path / f"{name}.jsonl")]
    assert len(ids) == len(set(ids))
    for name in PERSONAS:
        for example in load_examples(tmp_path / f"sft-{name}.jsonl"):
            assert extract(example.completion).answer == example.sample.gold


def test_boxes_score_in_pixels():
    sample, _ = next(pair for pair in drawn(10) if pair[0].kind == "box")
    moved = replace(sample, gold="(28, 36),( 52, 60)")
    assert score(moved, "<think> a </think> <answer> (28, 36),( 52, 60) </answer>").value == 1.0
    assert score(moved, "<think> a </think> <answer> (28, 36),( 52, 48) </answer>").value == pytest.approx(0.5)
