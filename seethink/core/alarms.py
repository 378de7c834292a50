"""Tables of alarms: what each needs, when it holds, and the sentence it says; docs/alarms.md is rendered from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from string import Formatter
from typing import Any, Protocol

Facts = dict[str, Any]
"""What fills the name and the sentence of an alarm."""


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """One row of a table of alarms. `name` and `sentence` are format strings over the facts that `find` yields."""

    name: str
    when: str
    """When it is looked at: start, round (each step or round), end, and in a study: report."""
    needs: tuple[str, ...]
    """Without these it stays silent: metrics of a run, or what a study must hold."""
    rule: str
    sentence: str
    find: Callable[[Any], Iterable[Facts]]


class Subject(Protocol):
    """What rules look at: the history of a run, or the findings of a study."""

    def has(self, need: str) -> bool: ...


def raised(rules: Iterable[AlarmRule], subject: Subject, when: str) -> dict[str, str]:
    """{alarm: sentence} of the rules that hold."""
    return {
        rule.name.format(**facts): rule.sentence.format(**facts)
        for rule in rules
        if rule.when == when and all(map(subject.has, rule.needs))
        for facts in rule.find(subject)
    }


def alarm_table(rules: Iterable[AlarmRule]) -> str:
    """The rules as Markdown, for docs/alarms.md."""
    lines = ["| alarm | looked at | needs | rule | it says |", "|---|---|---|---|---|"]
    for rule in rules:
        name, sentence = _as_shown(rule.name, "<{}>"), _as_shown(rule.sentence, "*{}*")
        lines.append(f"| `{name}` | {rule.when} | {', '.join(rule.needs) or 'nothing'} | {rule.rule} | {sentence} |")
    return "\n".join(lines)


def _as_shown(text: str, fact: str) -> str:
    """A format string with `fact` in the place of what will be known."""
    return "".join(literal + (fact.format(name) if name else "") for literal, name, _, _ in Formatter().parse(text))
