"""Curate a data set: the rows that an arm trains on, and of every other row why it went.

    seethink curate --data runs/data/traces.jsonl --keep right unhesitating --shortest 5000 --out runs/curated
    seethink curate --data rl.jsonl --scores runs/base-samples --pass_rate 0.1 0.9 --out runs/learnable
    seethink curate --data rl.jsonl --from_scores runs/base-samples --out runs/own-right
    seethink curate --data careful.jsonl --same_questions_as hesitant.jsonl concise.jsonl --count 600 --out runs/matched

A row goes through STEPS and leaves at the first that it does not pass. What cannot be decided (an answer that nobody can
judge, a trace without a statement that can be checked) passes no condition. Whatever was asked for, the answers of what is
left are judged, its markers and false statements counted: that no row has a wrong answer is seen, not hoped.
Writes selected.jsonl (examples, or samples where the data hold no traces), in the order of the data, drops.parquet, funnel.json,
balance.json.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.fields import refuse_tokens
from seethink.core.nouns import Example
from seethink.core.preflight import settle
from seethink.core.progress import progress
from seethink.core.run import Run
from seethink.core.store import (
    hash_file,
    hash_json,
    hash_path,
    hash_text,
    save_examples,
    save_samples,
    write_json,
    write_text,
)
from seethink.core.tables import write_table
from seethink.core.tags import extract
from seethink.data import choose
from seethink.data.attempts import SCORES, Attempts, different, read_attempts
from seethink.data.balance import Balance
from seethink.data.card import write_card
from seethink.data.config import SELECTED, CurateConfig
from seethink.data.contamination import CONTAMINATED, content_of, find_contaminated
from seethink.data.funnel import DROP_COLUMNS, print_funnel
from seethink.data.kept import read_traces
from seethink.data.sieve import Entry, Sieve, WhyDropped
from seethink.rewards import Rewarder
from seethink.traces.analyse import analyse
from seethink.traces.lexicon import content_hash
from seethink.traces.steps import Checker, load_checker

SYSTEM = "prompt/system.txt"
OTHER_QUESTION = ("other_question", "something else is asked under this id there")
VERDICTS = ("right", "wrong")
MANY = 20_000  # traces from which on measuring them is worth a progress line


CONDITIONS: dict[str, tuple[str, Callable[[Entry, CurateConfig], bool | None]]] = {
    "thinking": ("empty_thinking", lambda entry, _: entry.measured.words > 0),
    "aha": ("no_aha", lambda entry, config: entry.measured.markers[config.aha] > 0),
    "no-aha": ("aha", lambda entry, config: entry.measured.markers[config.aha] == 0),
    "unhesitating": ("hesitates", lambda entry, config: entry.measured.markers[config.hesitation] == 0),
    "true": ("false_statement", lambda entry, _: entry.measured.false_steps == 0 if entry.measured.checked else None),
    "false": ("all_true", lambda entry, _: (entry.measured.false_steps or 0) > 0 if entry.measured.checked else None),
    "right": ("wrong", lambda entry, _: entry.ok),
    "wrong": ("right", lambda entry, _: None if entry.ok is None else not entry.ok),
}
"""Condition -> why a trace is dropped that does not meet it, and whether it does; None: undecided. Judging, which may cost
something, comes last."""


def run(config: CurateConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; its summary, None of a dry run. Raises UserError for bad rows, scores or folder, and where no row is left."""
    checker = load_checker(config.checker) if config.checker else None
    inputs = {
        "aha": content_hash(config.aha),
        "hesitation": content_hash(config.hesitation),
        "decontaminate": content_of(config.decontaminate),
        "same_questions_as": hash_json([hash_path(path) for path in config.same_questions_as]),
    }
    sieve, attempts = read(config)
    inputs |= {name: hash_file(run / SCORES) for name in ("scores", "from_scores") if (run := getattr(config, name))}
    if dry_run:
        preview(sieve, attempts, config, checker)
        return None
    unfinished = not (config.out / "done.json").exists()
    with Run.open(
        config.out, "curate", config, inputs, overwrite=config.overwrite, keep=lambda _: unfinished
    ) as folder:
        if folder.done:
            print(f"curate: done before, {folder.summary['selected']} rows, {folder.path(SELECTED)}")
            print("\n".join(in_words(folder.summary)))
            return folder.summary
        with Rewarder(
            config.reward, scores=folder.path("scores.sqlite"), ledger=folder.path("ledger.sqlite")
        ) as rewarder:
            try:
                curate(sieve, attempts, config, checker, rewarder)
            finally:  # also of a refusal it is on record who left where
                write_table(folder.path("drops.parquet"), sieve.drops, DROP_COLUMNS)
                write_json(folder.path("funnel.json"), sieve.funnel.rows())
                print_funnel(sieve.funnel)
            judge(sieve.entries, rewarder)
        save(folder, sieve, attempts, config)
        summary = {"rows": len(sieve.rows), **summarise(sieve, config)}
        print(f"curate: finished, {summary['selected']} of {summary['rows']} rows, {folder.path(SELECTED)}")
        print("\n".join(in_words(summary)))
        folder.path("alarms.jsonl").unlink(missing_ok=True)  # of a run that was cut
        for name, text in alarms(summary, attempts, config).items():
            folder.alarm(name, text)
        balance = Balance(config.hesitation)
        for entry in sieve.entries:
            balance.add("selected", Example(entry.sample, entry.text))
        balance.report(folder)
        write_card(folder.folder)
        folder.finish(**summary)
        return folder.summary


