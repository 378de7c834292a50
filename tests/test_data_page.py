"""The report of a data run: the diff, which rows are shown, every number's rows, hostile texts, what a browser makes of it."""

import json
import random
import re
from collections import Counter
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seethink import cli
from seethink.ask import Ledger
from seethink.core.errors import UserError
from seethink.core.images import portable
from seethink.core.nouns import Sample
from seethink.core.run import Run
from seethink.core.store import read_json, read_jsonl, save_samples
from seethink.data.facts import read_facts, summed
from seethink.show import distilled
from seethink.show.distilled import MOST_CARDS, MOST_ROWS, choose
from seethink.show.pages import thumbnail_uri
from seethink.show.stages import visible
from seethink.show.words import clipped, marked, word_diff
from tests import browser
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi, last_text
from tests.test_data import MODELS

needs_browser = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> \u202eevil\x1b[31m red"


def distil(source, out, answer, *more):
    with FakeApi(answer) as api:
        assert (
            cli.main(["data", "--source", str(source), "--out", str(out), "--base_url", api.base_url, *MODELS, *more])
            == 0
        )
    return out


def page_data(out):
    """What the page's script is given."""
    line = next(x for x in (out / "report.html").read_text().splitlines() if x.startswith("<script>seethink({"))
    return json.loads(line.removeprefix("<script>seethink(").rpartition(");")[0])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return distil(make_samples(folder, 60), folder / "run", teacher)


# the diff

TEXTS = st.lists(
    st.sampled_from(["the ", "caption", " says", "two. ", "\n", "Wait,", " ", "  ", "é"]), max_size=40
).map("".join)


@given(TEXTS, TEXTS)
def test_pieces_add_up_to_both_texts(before, after):
    pieces, coarse = word_diff(before, after)
    assert "".join(text for text, mark in pieces if mark != "ins") == before
    assert "".join(text for text, mark in pieces if mark != "del") == after
    assert all(text for text, _ in pieces) and not coarse
    assert {mark for _, mark in pieces} <= ({""} if before == after else {"", "del", "ins"})


def test_what_a_rewriter_changed_is_what_is_coloured():
    pieces, _ = word_diff("Hm. The caption says two.\nFine", "Hm. The image shows two.\nFine and so on")
    expected = [
        ("Hm. The ", ""),
        ("caption says", "del"),
        ("image shows", "ins"),
        (" two.\nFine", ""),
        (" and so on", "ins"),
    ]
    assert pieces == expected


def test_a_stretch_too_long_to_match_is_one_change_and_counted():
    before, after = ("x " * 2_000 + "a", "y " + "x " * 2_001)
    pieces, coarse = word_diff("Same. " + before, "Same. " + after)
    assert coarse == 1 and [mark for _, mark in pieces] == ["", "del", "ins"]


@given(TEXTS, TEXTS, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=4))
def test_cues_are_marked_where_they_stand_in_the_second_text(before, after, spans):
    pieces, _ = word_diff(before, after)
    found = marked(pieces, spans)
    assert "".join(t for t, m in found if m == "del") == "".join(t for t, m in pieces if m == "del")
    second = [(char, "cue" in mark) for text, mark in found if mark != "del" for char in text]
    assert second == [(char, any(a <= i < b for a, b in spans)) for i, char in enumerate(after)]
    assert marked([("a double-check", "")], [(2, 14), (9, 14)]) == [("a ", ""), ("double-check", "cue")]


def test_long_pieces_are_cut_and_the_rest_is_counted():
    assert clipped([("abc", ""), ("def", "del")], 4) == ([("abc", ""), ("d", "del")], 2)
    assert clipped([("abc", "")], 3) == ([("abc", "")], 0)


# which rows, and how many bytes


