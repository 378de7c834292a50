"""What a run would ask, cost and take, from the state of its ledger: no call is made, nothing is written."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from seethink.ask import Budget, Endpoint
from seethink.ask.batch_book import BatchBook
from seethink.ask.client import most_tokens
from seethink.ask.messages import IMAGE_TOKENS, tile_rule
from seethink.ask.prices import Usd
from seethink.core.terminal import print_table
from seethink.data.accept import forecast as forecast_accepted
from seethink.data.batches import print_next_batch
from seethink.data.config import ROLES, DataConfig
from seethink.data.forecast import ASKING, Array, Forecast, Overheard, Survey, forecast, survey
from seethink.data.steps import Candidate, Steps

Quantiles = list[float]
"""Of a total that is not certain: [p50, p90]."""


def look_ahead(
    items: Sequence[Candidate], config: DataConfig, prompts: dict[str, Template], path: Path
) -> dict[str, Any]:
    """Print what is still to be asked by the ledger at `path`, which may not be there yet, and return it.

    Raises UserError for a budget that a run would refuse.
    """
    with closing(Overheard(path if path.exists() else ":memory:")) as ledger:
        budget = Budget(config.budget, ledger.spent())
        steps = Steps(config, prompts, ledger, budget, dry=True)
        if config.accept and not config.pilot:
            items = forecast_accepted(items, steps)
        plan = print_plan(items, steps, ledger)
        if steps.by_batch:
            with BatchBook(ledger.path) as book:
                print_next_batch(items, steps, book)
        return plan


def print_plan(items: Sequence[Candidate], steps: Steps, ledger: Overheard) -> dict[str, Any]:
    """The plan in tables and words; the same as numbers. `steps` must be dry, and stand on this ledger."""
    todo = [item for item in items if item.drop is None]
    found = asyncio.run(survey(todo, steps, ledger))
    longest = {s: most for s, c in zip(ASKING, steps.clients, strict=True) if (most := most_tokens(c.endpoint.params))}
    ahead = forecast(found, {step: mean for step in ASKING if (mean := ledger.typical(step))}, longest)
    rows, sources = step_rows(found, ahead, steps), source_rows(todo, found, ahead)
    total = total_row(rows, ahead, steps)
    print_steps([*rows, total])
    print_sources(sources)
    spent, budget = ledger.spent(), steps.config.budget
    how = "at most" if ahead.guessed else "p90"
    dear = "cost unknown" if total["usd"] is None else f"{how} {total['usd'][1]:,.2f} USD"
    time = (
        f"{_hours(total['seconds'])} at {steps.config.in_flight} calls in flight"
        if total["seconds"]
        else "time unknown"
    )
    print(f"{len(todo)} items: {dear}, {time}; {spent:,.2f} USD spent so far")
    if budget and total["usd"]:
        enough = spent + total["usd"][1] <= budget
        print(
            f"budget {budget:,.2f} USD: {'enough' if enough else 'the run may stop before its end, and a higher one continues'}"
        )
    print_origins(rows, found, steps)
    if ahead.guessed:
        print(
            f"no answers yet by which to tell {', '.join(s for s in ASKING if s in ahead.guessed)}: lengths are typical ones, and "
            "all items are taken to pass; --pilot 50 asks 50 items of each source and measures"
        )
    return {"steps": rows, "sources": sources, "total": total, "spent": spent, "budget": budget}


def step_rows(found: Survey, ahead: Forecast, steps: Steps) -> list[dict[str, Any]]:
    """What is ahead, step by step; None for what nobody knows."""
    rows = []
    for place, (step, client) in enumerate(zip(ASKING, steps.clients, strict=True)):
        calls, prompt, completion, _, reached, passed = ahead.totals[:, place].T
        measured, lengths = step not in ahead.guessed and bool(calls.any()), found.lengths[step]
        row = {
            "step": step,
            "model": client.endpoint.model,
            "past": found.past[step],
            "calls": _span(calls),
            "prompt_tokens": _span(prompt),
            "image_tokens": sum(w.image_tokens for (_, at), w in found.waiting.items() if at == step),
            "completion_tokens": _span(completion),
            "answer": _span(np.array(lengths)) if lengths else None,  # tokens of one
            "yield": round(float(passed.sum() / reached.sum()), 4) if measured else None,
            "usd": _cost(client.price.usd, prompt, completion),
            "usd_batch": _cost(client.price.batch, prompt, completion),
            "seconds": _span(_time(ahead, [place], client.endpoint)) if measured or not calls.any() else None,
        }
        rows.append(row)
    return rows


def total_row(rows: Sequence[dict[str, Any]], ahead: Forecast, steps: Steps) -> dict[str, Any]:
    """All steps. They run side by side, those that ask one model within its limits: the slowest model sets the time."""
    prompt, completion = ahead.totals[:, :, 1], ahead.totals[:, :, 2]
    totals = {}
    for name, prices in (
        ("usd", [client.price.usd for client in steps.clients]),
        ("usd_batch", [client.price.batch for client in steps.clients]),
    ):
        per = np.array([price or (0.0, 0.0) for price in prices])
        known = all(row[name] is not None for row in rows)
        totals[name] = _span((prompt @ per[:, 0] + completion @ per[:, 1]) / 1e6) if known else None
    known = all(row["seconds"] is not None for row in rows)
    shared: dict[tuple[str, ...], list[int]] = {}
    for place, client in enumerate(steps.clients):
        end = client.endpoint
        shared.setdefault((end.base_url, end.model, end.api_key_env), []).append(place)
    times = [_time(ahead, places, steps.clients[places[0]].endpoint) for places in shared.values()]
    return {
        "step": "all",
        "calls": _span(ahead.totals[:, :, 0].sum(axis=1)),
        "prompt_tokens": _span(prompt.sum(axis=1)),
        "image_tokens": sum(row["image_tokens"] for row in rows),
        "completion_tokens": _span(completion.sum(axis=1)),
        **totals,
        "seconds": _span(np.max(times, axis=0)) if known else None,
    }


def source_rows(todo: Sequence[Candidate], found: Survey, ahead: Forecast) -> list[dict[str, Any]]:
    """Of each source: how many items have all their answers, what became of them, and how many of all will come through."""
    items = Counter(item.source for item in todo)
    rows = []
    for source in dict.fromkeys(source for source, _ in found.waiting):
        drops, answered = found.drops.get(source, Counter()), len(found.answered.get(source, ()))
        through = answered - drops.total()
        rows.append({
            "source": source,
            "items": items[source],
            "answered": answered,
            "kept": through,
            "dropped": dict(sorted(drops.items())),
            "kept_of_all": _span(through + ahead.kept[source]) if source in ahead.kept else None,
        })  # fmt: skip
    return rows


def print_steps(rows: Sequence[dict[str, Any]]) -> None:
    headings = (
        "step", "model", "past it", "calls", "prompt tokens", "of images", "an answer", "completion tokens", "yield", "USD", "by batch",
        "time",
    )  # fmt: skip
    cells = []
    for row in rows:
        answer, share = row.get("answer"), row.get("yield")
        cells.append((
            row["step"], row.get("model", ""), row.get("past", ""),
            _short(row["calls"]), _short(row["prompt_tokens"]), _amount(row["image_tokens"]),
            _short(answer) if answer else "", _short(row["completion_tokens"]), "" if share is None else f"{share:.0%}",
            *("unknown" if row[name] is None else _dollars(row[name]) for name in ("usd", "usd_batch")),
            "unknown" if row["seconds"] is None else _hours(row["seconds"]),
        ))  # fmt: skip
    print_table(headings, cells, texts=2)
    print("a/b: p50 and p90 of what may come; prompts are estimated at four characters a token")


def print_sources(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        lost = ", ".join(f"{reason} {n}" for reason, n in row["dropped"].items())
        said = f"{row['source']}: {row['items']} items, {row['answered']} answered"
        if row["kept_of_all"]:
            said += f", of which {row['kept']} came through; of all, about {_short(row['kept_of_all'])}"
        print(f"{said}{f' (dropped: {lost})' if lost else ''}")


def print_origins(rows: Sequence[dict[str, Any]], found: Survey, steps: Steps) -> None:
    """Where each price is from, and by which rule pictures were counted."""
    priced = {(client.endpoint.model, client.price): ROLES[s] for s, client in zip(ASKING, steps.clients, strict=True)}
    for (model, price), role in priced.items():
        if price.usd is None:
            print(f"price of model {model} unknown ({price.origin}): give price, as --{role}.price")
        else:
            print(f"price of model {model}: {price.usd[0]:g}, {price.usd[1]:g} USD a million tokens ({price.origin})")
    if any(row["image_tokens"] for row in rows):
        model = steps.captioner.endpoint.model
        rule = "by its size" if tile_rule(model) else f"{IMAGE_TOKENS:,} tokens, whatever its size"
        print(f"a picture counts {rule} for {model}; discounts for prompts in a provider's cache are left out")


def _cost(price: Usd | None, prompt: Array, completion: Array) -> Quantiles | None:
    """USD of so many tokens; None where tokens are to be paid and nobody knows how dear they are."""
    if price is None:
        return None if (prompt + completion).any() else [0.0, 0.0]
    return _span((prompt * price[0] + completion * price[1]) / 1e6)


def _time(ahead: Forecast, places: list[int], endpoint: Endpoint) -> Array:
    """Seconds that these steps, which ask one model, take at least: by calls in flight, and by its rates where they are set."""
    calls, prompt, completion, seconds = ahead.totals[:, places, :4].sum(axis=1).T
    bounds = [seconds / endpoint.in_flight]
    bounds += [60 * calls / endpoint.rpm] if endpoint.rpm else []
    bounds += [60 * (prompt + completion) / endpoint.tpm] if endpoint.tpm else []
    return np.max(bounds, axis=0)


def _span(values: Array) -> Quantiles:
    return [round(float(value), 4) for value in np.quantile(values, (0.5, 0.9))]


def _amount(number: float) -> str:
    """Three digits, and a letter for thousands and millions."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if number >= 10 * size or (letter != "K" and number >= size):
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"


def _short(span: Quantiles) -> str:
    low, high = (_amount(value) for value in span)
    return low if low == high else f"{low}/{high}"


def _dollars(span: Quantiles) -> str:
    low, high = (f"{value:,.2f}" for value in span)
    return low if low == high else f"{low}/{high}"


def _hours(span: Quantiles) -> str:
    low, high = (f"{value / 3600:.1f} h" if value >= 3600 else f"{value / 60:.1f} min" for value in span)
    return low if low == high else f"{low}/{high}"