def preview(sieve: Sieve, attempts: Attempts | None, config: CurateConfig, checker: Checker | None) -> None:
    """What would be left; without asking a judge or loading a model."""
    if config.reward.open.scorer != "lexical" and not config.from_scores:
        print(f"curate: {len(sieve.entries)} rows, whose open answers {config.reward.open.scorer} would judge")
        return
    with Rewarder(config.reward) as rewarder:
        curate(sieve, attempts, config, checker, rewarder)
    print_funnel(sieve.funnel)
    print(f"curate: {len(sieve.entries)} of {len(sieve.rows)} rows, nothing written")


def read(config: CurateConfig) -> tuple[Sieve, Attempts | None]:
    """The rows of the data, those of no use dropped; and the evaluation that goes with them.

    With `from_scores` every answer of the evaluation is a row. Raises UserError for bad rows, unless they are to be skipped.
    """
    examples, drops = settle(list(read_traces(config.data)), config.data, config.skip_bad)
    evaluation = config.from_scores or config.scores
    attempts = read_attempts(evaluation, config.data, [e.sample for e in examples]) if evaluation else None
    if not config.from_scores or not attempts:
        note = attempts.noted if attempts else lambda sample: sample
        sieve = Sieve([Entry(note(e.sample), e.completion) for e in examples], drops)
        if sieve.traces:
            sieve.drop("check", lambda entry: None if entry.text else ("no_trace", ""))
        elif config.keep or config.shortest or config.longest:
            what = "keep, shortest and longest are about traces, and no row holds one"
            raise UserError(what, where=config.data, remedy="Give a traces.jsonl or rows with completions")
        return sieve, attempts
    entries = []
    for sample in (example.sample for example in examples):
        answers = attempts.answers.get(sample.id, [])
        noted = attempts.noted(sample)
        entries += [Entry(noted, a.text, a.draw, True, a.ok, a.credit, "the evaluation's verdict") for a in answers]
        entries += [] if answers else [Entry(noted)]
    sieve = Sieve(entries, drops)
    sieve.drop("check", lambda entry: unusable(entry, attempts))
    return sieve, attempts


def unusable(entry: Entry, attempts: Attempts) -> WhyDropped | None:
    """Why an answer of an evaluation is no trace to our question, whatever it says."""
    if not entry.text.strip():
        return "no_answer", "nothing was answered"
    if entry.sample.id in attempts.others:
        return OTHER_QUESTION
    try:
        refuse_tokens((entry.text,), "")
    except UserError as fault:
        return "bad_row", fault.what
    return None


