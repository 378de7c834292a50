"""Files of the seven benchmarks as they are published, with a few invented items each, and predictions for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from seethink.core.store import write_jsonl

OPTIONS = ["3", "4", "5", "6"]


def mathvista(folder: Path) -> None:
    rows = {
        str(n): {
            "pid": str(n), "question": f"How many dots are in picture {n}?", "image": "images/0.png", "answer": "4",
            "choices": OPTIONS if n % 2 else None, "question_type": "multi_choice" if n % 2 else "free_form", "precision": None,
            "answer_type": "text" if n % 2 else "integer", "unit": None, "query": f"Hint: answer.\nQuestion: How many? {n}",
            "metadata": {"task": "statistical", "grade": "elementary", "skills": ["counting"], "category": "general-vqa", "context": "synthetic"},
        }
        for n in range(4)
    }  # fmt: skip
    _json(folder / "testmini.json", rows)
    _answers(folder, {key: "The answer is B." if row["choices"] else "4" for key, row in rows.items()})


def mathvision(folder: Path) -> None:
    rows = [
        {
            "id": str(n), "question": f"<image1> Which one? {n}", "options": OPTIONS if n % 2 else [], "image": "images/0.png",
            "answer": "B" if n % 2 else "4", "level": 1, "subject": "algebra",
        }
        for n in range(4)
    ]  # fmt: skip
    write_jsonl(folder / "test.jsonl", rows)
    _answers(folder, {row["id"]: f"\\boxed{{{row['answer']}}}" for row in rows})


def mathverse(folder: Path) -> None:
    rows = [
        {
            "sample_index": str(n), "problem_index": str(n), "problem_version": "Vision Only", "question": "", "image": "0.png",
            "answer": "B", "question_type": "multi-choice", "metadata": {"subject": "Plane Geometry", "source": "x"},
            "query_wo": "Answer the question in the picture.", "query_cot": "Think.", "question_for_eval": "How large?\nChoices:\nA:3\nB:4",
        }
        for n in range(4)
    ]  # fmt: skip
    _json(folder / "testmini.json", rows)
    _answers(folder, {row["sample_index"]: "It is B." for row in rows})


def dynamath(folder: Path) -> None:
    for variant in range(1, 11):
        rows = [
            {
                "id": str(n), "question": f"Seed {n}, variant {variant}: how many?", "image": "images/0.png", "answer_type": "float",
                "answer": "4.000", "ground_truth": "4.000", "level": "elementary school", "subject": "arithmetic",
            }
            for n in range(2)
        ]  # fmt: skip
        trial = folder / "DynaMath" / "10trials" / f"trial{variant}"
        _json(trial / "dataset.json", rows)
        _picture(trial / "images" / "0.png")
        _picture(folder / "DynaMath" / "images" / "0.png")


def wemath(folder: Path) -> None:
    rows = [
        {
            "ID": str(n), "key": key, "question": f"Problem {n}, {key}?", "option": "A. 3; B. 4; C. 5; D. 6", "answer": "B",
            "image_path": "images/0.png", "knowledge concept": "Angles",
        }
        for n in range(2)
        for key in ("2steps_1", "2steps_2", "2steps_multi")
    ]  # fmt: skip
    _json(folder / "testmini.json", rows)


def logicvista(folder: Path) -> None:
    rows = {
        f"v1_{n}": {"imagename": "0.png", "question": f"Which one fits? {n}", "answer": "B", "skill": ["inductive"]}
        for n in range(4)
    }
    _json(folder / "dataset.json", rows)
    _answers(folder, dict.fromkeys(rows, "The answer is B."))


def geoqa(folder: Path) -> None:
    write_jsonl(folder / "test_answers.jsonl", ({"question_id": n, "text": "B"} for n in range(4)))
    asked = "<image>\nQuestion: How large is the angle?\nChoices:\nA:3\nB:4\nC:5\nD:6"
    write_jsonl(
        folder / "test_questions.jsonl", ({"question_id": n, "image": "images/0.png", "text": asked} for n in range(4))
    )


BOARDS = (mathvista, mathvision, mathverse, dynamath, wemath, logicvista, geoqa)


def build(folder: Path) -> None:
    """`folder/<task>/` for every benchmark."""
    for board in BOARDS:
        home = folder / board.__name__
        for name in ("images/0.png", "0.png"):
            _picture(home / name)
        board(home)


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (56, 56), (9, 9, 9)).save(path)


def _json(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def _answers(folder: Path, texts: dict[str, str]) -> None:
    write_jsonl(folder / "answers.jsonl", ({"id": key, "text": text} for key, text in texts.items()))