def test_every_number_shows_equally_many_rows_whatever_their_order():
    ends = {f"a{n}": ("big", "split", "sft") for n in range(3_000)} | {
        f"b{n}": ("big", "verify", "rule_no") for n in range(3)
    }
    ends |= {f"{r}{n}": ("other", "distill", f"reason-{r}") for r in range(12) for n in range(60)}
    chosen, shuffled = choose(ends, 0), dict(random.Random(1).sample(list(ends.items()), len(ends)))
    counts = Counter(ends[i] for i in chosen)
    assert counts.pop(("big", "verify", "rule_no")) == 3 and len(chosen) == len(set(chosen)) == MOST_CARDS
    assert max(counts.values()) - min(counts.values()) <= 1 and max(counts.values()) < MOST_ROWS
    assert choose(shuffled, 0) == chosen != choose(ends, 1)
    assert len(choose({f"a{n}": ("big", "split", "sft") for n in range(3_000)}, 0)) == MOST_ROWS


def test_a_picture_is_as_large_as_its_bytes_let_it_be(tmp_path):
    path = str(tmp_path / "noise.png")
    Image.effect_noise((900, 600), 90).convert("RGB").save(path)
    small, large = thumbnail_uri(path, 9_000), thumbnail_uri(path, 90_000)
    assert len(small) <= 9_000 < len(large) <= 90_000 and small.startswith("data:image/jpeg")
    assert (
        thumbnail_uri(path, 10**7).startswith("data:image/png") and thumbnail_uri(str(tmp_path / "no.png"), 999) is None
    )


def test_the_page_keeps_within_its_bytes(run, monkeypatch):
    monkeypatch.setattr(distilled, "MOST_TEXT", 9_000)
    monkeypatch.setattr(distilled, "MOST_PICTURES", 4_000)
    page = distilled.assemble(read_facts(run))
    assert 5 < page["shown"] < 30 and page["total"] == 60
    texts, pictures = json.loads(page["data"][9:-3])["cards"], json.loads(page["data"][9:-3])["pictures"]
    assert len(json.dumps(texts)) < 9_000 and sum(map(len, pictures.values())) < 4_000
    shown = Counter((card["source"], card["step"], card["reason"]) for card in texts)
    assert set(shown) == set(read_facts(run).ends.values()), "every number has a row before any has two"


# what stands on it


def test_every_number_of_the_funnel_leads_to_its_rows(run):
    data, funnel = page_data(run), read_json(run / "funnel.json")
    counts = {tuple(end[:3]): end[3] for end in data["ends"]}
    for row in funnel:
        for reason, n in row["dropped"].items():
            assert counts[row["source"], row["step"], reason] == n
        if row["step"] == "split":
            assert (counts.get((row["source"], "split", "sft"), 0), counts.get((row["source"], "split", "rl"), 0)) == (
                row["sft"],
                row["rl"],
            )
    assert sum(counts.values()) == 60 == len(data["cards"])
    html = (run / "report.html").read_text()
    for link in (
        "#step=distill&amp;reason=format",
        "#source=docvqa&amp;step=verify&amp;reason=judge_no",
        "#source=clevr_math&amp;at=in&amp;step=split",
    ):
        assert link in html
    whole = summed(read_facts(run).sources)
    assert [row["in"] for row in whole] == [
        60,
        60,
        60,
        60 - whole[2]["dropped"]["format"],
        whole[3]["out"],
        whole[4]["out"],
    ]


def test_a_card_holds_the_stages_its_row_had(run):
    cards = {card["id"]: card for card in page_data(run)["cards"]}
    plain, rl_only, bare, gap, no, puzzle, aha = (cards[f"item-{n}"] for n in (0, 3, 1, 13, 12, 14, 5))
    assert (
        plain["trace"]["think"][1:3] == [["caption says", "del"], ["image shows", "ins"]]
        and plain["trace"]["moved"] == 0
    )
    assert plain["verdict"][:2] == [True, "rule"] and plain["cues"] == {} and plain["reason"] == "sft"
    assert plain["caption"] == "A picture with a number." and plain["model"] == "reasoner-0001"
    assert (rl_only["reason"], "caption" in rl_only, "trace" in rl_only) == ("rl", False, False)
    assert (
        bare["reason"] == "format" and bare["said"].startswith("So it is.") and "trace" not in bare and bare["caption"]
    )
    assert gap["reason"] == "gap" and gap["trace"]["moved"] == 30 and "verdict" not in gap
    assert no["verdict"][0] is False and no["reason"] == "rule_no"
    assert puzzle["reason"] == "judge_unparsable" and puzzle["said"] == "Well, it depends." and "verdict" not in puzzle
    assert aha["cues"] == {"wait": 1, "check": 1} and ["Wait", "cue"] in aha["trace"]["think"]


