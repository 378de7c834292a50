"""Alarms in words: what the numbers of a run mean when something goes wrong. One table, of pure functions of the metrics so far.

What can be said of a single round is said at once; what may be chance waits for WINDOW rounds. docs/alarms.md is rendered from
the table, as it is from that of a study (study/alarms.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from seethink.core.alarms import AlarmRule, Facts, raised
from seethink.core.run import Run, read_log

WINDOW = 5  # rounds that must agree before we say what one round may show by chance
CUT, FLAT, CAPPED = 0.5, 0.8, 0.01  # shares: of completions cut, groups without spread, tokens with capped weights
SHRUNK, GROWN, FADED = 0.5, 2.0, 0.1  # of the first rounds' length and entropy
RISE = 0.05  # a reward that rose by this much should show in accuracy
SECONDS = "seconds/held_out"  # of an in-training evaluation
HELD_OUT = "held_out/"  # begins the name of everything that one measures

NOTHING = (
    ("reward/mean", 0, "every reward was 0"),
    ("reward/mean", None, "no reward was decided"),
    ("groups/zero_spread", 1, "no group had a spread of rewards"),
    ("tokens/trained", 0, "no token was trained"),
    ("tokens", 0, "no token was trained"),
    ("loss", None, "no loss was finite"),
    ("grad_norm", None, "no gradient was finite"),
)
"""(metric, its value, what it means): where it holds in every row, nothing is learned. Not finite is logged as null."""
OF_REWARDS = ("reward/mean", "groups/zero_spread", "tokens/trained")
"""Those that demonstrations and a teacher do without."""

MetricsRow = dict[str, Any]


@dataclass(frozen=True, slots=True)
class History:
    """What the rules of a run look at."""

    rows: Sequence[MetricsRow] = ()
    """Steps or rounds that trained, up to now."""
    held_out: Sequence[MetricsRow] = ()
    """Rows that hold an evaluation."""
    unit: str = "round"
    facts: Facts = field(default_factory=dict)
    """What is known besides the metrics."""

    @property
    def last(self) -> MetricsRow:
        return self.rows[-1]

    def early(self, key: str) -> float:
        """Mean over the first WINDOW rows; NaN, of which no rule holds, while there are fewer."""
        return _mean(self.rows[:WINDOW], key)

    def late(self, key: str) -> float:
        """Mean over the last WINDOW rows."""
        return _mean(self.rows[-WINDOW:], key)

    def kinds(self) -> list[str]:
        """Kinds that earned or could have earned a reward lately."""
        keys = {key for row in self.rows[-WINDOW:] for key in row if key.startswith("reward/")}
        return sorted(key.removeprefix("reward/") for key in keys - {"reward/mean"})

    def has(self, need: str) -> bool:
        return "<" in need or need in self.facts or any(need in row for row in (*self.rows, *self.held_out))


def raise_new(folder: Run, found: dict[str, str], step: int | None) -> None:
    """Record alarms this run has not raised yet."""
    known = {a["alarm"] for a in read_log(folder.path("alarms.jsonl"))} if found else set()
    for name, text in found.items():
        if name not in known:
            folder.alarm(name, text, step)


def training_rows(metrics: Iterable[MetricsRow]) -> list[MetricsRow]:
    """The rows of a step or round that trained: not those that hold an evaluation alone, as before the first step or after a spike."""
    own = ("step", "round", SECONDS, "eval_loss")
    return [row for row in metrics if any(key not in own and not key.startswith(HELD_OUT) for key in row)]


def first_row(metrics: Iterable[MetricsRow], unit: str) -> bool:
    """Whether the model was evaluated before its first step."""
    return any(row[unit] == 0 for row in metrics)


def nothing_learned(metrics: Sequence[MetricsRow]) -> str:
    """Why these steps or rounds taught nothing; empty where they may have, or where nothing was recorded."""
    rows = training_rows(metrics)
    otherwise = any(row.get("demos/tokens") or "teacher/kl" in row for row in rows)
    for key, value, why in NOTHING:
        if otherwise and key in OF_REWARDS:
            continue
        if rows and all(key in row and row[key] == value for row in rows):
            return why
    return ""


def before_grpo(prompts: int, samples: int) -> dict[str, str]:
    """{alarm: sentence} for a GRPO run that has not begun."""
    return raised(RULES, History(facts={"prompts": prompts, "samples": samples}), "start")


def before_watch(total: int, export_every: int, held_out: int, leaked: int) -> dict[str, str]:
    """The same of its evaluations and exports: held-out samples, and how many of them stand in the training data."""
    facts = {"total": total, "export_every": export_every, "held_out": held_out, "leaked": leaked}
    return raised(RULES, History(facts=facts), "start")


def sft(metrics: Sequence[MetricsRow]) -> dict[str, str]:
    """{alarm: sentence} for the latest step of SFT."""
    return _latest(metrics, "step")


def grpo(metrics: Sequence[MetricsRow]) -> dict[str, str]:
    """{alarm: sentence} for the latest rounds of a GRPO run."""
    return _latest(metrics, "round")


def spiked(metrics: Sequence[MetricsRow], loss: float, step: int, factor: float) -> dict[str, str]:
    """{alarm: sentence} where a step of SFT must be taken back."""
    facts = {"attempted loss": loss, "step": step, "factor": factor}
    return raised(RULES, History(training_rows(metrics), facts=facts), "before the update")


def at_the_end(metrics: Sequence[MetricsRow]) -> dict[str, str]:
    """{alarm: sentence} for a run that is over."""
    return raised(RULES, History(training_rows(metrics)), "end")


def forget_end(folder: Run) -> None:
    """Take back what was said at the end of a run that goes on."""
    last = {rule.name for rule in RULES if rule.when == "end"}
    said = read_log(folder.path("alarms.jsonl"))
    if any(row["alarm"] in last for row in said):
        folder.keep_rows("alarms.jsonl", [row for row in said if row["alarm"] not in last])


def _latest(metrics: Sequence[MetricsRow], unit: str) -> dict[str, str]:
    clean = [
        {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()} for row in metrics
    ]
    watched = [row for row in clean if row.get("held_out/accuracy") is not None]
    rows = training_rows(clean)
    return raised(RULES, History(rows, watched, unit), "round") if rows else {}


# ------------------------------------------------------------------------------------------------------------------- the rules


def _few_samples(h: History) -> Iterator[Facts]:
    if h.facts["prompts"] > h.facts["samples"]:
        yield h.facts


def _leak(h: History) -> Iterator[Facts]:
    if h.facts["leaked"]:
        yield h.facts


def _no_export(h: History) -> Iterator[Facts]:
    if h.facts["export_every"] > h.facts["total"]:
        yield h.facts


def _spike(h: History) -> Iterator[Facts]:
    loss, before = h.facts["attempted loss"], [row["loss"] for row in h.rows[-20:] if row.get("loss") is not None]
    if not math.isfinite(loss) or len(before) >= WINDOW and loss > h.facts["factor"] * median(before):
        yield {"loss": loss, "step": h.facts["step"]}


def _nothing_trained(h: History) -> Iterator[Facts]:
    if why := nothing_learned([h.last]):
        yield {"why": why, "unit": h.unit}


def _not_finite(h: History) -> Iterator[Facts]:
    if None in (h.last.get("loss", 0), h.last.get("grad_norm", 0)):
        yield {"unit": h.unit}


def _all_cut(h: History) -> Iterator[Facts]:
    if h.last.get("completion/cut_share") == 1:
        yield {}


def _cut(h: History) -> Iterator[Facts]:
    if (cut := h.late("completion/cut_share")) > CUT:
        yield {"cut": cut}


def _no_spread(h: History) -> Iterator[Facts]:
    if (flat := h.late("groups/zero_spread")) > FLAT:
        reward = h.late("reward/mean")
        why = "nearly all right" if reward > 0.8 else "nearly all wrong" if reward < 0.2 else "all members agree"
        yield {"flat": flat, "why": "nothing decided" if math.isnan(reward) else f"{why}, mean reward {reward:.2f}"}


def _undecided(h: History) -> Iterator[Facts]:
    if len(h.rows) >= WINDOW and (count := sum(row.get("undecided", 0) for row in h.rows[-WINDOW:])):
        yield {"count": count}


def _against_the_first(key: str, factor: float) -> Callable[[History], Iterator[Facts]]:
    """Lately below (a factor under 1) or above (over 1) this multiple of the first rounds."""

    def find(h: History) -> Iterator[Facts]:
        early, late = h.early(key), h.late(key)
        if (late < factor * early) if factor < 1 else (late > factor * early):
            yield {"early": early, "late": late}

    return find


def _sampler(h: History) -> Iterator[Facts]:
    if (capped := h.late("sampler/capped_share")) > CAPPED:
        yield {"capped": capped}


def _never_scores(h: History) -> Iterator[Facts]:
    for kind in h.kinds():
        values = [row[f"reward/{kind}"] for row in h.rows if row.get(f"reward/{kind}") is not None]
        if len(values) >= 2 * WINDOW and max(values) == 0:
            yield {"kind": kind, "rounds": len(values)}


def _gain(h: History, accuracy: str, decided: str) -> tuple[float, float] | None:
    """(what accuracy gained since before the first step, twice its standard error), after a row that measured it."""
    held = [row for row in h.held_out if row.get(accuracy) is not None and row.get(decided)]
    if len(held) < 2 or held[-1].get(h.unit) != h.last.get(h.unit):
        return None
    first, last = held[0], held[-1]
    variance = sum(row[accuracy] * (1 - row[accuracy]) / row[decided] for row in (first, last))
    return last[accuracy] - first[accuracy], 2 * math.sqrt(variance)


def _not_followed(reward: str, accuracy: str, decided: str) -> Callable[[History], Iterator[Facts]]:
    """A reward that rose while accuracy surely did not rise as much, and perhaps not at all."""

    def find(h: History) -> Iterator[Facts]:
        rise, gain = h.late(reward) - h.early(reward), _gain(h, accuracy, decided)
        if gain and len(h.rows) >= 2 * WINDOW and rise > RISE and gain[0] - gain[1] <= 0 and sum(gain) < rise:
            yield {"rise": rise, "gain": 100 * gain[0], "noise": 100 * gain[1]}

    return find


def _worse(h: History) -> Iterator[Facts]:
    gain = _gain(h, "held_out/accuracy", "held_out/decided")
    if gain and sum(gain) < 0:
        yield {"loss": -100 * gain[0], "noise": 100 * gain[1]}


def _nothing_learned(h: History) -> Iterator[Facts]:
    if why := nothing_learned(h.rows) if h.rows else "no step was kept":
        yield {"why": why}


def _mean(rows: Sequence[MetricsRow], key: str) -> float:
    known = [row[key] for row in rows if row.get(key) is not None]
    return fmean(known) if known and len(rows) == WINDOW else math.nan


FOLLOWED = ("held_out/accuracy", "held_out/decided")
_LENGTH, _ENTROPY = "completion/length", "entropy"

RULES = (
    AlarmRule(
        "few_samples", "start", ("prompts", "samples"), "a round takes more prompts than there are samples",
        "a round takes {prompts} prompts from {samples} samples: the same question comes several times", _few_samples,
    ),
    AlarmRule(
        "held_out_in_data", "start", ("leaked", "held_out"), "a held-out sample stands in the training data",
        "{leaked} of {held_out} held-out samples stand in the training data: accuracy on them may be memory", _leak,
    ),
    AlarmRule(
        "no_export", "start", ("export_every", "total"), "`export_every` is longer than the run",
        "nothing will be exported: export_every is {export_every}, the run has {total}", _no_export,
    ),
    AlarmRule(
        "loss_spike_{step}", "before the update", ("attempted loss",),
        "sft: the loss is not finite, or over `spike_factor` times the median of the twenty steps before it",
        "loss {loss:.3f} at step {step}: rolled back, batch skipped", _spike,
    ),
    AlarmRule(
        "nothing_trained", "round", (), "every reward 0, none decided, no group with a spread of rewards, no token trained, or nothing finite",
        "nothing was learned in this {unit}: {why}", _nothing_trained,
    ),
    AlarmRule(
        "not_finite", "round", (), "loss or gradient is not finite",
        "loss or gradient of this {unit} is not finite: its update was left out", _not_finite,
    ),
    AlarmRule(
        "all_cut", "round", ("completion/cut_share",), "every completion hit `max_tokens`",
        "every completion of this round hit max_tokens: raise it, the reward sees no finished answer", _all_cut,
    ),
    AlarmRule(
        "cut", "round", ("completion/cut_share",), f"over {100 * CUT:g} % of the completions of {WINDOW} rounds hit `max_tokens`",
        "{cut:.0%} of completions hit max_tokens: raise it, or the reward only sees unfinished answers", _cut,
    ),
    AlarmRule(
        "no_spread", "round", ("groups/zero_spread", "reward/mean"),
        f"over {100 * FLAT:g} % of the groups of {WINDOW} rounds have no spread; why: mean reward over 0.8, under 0.2, or between",
        "{flat:.0%} of groups have no spread ({why}): they teach nothing", _no_spread,
    ),
    AlarmRule(
        "undecided", "round", ("undecided",), f"an undecided reward in the last {WINDOW} rounds",
        f"{{count}} rewards of the last {WINDOW} rounds are undecided: check the golds", _undecided,
    ),
    AlarmRule(
        "length_collapse", "round", (_LENGTH,), f"the last {WINDOW} rounds below {SHRUNK:g} times the first {WINDOW}",
        "completions shrank from {early:.0f} to {late:.0f} tokens", _against_the_first(_LENGTH, SHRUNK),
    ),
    AlarmRule(
        "length_runaway", "round", (_LENGTH,), f"the last {WINDOW} rounds above {GROWN:g} times the first {WINDOW}",
        "completions grew from {early:.0f} to {late:.0f} tokens", _against_the_first(_LENGTH, GROWN),
    ),
    AlarmRule(
        "entropy_collapse", "round", (_ENTROPY,), f"the last {WINDOW} rounds below {FADED:g} times the first {WINDOW}",
        "entropy fell from {early:.3f} to {late:.3f} nats", _against_the_first(_ENTROPY, FADED),
    ),
    AlarmRule(
        "sampler", "round", ("sampler/capped_share",), f"over {100 * CAPPED:g} % of the tokens of {WINDOW} rounds have capped importance weights",
        "{capped:.1%} of tokens have capped importance weights: the engine samples from another policy", _sampler,
    ),
    AlarmRule(
        "never_scores_{kind}", "round", ("reward/<kind>",), f"all rewards of a kind are 0, in {2 * WINDOW} rounds or more",
        "kind {kind} has not earned a single reward in {rounds} rounds", _never_scores,
    ),
    AlarmRule(
        "reward_without_accuracy", "round", ("reward/mean", *FOLLOWED),
        f"the reward rose by over {RISE:g} (first {WINDOW} rounds to last), and held-out accuracy by surely less, perhaps by nothing "
        "(two standard errors)",
        "training reward rose by {rise:.2f}, but held-out accuracy did not follow ({gain:+.1f} points, give or take {noise:.1f}): "
        "answers are surer, or please the reward alone", _not_followed("reward/mean", *FOLLOWED),
    ),
    AlarmRule(
        "scorer_drift", "round", ("reward/open", "held_out/open", "held_out/decided/open"), "the same of open answers alone",
        "rewards of open answers rose by {rise:.2f}, but held-out open answers did not get better ({gain:+.1f} points, give or take "
        "{noise:.1f}): the policy may have learnt to please the scorer",
        _not_followed("reward/open", "held_out/open", "held_out/decided/open"),
    ),
    AlarmRule(
        "below_its_start", "round", FOLLOWED, "held-out accuracy is below that before the first step, by over two standard errors",
        "held-out accuracy is {loss:.1f} points below the model it started from (give or take {noise:.1f})", _worse,
    ),
    AlarmRule(
        "nothing_learned", "end", (), "`nothing_trained` held for every step or round, or no step was kept",
        "nothing was learned: {why}; the model is the one it started from", _nothing_learned,
    ),
)  # fmt: skip
"""All alarms of a training run."""
