"""The numbers behind a report computed a second time: plain loops over rows of files, t quantiles of scipy, nothing of ours.

A table of outcomes is a list of runs (seeds), each a list over the same items; None where an answer is undecided.
"""

from __future__ import annotations

import math
import random
import re
import tomllib
from statistics import NormalDist, fmean
from statistics import variance as variance_of

import numpy as np
from scipy import optimize, stats

NODES, WEIGHTS = np.polynomial.legendre.leggauss(600)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2  # on [0, 1]


def known(values):
    return [v for v in values if v is not None]


def mean(values):
    return fmean(known(values)) if known(values) else None


def variance(values):
    return variance_of(values) if len(values) > 1 else 0.0


class Difference:
    """Mean of arm a less that of b over the items that both decide, its t interval and p; b may be None: the mean of a."""

    def __init__(self, a, b=None):
        arms = [(1, [run for run in a if known(run)])] + ([] if b is None else [(-1, [run for run in b if known(run)])])
        items = [n for n in range(len(a[0])) if all(any(run[n] is not None for run in arm) for _, arm in arms)]
        self.items, self.seeds = len(items), max(len(arm) for _, arm in arms)
        self.undecided = sum(value is None for _, arm in arms for run in arm for value in run)
        per_item = [sum(sign * mean([run[n] for run in arm]) for sign, arm in arms) for n in items]
        self.per_item, self.estimate = per_item, fmean(per_item)
        parts = [(variance(per_item) / len(items), len(items) - 1)]
        several = []
        for _, arm in arms:
            if len(arm) > 1 and len(items) > 1:
                centred = [
                    [None if run[n] is None else run[n] - mean([r[n] for r in arm]) for n in items] for run in arm
                ]
                of_run = [mean(run) for run in centred]
                rest = sum((v - m) ** 2 for run, m in zip(centred, of_run, strict=True) for v in known(run))
                free = (len(arm) - 1) * (len(items) - 1)
                several.append((variance(of_run), rest / free / len(items)))
                parts.append((variance(of_run) / len(arm), len(arm) - 1))
                parts.append((-rest / free / len(items) / len(arm), free))
        self.variance = max(parts[0][0], sum(part for part, _ in parts))
        weight = sum(part**2 / free for part, free in parts if free)
        self.df = self.variance**2 / weight if weight else math.inf
        self.error = math.sqrt(self.variance)
        self.seed_sd = self.noise_sd = 0.0
        if several:
            of_seeds, noise = (fmean(column) for column in zip(*several, strict=True))
            self.seed_sd, self.noise_sd = math.sqrt(max(0.0, of_seeds - noise)), math.sqrt(noise)

    def limits(self, bounds=(-1.0, 1.0)):
        """(low, high, whether they are exact): Student's over seeds; without any variance the rule of three within bounds.

        Of one run Monte Carlo over its items: near to ours, and not equal.
        """
        if self.variance < 1e-24:
            if bounds is None:
                return self.estimate, self.estimate, True
            return max(bounds[0], self.estimate - 3 / self.items), min(bounds[1], self.estimate + 3 / self.items), True
        if self.seeds == 1:
            draw = random.Random(0)
            means = sorted(fmean(draw.choices(self.per_item, k=self.items)) for _ in range(1000))
            return means[25], means[974], False
        half = stats.t.ppf(0.975, self.df) * self.error
        return self.estimate - half, self.estimate + half, True

    @property
    def p(self):
        """Two-sided: t, or of two single runs the binomial test on the items where they differ."""
        if self.seeds > 1:
            return 2 * stats.t.sf(abs(self.estimate) / self.error, self.df)
        plus, minus = sum(v > 0 for v in self.per_item), sum(v < 0 for v in self.per_item)
        return stats.binomtest(plus, plus + minus).pvalue if plus + minus else 1.0

    def p_equivalent(self, within):
        """Two one-sided t tests: the larger p."""
        tests = [(self.estimate + within) / self.error, (within - self.estimate) / self.error]
        return max(float(stats.t.sf(value, self.df)) for value in tests)

    def detectable(self, family):
        """Difference that a t test at 0.05 / family finds four times out of five, but no less than the rule of three."""
        return max(self.unit(family) * self.error, 3 / self.items)

    def unit(self, family):
        """The same in standard errors."""
        return optimize.brentq(lambda shift: self.beyond(shift, family) - 0.8, 0, 500)

    def power(self, effect, family):
        """Chance that this test finds such a difference, either way."""
        shift = effect / (self.detectable(family) / self.unit(family))
        return self.beyond(shift, family) + self.beyond(-shift, family)

    def beyond(self, shift, family):
        """Chance that a t with this shift lies above the limit of the test: a normal, over what the error may turn out as."""
        limit = stats.t.ppf(1 - 0.025 / family, self.df)
        return float(WEIGHTS @ stats.norm.cdf(shift - limit * np.sqrt(stats.chi2.ppf(NODES, self.df) / self.df)))


def interval(table, share):
    """(estimate, low, high, exact) of outcomes that are never negative; None where nothing is decided.

    A share lies in [0, 1]; one run of yes/no outcomes has Wilson's interval.
    """
    if not any(known(run) for run in table):
        return None
    if share and len(table) == 1 and set(known(table[0])) <= {0, 1}:
        decided = known(table[0])
        n, p, z = len(decided), fmean(decided), NormalDist().inv_cdf(0.975)
        centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return p, *(max(0.0, min(1.0, (centre + sign * spread) / (1 + z * z / n))) for sign in (-1, 1)), True
    found = Difference(table)
    low, high, exact = found.limits((0.0, 1.0) if share else None)
    return found.estimate, max(0.0, low), min(1.0, high) if share else high, exact