def test_without_outcomes_the_ledger_tells_the_same(run, tmp_path):
    """Of a folder of an earlier version; no request is sent, as nothing listens any more."""
    before = page_data(run)
    kept = (run / distilled.FILE).rename(tmp_path / "outcomes")
    distilled.write(run)
    assert page_data(run) == before
    kept.rename(run / distilled.FILE)


def test_facts_and_warnings(tmp_path):
    source = make_samples(tmp_path, 12)
    price = [word for role in ("captioner", "reasoner", "rewriter", "judge") for word in (f"--{role}.price", "[1, 2]")]
    simulated = lambda body: teacher({**body, "model": body["model"].removeprefix("pocket-")})  # noqa: E731
    out = distil(source, tmp_path / "run", simulated, "--limit", "8", *price, "--captioner.model", "pocket-captioner")
    with closing(Ledger(out / "ledger.sqlite")) as ledger:
        ledger.sent("key", "distill", "reasoner", 3.0)  # and killed
    with closing(Ledger(out / "ledger.sqlite")) as ledger:
        write = [json.dumps(row) for row in ledger.spending()]
    (out / "spend.jsonl").write_text("\n".join(write) + "\n")
    facts = read_facts(out)
    assert facts.usd > 3 and {a.step: a.served for a in facts.asked}["distill"] == ("reasoner-0001",)
    said = " ".join(facts.warnings)
    for words in (
        "Simulated: pocket-captioner",
        "first 8 rows",
        "1 requests left",
        "No licence is named for clevr_math",
    ):
        assert words in said
    assert "had no price" not in said and len(facts.prompts) == 6
    distilled.write(out)
    card, html = (out / "card.md").read_text(), (out / "card.html").read_text()
    assert all(value in html for value in facts.prompts.values()) and "reasoner-0001" in card
    for text in (card, html):  # it can go where the data go
        assert str(tmp_path) not in text and "data:image" not in text and "item-0" not in text


def test_a_source_that_is_gone_leaves_the_kept_rows(run, tmp_path):
    source = run.parent / "samples.jsonl"
    source.rename(tmp_path / "away.jsonl")
    distilled.write(run)
    cards = {card["id"]: card for card in page_data(run)["cards"]}
    assert "question" in cards["item-0"] and "question" not in cards["item-1"] and cards["item-1"]["reason"] == "format"
    assert "the source cannot be read" in (run / "report.html").read_text()
    source.write_text((tmp_path / "away.jsonl").read_text() + "\n")
    distilled.write(run)
    assert "the source has changed since" in (run / "report.html").read_text()
    (tmp_path / "away.jsonl").replace(source)
    distilled.write(run)
    assert "question" in {card["id"]: card for card in page_data(run)["cards"]}["item-1"]


def test_report_renders_a_data_run_again_and_refuses_what_is_none(run, tmp_path, capsys):
    assert cli.main(["report", str(run), "--out", str(tmp_path / "elsewhere")]) == 0
    assert page_data(tmp_path / "elsewhere") == page_data(run)
    with pytest.raises(UserError, match="no data run"):
        distilled.write(tmp_path)
    with Run(run, ""), pytest.raises(UserError, match="another process"):
        distilled.write(run)


