"""What is still to be asked, counted from a ledger, and how much that may come to: totals as distributions, no call made.

Items whose answers are all there are the sample. Of each source they are drawn with replacement, first as many as there are (what
if others had been asked?) and then as many as still wait, and what those took is added up: the bootstrap. Sources without such
items get one number: what answers of a step take on average, or are known to take as a rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seethink.ask import Ledger, NotCached, Reply
from seethink.ask.client import PendingCall
from seethink.ask.messages import image_tokens
from seethink.data.steps import Candidate, Steps, walk

ASKING = ("caption", "distill", "rewrite", "verify")
# (prompt, completion) tokens of a call, for steps of which the ledger has no answer yet
TYPICAL = {"caption": (1200, 250), "distill": (500, 1200), "rewrite": (1400, 1300), "verify": (500, 2)}
FIELDS = ("calls", "prompt", "completion", "seconds", "reached", "passed")
"""What a step takes: calls, their tokens and seconds, and whether an item came to it and went on."""
DRAWS = 1000
MOST_ANSWERED = 1000  # items of a source that are drawn from; more would change nothing but the time it takes

Array = NDArray[np.float64]


class Overheard(Ledger):
    """A ledger that remembers which answers it gave, and at which step, since it was told for whom they are."""

    item: Candidate | None = None
    heard: Sequence[tuple[str, Reply]] = ()

    def listen(self, item: Candidate) -> None:
        self.item, self.heard = item, []

    def find(self, key: str) -> Reply | None:
        reply = super().find(key)
        if reply is not None and self.item:
            self.heard = [*self.heard, (self.item.step, reply)]
        return reply


@dataclass
class Waiting:
    """Items of one source that wait for an answer at one step."""

    items: int = 0
    questions: set[str] = field(default_factory=set)
    """Keys of their calls: items that share a picture share its caption."""
    prompt_tokens: int = 0
    """Of these questions, estimated."""
    image_tokens: int = 0

    def add(self, call: PendingCall, model: str) -> None:
        self.items += 1
        if call.key not in self.questions:
            self.questions.add(call.key)
            self.prompt_tokens += call.prompt_tokens
            self.image_tokens += image_tokens(call.messages, model)


@dataclass
class Survey:
    """What the ledger says of all items."""

    answered: dict[str, list[Array]] = field(default_factory=dict)
    """Source -> what each item took that has all its answers: [steps, FIELDS]."""
    waiting: dict[tuple[str, str], Waiting] = field(default_factory=dict)
    """(source, step) -> who waits there."""
    past: Counter[str] = field(default_factory=Counter)
    """Step -> items that are past it."""
    lengths: dict[str, list[int]] = field(default_factory=lambda: {step: [] for step in ASKING})
    """Step -> completion tokens of its answers."""
    drops: dict[str, Counter[str]] = field(default_factory=dict)
    """Source -> step/reason of the items that were dropped."""


async def survey(items: Sequence[Candidate], steps: Steps, ledger: Overheard) -> Survey:
    """Walk all items through what the ledger holds. `steps` must be dry, and stand on this ledger."""
    found = Survey()
    for item in items:
        source, took = item.source, np.zeros((len(ASKING), len(FIELDS)))
        if source in steps.config.split.rl_only:
            continue
        ledger.listen(item)
        try:
            await walk(item, steps)
        except NotCached as missing:
            waits = found.waiting.setdefault((source, item.step), Waiting())
            waits.add(missing.call, steps.clients[ASKING.index(item.step)].endpoint.model)
        reached = ASKING.index(item.step) if item.step in ASKING else len(ASKING)
        found.past.update(ASKING[: reached + (item.drop is not None)])
        for step, reply in ledger.heard:
            took[ASKING.index(step), :4] += 1, reply.prompt_tokens, reply.completion_tokens, reply.seconds
            found.lengths[step].append(reply.completion_tokens)
        took[: reached + 1, 4], took[:reached, 5] = 1, 1
        if item.drop or reached == len(ASKING):
            found.answered.setdefault(source, []).append(took)
        if item.drop:
            found.drops.setdefault(source, Counter())[f"{item.drop.step}/{item.drop.reason}"] += 1
    return found


@dataclass(frozen=True)
class Forecast:
    """Totals of what is still ahead."""

    totals: Array
    """[DRAWS, steps, FIELDS]."""
    kept: dict[str, Array]
    """Source -> how many of its waiting items will come through: [DRAWS]; only of sources with answered items."""
    guessed: set[str]
    """Steps of which some lengths are typical ones or averages, and all items are taken to pass."""
    untimed: set[str]
    """Steps of which nobody knows how long an answer takes."""


def forecast(
    found: Survey, typical: Mapping[str, tuple[float, float]], longest: Mapping[str, float], seed: int = 0
) -> Forecast:
    """What the waiting items will take. `typical` are mean (prompt, completion) tokens by step, of steps with answers;
    `longest` the caps on a completion."""
    rng = np.random.default_rng(seed)
    totals, kept = np.zeros((DRAWS, len(ASKING), len(FIELDS))), {}
    guessed, untimed = set(), set()
    for (source, step), waits in sorted(found.waiting.items()):
        at = ASKING.index(step)
        like = [took for took in found.answered.get(source, []) if took[at, 0]]
        share = len(waits.questions) / waits.items
        if like:
            took = np.stack(like[:: -(-len(like) // MOST_ANSWERED)])
            took[:, :at] = 0  # these steps are behind the waiting ones
            taken = resample(rng, took.reshape(len(took), -1), waits.items).reshape(totals.shape)
            kept[source] = kept.get(source, 0) + taken[:, -1, FIELDS.index("passed")]
        else:
            taken = np.zeros(totals.shape)
            for place, name in enumerate(ASKING[at:], at):
                prompt, completion = typical.get(name, TYPICAL[name])
                prompt = waits.prompt_tokens / len(waits.questions) if place == at else prompt
                each = (1, prompt, min(completion, longest.get(name, completion)), 0, 1, 1)
                taken[:, place] = waits.items * np.array(each)
            guessed |= set(ASKING[at:])
            untimed |= set(ASKING[at:])
        taken[:, at, :4] *= share
        totals += taken
    return Forecast(totals, kept, guessed, untimed)


def resample(rng: np.random.Generator, took: Array, size: int) -> Array:
    """Sums over `size` rows, drawn from rows drawn from `took` [n, m]: [DRAWS, m]. Both steps are with replacement."""
    drawn = rng.multinomial(len(took), np.full(len(took), 1 / len(took)), size=DRAWS) / len(took)
    return rng.multinomial(size, drawn) @ took