def curate(
    sieve: Sieve, attempts: Attempts | None, config: CurateConfig, checker: Checker | None, rewarder: Rewarder
) -> None:
    """All steps. Raises UserError where no row is left, or fewer than wanted."""
    if config.decontaminate:
        found = find_contaminated(list({e.sample.id: e.sample for e in sieve.entries}.values()), config.decontaminate)
        why = {name: (CONTAMINATED, str(find)) for name, find in found.items()}
        sieve.drop("decontaminate", lambda entry: why.get(entry.sample.id))
    measure(sieve.entries, config, checker)
    keep(sieve, config, rewarder)
    if config.pass_rate and attempts:
        sieve.drop("pass_rate", partial(too_easy_or_hard, config.pass_rate, attempts))
    for path in config.same_questions_as:
        match(sieve, path, config.skip_bad)
    if config.from_scores:
        pick(sieve, config)
    if sieve.entries:
        cut(sieve, config)
    if not sieve.entries:
        lost = Counter(f"{drop.step}/{drop.reason}" for drop in sieve.drops)
        what = f"no row is left of {len(sieve.rows)} ({', '.join(f'{n} {why}' for why, n in lost.most_common(3))})"
        raise UserError(what, where=config.data, remedy="Ask for less")


def measure(entries: list[Entry], config: CurateConfig, checker: Checker | None) -> None:
    """Statistics of every trace. Raises UserError where the checker stumbles over a sample."""
    lexicons = tuple(dict.fromkeys((config.aha, config.hesitation)))
    traces = [entry for entry in entries if entry.text]
    with progress("curate", len(traces), show=len(traces) >= MANY) as bar:
        for entry in traces:
            entry.stats = analyse(entry.text, entry.sample, checker, lexicons=lexicons)
            bar.advance()


def judge(entries: list[Entry], rewarder: Rewarder) -> None:
    """A verdict, by the reward of its kind, on every trace that has none yet."""
    new = [entry for entry in entries if entry.text and not entry.judged]
    rewards = rewarder.score_batch([entry.sample for entry in new], [entry.text for entry in new])
    for entry, reward in zip(new, rewards, strict=True):
        entry.judged, entry.ok, entry.credit = True, rewarder.is_correct(reward), reward.value
        said = f"{reward.status} {reward.detail}".strip() if reward.status != "ok" else f"{reward.value:.3g}"
        entry.why = f"gold {entry.sample.gold[:100]!r}, read {str(reward.answer)[:100]!r}: {said}"


def keep(sieve: Sieve, config: CurateConfig, rewarder: Rewarder) -> None:
    """Drop traces that break a condition, and those of which nobody can say. Own answers have to be right, or wrong if asked."""
    asked = {*config.keep} | ({"right"} if config.from_scores and "wrong" not in config.keep else set())
    for name in filter(asked.__contains__, CONDITIONS):
        if name in VERDICTS:
            judge(sieve.entries, rewarder)
        sieve.drop("keep", partial(broken, name, config))
    if config.from_scores and "right" in asked:  # an evaluation may have been lenient, and training imitates every tag
        sieve.drop(
            "keep", lambda entry: None if extract(entry.text).status == "ok" else ("no_format", "right, but untagged")
        )


def broken(name: str, config: CurateConfig, entry: Entry) -> WhyDropped | None:
    """Why a trace does not meet a condition; None: it does."""
    reason, holds = CONDITIONS[name]
    met = holds(entry, config)
    if name in VERDICTS:
        return None if met else ("undecided" if met is None else reason, entry.why)
    return None if met else ("undecided", "no statement can be checked") if met is None else (reason, "")