def test_an_interrupted_run_can_be_looked_at(tmp_path, run):
    """What is settled has its place already, and is the same when the run has ended; the rest waits."""
    source, out = make_samples(tmp_path, 60), tmp_path / "run"
    with FakeApi(teacher, lambda n, body: "quota" if n > 90 else None) as api:
        line = [
            "data",
            "--source",
            str(source),
            "--out",
            str(out),
            "--base_url",
            api.base_url,
            *MODELS,
            "--in_flight",
            "4",
        ]
        assert cli.main(line) == 3 and not (out / "report.html").exists()
    assert cli.main(["report", str(out)]) == 0
    facts, ends = read_facts(out), read_facts(run).ends
    waiting = {i for i, end in facts.ends.items() if end[2] == "waiting"}
    assert 10 < len(waiting) < 60 == len(facts.ends) and any(facts.ends[i][1] == "split" for i in waiting)
    assert all(facts.ends[i] == ends[i] for i in facts.ends.keys() - waiting)
    assert sum(row["pending"] for row in facts.funnel) == len(waiting) and "came through so far" in facts.outcome
    assert read_facts(run).outcome == "21 to SFT, 24 to RL"
    html, cards = (out / "report.html").read_text(), {card["id"]: card for card in page_data(out)["cards"]}
    assert f"Not finished: {len(waiting)} of 60 rows wait" in html and "step=split&amp;reason=waiting" in html
    through = next(i for i in waiting if facts.ends[i][1] == "split" and "geoqa" not in facts.ends[i][0])
    assert cards[through]["verdict"][0] is True, "a row that came through shows its stages"
    distil(source, out, teacher)
    assert read_facts(out).ends == ends and "Not finished" not in (out / "report.html").read_text()


# hostile texts


def test_control_characters_are_seen_and_do_nothing():
    assert visible("a\u202eb\x1b[31m\r\n\tc\u2028") == "a\u27e8202E\u27e9b\u27e8001B\u27e9[31m\n\tc\u2028"
    assert visible("\ud800").isprintable()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Whatever a model or a source can write is hostile: question, source, gold, caption, trace, reply, model's name."""
    folder = tmp_path_factory.mktemp("hostile")
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    image = (str(folder / "a.png"),)
    samples = [
        Sample(
            f"{n} {HOSTILE}",
            f"s & <b> {HOSTILE}",
            image,
            f"item {n} {HOSTILE}",
            gold,
            "open",
            context=HOSTILE,
            licence=HOSTILE,
        )
        for n, gold in enumerate(("the number 1", "the number 9", HOSTILE))
    ]
    save_samples(folder / "samples.jsonl", samples)

    def answer(body):
        if body["model"] == "judge":
            return "Yes." if "<reference>\nthe number 1\n" in last_text(body) else HOSTILE
        said = teacher({**body, "model": body["model"]}) if body["model"] != "reasoner" else ""
        number = re.search(r"item (\d)", last_text(body))
        return (
            said
            and said + HOSTILE
            or f"<think>\nitem {number[1]} the caption says {HOSTILE} Wait\n</think>\n\n{HOSTILE}"
        )

    return distil(folder / "samples.jsonl", folder / "run", answer)


def test_hostile_texts_are_only_text(hostile):
    for name in ("report.html", "card.html", "card.md"):
        text = (hostile / name).read_text()
        assert (
            "<script>document" not in text and "<img src=x" not in text and "\u202e" not in text and "\x1b" not in text
        )
    assert len(page_data(hostile)["cards"]) == 3


@needs_browser
def test_hostile_texts_in_a_browser(hostile):
    texts = "[...document.querySelectorAll('.stage')].map(s => s.textContent).join('\\n')"
    inside = "document.querySelectorAll('.stage img[src=x], #cards script, .funnel b').length"
    click = "document.querySelector('.losses a').click()"
    seen = browser.look(
        hostile / "report.html", scripts=[texts, inside, click, "document.getElementById('shown').textContent"]
    )
    assert "</script><script>document.title" in seen.results[0] and seen.results[1] == 0
    assert "owned" not in seen.title and seen.errors == [] and seen.overflow == []
    assert seen.results[3] == "2 of 2 shown"


# in a browser

