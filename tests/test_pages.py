"""What all pages have in common: colours that can be read, a focus that can be seen, keys that keep what was chosen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seethink import cli
from seethink.show.config import ReportConfig, ViewConfig
from seethink.show.report import run as report
from seethink.show.view import run as view
from tests import browser, synthetic_study
from tests.browser import Press
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi
from tests.test_data import MODELS

TEMPLATES = Path(cli.__file__).parent / "show" / "templates"
GROUNDS = {
    "ink": ("paper", "card", "mark-bg", "warn-bg", "true-bg", "false-bg"), "muted": ("paper", "card"), "accent": ("paper", "card"),
    "true": ("true-bg",), "false": ("false-bg",), "paper": ("accent",), **{f"series-{n}": ("card",) for n in (3, 4)},
}  # fmt: skip
"""Colour of a text -> what it stands on somewhere."""


def palette(dark: bool) -> dict[str, str]:
    light, night = re.findall(r":root \{(.*?)\}", (TEMPLATES / "base.css").read_text(), re.S)[:2]
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    return found | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", night)) if dark else found


def brightness(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(share * v for share, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_can_be_read_on_what_it_stands_on(dark):
    colours = palette(dark)
    for ink, grounds in GROUNDS.items():
        for ground in grounds:
            a, b = sorted((brightness(colours[ink]), brightness(colours[ground])), reverse=True)
            assert (a + 0.05) / (b + 0.05) >= 4.5, f"--{ink} on --{ground}"


def test_no_text_is_faded_and_the_focus_is_seen():
    css = {path.name: path.read_text() for path in TEMPLATES.glob("*.css")}
    for name, text in css.items():
        faded = [rule for rule in re.findall(r"([^{}]+)\{[^{}]*opacity: *\.\d", text) if "disabled" not in rule]
        assert {rule.strip() for rule in faded} <= {".funnel .length .waits", ".range i", ".delta i"}, (
            f"{name}: bars alone are faded"
        )
        assert not re.search(r"outline: *(none|0)", text), name
    assert ":focus-visible { outline" in css["base.css"] and "prefers-reduced-motion" in css["base.css"]


@pytest.mark.parametrize("name", ["view.js", "data.js"])
def test_escape_leaves_a_search_and_keeps_it(name):
    escape = (TEMPLATES / name).read_text().partition('event.key === "Escape"')[2].partition("return;")[0]
    assert "preventDefault" in escape, "a browser empties a search field on Escape, and tells no script that blurs it"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A study's report and viewer, and the page of a data run."""
    folder = tmp_path_factory.mktemp("pages")
    arms = {name: synthetic_study.ARMS[name] for name in ("base", "grpo", "sft-hesitant", "sft-hesitant+grpo")}
    study = synthetic_study.build(folder / "study", seeds=(0,), items=40, arms=arms, steps=5)
    report(ReportConfig(study=study, checker="tests.synthetic_study:check"))
    view(ViewConfig(input=study, checker="tests.synthetic_study:check"))
    with FakeApi(teacher) as api:
        source = make_samples(folder, 12)
        cli.main(["data", "--source", str(source), "--out", str(folder / "data"), "--base_url", api.base_url, *MODELS])
    return {"report": study / "report.html", "view": study / "view/index.html", "data": folder / "data/report.html"}


needs_browser = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")


@needs_browser
@pytest.mark.parametrize("name", ["report", "view", "data"])
@pytest.mark.parametrize("dark", [False, True])
def test_no_text_is_pale_in_a_browser(pages, name, dark):
    seen = browser.look(pages[name], dark=dark, scripts=["new Promise(done => setTimeout(done, 300))", browser.PALE])
    assert seen.results[1] == [] and seen.errors == []


@needs_browser
@pytest.mark.parametrize("name", ["view", "data"])
def test_a_pressed_escape_keeps_the_choice(pages, name):
    state = "[document.getElementById('find').value, location.hash, document.activeElement.tagName, document.getElementById('shown').textContent]"
    seen = browser.look(pages[name], scripts=[Press("/"), Press("1"), state, Press("Escape"), state, Press("j"), state])
    typed, left, moved = (seen.results[at] for at in (2, 4, 6))
    assert typed[0] == "1" and "find=1" in typed[1] and typed[2] == "INPUT"
    assert left[:2] == typed[:2] and left[2] == "BODY" and left[3] == typed[3]
    assert moved[0] == "1" and "find=1" in moved[1] and moved[2] == "ARTICLE"
