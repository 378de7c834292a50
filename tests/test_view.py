"""The viewer: every folder it can open, what it writes, and what a browser makes of it."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample
from seethink.core.store import read_jsonl, save_examples, save_samples, write_json, write_jsonl
from seethink.core.tags import TAGS, compose
from seethink.show.marked import pieces
from seethink.show.pages import SIDE, copy_picture, picture_uri
from seethink.show.view import CHUNK, ViewConfig, call, run
from seethink.study.folder import load_study
from tests import browser, synthetic_evals, synthetic_study

CHECKER = "tests.synthetic_study:check"
needs_browser = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    arms = {name: synthetic_study.ARMS[name] for name in ("base", "grpo", "sft-hesitant", "sft-hesitant+grpo")}
    return synthetic_study.build(tmp_path_factory.mktemp("study"), seeds=(0,), items=120, arms=arms, steps=11)


def arguments(line):
    """Arguments of the one call in a data file."""
    return json.loads("[" + line.partition("(")[2].rpartition(")")[0] + "]")


def rows_of(out):
    """All items of a written view, and its index."""
    chunks = sorted(out.glob("items-*.js"), key=lambda path: int(path.stem.split("-")[1]))
    items = [arguments(path.read_text())[1] for path in chunks]
    index = arguments((out / "index.js").read_text())[1]
    assert [row["id"] for row in index] == [row["id"] for chunk in items for row in chunk]
    return [row for chunk in items for row in chunk]


def view(run_path, out, **values):
    run(ViewConfig(input=run_path, out=out, **values))
    return rows_of(out)


def text_of(attempt):
    return "".join(piece[0] for piece in attempt["pieces"])


def test_a_study_shows_the_arms_of_its_first_comparison(study, tmp_path):
    rows = view(study, tmp_path, checker=CHECKER)
    assert len(rows) == 120 and len(list(tmp_path.glob("items-*.js"))) == -(-120 // CHUNK)
    assert [a["label"] for a in rows[0]["attempts"]] == ["sft-hesitant+grpo", "grpo"]
    scores = load_study(study).arms["grpo"].of("eval")[0].scores
    assert [text_of(r["attempts"][1]) for r in rows] == [s.text for s in scores]
    assert [r["attempts"][1]["ok"] for r in rows] == [s.ok for s in scores]
    assert all((tmp_path / image).is_file() for r in rows for image in r["images"])
    classes = {c for r in rows for a in r["attempts"] for _, names in a["pieces"] for c in names.split()}
    assert classes == {"tag", "mark", "true", "false", "unknown"}


def test_flags_say_what_is_worth_looking_at(study, tmp_path):
    for row in view(study, tmp_path, arms="base, grpo"):
        verdicts = [a["ok"] for a in row["attempts"] if a["ok"] is not None]
        assert ("flipped" in row["flags"]) == (len(set(verdicts)) == 2)
        assert ("undecided" in row["flags"]) == any(a["ok"] is None for a in row["attempts"])
        assert ("right" in row["flags"]) == (bool(verdicts) and all(verdicts))
        assert ("truncated" in row["flags"]) == any("cut" in a["marks"] for a in row["attempts"])
        assert ("lucky" in row["flags"]) == any("lucky" in a["marks"] for a in row["attempts"])


def test_two_evaluations_side_by_side(study, tmp_path):
    first, second = (study / f"arms/{arm}/seed0/eval" for arm in ("base", "grpo"))
    rows = view(first, tmp_path, other=second, checker=CHECKER)
    assert len(rows) == 120 and [a["label"] for a in rows[0]["attempts"]] == ["base/seed0/eval", "grpo/seed0/eval"]
    assert len(view(first, tmp_path)[0]["attempts"]) == 1
    with pytest.raises(UserError, match=r"no scores\.parquet"):
        view(first, tmp_path, other=study)
    with pytest.raises(UserError, match="only evaluations"):
        view(study, tmp_path, other=first)


def test_rollouts_are_shown_in_groups(study, tmp_path):
    rows = view(study / "arms/grpo/seed0/grpo", tmp_path)
    assert [r["part"] for r in rows] == ["round 1", "round 6", "round 11"] and all(
        len(r["attempts"]) == 4 for r in rows
    )
    assert {"reward", "advantage", "entropy"} <= set(rows[0]["attempts"][0]["details"])


def test_data_sets_can_be_looked_at(study, tmp_path):
    samples = list(load_study(study).board.values())[:3]
    save_samples(tmp_path / "rl.jsonl", samples)
    save_examples(tmp_path / "sft.jsonl", [Example(s, compose("Wait. I see.", s.gold)) for s in samples])
    kept = [
        {**row, "think": None if i else "Hmm, I see.", "answer": None if i else "7", "model": "teacher", "tokens": 5,
         "verdict": {"ok": True, "by": "judge", "reason": ""}}
        for i, (_, row) in enumerate(read_jsonl(tmp_path / "rl.jsonl"))
    ]  # fmt: skip
    write_jsonl(tmp_path / "traces.jsonl", kept)
    assert all(row["attempts"] == [] for row in view(tmp_path / "rl.jsonl", tmp_path / "a"))
    assert text_of(view(tmp_path / "sft.jsonl", tmp_path / "b")[0]["attempts"][0]).startswith("<think>Wait.")
    first, second, _ = view(tmp_path / "traces.jsonl", tmp_path / "c")
    assert first["attempts"][0]["label"] == "teacher" and first["attempts"][0]["ok"] is True
    assert second["attempts"] == []
    assert len(view(tmp_path, tmp_path / "d")) == 3  # a data folder opens its traces
    run(ViewConfig(input=tmp_path / "rl.jsonl"))
    assert (tmp_path / "rl-view/index.html").is_file()


def test_traces_nobody_graded_are_not_undecided(tmp_path):
    save_examples(tmp_path / "sft.jsonl", [Example(Sample("a", "s", (), "q", "1", "digit"), compose("x", "1"))])
    (row,) = view(tmp_path / "sft.jsonl", tmp_path / "v")
    assert row["flags"] == [] and row["attempts"][0]["graded"] is False


def test_a_shorter_view_leaves_no_old_chunks(study, tmp_path):
    view(study, tmp_path)
    assert len(view(study, tmp_path, limit=3)) == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"input": "absent"}, "no such file"),
        ({"input": "."}, "nothing to look at"),
        ({"input": "orphan"}, "cannot find the samples"),
        ({"input": "orphan", "samples": "other.jsonl"}, "no sample"),
    ],
)
def test_bad_input_is_named(study, tmp_path, values, message):
    orphan = tmp_path / "orphan"
    orphan.mkdir()
    scores = study / "arms/base/seed0/eval/scores.parquet"
    (orphan / "scores.parquet").write_bytes(scores.read_bytes())
    write_json(orphan / "config.json", {"board": "nowhere.jsonl"})
    save_samples(tmp_path / "other.jsonl", [Sample("else", "s", (), "q", "1", "digit")])
    with pytest.raises(UserError, match=message):
        run(ViewConfig(**{key: tmp_path / name for key, name in values.items()}))


def test_an_unknown_arm_is_named(study, tmp_path):
    with pytest.raises(UserError, match="no arm 'nonsense'"):
        view(study, tmp_path, arms="nonsense")


def test_a_dry_run_writes_nothing(study, tmp_path, capsys):
    run(ViewConfig(input=study, out=tmp_path / "v"), dry_run=True)
    assert "120 items" in capsys.readouterr().out and not (tmp_path / "v").exists()


PARTS = [*"ab .\n<>", *TAGS, "Wait", "Hmm ", "I see 1 red circle."]


@given(st.lists(st.sampled_from(PARTS), max_size=30).map("".join))
def test_pieces_add_up_to_the_completion(text):
    sample = Sample("a", "s", (), "q", "1", "digit", meta={"scene": [["red", "circle", 0, 0]]})
    assert "".join(p.text for p in pieces(text, sample, synthetic_study.check)) == text


def test_pieces_are_marked():
    sample = Sample("a", "s", (), "q", "1", "digit", meta={"scene": [["red", "circle", 0, 0]]})
    text = compose("Wait, let us look. I see 1 red circle. I see 2 red circles.", "1")
    marked = {p.text: p for p in pieces(text, sample, synthetic_study.check)}
    assert marked["<think>"].tag and marked["Wait"].marker and marked["Wait"].truth == "unknown"
    assert marked["I see 1 red circle"].truth == "true" and marked["I see 2 red circles"].truth == "false"


def test_data_cannot_end_a_script():
    line = call("f", {"text": "</script><!-- \u2028"})
    assert "<" not in line and "\u2028" not in line
    assert arguments(line)[0] == {"text": "</script><!-- \u2028"}


def test_pictures_travel_with_the_page(tmp_path):
    big, small, broken = tmp_path / "big.png", tmp_path / "small.png", tmp_path / "broken.png"
    Image.effect_noise((1500, 900), 90).save(big)
    Image.new("RGB", (8, 8), "red").save(small)
    broken.write_bytes(b"no picture" * 9000)
    assert picture_uri(str(small)).startswith("data:image/png;base64,")
    assert picture_uri(str(big)).startswith("data:image/jpeg;base64,")
    assert picture_uri(str(broken)) is None and picture_uri(str(tmp_path / "absent.png")) is None
    name = copy_picture(str(big), tmp_path / "images")
    with Image.open(tmp_path / "images" / name) as image:
        assert max(image.size) == SIDE
    assert copy_picture(str(small), tmp_path / "images").endswith(".png")
    assert copy_picture(str(broken), tmp_path / "images") is None and copy_picture("absent.png", tmp_path) is None


def test_a_picture_is_decoded_before_it_travels(tmp_path):
    """What only has the name of a picture stays where it is; a picture that readers could show otherwise is made anew."""
    (tmp_path / "secret").write_text("root:x:0:0")
    for name in ("x.png", "x.jpg", "x.webp", "x.gif"):
        (tmp_path / name).symlink_to(tmp_path / "secret")
        assert (
            copy_picture(str(tmp_path / name), tmp_path / "images") is None
            and picture_uri(str(tmp_path / name)) is None
        )
    assert not (tmp_path / "images").exists()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    with Image.open(tmp_path / "images" / copy_picture(str(tmp_path / "clear.png"), tmp_path / "images")) as image:
        assert image.mode == "RGB" and image.getpixel((0, 0)) == (255, 255, 255)


def test_pages_are_not_put_among_other_files(study, tmp_path):
    (tmp_path / "items-0.js").write_text("the user's own")
    with pytest.raises(UserError, match="other origin"):
        view(study / "arms/grpo/seed0/eval", tmp_path)
    assert (tmp_path / "items-0.js").read_text() == "the user's own"


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_pages_in_a_browser(study, tmp_path, width, dark):
    expected = view(study, tmp_path)
    shown, flipped = "document.getElementById('shown').textContent", sum("flipped" in r["flags"] for r in expected)
    press = "document.querySelector('[data-flag=flipped]').click()"
    scripts = [shown, "document.querySelectorAll('.item').length", press, shown]
    scripts += ["document.getElementById('next').click()", "document.querySelector('.item dt').textContent"]
    seen = browser.look(tmp_path / "index.html", width, dark, scripts)
    assert seen.errors == [] and seen.overflow == [] and "owned" not in seen.title
    assert all(request.startswith(tmp_path.resolve().as_uri()) for request in seen.requests)
    assert seen.results[0] == "120 of 120, page 1 of 6" and seen.results[1] == 20
    assert seen.results[3].startswith(f"{flipped} of 120")
    second_page = [r["id"] for r in expected if "flipped" in r["flags"]][20:]
    assert not second_page or second_page[0] in seen.results[5]


@needs_browser
def test_a_hostile_trace_is_only_text(study, tmp_path):
    view(study, tmp_path)
    find = "const f = document.getElementById('find'); f.value = 'iid-0001'; f.dispatchEvent(new Event('input'))"
    texts = "[...document.querySelectorAll('.trace')].map(t => t.textContent)"
    inside = "document.querySelectorAll('.trace img, .trace script, .details img').length"
    seen = browser.look(tmp_path / "index.html", scripts=[find, texts, inside])
    assert any(synthetic_study.HOSTILE in text for text in seen.results[1]) and seen.results[2] == 0
    assert "owned" not in seen.title and seen.errors == []
    assert not re.search(r"<script>document", (tmp_path / "index.html").read_text())


SEARCH = """(async () => {{ const f = document.getElementById('find'), before = document.body.dataset.drawn;
f.value = {0!r}; f.dispatchEvent(new Event('input'));
while (document.body.dataset.drawn === before) await new Promise(r => setTimeout(r, 5));
return document.getElementById('shown').textContent; }})()"""
KEY = "document.dispatchEvent(new KeyboardEvent('keydown', {{key: {0!r}, bubbles: true}}))"
KEY_AT = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: {0!r}, bubbles: true}}))"


def test_an_evaluation_of_any_board_finds_its_items(tmp_path):
    """Its config names task and data; of several answers to an item each is shown; without the data it is said."""
    scores = [synthetic_evals.score(i, i % 2 == 0, draw=d, text=f"draw {d}") for i in range(3) for d in range(2)]
    run_path = synthetic_evals.folder(tmp_path / "run", scores, "geoqa")
    with pytest.raises(UserError, match="data of this board are gone"):
        view(run_path, tmp_path / "v")
    write_jsonl(tmp_path / "answers.jsonl", [{"question_id": i, "text": "B"} for i in range(3)])
    write_json(run_path / "config.json", {"task": "geoqa", "data": str(tmp_path / "answers.jsonl")})
    rows = view(run_path, tmp_path / "v")
    assert [row["gold"] for row in rows] == ["B", "B", "B"]
    assert [[text_of(a) for a in row["attempts"]] for row in rows] == [["draw 0", "draw 1"]] * 3
    assert rows[0]["attempts"][0]["label"].endswith("run #1")


def test_the_search_looks_through_what_is_known_of_an_item(study, tmp_path):
    view(study / "arms/grpo/seed0/eval", tmp_path)
    index = arguments((tmp_path / "index.js").read_text())[1]
    row = next(r for r in index if r["kind"] == "choice")
    assert row["id"] in row["text"] and "which colour" in row["text"] and row["text"] == row["text"].lower()


def test_a_states_word_is_that_of_its_score(tmp_path):
    scores = [synthetic_evals.score(0, None, reason="refusal"), synthetic_evals.score(1, None, status="judge_failed")]
    run_path = synthetic_evals.folder(tmp_path / "run", scores, "rows")
    save_samples(tmp_path / "board.jsonl", [Sample(str(i), "s", (), "q", "1", "digit") for i in range(2)])
    write_json(run_path / "config.json", {"task": "rows", "data": str(tmp_path / "board.jsonl")})
    rows = view(run_path, tmp_path / "v")
    assert [row["attempts"][0]["state"] for row in rows] == ["unparsed", "judge_failed"]
    assert rows[0]["attempts"][0]["details"]["reason"] == "refusal" and rows[0]["flags"] == ["undecided"]


@needs_browser
def test_search_address_and_keys(study, tmp_path):
    expected = view(study, tmp_path)
    at, focus = "location.hash", "document.activeElement.dataset.id"
    scripts = [
        SEARCH.format("colour FIRST"),
        at,
        KEY.format("j"),
        focus,
        at,
        KEY_AT.format("j"),
        focus,
        KEY_AT.format("k"),
        focus,
    ]
    scripts += [
        KEY_AT.format("/"),
        "document.activeElement.id",
        KEY_AT.format("j"),
        KEY_AT.format("Escape"),
        "document.activeElement.tagName",
    ]
    scripts += [
        SEARCH.format("no such words"),
        SEARCH.format(""),
        KEY.format("n"),
        "document.getElementById('shown').textContent",
        at,
    ]
    seen = browser.look(tmp_path / "index.html", scripts=scripts)
    found = [row["id"] for row in expected if row["kind"] in ("choice", "box") and "colour" in row["question"]]
    results = seen.results
    assert seen.errors == [] and results[0].startswith(f"{len(found)} of 120") and results[1] == "#find=colour+FIRST"
    assert results[3] == found[0] and results[4] == f"#find=colour+FIRST&item={found[0]}"
    assert (results[6], results[8]) == (found[1], found[0])
    assert results[10] == "find" and results[13] == "BODY" and results[14].startswith("0 of 120")
    assert results[15].startswith("120 of 120, page 1") and results[17].startswith("120 of 120, page 2")
    assert results[18] == "#page=2"


@needs_browser
def test_a_view_can_be_passed_on_by_its_address(study, tmp_path):
    expected = view(study, tmp_path)
    shown, back = "document.getElementById('shown').textContent", "location.hash = {0!r}"
    flipped = [row["id"] for row in expected if "flipped" in row["flags"]]
    scripts = [back.format(f"#flags=flipped&item={flipped[-1]}"), shown, "document.activeElement.dataset.id"]
    scripts += [
        "document.querySelectorAll('.flag[aria-pressed=true]').length",
        back.format("#kind=math&page=99"),
        shown,
    ]
    scripts += [back.format("#kind=nonsense&flags=x&page=y&find=%E0%A4%A"), "document.body.dataset.drawn > 0"]
    seen = browser.look(tmp_path / "index.html", scripts=scripts)
    last = -(-len(flipped) // 20)
    assert seen.errors == [] and seen.results[1] == f"{len(flipped)} of 120, page {last} of {last}"
    assert seen.results[2] == flipped[-1] and seen.results[3] == 1 and seen.results[7] is True
    assert seen.results[5] == "24 of 120, page 2 of 2"
