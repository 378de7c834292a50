"""The split: cues, caps, sources for RL only, verifiable golds, nothing shared, nothing lost."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seethink.core.errors import UserError
from seethink.core.nouns import Drop, Sample, Verdict
from seethink.core.store import load_examples, load_samples, read_json, write_json
from seethink.core.tables import read_table
from seethink.data import kept as kept_module
from seethink.data.funnel import Funnel
from seethink.data.kept import Draft, Kept, count_cues, load_kept, save_kept
from seethink.data.split import Cues, SplitConfig, SplitRule, run, split_line
from seethink.data.split import split as split_lines


def row(name, think="It is red.", source="clevr_math", gold="3", kind="digit", answer="3", images=()):
    sample = Sample(name, source, tuple(images), f"How many in {name}?", gold, kind, meta={"caption": "c"})
    return Kept(sample, None if think is None else Draft(think, answer, "m", 7), Verdict(True, "rule", "why"))


def split(rows, rule):
    """Parts of whole rows."""
    return split_lines([split_line(kept, count_cues(kept), rule, Cues()) for kept in rows], rule)


def ids(lines):
    return [line.id for line in lines]


def test_cues_decide():
    parts = split([row("a"), row("b", "Wait, it is red."), row("c", answer="3, I should check")], SplitRule())
    assert (ids(parts.sft), ids(parts.rl)) == (["a"], ["b", "c"])
    parts = split([row("a", "against a checkered wall"), row("b", "Let me recheck")], SplitRule(preset="strict"))
    assert (ids(parts.sft), ids(parts.rl)) == (["a"], ["b"])


def test_all_sft_ignores_cues_but_not_rl_only():
    rows = [row("a"), row("b", "Wait."), row("g", None, "geoqa170k")]
    parts = split(rows, SplitRule(rule="all_sft"))
    assert (ids(parts.sft), ids(parts.rl)) == (["a", "b"], ["g"])


def test_sources_for_rl_only_never_become_examples():
    parts = split([row("g", source="geoqa170k"), row("h", None, "geoqa170k"), row("x", None)], SplitRule())
    assert (ids(parts.sft), ids(parts.rl)) == ([], ["g", "h"])
    assert [(d.sample_id, d.reason) for d in parts.drops] == [("x", "no_trace")]


def test_caps_are_per_source_and_do_not_hang_on_the_order_of_rows():
    rows = [row(f"{source}-{n}", "Wait.", source) for n in range(20) for source in ("clevr_math", "arxivqa")]
    rule = SplitRule(rl_cap=5, rl_caps={"arxivqa": 2}, seed=1)
    parts = split(rows, rule)
    assert sum(r.source == "clevr_math" for r in parts.rl) == 5 and len(parts.rl) == 7
    assert {d.reason for d in parts.drops} == {"over_cap"} and len(parts.drops) == 33
    shuffled = random.Random(0).sample(rows, len(rows))
    assert set(ids(split(shuffled, rule).rl)) == set(ids(parts.rl))
    assert set(ids(split(rows, SplitRule(rl_cap=5, seed=2)).rl)) != set(ids(split(rows, SplitRule(rl_cap=5)).rl))


@pytest.mark.parametrize(
    ("kind", "gold", "fine"),
    [("digit", "3", True), ("digit", "many", False), ("choice", "B", True), ("math", "y = 2x", True), ("open", "a red cup", True), ("open", " ", False)],
)  # fmt: skip
def test_rl_needs_a_gold_that_can_be_verified(kind, gold, fine):
    sample = row("a", "Wait.", gold=gold, kind=kind)
    parts = split([sample], SplitRule())
    assert len(parts.rl) == fine and [d.reason for d in parts.drops] == ([] if fine else ["gold_not_verifiable"])


def test_the_same_question_about_the_same_image_twice_is_refused(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    first, second = row("a", images=[tmp_path / "a.png"]), row("b", "Wait.", images=[tmp_path / "b.png"])
    twin = Kept(
        Sample("b", "clevr_math", second.sample.images, first.sample.question, "3", "digit"), second.draft, None
    )
    with pytest.raises(UserError, match="same question"):
        split([first, twin], SplitRule())


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["clevr_math", "arxivqa", "geoqa170k"]),
            st.sampled_from([None, "It is.", "Wait, it is."]),
            st.sampled_from(["3", "many"]),
        )
    ),
    st.sampled_from([None, 0, 2]),
    st.sampled_from(["aha", "all_sft"]),
)
def test_nothing_is_lost_or_counted_twice(draws, cap, rule):
    rows = [row(str(n), think, source, gold) for n, (source, think, gold) in enumerate(draws)]
    parts = split(rows, SplitRule(rule=rule, rl_cap=cap))
    assert sorted([*ids(parts.sft), *ids(parts.rl), *(d.sample_id for d in parts.drops)]) == sorted(
        r.sample.id for r in rows
    )
    assert not any(line.source == "geoqa170k" for line in parts.sft)
    funnel = Funnel([r.sample for r in rows], parts.drops, sft=parts.sft, steps=("split",))
    assert sum(r["sft"] + r["rl"] for r in funnel.rows()) == len(parts.sft) + len(parts.rl)


def test_a_funnel_that_does_not_add_up_is_a_bug():
    sample = row("a").sample
    with pytest.raises(AssertionError, match="missing or counted twice"):
        Funnel([sample], [Drop("a", sample.source, "unknown step", "x")]).rows()


def test_traces_survive_the_file_and_can_be_split_again(tmp_path, capsys):
    image = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(image)
    rows = [row("a", images=[str(image)]), row("b", "Wait, let me double-check."), row("g", None, "geoqa170k")]
    path = tmp_path / "traces.jsonl"
    save_kept(path, rows)
    assert load_kept(path) == rows
    out = tmp_path / "split"
    run(SplitConfig(traces=path, out=out))
    assert "only paper 0" in capsys.readouterr().out
    (example,) = load_examples(out / "sft.jsonl")
    assert example.completion == "<think>It is red.</think>\n<answer>3</answer>"
    assert Path(example.sample.images[0]).samefile(image) and example.sample.meta == {"caption": "c"}
    assert [s.id for s in load_samples(out / "rl.jsonl")] == ["b", "g"]
    assert read_table(out / "drops.parquet") == [] and read_json(out / "done.json")["summary"]["rl"] == 2
    run(SplitConfig(traces=path, out=out, rule="all_sft"))  # the same folder, another rule
    assert [e.sample.id for e in load_examples(out / "sft.jsonl")] == ["a", "b"]


def test_dry_run_of_the_split_writes_nothing(tmp_path):
    save_kept(tmp_path / "traces.jsonl", [row("a")])
    run(SplitConfig(traces=tmp_path / "traces.jsonl", out=tmp_path / "out"), dry_run=True)
    assert not (tmp_path / "out").exists()


def test_half_a_trace_is_named(tmp_path):
    path = tmp_path / "traces.jsonl"
    save_kept(path, [row("a")])
    path.write_text(path.read_text().replace('"answer": "3"', '"answer": null'))
    with pytest.raises(UserError, match="only one of think and answer"):
        load_kept(path)


def test_a_samples_own_answer_in_meta_is_not_its_trace(tmp_path):
    sample = Sample("a", "arxivqa", (), "q", "3", "digit", meta={"answer": "its own", "model": "camera"})
    rows = [Kept(sample, Draft("It is red.", "3", "m", 7), None), Kept(replace(sample, id="b"), None, None)]
    save_kept(tmp_path / "traces.jsonl", rows)
    assert load_kept(tmp_path / "traces.jsonl") == rows


def test_cues_that_the_run_counted_are_counted_again_only_where_something_changed(tmp_path, monkeypatch):
    """The counts in traces.jsonl are taken where the run notes this very file and this very way of counting."""
    path, counted = tmp_path / "traces.jsonl", []
    save_kept(path, [row(f"s{n}", "It is red. Wait." if n % 2 else "It is red.") for n in range(6)])
    write_json(tmp_path / "done.json", {"summary": kept_module.counting(path)})
    count = kept_module.count_cues
    monkeypatch.setattr(kept_module, "count_cues", lambda kept: counted.append(kept.sample.id) or count(kept))
    first = [counts for _, counts in kept_module.iter_counted(path)]
    assert not counted and first == [count(kept) for kept in kept_module.iter_kept(path)] and any(first)
    path.write_text(path.read_text().replace("Wait", "Later"))
    assert [c for _, c in kept_module.iter_counted(path)] != first and counted, "another file is counted anew"
    path.write_text(path.read_text().replace("Later", "Wait"))
    counted.clear()
    monkeypatch.setattr(kept_module, "content_hash", lambda name: f"another {name}")
    assert [c for _, c in kept_module.iter_counted(path)] == first and counted, "and by another lexicon"
