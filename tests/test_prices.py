"""What a token costs: the user's word, a dated table, or unknown; and what a budget does with it. Nothing is fetched."""

import socket
from contextlib import closing
from datetime import datetime

import pytest
from genai_prices.data import providers
from PIL import Image

from seethink.ask import Budget, Client, Endpoint, Ledger, prices
from seethink.ask.messages import IMAGE_TOKENS, estimate_tokens, user_message
from seethink.ask.prices import find_price
from seethink.core.config import resolve
from seethink.core.errors import UserError
from seethink.data.config import DataConfig
from seethink.data.pipeline import spending
from seethink.data.steps import Steps, load_prompts

OPENAI, DEEPSEEK = "https://api.openai.com/v1", "https://api.deepseek.com/v1"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a price was looked up over the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("model", "url", "usd", "origin"),
    [
        ("gpt-4o", OPENAI, (2.5, 10), "openai gpt-4o"),
        ("GPT-4o-2024-11-20", OPENAI, (2.5, 10), "openai gpt-4o"),
        ("gpt-3.5-turbo", "https://user:secret@API.openai.com:443/v1", (0.5, 1.5), "openai gpt-3.5-turbo"),
        ("gpt-4o", "https://mine.openai.azure.com/openai/v1", (2.5, 10), "openai gpt-4o"),
        ("openai/gpt-4o", "https://openrouter.ai/api/v1", (2.5, 10), "openrouter openai/gpt-4o"),
        ("deepseek-reasoner", DEEPSEEK, (0.55, 2.19), "highest of its rates"),  # cheaper at night
        (
            "gemini-2.5-pro",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            (2.5, 15),
            "highest of its rates",
        ),
        ("gpt-4o", DEEPSEEK, None, "no price per token for it at deepseek"),
        ("gpt-99", OPENAI, None, "no price per token for it at openai"),
        ("sonar", "https://api.perplexity.ai", None, "no price per token"),  # a request has a fee of its own
        ("gpt-4o", "https://api.openai.com.example.org/v1", None, "no provider at api.openai.com.example.org"),
        ("gpt-4o", "https://llm.example.org/v1", None, "no provider at llm.example.org"),
        *(
            ("gpt-4o", f"http://{host}/v1", None, "an address of one's own")
            for host in ("127.0.0.1:8000", "localhost:8000", "192.168.1.7", "10.0.0.3:80", "[::1]:8000", "node17:8000")
        ),
    ],
)
def test_a_list_price_is_that_of_model_and_host(model, url, usd, origin):
    price = find_price(model, url, None)
    assert price.usd == usd and origin in price.origin and "secret" not in price.origin
    if usd:
        assert price.origin.startswith("genai-prices 0.2.") and ", checked up to 20" in price.origin


@pytest.mark.parametrize("hour", range(24))
def test_the_hour_of_the_day_changes_no_price(hour, monkeypatch):
    """DeepSeek is cheaper at night: at noon as at midnight the day's price is taken, and said to be one of several."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 27, hour, 45, tzinfo=tz)

    monkeypatch.setattr(prices, "datetime", Clock)
    prices._listed.cache_clear()  # else the answer of another hour
    price = find_price("deepseek-reasoner", DEEPSEEK, None)
    assert price.usd == (0.55, 2.19) and price.origin.endswith("the highest of its rates")


def test_the_users_price_goes_first_and_may_be_nothing():
    assert find_price("gpt-4o", OPENAI, (1, 2)).usd == (1, 2) and find_price("gpt-4o", OPENAI, (1, 2)).origin == "yours"
    assert find_price("qwen", "http://127.0.0.1:8000/v1", (0, 0)).usd == (0, 0)


def test_the_batch_price_is_the_tables_or_half_of_yours():
    assert find_price("gpt-4o", OPENAI, None).batch == (1.25, 5) and find_price("x", OPENAI, (1, 2)).batch == (0.5, 1)
    assert find_price("deepseek-reasoner", DEEPSEEK, None).batch is None


def test_what_goes_by_several_prices_is_not_guessed(monkeypatch):
    """Two entries of one provider that the name fits; the one whose very name it is would settle it."""
    openai = next(provider for provider in providers if provider.id == "openai")
    mini = next(info for info in openai.models if info.id == "gpt-4o-mini")
    loose = type(mini)(id="loose", match=next(i for i in openai.models if i.id == "gpt-4.1").match, prices=mini.prices)
    monkeypatch.setattr(openai, "models", [loose, *openai.models])
    price = find_price("gpt-4.1-2025-04-14", OPENAI, None)
    assert price.usd is None and "several prices: openai gpt-4.1, openai loose" in price.origin
    assert find_price("gpt-4.1", OPENAI, None).usd == (2, 8)


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("gpt-4o", (1024, 1024), 765),  # the two examples of OpenAI's guide
        ("gpt-4o-2024-11-20", (2048, 4096), 1105),
        ("gpt-4o", (512, 512), 255),
        ("gpt-4o", (8, 8), 255),
        ("gpt-4o", (513, 512), 425),
        ("gpt-4o-mini", (512, 512), 8500),
        ("gpt-4.1-mini", (512, 512), IMAGE_TOKENS),
        ("qwen", (512, 512), IMAGE_TOKENS),
    ],
)
def test_tokens_of_a_picture(tmp_path, model, size, tokens):
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert estimate_tokens(user_message("a" * 40, [str(tmp_path / "a.png")]), model) == 10 + tokens


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize(
    ("url", "given", "params", "refusal"),
    [
        ("http://127.0.0.1:9/v1", None, {"max_tokens": 4}, "price of model 'gpt-4o', which is unknown"),
        ("https://llm.example.org/v1", None, {"max_tokens": 4}, "price of model 'gpt-4o', which is unknown"),
        ("http://127.0.0.1:9/v1", (0, 0), {}, "max_tokens of model 'gpt-4o'"),
        (OPENAI, None, {}, "max_tokens of model 'gpt-4o'"),
        (OPENAI, None, {"max_tokens": 4}, ""),
        (OPENAI, None, {"max_completion_tokens": 4}, ""),
        ("http://127.0.0.1:9/v1", (0, 0), {"max_tokens": 4}, ""),
    ],
)
def test_a_budget_is_refused_the_same_dry_or_not(url, given, params, refusal, dry):
    endpoint = Endpoint(base_url=url, model="gpt-4o", price=given, params=params)
    Client(endpoint, Ledger(":memory:"), Budget(), dry)  # without a budget nothing is
    if not refusal:
        Client(endpoint, Ledger(":memory:"), Budget(1.0), dry)
        return
    with pytest.raises(UserError, match=refusal):
        Client(endpoint, Ledger(":memory:"), Budget(1.0), dry)


def test_one_model_at_two_prices_is_told_apart_by_its_step(tmp_path):
    """A rewriter and a judge of one name, behind two addresses: each row of spend.jsonl has its own price."""
    words = ["--source", "unread", "--out", str(tmp_path), "--base_url", "http://127.0.0.1:9/v1"]
    words += ["--rewriter.model", "m", "--rewriter.price", "[1, 2]"]
    words += ["--judge.model", "m", "--judge.base_url", "http://127.0.0.1:8/v1", "--judge.price", "[3, 4]"]
    with closing(Ledger(":memory:")) as ledger:
        for step in ("rewrite", "verify", "of another run"):
            ledger.sent(step, step, "m", 0.0)
        steps = Steps(resolve(DataConfig, words), load_prompts(None), ledger, Budget())
        found = {row["step"]: row["price"] for row in spending(steps)}
    assert found == {"rewrite": (1, 2), "verify": (3, 4), "of another run": None}
