"""Select SFT examples by perplexity: the subsets of the paper, 25K, 10K and 5K of the hardest to predict.

    seethink select --data sft.jsonl --models Qwen2-VL-2B-Instruct Qwen2.5-VL-3B-Instruct --sizes 25000 10000 5000 --out runs/select --gpus 8

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
from seethink.core.progress import progress
from seethink.core.run import Run, read_log
from seethink.core.stats import clustered
from seethink.core.store import hash_folder, hash_text, save_examples, write_json
from seethink.core.tables import write_table
from seethink.core.terminal import between, print_table
from seethink.train.config import ModelConfig, SelectConfig, subset_file, system_prompt
from seethink.train.dist import Ranks, join
from seethink.train.model.policy import Policy, frozen, load_policy
from seethink.train.model.rescore import rescore
from seethink.train.needs import reading_in_words
from seethink.train.preflight import Longest, check_data
from seethink.train.sft import Encoded, encode

SCORES = "scores.jsonl"
BLOCK = 32  # examples that a rank scores between two records


def run(config: SelectConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for bad data, models, sizes or folder; the same call again resumes."""
    models = [
        ModelConfig(path=m, system=config.system, dtype=config.dtype, max_prompt_tokens=config.max_prompt_tokens)
        for m in config.models
    ]
    with join(config.device) as ranks:
        examples, drops, _, longest = check_data(config, models, ranks, completions=True, dry_run=dry_run)
        with ranks.together():
            refuse_too_few(config, examples)
        if dry_run:
            print(plan(config, models, examples, longest))
            return
        with ranks.open(lambda: open_selection(config, models, examples)) as folder:
            write_drops(folder, drops)
            if not (whole := folder.done):
                measure(folder, config, models, examples, ranks)
            if not ranks.first:
                return
            if not folder.done:
                finish(folder, config, examples)
            folder.path(SCORES).unlink(missing_ok=True)  # a killed process may have come to its end, but not to this
            print(f"select: {'done before' if whole else 'finished'}, {folder.path('ranking.parquet')}")
            say(folder.summary)


def say(summary: dict[str, Any]) -> None:
    """Mean negative log-likelihood per token of every model over the examples, with its interval, and the subsets."""
    intervals = summary.get("mean_nll_interval") or [None] * len(summary["mean_nll"])  # earlier versions had none
    means = zip(summary["models"].values(), summary["mean_nll"], intervals, strict=True)
    cells = [(path, summary["examples"], between(mean, limits, 3)) for path, mean, limits in means]
    print_table(("model", "examples", "nats per token [95 %]"), cells)
    for name, size in summary["subsets"].items():
        print(f"  {name}: {size} examples")


def refuse_too_few(config: SelectConfig, examples: list[Example]) -> None:
    """Raises UserError for no examples, or for fewer than a subset is to have."""
    if not examples:
        raise UserError(
            "no examples to select from", where=config.data, remedy="Give a JSONL file with at least one row"
        )
    if max(config.sizes, default=0) > len(examples):
        raise UserError(f"a subset of {max(config.sizes)} from {len(examples)} examples", remedy="Give smaller --sizes")


def plan(config: SelectConfig, models: list[ModelConfig], examples: list[Example], longest: Longest) -> str:
    """What a run would do, in words."""
    subsets = f"subsets of the {config.choose}: {', '.join(map(str, config.sizes))}" if config.sizes else "no subsets"
    lines = [f"{len(examples)} examples under {', '.join(map(str, config.models))}; {subsets}"]
    for model in models:  # one after the other, whole on every GPU
        together = max(1, config.micro_tokens // longest.row)
        lines.append(f"{model.path.name}: {reading_in_words(model, together, 0, longest, 0)}")
    return "\n".join(lines)


def open_selection(config: SelectConfig, models: list[ModelConfig], examples: list[Example]) -> Run:
    """The run folder, which refuses to go on with other models, pictures or system prompts."""
    inputs = {
        "pictures": hash_pictures([e.sample for e in examples]),
        "models": hash_text(*(hash_folder(model.path) for model in models)),
        "system": hash_text(*(system_prompt(model) for model in models)),
    }
    return Run.open(config.out, "select", config, inputs, overwrite=config.overwrite)


def measure(
    folder: Run, config: SelectConfig, models: list[ModelConfig], examples: list[Example], ranks: Ranks
) -> None:
    """One row of scores.jsonl per model and block of examples, in their order; rows already there are kept.

    The ranks take blocks in turn, each with the whole model. A batch ends where its block ends, so neither a resume nor the
    number of ranks changes a number.
    """
    done = [0] * len(models)
    with ranks.together():
        if ranks.first:
            rows = read_log(folder.path(SCORES))
            folder.keep_rows(SCORES, rows)
            done = [sum(len(r["nll"]) for r in rows if r["model"] == number) for number in range(len(models))]
    done = ranks.of_first(done)
    with progress("select", len(models) * len(examples), sum(done), show=ranks.first) as bar:
        for number, model in enumerate(models):
            blocks = [examples[at : at + BLOCK] for at in range(done[number], len(examples), BLOCK)]
            if not blocks:
                continue
            with ranks.together():
                policy = frozen(load_policy(model, Ranks(device=ranks.device)))
            for at in range(0, len(blocks), ranks.world):
                turn = blocks[at : at + ranks.world]
                with ranks.together():
                    mine = [score(policy, block, config.micro_tokens) for block in turn[ranks.rank : ranks.rank + 1]]
                rows = [{"model": number, **row} for row in ranks.gather(mine)]
                folder.write_rows(SCORES, rows)
                last = math.exp(min(rows[-1]["nll"][-1], 700))
                bar.advance(sum(map(len, turn)), f"{model.path.name}  perplexity {last:.1f}")


def score(policy: Policy, examples: list[Example], budget: int) -> dict[str, list[Any]]:
    """Per example: `nll`, the mean negative log-likelihood of its completion's tokens, and how many `tokens` these are."""
    nll, tokens = [], []
    for batch in batches(policy, examples, budget):
        completions = [[e.completion] for e in batch]
        log_probs = rescore(policy, [e.prompt for e in batch], completions, 1.0, budget)
        nll += [-float(x.mean()) for x in log_probs]
        tokens += [len(e.completion) for e in batch]
        policy.features.clear()  # an image is seen once; those of a whole data set would fill the memory
    if not all(map(math.isfinite, nll)):
        raise UserError("likelihood is not finite", where=policy.folder, remedy="Try --dtype float32")
    return {"nll": nll, "tokens": tokens}


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
        mean_nll_interval=[_limits(values, examples) for values in nll],
    )


def _limits(values: list[float], examples: list[Example]) -> tuple[float, float] | None:
    """Of a mean over examples; several traces of one question are one draw. None where nothing varies."""
    found = clustered(values, [example.sample.id for example in examples])
    return (found.low, found.high) if found and found.high > found.low else None


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