def spearman(x, y):
    """(r, low, high, exact): Fisher's z with the variance of Bonett and Wright."""
    r, half = stats.spearmanr(x, y).statistic, NormalDist().inv_cdf(0.975)
    half *= math.sqrt((1 + r * r / 2) / (len(x) - 3))
    return r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), True


def holm(values):
    """p values of one family, each multiplied by how many are left, never below an earlier one."""
    found, largest = dict.fromkeys(range(len(values)), 0.0), 0.0
    for rank, i in enumerate(sorted(found, key=lambda i: values[i])):
        largest = found[i] = max(largest, min(1.0, values[i] * (len(values) - rank)))
    return list(found.values())


def words(text):
    return re.findall(r"\w[\w'’-]*", text)


class Lexicon:
    """A word list counted character by character; its file is data."""

    def __init__(self, folder, name):
        given = tomllib.loads((folder / f"{name}.toml").read_text())
        above = tomllib.loads((folder / f"{given['extends']}.toml").read_text()) if given.get("extends") else {}
        self.anywhere = [*above.get("cues", []), *given.get("cues", [])]
        self.first = [*above.get("sentence_start", []), *given.get("sentence_start", [])]
        self.substring, self.answer_too = given.get("match") == "substring", given.get("span") == "text"

    def places(self, text):
        """Where its cues begin."""
        text, found, at = text.lower(), [], 0
        if self.substring:
            return [i for i in range(len(text)) for cue in [*self.anywhere, *self.first] if text.startswith(cue, i)]
        begins = {cue[0] for cue in [*self.anywhere, *self.first]}
        while at < len(text):
            end = 0
            if text[at] not in begins:
                at += 1
                continue
            if at == 0 or not (text[at - 1].isalnum() or text[at - 1] in "_-"):
                end = max((self.reach(text, at, cue) for cue in [*self.anywhere, *self.first]), default=0)
            cue = text[at:end] if end else ""
            if cue and (cue in self.anywhere or cue not in self.first or text[:at].rstrip()[-1:] in ("", *".!?:;\n")):
                found.append(at)
            at = max(end, at + 1)
        return found

    @staticmethod
    def reach(text, at, cue):
        """Where the cue ends that begins at `at`; 0 where it does not stand there as whole words."""
        stem = cue.rstrip("*")
        end = at + len(stem)
        if not text.startswith(stem, at):
            return 0
        rest = re.match(r"\w+", text[end:]) if cue.endswith("*") else None
        if cue.endswith("*"):
            return end + rest.end() if rest else 0
        return 0 if text[end : end + 1].isalnum() or text[end : end + 1] in ("_", "-") and text[end : end + 1] else end


class Trace:
    """What the analyser should see in a trace of the synthetic world, from its sentences."""

    def __init__(self, row, sample, lexicons):
        text, self.ok = row["text"], row["ok"]
        self.thinking = text.partition("<think>")[2].partition("</think>")[0].strip()
        answer = text.partition("<answer>")[2].partition("</answer>")[0] if "<answer>" in text else ""
        self.cut = row["stop"] == "length" or "</think>" not in text
        self.words = len(words(self.thinking))
        self.rates = {}
        for name, lexicon in lexicons.items():
            seen = f"{self.thinking}\n{answer}" if lexicon.answer_too else self.thinking
            self.rates[name] = 100 * len(lexicon.places(seen)) / len(words(seen)) if words(seen) else None
        grams = [tuple(words(self.thinking.lower())[i : i + 4]) for i in range(max(0, self.words - 3))]
        self.repeated = 1 - len(set(grams)) / len(grams) if grams else 0.0
        self.read(sample, lexicons["word"])
        self.agrees = self.agreement(answer, sample)

    def agreement(self, answer, sample):
        """Of the sentence `So the answer is X.`, by what can be read of it in this world."""
        if not answer or sample["kind"] == "open":
            return None
        if "So the answer is unclear." in self.thinking:
            return False if sample["kind"] == "math" else None  # a formula that is another one
        read = sample["kind"] in ("digit", "math") or answer == sample["gold"]  # no option is called E
        return True if read and f"So the answer is {answer}." in self.thinking else None

    def read(self, sample, marking):
        """Statements and hesitations, sentence by sentence."""
        scene, said, pieces, at = sample["meta"]["scene"], {}, [], 0
        self.hesitations, revised = 0, set()
        for sentence in re.split(r"(?<=[.!?])\s|\n", self.thinking):
            self.hesitations += bool(marking.places(sentence))
            for piece in filter(None, (p.strip() for p in re.split(r"[.!?]", sentence))):
                at = self.thinking.index(piece, at)
                pieces.append((None, None, at))
                if seen := re.search(r"I see (\d+) (\w+) (\w+?)s?$", piece):
                    slot = f"{seen[2]} {seen[3]}"
                    pieces[-1] = slot, sum(t[:2] == slot.split() for t in scene) == int(seen[1]), at
                    if said.get(slot, piece) != piece and self.hesitations:
                        revised.add(self.hesitations)
                    said[slot] = piece
        self.truths = [(slot, truth) for slot, truth, _ in pieces if slot]
        self.false = sum(not truth for _, truth in self.truths)
        self.true = len(self.truths) - self.false
        self.repaired = sum(
            not truth and any(s == slot and t for s, t in self.truths[i + 1 :])
            for i, (slot, truth) in enumerate(self.truths)
        )
        self.statements = len(pieces)
        self.revisions = len(revised) if self.truths else 0 if "So the answer is" in self.thinking else None
        wrong = next((i for i, (_, truth, _) in enumerate(pieces) if truth is False), None)
        self.first_false = None if wrong is None else wrong + 1
        self.before_false = None if wrong is None else pieces[wrong][2] / len(self.thinking)
