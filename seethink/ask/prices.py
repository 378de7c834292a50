"""What a token of a model costs: as the user says, or as a dated table of list prices has it; else unknown, and never 0.

The table is the package genai-prices as it is installed; nothing is fetched. A model is looked up by its name at the provider
whose address the endpoint has. An address that belongs to no provider has no list price: on a machine of one's own a token costs
nothing only where the user says so (`price = [0, 0]`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from seethink.core.errors import UserError
from seethink.core.url import is_local

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

Usd = tuple[float, float]
"""Per million prompt and completion tokens."""
PROMPT = ("input_mtok", "cache_write_mtok", "input_image_mtok")  # rates at which a token of a prompt may be billed
COMPLETION = ("output_mtok", "output_reasoning_mtok")
CHECKED = re.compile(r"(?:verified|checked) (?:on )?(20\d\d-\d\d-\d\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """What a model's tokens cost, and who says so."""

    usd: Usd | None
    """None: unknown."""
    origin: str
    """Where it is from; of an unknown one, why."""
    batch: Usd | None = None
    """The same over the provider's batch interface; None where there is none, or nobody knows."""

    @property
    def batch_share(self) -> float:
        """What a call costs at most over the batch interface, as a share of what it costs by itself; 1 where nobody knows."""
        pairs = zip(self.batch or (), self.usd or (), strict=False)
        return max((batch / usd for batch, usd in pairs if usd), default=1.0)

    def need(self, model: str) -> Usd:
        """The price. Raises UserError where it is unknown."""
        if self.usd is None:
            remedy = (
                "Give price: USD per million prompt and completion tokens, [0, 0] where they cost nothing; or no budget"
            )
            raise UserError(
                f"a budget needs the price of model {model!r}, which is unknown ({self.origin})", remedy=remedy
            )
        return self.usd


def usd_of(price: Usd | None, prompt_tokens: float, completion_tokens: float) -> float | None:
    """What so many tokens cost; None where the price is unknown."""
    return None if price is None else (prompt_tokens * price[0] + completion_tokens * price[1]) / 1e6


def find_price(model: str, base_url: str, given: Usd | None) -> TokenPrice:
    """The price that the user gave, else the list price of today."""
    if given is not None:
        return TokenPrice(given, "yours", (given[0] / 2, given[1] / 2))
    host = urlsplit(base_url).hostname or ""
    if not host or is_local(base_url) or "." not in host:  # the table is slow to load, and has nothing on these
        return TokenPrice(None, "an address of one's own has no list price")
    return _listed(model, f"{urlsplit(base_url).scheme}://{host}{urlsplit(base_url).path}")


@lru_cache(256)
def _listed(model: str, address: str) -> TokenPrice:
    """From the table; the highest where a price depends on the length of a prompt, on its cache or on the time of day."""
    from genai_prices.data import providers  # here: it takes .4 seconds, and help must not wait

    name = f"genai-prices {metadata.version('genai-prices')}"
    here = [provider for provider in providers if _serves(provider, address)]
    if not here:
        return TokenPrice(None, f"{name} knows no provider at {urlsplit(address).hostname}")
    found = {f"{at.id} {info.id}": rates for at, info in _named(model, here, providers) if (rates := _rates(info))}
    if not found:
        return TokenPrice(None, f"{name} has no price per token for it at {here[0].id}")
    if len(set(found.values())) > 1:
        return TokenPrice(None, f"{name} has several prices: {', '.join(sorted(found))}")
    entry, (usd, batch, single) = next(iter(found.items()))
    origin = f"{name}, checked up to {_checked(providers)}: {entry}"
    return TokenPrice(usd, origin if single else f"{origin}, the highest of its rates", batch)


def _serves(provider: Provider, address: str) -> bool:
    """Whether the address is the provider's: a pattern must not end within a longer name of a host."""
    match = re.match(provider.api_pattern, address)
    return bool(match) and (match[0].endswith((".", "/")) or address[match.end() :][:1] in ("", "/", ":"))


def _named(model: str, here: list[Provider], everyone: list[Provider]) -> Iterator[tuple[Provider, ModelInfo]]:
    """All entries of these providers that go by the name, the one that has it as its id alone; else those of the providers
    whose models they serve."""
    behind = {name for provider in here for name in provider.fallback_model_providers or ()}
    for providers in (here, [provider for provider in everyone if provider.id in behind]):
        matches = [(p, info) for p in providers for info in p.models if info.is_match(model)]
        if matches:
            exact = [(p, info) for p, info in matches if info.id.lower() == model.lower()]
            yield from exact or matches
            return


def _rates(info: ModelInfo) -> tuple[Usd, Usd | None, bool] | None:
    """(highest price, the same over the batch interface, whether there is but one); None where tokens do not settle it."""
    from genai_prices.types import ModelPrice, TimeOfDateConstraint

    now = datetime.now(tz=UTC)
    conditional = [] if isinstance(info.prices, ModelPrice) else info.prices
    windows = [c.constraint for c in conditional if isinstance(c.constraint, TimeOfDateConstraint)]
    turns = [
        turn for window in windows for turn in (window.start_time, window.end_time)
    ]  # in each window, and after it
    moments = [now, *(now.replace(hour=turn.hour, minute=turn.minute, second=1) for turn in turns)]
    usual = [info.get_prices(moment) for moment in moments]
    if any(price.input_mtok is None or price.output_mtok is None or price.requests_kcount for price in usual):
        return None
    prompts, completions = _numbers(usual, PROMPT), _numbers(usual, COMPLETION)
    usd = (max(prompts), max(completions))
    batch = None
    if any(variant.when == {"processing": "batch"} for variant in info.price_variants or ()):
        cheap = [info.get_prices(moment, {"processing": "batch"}) for moment in moments]
        batch = (max(_numbers(cheap, PROMPT)), max(_numbers(cheap, COMPLETION)))
    return usd, batch, len(set(prompts)) == len(set(completions)) == 1


def _numbers(prices: list, names: tuple[str, ...]) -> list[float]:
    """Every rate that these prices have under these names, of all tiers."""
    given = [value for price in prices for name in names if (value := getattr(price, name)) is not None]
    tiers = [
        [value.base, *(tier.price for tier in value.tiers)] if hasattr(value, "tiers") else [value] for value in given
    ]
    return [float(rate) for part in tiers for rate in part]


def _checked(providers: list[Provider]) -> str:
    """The last day on which the table says that one of its rates was looked up."""
    said = "\n".join(x.price_comments or "" for p in providers for x in (p, *p.models))
    return max(CHECKED.findall(said), default="an unknown date")