SHOWN, WHAT = "document.getElementById('shown').textContent", "document.getElementById('what').textContent"
KEY = "document.dispatchEvent(new KeyboardEvent('keydown', {{key: {0!r}, bubbles: true}}))"


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_in_a_browser(run, width, dark):
    press = "document.querySelector('a[href=\"#step=distill&reason=format\"]').click()"
    ids = "[...document.querySelectorAll('.card')].map(c => c.dataset.id).join(' ')"
    scripts = [SHOWN, press, SHOWN, WHAT, ids, "history.back()", SHOWN, "history.forward()", SHOWN]
    scripts += [
        "location.hash = '#source=docvqa&at=in&step=verify'",
        SHOWN,
        "location.hash = '#source=docvqa&at=out&step=verify'",
        SHOWN,
    ]
    scripts += ["location.hash = '#funnel'", SHOWN, "location.hash = '#item=item-5&look=rewrite'", SHOWN]
    scripts += [
        "getComputedStyle(document.querySelector('.stage.caption')).display",
        "document.querySelectorAll('.rewrite mark').length",
    ]
    seen = browser.look(run / "report.html", width, dark, scripts)
    results, funnel = seen.results, {(r["source"], r["step"]): r for r in read_json(run / "funnel.json")}
    wanted = [card["id"] for card in page_data(run)["cards"] if card["reason"] == "format"]
    assert seen.errors == [] and seen.overflow == [] and seen.requests == [(run / "report.html").resolve().as_uri()]
    assert results[0] == "60 of 60 shown, page 1 of 5" and results[2] == f"{len(wanted)} of {len(wanted)} shown"
    assert results[3] == "dropped at distill, format" and results[4].split() == wanted
    assert results[6] == results[0] and results[8] == results[2]
    into, out = funnel["docvqa", "verify"]["in"], funnel["docvqa", "verify"]["out"]
    assert results[10].startswith(f"{into} of {into} shown") and results[12].startswith(f"{out} of {out} shown")
    assert results[14] == results[12], "a place on the page is no choice of rows"
    assert results[16] == "1 found" and results[17] == "none" and results[18] == 2


@needs_browser
def test_search_keys_and_pages(run):
    search = "const f = document.getElementById('find'); f.value = 'ITEM-7 one'; f.dispatchEvent(new Event('input'))"
    focus = "document.activeElement.dataset.id"
    scripts = [
        search,
        SHOWN,
        "location.hash",
        "location.hash = '#rows=all'",
        KEY.format("n"),
        SHOWN,
        KEY.format("j"),
        focus,
    ]
    scripts += [KEY.format("j"), focus, KEY.format("k"), focus, KEY.format("/"), "document.activeElement.id"]
    scripts += ["location.hash = '#step=nonsense&page=99&find=%E0%A4%A'", SHOWN]
    seen = browser.look(run / "report.html", scripts=scripts)
    order = [card["id"] for card in page_data(run)["cards"]]
    assert seen.errors == [] and seen.results[1] == "1 found" and seen.results[2] == "#find=ITEM-7+one"
    assert seen.results[5] == "60 of 60 shown, page 2 of 5"
    assert [seen.results[n] for n in (7, 9, 11)] == [order[12], order[13], order[12]]
    assert seen.results[13] == "find" and seen.results[15] == "0 found"


def test_the_picture_on_a_card_is_the_rows_own(run):
    data = page_data(run)
    rows = {row["id"]: row for _, row in read_jsonl(run.parent / "samples.jsonl")}
    for card in data["cards"]:
        path = run.parent / rows[card["id"]]["images"][0]
        assert [data["pictures"][name] for name in card["images"]] == [thumbnail_uri(str(path), 10**6)]
        assert portable(str(path))[0] == path.read_bytes()


def test_a_run_of_nothing_kept_says_so(tmp_path):
    out = distil(make_samples(tmp_path, 3), tmp_path / "run", lambda body: "no tags", "--split.rl_only", "[]")
    assert {card["reason"] for card in page_data(out)["cards"]} == {"format"} and "No row was kept" in (
        out / "card.html"
    ).read_text()
