"""`seethink eval --dry-run`: what would be asked, of whom and how often, and what it may cost. Nothing is computed or written."""

from __future__ import annotations

from seethink.ask import sample_message, user_message
from seethink.ask.messages import estimate_tokens
from seethink.ask.prices import find_price
from seethink.core.images import fitted
from seethink.core.prompt import prompt_text
from seethink.evals.board import Board
from seethink.evals.config import EvalConfig, prompt_in_words, prompt_of
from seethink.evals.items import Items

IMAGE = "[image]"  # in the place of a picture


def say_plan(config: EvalConfig, board: Board, items: Items, profile: str, prompt: str) -> None:
    """Items, calls, pictures, the highest price where it is known, and the first item as it is asked."""
    answers = len(items.samples) * config.samples
    print(f"{len(items.samples)} items of {config.data} ({board.title}), profile {profile}, prompt {prompt}")
    if config.predictions:
        print(f"answers: {config.predictions}")
    else:
        whose = f"calls to {config.model}" if config.base_url else f"answers of {config.model}"
        print(f"at most {answers} {whose} ({config.samples} per item), at most {config.max_tokens} tokens each")
        print(pictures_in_words(config, items))
    if config.against:
        print(f"every answer is scored under {config.against} too, which is held beside the model: entropy and KL")
    print(judge_in_words(config, board, profile, answers))
    if config.base_url:
        price = find_price(config.model, config.base_url, config.price)
        cost = "an unknown price" if price.usd is None else f"at most {most_usd(config, items, price.usd):.2f} USD"
        print(f"answers cost {cost} (per token: {price.origin})")
    print(prompt_in_words(config))
    if not config.predictions:
        print(f"the first item, {items.samples[0].id!r}:\n{prompt_text(items.samples[0], IMAGE)}")


def pictures_in_words(config: EvalConfig, items: Items) -> str:
    """How many pictures there are, and their budget."""
    budget = config.min_pixels, config.max_pixels
    paths = {path for sample in items.samples for path in sample.images}
    said = f"{len(paths)} pictures ({config.images})"
    if not any(budget):
        return f"{said}, pixel budget: {'none' if config.base_url else 'that of the model folder'}"
    bounds = [f"at {word} {n}" for word, n in zip(("least", "most"), budget, strict=True) if n]
    resized = sum(fitted(items.sizes[path], *budget) != items.sizes[path] for path in paths)
    return f"{said}, pixel budget: {' and '.join(bounds)}, which {resized} do not keep as they are"


def judge_in_words(config: EvalConfig, board: Board, profile: str, answers: int) -> str:
    """How often a judge may be asked: once for each of its two questions that the profile has, of every answer."""
    if not config.judge.url:
        return "no judge: what rules cannot read stays unparsed"
    way = board.profiles[profile]
    questions = (way.extract is not None) + (way.grade is not None)
    return f"at most {answers * questions} calls to the judge {config.judge.model}"


def most_usd(config: EvalConfig, items: Items, price: tuple[float, float]) -> float:
    """Price of all answers if every one is as long as it may be; the length of prompts is an estimate, rounded up by half."""
    system = prompt_of(config)
    own = estimate_tokens(user_message(system)) if system else 0
    prompts = sum(1.5 * (own + estimate_tokens(sample_message(sample), config.model)) + 100 for sample in items.samples)
    completions = len(items.samples) * config.max_tokens
    return config.samples * (prompts * price[0] + completions * price[1]) / 1e6
