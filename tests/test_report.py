"""The report of a synthetic study: numbers from the folders, nothing from the network, honest about what is missing."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from seethink.core.errors import UserError
from seethink.core.stats import compare
from seethink.core.store import read_json, write_json
from seethink.show.items import from_study
from seethink.show.report import CONTENTS, ReportConfig, choose, marks_of, run
from seethink.study import costs as ledger
from seethink.study import matched, results
from seethink.study.alarms import study_alarms
from seethink.study.folder import load_study
from tests import browser, synthetic_study

CHECKER = "tests.synthetic_study:check"
PAIR = {name: synthetic_study.ARMS[name] for name in ("base", "grpo", "sft-hesitant", "sft-hesitant+grpo")}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = synthetic_study.build(tmp_path_factory.mktemp("study"), items=80, steps=12)
    run(ReportConfig(study=folder, checker=CHECKER))
    return folder


@pytest.fixture
def small(tmp_path):
    """A study of four arms and two seeds, to be damaged."""
    return synthetic_study.build(tmp_path / "study", seeds=(0, 1), items=30, arms=PAIR, steps=12)


@pytest.fixture(scope="module")
def html(study):
    return (study / "report.html").read_text()


def page_of(folder, **values):
    run(ReportConfig(study=folder, gallery=2, **values))
    return (folder / "report.html").read_text()


def edit(path, change):
    values = read_json(path)
    change(values)
    write_json(path, values)


def test_the_page_needs_nothing_but_itself(html):
    assert "<script" not in html and '<link rel="stylesheet' not in html
    addresses = re.findall(r"(?:src|href|action)=\"([^\"]*)\"|url\(([^)]*)\)", html)
    assert {a or b for a, b in addresses if not (a or b).startswith(("data:", "#"))} == set()


def test_every_section_is_there(html):
    assert all(f'<section id="{name}">' in html for name in CONTENTS)
    assert html.count('<svg class="plot"') >= 10 and html.count("<title>") == 1 + html.count('<svg class="plot"')


def test_ids_are_unique(html):
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_what_a_model_wrote_is_escaped(html):
    assert "<script>document" not in html and "onerror=alert(1)>" not in html.replace("onerror=alert(1)&gt;", "")
    assert "&lt;script&gt;document" in html


def test_the_headline_is_the_comparison_of_the_folders(study, html):
    loaded = load_study(study)
    primary = results.headline(loaded, results.contrasts(loaded)).primary
    a, b = loaded.outcomes("sft-hesitant+grpo"), loaded.outcomes("grpo")
    assert primary.overall == compare(a, b)
    assert primary.overall.interval.estimate == pytest.approx(np.nanmean(a - b))
    shown = f"{100 * primary.overall.interval.estimate:+.1f}".replace("-", "−")
    assert f"<strong>{shown} points</strong>" in html and "3 seeds" in html
    assert f"**{shown} points**" in (study / "report.md").read_text()


def test_accuracy_is_over_decided_items(study):
    loaded = load_study(study)
    row = next(r for r in results.arm_results(loaded) if r.name == "grpo")
    summaries = [run.summary["accuracy"] for run in loaded.arms["grpo"].of("eval")]
    assert row.per_seed == pytest.approx(summaries)
    assert row.undecided == sum(s.ok is None for run in loaded.arms["grpo"].of("eval") for s in run.scores) > 0


def test_the_base_is_shown_under_both_cues(study):
    rows = {r.name: r for r in results.arm_results(load_study(study))}
    assert rows["base"].against_base is None
    assert rows["base, hesitant"].against_base.interval.estimate < 0


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ([], "Not measured yet."),
        (["not measured"], "Not measured yet."),
        (["worse", "worse"], "Explore. Imitating first hurt."),
        (["worse", "not distinguishable"], "Explore. Imitating first never helped."),
        (["better"], "Imitate first."),
        (["better", "not distinguishable"], "Imitate first. It helped or did no harm that can be seen."),
        (["better", "worse"], "It depends on what is imitated."),
        (["not distinguishable"], "No difference can be seen."),
    ],
)
def test_the_answer_follows_from_the_verdict_words(small, words, answer):
    loaded = load_study(small)
    pair = results.contrasts(loaded)[0]
    found = [results.Contrast("sft-hesitant+grpo", "grpo", "", pair.overall, {}, 0.1, word, []) for word in words]
    assert results.headline(loaded, found).answer == answer


def test_a_placebo_arm_listed_first_is_no_reference_and_does_not_vote(tmp_path):
    """It explores from the base as the reference does, and an arm that imitates before it is in no question."""
    dice = synthetic_study.Dice
    arms = {
        "base": synthetic_study.ARMS["base"],
        "placebo": (("grpo",), "", "base", dice(0.2)),
        **PAIR,
        "sft-hesitant+grpo": (("sft", "grpo"), "hesitant", "sft-hesitant", dice(0.2)),
        "sft-concise": synthetic_study.ARMS["sft-concise"],
        "sft-concise+grpo": (("sft", "grpo"), "concise", "sft-concise", dice(0.95)),
    }
    folder = synthetic_study.build(tmp_path / "study", items=80, arms=arms, steps=12)
    pairs = [["placebo", "grpo"], ["sft-concise+grpo", "grpo"], ["sft-hesitant+grpo", "grpo"]]
    edit(folder / "study.json", lambda plan: plan.update(comparisons=pairs))
    edit(folder / "study.json", lambda plan: plan["question"].update(comparisons=pairs[2:]))
    loaded = load_study(folder)
    found = results.contrasts(loaded)
    assert loaded.reference == "grpo" and [c.word for c in found[:3]] == ["worse", "better", "worse"]
    head = results.headline(loaded, found)
    assert head.answer == "Explore. Imitating first hurt." and head.primary.a == "sft-hesitant+grpo"
    row = next(r for r in results.arm_results(loaded) if r.name == "placebo")
    assert row.against_reference == compare(loaded.outcomes("placebo"), loaded.outcomes("grpo"))
    edit(folder / "study.json", lambda plan: plan["question"].update(comparisons=pairs[1:]))
    loaded = load_study(folder)
    assert results.headline(loaded, found).answer == "It depends on what is imitated."


def test_a_question_of_the_users_own_is_the_title(small):
    edit(small / "study.json", lambda plan: plan["question"].update(text="Is it <b>worth</b> it?", worse="No, never."))
    page, loaded = page_of(small), load_study(small)
    assert "<title>Is it &lt;b&gt;worth&lt;/b&gt; it? " in page
    found = [replace(results.contrasts(loaded)[0], word="worse")]
    assert results.headline(loaded, found).answer == "No, never."


def test_few_seeds_are_named_in_the_headline(small, tmp_path):
    assert "few seeds (2)" in page_of(small)
    single = synthetic_study.build(tmp_path / "single", seeds=(0,), items=30, arms=PAIR)
    page = page_of(single)
    assert "single seed" in page and "one seed" in page


def test_missing_runs_say_not_measured(small):
    shutil.rmtree(small / "arms/sft-hesitant+grpo")
    page = page_of(small)
    assert "not measured" in page and "2 of 2 comparisons not measured" in page
    assert "Not measured yet." in page


def test_a_study_without_a_grpo_arm_is_measured_against_the_base(tmp_path):
    arms = {name: synthetic_study.ARMS[name] for name in ("base", "sft-hesitant")}
    page = page_of(synthetic_study.build(tmp_path / "study", seeds=(0, 1, 2), items=30, arms=arms))
    assert "Budgets, relative to base" in page and page.split('"Further evaluations"')[0].count(">against base<") == 1
    assert "sft-hesitant<small>− base</small>" in page and "Not measured yet." in page


def test_a_study_without_any_run_still_renders(small):
    shutil.rmtree(small / "arms")
    page = page_of(small)
    assert "Not measured yet." in page and "no finished evaluation" in page


def test_a_board_that_is_gone_costs_samples_and_truth_only(small):
    (small / "world/board.jsonl").unlink()
    page = page_of(small, checker=CHECKER)
    assert "the board is gone" in page and "Hesitation markers" in page


def test_a_checker_that_is_gone_is_named(small):
    assert "no_such_module_xyz" in page_of(small, checker="no_such_module_xyz:check")


def test_names_and_labels_are_escaped(small):
    edit(small / "study.json", lambda plan: plan.update(label="<b>label</b>", commands=["seethink <i>x</i>"]))
    page = page_of(small)
    assert "<b>label</b>" not in page and "&lt;b&gt;label&lt;/b&gt;" in page and "<i>x</i>" not in page


def test_no_study_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"no study\.json"):
        run(ReportConfig(study=tmp_path))


def test_a_dry_run_writes_nothing(small, capsys):
    run(ReportConfig(study=small), dry_run=True)
    assert "4 arms" in capsys.readouterr().out and not (small / "report.html").exists()


def test_controls_are_compared_by_content(small):
    def named(study):
        return {c.name: c for c in matched.controls(study, "sft-hesitant+grpo", "grpo")}

    assert all(control.same for control in named(load_study(small)).values())
    run_folder = small / "arms/sft-hesitant+grpo/seed1"
    edit(run_folder / "grpo/config.json", lambda c: c["optim"].update(lr=3e-4))
    edit(run_folder / "grpo/config.json", lambda c: c["reward"]["box"].update(correct=0.75))
    edit(run_folder / "grpo/done.json", lambda d: d["summary"].update(data_order="another"))
    edit(run_folder / "eval/config.json", lambda c: c.update(temperature=0.7))
    edit(run_folder / "eval/manifest.json", lambda m: m["inputs"].update(data="another"))
    changed = named(load_study(small))
    assert changed["schedule"].same is False and "optim.lr 0.0003 / 0.0001" in changed["schedule"].detail
    assert not any(changed[name].same for name in ("rewards", "data order", "evaluation prompts", "decoding"))
    assert changed["seeds"].same is True
    page = page_of(small)
    assert "✗ differs" in page and "the arms differ in more than the named factor (data order, rewards" in page


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("gpus", 8, True),  # where it runs
        ("reuse_prefill", True, True),  # how it is computed
        ("data", "elsewhere/rl.jsonl", True),  # what is read counts by its content
        ("sampler.url", "http://127.0.0.1:1", True),
        ("temperature", 0.5, False),
        ("sampler.importance_cap", 3.0, False),
        ("model.freeze_vision", False, False),
        ("a_setting_of_older_code", 1, False),
    ],
)
def test_a_setting_is_a_control_by_what_it_changes(small, key, value, same):
    def change(config):
        *tables, name = key.split(".")
        for table in tables:
            config = config.setdefault(table, {})
        config[name] = value

    edit(small / "arms/sft-hesitant+grpo/seed1/grpo/config.json", change)
    controls = {c.name: c for c in matched.controls(load_study(small), "sft-hesitant+grpo", "grpo")}
    assert controls["schedule"].same is same
    assert same or key in controls["schedule"].detail


def test_evaluations_are_compared_by_what_they_asked_and_how_they_drew(small):
    run_folder = small / "arms/sft-hesitant+grpo/seed1/eval"

    def named():
        return {c.name: c.same for c in matched.controls(load_study(small), "sft-hesitant+grpo", "grpo")}

    edit(run_folder / "config.json", lambda c: c.update(batch=7, api_key_env="OTHER", data="moved.jsonl"))
    assert named()["evaluation prompts"] and named()["decoding"]
    edit(run_folder / "config.json", lambda c: c.update(limit=10))
    assert named()["evaluation prompts"] is False and named()["decoding"]
    edit(run_folder / "config.json", lambda c: c.update(limit=0, max_tokens=64))
    assert named()["evaluation prompts"] and named()["decoding"] is False


def test_the_system_prompt_is_a_control_in_training_and_evaluation(small):
    def same():
        found = {c.name: c.same for c in matched.controls(load_study(small), "sft-hesitant+grpo", "grpo")}
        return found["system prompt"], found["schedule"], found["evaluation prompts"]

    assert same() == (True, True, True)
    manifest = small / "arms/sft-hesitant+grpo/seed1/grpo/manifest.json"
    edit(manifest, lambda m: m["inputs"].update({"model.system": "x"}))
    assert same() == (False, True, True)
    edit(manifest, lambda m: m["inputs"].update({"model.system": ""}))
    edit(small / "arms/sft-hesitant+grpo/seed1/eval/manifest.json", lambda m: m["inputs"].update(system="x"))
    assert same() == (False, True, True)


@pytest.mark.parametrize(
    ("stage", "change", "differs"),
    [
        # a model that was trained within bounds is evaluated within them
        ("grpo", {"model": {"path": "models/base", "freeze_vision": True, "max_pixels": 100}}, {"pixels"}),
        ("eval", {"max_pixels": 100}, {"pixels", "pixels in training and evaluation"}),
    ],
)
def test_pixels_are_a_control_in_words(small, stage, change, differs):
    def broken():
        found = matched.controls(load_study(small), "sft-hesitant+grpo", "grpo")
        return {c.name: c.detail for c in found if c.same is False}

    assert not broken()
    edit(small / f"arms/sft-hesitant+grpo/seed1/{stage}/config.json", lambda c: c.update(change))
    assert broken().keys() == differs
    assert broken()["pixels"] == "max_pixels 100 / the model's own (larger pictures are shrunk)"


def test_models_are_asked_under_the_system_prompt_they_were_trained_under(small):
    def control(a="sft-hesitant+grpo", b="grpo"):
        found = {c.name: c for c in matched.controls(load_study(small), a, b)}
        return found["system prompt in training and evaluation"]

    run_folder = small / "arms/sft-hesitant+grpo/seed1"
    assert control().same is True and control(b="base").same is True
    edit(run_folder / "grpo/manifest.json", lambda m: m["inputs"].update({"model.system": "Think."}))
    assert (control().same, control().detail) == (False, "Think. / ") and control(b="base").same is False
    edit(run_folder / "eval/manifest.json", lambda m: m["inputs"].update({"system": "Think."}))
    assert control().same is True and control("grpo", "base").same is True


def test_arms_that_end_differently_share_no_schedule(small):
    controls = {c.name: c for c in matched.controls(load_study(small), "sft-hesitant", "grpo")}
    assert controls["schedule"].same is None and controls["schedule"].detail == "sft against grpo"
    assert controls["decoding"].same is True


def test_budgets_add_up_over_the_lineage(small):
    loaded = load_study(small)
    budget = {e.axis: e for e in matched.efforts(loaded, "sft-hesitant+grpo", "grpo")}
    assert [run.name for run in loaded.lineage("sft-hesitant+grpo", 0)] == ["sft", "grpo"]
    assert budget["prompts"].value == 600 + 16 * 12 and budget["prompts"].matched is False
    assert budget["rollouts"].ratio == 1.0 and budget["rollouts"].matched
    assert budget["CPU seconds"].value is None and budget["CPU seconds"].matched is None


def test_funnels_add_up(study):
    sets = ledger.data_sets(load_study(study))
    assert [f.name for f in sets] == ["hesitant", "concise"]  # rl.jsonl came out of the same run as concise
    for funnel in sets:
        for rows in funnel.sources.values():
            dropped = sum(n for row in rows for n in row["dropped"].values())
            assert rows[0]["in"] == dropped + rows[-1]["sft"] + rows[-1]["rl"]


def test_alarms_of_runs_and_of_the_study(study, html):
    loaded = load_study(study)
    (alarm,) = ledger.alarms(loaded)
    assert (alarm.arm, alarm.seed, alarm.at) == ("sft-hesitant", 1, "step 7") and "rolled back" in html
    found = [
        results.Contrast("sft-hesitant+grpo", "grpo", "", results.contrasts(loaded)[0].overall, {}, 0.0, "worse", [])
    ]
    assert any("below grpo" in text for text in study_alarms(loaded, found))


def test_the_ledger_counts_time(study):
    costs = {(c.arm, c.stage): c for c in ledger.costs(load_study(study))}
    assert costs["grpo", "grpo"].total_seconds == pytest.approx(3 * costs["grpo", "grpo"].seconds)
    assert costs["base", "eval-hesitant"].runs == 1


def test_an_arm_and_what_starts_from_it_share_a_colour(study):
    marks = marks_of(load_study(study))
    assert marks["base"].series == 0 and marks["sft-hesitant"].series == marks["sft-hesitant+grpo"].series
    assert marks["sft-hesitant"].hollow and not marks["sft-hesitant+grpo"].hollow
    assert len({m.series for m in marks.values()}) == 4


def test_the_gallery_shows_flips_both_ways_first(study):
    loaded = load_study(study)
    items = choose(from_study(loaded, ("sft-hesitant+grpo", "grpo"), 0, synthetic_study.check), 6)
    verdicts = [tuple(a.ok for a in item.attempts) for item in items]
    assert verdicts[0] == (False, True) and verdicts[1] == (True, False)
    assert "lucky" in items[2].flags and len({i.sample.id for i in items}) == 6


def test_curves_count_rounds_of_grpo_and_steps_of_sft(study, html):
    loaded = load_study(study)
    assert [at for at, _ in loaded.arms["grpo"].of("grpo")[0].curve("reward/mean")] == list(range(1, 13))
    assert [at for at, _ in loaded.arms["sft-hesitant"].of("sft")[0].curve("loss")] == list(range(1, 13))
    assert html.count(">round</text>") == 4 and html.count(">step</text>") == 1


def test_study_json_may_leave_starts_out(small):
    edit(small / "study.json", lambda plan: [arm.pop("start") for arm in plan["arms"].values()])
    loaded = load_study(small)
    assert loaded.arms["sft-hesitant+grpo"].start == "sft-hesitant" and loaded.arms["grpo"].start == "base"


CROSSED = """[...document.querySelectorAll('svg.plot')].flatMap(plot => {
  const boxes = selector => [...plot.querySelectorAll(selector)].map(e => [e, e.getBoundingClientRect()]);
  const lines = boxes('[id*="-line2d"] path').map(([, box]) => box);
  const meet = (t, l) => l.left < t.right - 1 && t.left < l.right - 1 && l.top < t.bottom - 1 && t.top < l.bottom - 1;
  return boxes('text').filter(([, t]) => lines.some(l => meet(t, l))).map(([e]) => e.textContent);
})"""
"""Texts of charts that a line of their chart crosses."""


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True)])
def test_the_page_in_a_browser(study, width, dark):
    colour = "getComputedStyle(document.querySelector('svg.plot text')).fill"
    seen = browser.look(study / "report.html", width, dark, scripts=[colour, CROSSED])
    assert seen.errors == [] and seen.overflow == []
    assert [r for r in seen.requests if not r.endswith("report.html")] == []
    assert "owned" not in seen.title
    light = [int(n) > 128 for n in re.findall(r"\d+", seen.results[0])[:3]]
    assert all(light) if dark else not any(light)
    assert seen.results[1] == []
