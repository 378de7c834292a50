"""What a run would ask and cost, from the state of its ledger: no call is made, nothing is written."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from rich.table import Table

from seethink.ask import Ledger, NotCached
from seethink.ask.client import most_tokens
from seethink.core.terminal import console
from seethink.data.steps import Candidate, Steps, walk

ASKING = ("caption", "distill", "rewrite", "verify")
# (prompt, completion) tokens of a call, for steps of which the ledger has no answer yet
TYPICAL = {"caption": (1200, 250), "distill": (500, 1200), "rewrite": (1400, 1300), "verify": (500, 2)}


@dataclass
class StepPlan:
    """What one step has ahead."""

    passed: int = 0
    """Items past this step, answered from the ledger or in no need of a call."""
    calls: int = 0
    """Calls that would be made at once."""
    later: int = 0
    """Further calls at most: items that an earlier step may still drop or a rule decide."""
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    usd: float | None = None
    """Price of `calls` and `later`; None where it is unknown."""


async def plan(items: list[Candidate], steps: Steps, ledger: Ledger) -> dict[str, StepPlan]:
    """One StepPlan per asking step. `steps` must be dry."""
    plans = {step: StepPlan() for step in ASKING}
    known: Counter[str] = Counter()  # prompt tokens of calls whose messages are known already
    for item in items:
        try:
            await walk(item, steps)
            reached = ASKING.index(item.step) if item.drop else len(ASKING)
        except NotCached as missing:
            reached = ASKING.index(item.step)
            plans[item.step].calls += 1
            known[item.step] += missing.prompt_tokens
            for step in ASKING[reached + 1 :]:
                plans[step].later += 1
        if item.source not in steps.config.split.rl_only:
            for step in ASKING[:reached]:
                plans[step].passed += 1
    for (step, p), client in zip(plans.items(), steps.clients, strict=True):
        prompt, completion = ledger.typical(step) or TYPICAL[step]
        price = client.endpoint.price
        p.prompt_tokens = known[step] + p.later * prompt
        most = most_tokens(client.endpoint.params) or completion
        p.completion_tokens = (p.calls + p.later) * min(completion, most)
        if not p.calls and not p.later:
            p.usd = 0.0
        elif price is not None:
            p.usd = (p.prompt_tokens * price[0] + p.completion_tokens * price[1]) / 1e6
    return plans


def print_plan(items: list[Candidate], steps: Steps, ledger: Ledger) -> None:
    """The plan as a table, with a total that says unknown where a price is missing."""
    todo = [item for item in items if item.drop is None]
    plans = asyncio.run(plan(todo, steps, ledger))
    table = Table(box=None, pad_edge=False)
    for heading in ("step", "model", "past it", "calls", "more at most", "prompt tokens", "completion tokens", "USD"):
        table.add_column(heading, justify="left" if heading in ("step", "model") else "right")
    for (step, p), client in zip(plans.items(), steps.clients, strict=True):
        tokens = (f"{p.prompt_tokens:,.0f}", f"{p.completion_tokens:,.0f}")
        usd = "unknown" if p.usd is None else f"{p.usd:,.2f}"
        table.add_row(step, client.endpoint.model, str(p.passed), str(p.calls), str(p.later), *tokens, usd)
    console(width=120).print(table)
    costs = [p.usd for p in plans.values() if p.usd is not None]
    guessed = [step for step in ASKING if ledger.typical(step) is None and (plans[step].calls or plans[step].later)]
    cost = f"at most {sum(costs):,.2f} USD" if len(costs) == len(plans) else "cost unknown"
    print(f"{len(todo)} items, {cost} (estimated at four characters a token)")
    if guessed:
        unknown = ", ".join(guessed)
        print(
            f"no answers yet of {unknown}: their lengths are typical ones; run --limit 50 into another --out to measure"
        )