def too_easy_or_hard(bounds: tuple[float, float], attempts: Attempts, entry: Entry) -> WhyDropped | None:
    """Why a question is not one that the evaluated model gets right as often as it should; None: it is."""
    if entry.sample.id in attempts.others:
        return OTHER_QUESTION
    rate = attempts.pass_rate(entry.sample.id)
    if rate is None:
        return "no_score", "no decided answer"
    if bounds[0] <= rate <= bounds[1]:
        return None
    return "too_hard" if rate < bounds[0] else "too_easy", f"right in {rate:.3g} of its answers"


def match(sieve: Sieve, path: Path, skip_bad: bool) -> None:
    """Drop what another file does not ask. Raises UserError for its bad rows, unless they are to be skipped."""
    theirs = {e.sample.id: e.sample for e in settle(list(read_traces(path)), path, skip_bad).examples}
    differ = different((entry.sample for entry in sieve.entries), theirs)
    sieve.drop("same", lambda entry: None if entry.sample.id in theirs else ("not_in_all", f"not in {path}"))
    sieve.drop("same", lambda entry: OTHER_QUESTION if entry.sample.id in differ else None)


def pick(sieve: Sieve, config: CurateConfig) -> None:
    """Of every question's answers so many, whose rows get ids of their own where they may be several."""
    by_question: dict[str, list[Entry]] = {}
    for entry in sieve.entries:
        by_question.setdefault(entry.sample.id, []).append(entry)
    orders = {"shortest": by_length, "first": attrgetter("draw"), "random": partial(by_chance, config.seed)}
    order: Callable[[Entry], Any] = orders[config.pick]
    chosen = [e for answers in by_question.values() for e in sorted(answers, key=order)[: config.per_question]]
    sieve.drop_others("pick", chosen, ("another_answer", f"{config.per_question} per question, {config.pick}"))
    for entry in sieve.entries if config.per_question > 1 else ():
        entry.sample = replace(entry.sample, id=f"{entry.sample.id}#{entry.draw}")


def cut(sieve: Sieve, config: CurateConfig) -> None:
    """So many as are wanted, of each kind as many as are wanted. Raises UserError where there are fewer."""
    size = config.shortest or config.longest or config.count
    if not size and not config.balance:
        return
    order = by_length if config.shortest else by_length_down if config.longest else partial(by_chance, config.seed)
    ranked = sorted(sieve.entries, key=order)
    kinds = [entry.sample.kind for entry in ranked]
    if config.balance == "kind":
        chosen = choose.equally(ranked, kinds, size)
    elif config.balance == "shares":
        chosen = choose.in_shares(ranked, kinds, sieve.kinds, size)
    else:
        chosen = choose.first(ranked, size)
    words = "shortest" if config.shortest else "longest" if config.longest else "drawn"
    said = f"the {len(chosen)} {words}" + (f", by {config.balance}" if config.balance else "")
    sieve.drop_others("choose", chosen, ("not_chosen", f"none of {said}"))


def by_length(entry: Entry) -> tuple[int, int, str]:
    """Words of the thinking first; what is left of ties hangs on no order of rows."""
    return entry.measured.words, len(entry.text), by_chance(0, entry)


def by_length_down(entry: Entry) -> tuple[int, int, str]:
    words, characters, chance = by_length(entry)
    return -words, -characters, chance


def by_chance(seed: int, entry: Entry) -> str:
    """An order that hangs on ids and seed, not on the order of rows."""
    return hash_text(str(seed), entry.sample.id, str(entry.draw))


def save(folder: Run, sieve: Sieve, attempts: Attempts | None, config: CurateConfig) -> None:
    """What is left, and beside own answers the prompt under which they were given."""
    if sieve.traces:
        save_examples(folder.path(SELECTED), (Example(entry.sample, entry.text) for entry in sieve.entries))
    else:
        save_samples(folder.path(SELECTED), (entry.sample for entry in sieve.entries))
    if config.from_scores and attempts and attempts.system:
        write_text(folder.path(SYSTEM), attempts.system + "\n")
        print(f"curate: the answers were given under a system prompt, which is {folder.path(SYSTEM)}")


