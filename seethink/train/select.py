"""Select SFT examples by perplexity: the subsets of the paper, 25K, 10K and 5K of the hardest to predict.

    seethink select --data sft.jsonl --models Qwen2-VL-2B-Instruct Qwen2.5-VL-3B-Instruct --sizes 25000 10000 5000 --out runs/select

Perplexity is the exponential of the mean negative log-likelihood of a completion's tokens. Several models are combined by the
mean of their perplexities, as the paper says (section 3). Left out on purpose: means of ranks or of log-likelihoods; the
table holds every model's own value, from which they are one line.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

from seethink.core.errors import UserError
from seethink.core.images import hash_pictures
from seethink.core.nouns import Example
from seethink.core.preflight import write_drops
from seethink.core.progress import Progress, progress
from seethink.core.run import Run, read_log
from seethink.core.store import hash_folder, hash_text, save_examples, write_json
from seethink.core.tables import write_table
from seethink.train.config import ModelConfig, SelectConfig, subset_file, system_prompt
from seethink.train.dist import Ranks
from seethink.train.model.policy import Policy, frozen, load_policy
from seethink.train.model.rescore import rescore
from seethink.train.needs import reading_in_words
from seethink.train.preflight import check_data
from seethink.train.sft import Encoded, encode

SCORES = "scores.jsonl"


def run(config: SelectConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for bad data, models, sizes or folder; the same call again resumes."""
    models = [
        ModelConfig(path=m, system=config.system, dtype=config.dtype, max_prompt_tokens=config.max_prompt_tokens)
        for m in config.models
    ]
    examples, drops, _, longest = check_data(config, models, Ranks(), completions=True, dry_run=dry_run)
    if not examples:
        raise UserError(
            "no examples to select from", where=config.data, remedy="Give a JSONL file with at least one row"
        )
    if max(config.sizes, default=0) > len(examples):
        raise UserError(f"a subset of {max(config.sizes)} from {len(examples)} examples", remedy="Give smaller --sizes")
    if dry_run:
        subsets = (
            f"subsets of the {config.choose}: {', '.join(map(str, config.sizes))}" if config.sizes else "no subsets"
        )
        print(f"{len(examples)} examples under {', '.join(map(str, config.models))}; {subsets}")
        for model in models:  # one after the other
            together = max(1, config.micro_tokens // longest.row)
            print(f"{model.path.name}: {reading_in_words(model, together, 0, longest, 0)}")
        return
    inputs = {
        "pictures": hash_pictures([e.sample for e in examples]),
        "models": hash_text(*(hash_folder(model.path) for model in models)),
        "system": hash_text(*(system_prompt(model) for model in models)),
    }
    with Run.open(config.out, "select", config, inputs, overwrite=config.overwrite) as folder:
        write_drops(folder, drops)
        if not folder.done:
            measure(folder, config, models, examples)
            finish(folder, config, examples)
        folder.path(SCORES).unlink(missing_ok=True)  # a killed process may have come to its end, but not to this
        print(f"select: {folder.path('ranking.parquet')}")


def measure(folder: Run, config: SelectConfig, models: list[ModelConfig], examples: list[Example]) -> None:
    """One row of scores.jsonl per micro-batch and model; rows already there are kept.

    Batches are consecutive examples, so a resumed run cuts the same ones and writes the same numbers.
    """
    rows = read_log(folder.path(SCORES))
    folder.keep_rows(SCORES, rows)
    done = [sum(len(r["nll"]) for r in rows if r["model"] == number) for number in range(len(models))]
    with progress("select", len(models) * len(examples), sum(done)) as bar:
        for number, model in enumerate(models):
            if done[number] < len(examples):
                score(folder, config, model, number, examples[done[number] :], bar)


def score(
    folder: Run, config: SelectConfig, model: ModelConfig, number: int, examples: list[Example], bar: Progress
) -> None:
    """Mean negative log-likelihood per completion token of each example under one model."""
    policy = frozen(load_policy(model))
    policy.model.requires_grad_(False)
    for batch in batches(policy, examples, config.micro_tokens):
        completions = [[e.completion] for e in batch]
        log_probs = rescore(policy, [e.prompt for e in batch], completions, 1.0, config.micro_tokens)
        tokens = [len(e.completion) for e in batch]
        means = [-float(x.mean()) for x in log_probs]
        if not all(map(math.isfinite, means)):
            raise UserError("likelihood is not finite", where=model.path, remedy="Try --dtype float32")
        folder.write_rows(SCORES, [{"model": number, "nll": means, "tokens": tokens}])
        policy.features.clear()  # an image is seen once; those of a whole data set would fill the memory
        bar.advance(len(batch), f"{model.path.name}  perplexity {math.exp(min(means[-1], 700)):.1f}")


def batches(policy: Policy, examples: list[Example], budget: int) -> Iterator[list[Encoded]]:
    """Consecutive examples whose tokens fit the budget, encoded as they are needed."""
    batch: list[Encoded] = []
    for example in examples:
        encoded = encode(policy, example)
        if batch and sum(e.tokens for e in batch) + encoded.tokens > budget:
            yield batch
            batch = []
        batch.append(encoded)
    yield batch


def finish(folder: Run, config: SelectConfig, examples: list[Example]) -> None:
    """The table, hardest first, and the subsets in the order of the data."""
    log = read_log(folder.path(SCORES))
    nll = [[x for r in log if r["model"] == m for x in r["nll"]] for m in range(len(config.models))]
    tokens = [[x for r in log if r["model"] == m for x in r["tokens"]] for m in range(len(config.models))]
    means = [mean_perplexity(values) for values in zip(*nll, strict=True)]
    order = sorted(range(len(examples)), key=lambda i: -means[i])  # stable: equal ones stay in the order of the data
    rows = [
        {
            "place": place,
            "id": examples[i].sample.id,
            "source": examples[i].sample.source,
            "perplexity": means[i],
            **{f"nll_{m + 1}": nll[m][i] for m in range(len(config.models))},
            **{f"tokens_{m + 1}": tokens[m][i] for m in range(len(config.models))},
        }
        for place, i in enumerate(order, 1)
    ]
    write_table(folder.path("ranking.parquet"), rows)
    for size in config.sizes:
        kept = sorted(cut(order, size, config.choose))
        save_examples(folder.path(subset_file(config.choose, size)), [examples[i] for i in kept])
    if len(config.sizes) == 1:  # one set: what it lost, as the other data sets of a study have it
        kept = set(cut(order, config.sizes[0], config.choose))
        write_json(folder.path("funnel.json"), list(funnel(examples, kept, f"not among the {config.choose}")))
    folder.finish(
        examples=len(examples),
        models={f"nll_{m}": str(path) for m, path in enumerate(config.models, 1)},
        subsets={subset_file(config.choose, size): size for size in config.sizes},
        mean_nll=[sum(values) / len(values) for values in nll],
    )


def funnel(examples: list[Example], kept: set[int], reason: str) -> Iterator[dict[str, Any]]:
    """Per source, how many examples came in and how many are in the subset, as `seethink data` writes it of its steps."""
    sources = Counter(example.sample.source for example in examples)
    left = Counter(examples[i].sample.source for i in kept)
    for source, given in sources.items():
        dropped = {reason: given - left[source]} if given > left[source] else {}
        numbers = {"in": given, "dropped": dropped, "pending": 0, "out": left[source], "sft": left[source], "rl": 0}
        yield {"source": source, "step": "select", **numbers}


def mean_perplexity(nll: tuple[float, ...]) -> float:
    """Mean over models of exp(mean negative log-likelihood per token)."""
    return sum(math.exp(min(x, 700)) for x in nll) / len(nll)  # e^700 is near the largest float


def cut(order: list[int], size: int, choose: Literal["highest", "lowest", "middle"]) -> list[int]:
    """`size` entries of an order from highest to lowest; a smaller cut lies inside every larger one."""
    start = {"highest": 0, "lowest": len(order) - size, "middle": (len(order) - size) // 2}[choose]
    return order[start : start + size]