def summarise(sieve: Sieve, config: CurateConfig) -> dict[str, Any]:
    """Counts over what was selected. None stands for what was not looked at, with rows that hold no trace or without a checker."""
    traces = [entry for entry in sieve.entries if entry.text]
    kinds = Counter(entry.sample.kind for entry in sieve.entries)
    stats = [entry.measured for entry in traces]
    verdicts = Counter(entry.ok for entry in traces)
    words = {name: sum(s.marked_words[name] for s in stats) for name in (config.aha, config.hesitation)}
    return {
        "selected": len(sieve.entries),
        "kinds": {kind: kinds[kind] for kind in sorted(sieve.kinds)},
        "answers": {"right": verdicts[True], "wrong": verdicts[False], "undecided": verdicts[None]} if traces else None,
        "open_right_in_part": sum(
            e.ok is True and e.sample.kind == "open" and e.credit is not None and e.credit < 1 for e in traces
        ),
        "judged_by": "evaluation" if config.from_scores else config.reward.open.scorer,
        "words": sum(s.words for s in stats) / len(stats) if stats else None,
        "empty_thinking": sum(s.words == 0 for s in stats) if traces else None,
        "markers": {
            name: 100 * sum(s.markers[name] for s in stats) / number if number else None
            for name, number in words.items()
        },
        "statements": {
            "checked": sum(s.checked for s in stats),
            "false": sum(s.false_steps or 0 for s in stats),
            "traces_with_a_false_one": sum(bool(s.false_steps) for s in stats),
            "traces_without_any_checked": sum(not s.checked for s in stats),
        }
        if traces and config.checker
        else None,
    }


def in_words(summary: dict[str, Any]) -> list[str]:
    """The summary as lines."""
    lines = ["  kinds: " + ", ".join(f"{kind} {n}" for kind, n in summary["kinds"].items())]
    if summary["answers"]:
        lines.append("  answers: " + ", ".join(f"{n} {verdict}" for verdict, n in summary["answers"].items()))
        rates = [f"{name} {'none' if rate is None else f'{rate:.2f}'}" for name, rate in summary["markers"].items()]
        lines.append(f"  {summary['words']:.1f} words of thinking, none in {summary['empty_thinking']} traces; ")
        lines[-1] += f"markers per 100 words: {', '.join(rates)}"
    if said := summary["statements"]:
        lines.append(
            f"  statements: {said['false']} of {said['checked']} false, in {said['traces_with_a_false_one']} traces; "
            f"{said['traces_without_any_checked']} traces hold none that can be checked"
        )
    return lines


def alarms(summary: dict[str, Any], attempts: Attempts | None, config: CurateConfig) -> dict[str, str]:
    """{alarm: sentence} for what should not be trained on unknowingly."""
    found, answers = {}, summary["answers"] or {}
    if lost := [kind for kind, n in summary["kinds"].items() if not n]:
        found["lost_kinds"] = f"no question of kind {' or '.join(lost)} is left"
    if answers.get("wrong") and "wrong" not in config.keep:
        found["wrong_answers"] = (
            f"{answers['wrong']} of {summary['selected']} traces have a wrong answer, which SFT would teach"
        )
    if answers.get("undecided"):
        found["undecided"] = (
            f"{answers['undecided']} of {summary['selected']} traces have an answer that nobody can judge"
        )
    if n := summary["open_right_in_part"]:
        what = (
            f"{n} of {summary['kinds']['open']} open answers count as right and are not all of what the reference says"
        )
        whose = "of the evaluation " if config.from_scores else ""
        found["open_right_in_part"] = f"{what} ({whose}--reward.open.correct 1 keeps none of them)"
    if n := summary["empty_thinking"]:
        found["empty_thinking"] = f"{n} of {summary['selected']} traces think nothing at all (keep thinking drops them)"
    if attempts and attempts.images != "own":
        found["control"] = (
            f"the evaluation saw {attempts.images} pictures: its answers say nothing about these questions"
        )
    return found
