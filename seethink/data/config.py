"""Settings of `seethink data | split | curate | import | export | data push`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from seethink.ask.client import FIRST_BYTE, IDLE, check_patience
from seethink.core.config import Config, Effect, Seed
from seethink.core.url import BaseUrl, KeyName
from seethink.data.sources.table import NINE
from seethink.rewards.config import RewardConfig

BENCHMARKS = ("dynamath", "geoqa", "logicvista", "mathverse", "mathvision", "mathvista", "wemath")
"""Of which lists of fingerprints come with the package."""
LISTS = f"all, {', '.join(BENCHMARKS)}, or files that `seethink fingerprint` made"
Benchmarks = Annotated[tuple[str, ...], Effect.INPUT]
"""Lists of fingerprints, by name or file."""


class SplitRule(Config):
    """How kept traces become SFT and RL sets."""

    rule: Literal["aha", "all_sft"] = Field(default="aha", description="aha: traces with a cue go to RL; all_sft: none")
    preset: Annotated[str, Effect.INPUT] = Field(
        default="paper", description="lexicon of cues: paper, strict, word, broad, or a TOML file"
    )
    rl_only: tuple[str, ...] = Field(
        default=tuple(s.name for s in NINE if s.rl_only), description="sources that go to RL without a trace"
    )
    rl_cap: int | None = Field(default=None, ge=0, description="RL questions per source at most; none: no cap")
    rl_caps: dict[str, int] = Field(default={}, description="caps of single sources, e.g. {clevr_math = 2000}")
    seed: int = Field(default=0, description="which questions a cap keeps")


class SplitConfig(SplitRule):
    """Split kept traces into SFT and RL sets again, without calls."""

    traces: Annotated[Path, Effect.INPUT] = Field(description="traces.jsonl of a data run")
    out: Annotated[Path, Effect.OUTPUT] = Field(description="run folder")


class Role(Config):
    """The model behind one step."""

    model: str = Field(description="model name as the endpoint knows it")
    base_url: Annotated[BaseUrl, Effect.PLACE] = Field(
        default="", description="endpoint of this step; empty: the run's"
    )
    api_key_env: Annotated[KeyName, Effect.PLACE] = Field(
        default="", description="environment variable with its key; empty: the run's"
    )
    params: dict[str, Any] = Field(
        default={},
        description="sampling parameters sent with every call; max_completion_tokens where max_tokens is not taken",
    )
    price: Annotated[tuple[float, float] | None, Effect.PLACE] = Field(
        default=None, description="USD per million prompt, completion tokens; none: the list price, where there is one"
    )
    rpm: Annotated[float | None, Effect.PLACE] = Field(
        default=None, ge=1, description="requests a minute that the endpoint allows this model and key; none: no limit"
    )
    tpm: Annotated[float | None, Effect.PLACE] = Field(
        default=None, ge=1, description="tokens a minute, prompt and answer; none: no limit"
    )
    stream: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="its answers come piece by piece: no gateway takes long thought for silence"
    )
    batch: Annotated[bool | None, Effect.PLACE] = Field(
        default=None, description="its calls go in batches (see batch); none: as the run's do"
    )


ROLES = {"caption": "captioner", "distill": "reasoner", "rewrite": "rewriter", "verify": "judge"}
"""Step -> who is asked in it, as the settings call it."""


class DataConfig(Config):
    """Distil reasoning traces from an endpoint, in six steps."""

    first: ClassVar[str] = (
        "source out base_url api_key_env captioner.model reasoner.model rewriter.model judge.model budget limit pilot"
    )
    source: Annotated[Path, Effect.INPUT] = Field(
        description="samples: our JSONL rows, or a published file; of the nine sources also the folder it lies in"
    )
    format: str = Field(
        default="rows",
        description="rows: our JSONL; paper: the paper's published JSON; or a source of the paper as it was published: "
        + "; ".join(f"{source.name} ({source.licence})" for source in NINE),
    )
    images: Annotated[Path | None, Effect.PLACE] = Field(default=None, description="image folder of a published file")
    out: Annotated[Path, Effect.OUTPUT] = Field(description="run folder")
    base_url: Annotated[BaseUrl, Effect.PLACE] = Field(min_length=1, description="OpenAI-compatible, of all steps")
    api_key_env: Annotated[KeyName, Effect.PLACE] = Field(
        default="OPENAI_API_KEY", description="environment variable with the key"
    )
    # the paper's models; it names three for rewriting, and its text GPT-3.5-turbo
    captioner: Role = Role(model="gpt-4o", params={"temperature": 0, "max_tokens": 1024})
    reasoner: Role = Role(model="deepseek-reasoner", params={"temperature": 0.6, "max_tokens": 16384}, stream=True)
    rewriter: Role = Role(model="gpt-3.5-turbo", params={"temperature": 0, "max_tokens": 16384})
    judge: Role = Role(model="gpt-3.5-turbo", params={"temperature": 0, "max_tokens": 8})
    prompts: Annotated[Path | None, Effect.INPUT] = Field(
        default=None, description="folder with prompt files that replace ours of the same name"
    )
    context_is_caption: tuple[str, ...] = Field(
        default=("math_puma", "allava_laion"), description="sources whose own text serves as the caption"
    )
    reuse: bool = Field(default=False, description="take the source's own trace (ds_answer) instead of asking for one")
    max_gap: int = Field(default=15, ge=0, description="most words by which rewriting changes the length (paper: 15)")
    rule_first: bool = Field(default=True, description="rules verify what they can, a judge the rest; false: judge all")
    split: SplitRule = SplitRule()
    batch: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="by the endpoint's batch interface: half the price, up to a day for each step"
    )
    in_flight: Annotated[int, Effect.PLACE] = Field(
        default=32, ge=1, description="calls in flight per model; steps that ask the same one share them"
    )
    timeout: Annotated[float | None, Effect.PLACE] = Field(
        default=None, gt=0, description="seconds for a complete answer; none: 600, of a streamed one 1800"
    )
    first_byte: Annotated[float, Effect.PLACE] = Field(
        default=FIRST_BYTE, gt=0, description="seconds until a stream begins"
    )
    idle: Annotated[float, Effect.PLACE] = Field(
        default=IDLE, gt=0, description="seconds from one piece of a stream to the next"
    )
    budget: Annotated[float | None, Effect.PLACE] = Field(
        default=None, gt=0, description="USD that this folder may spend in all; needs prices"
    )
    limit: int = Field(default=0, ge=0, description="only the first rows; 0: all")
    pilot: Annotated[int, Effect.PLACE] = Field(
        default=0,
        ge=0,
        description="ask so many items of each source, drawn at random, and say what all will cost; 0: ask all",
    )
    shard: Annotated[str, Effect.PLACE] = Field(
        default="",
        description="i/n: only part i of n, from 1/n to n/n, by a hash of ids; each part has an --out of its own, and "
        "`seethink data merge` makes one run of them",
    )
    accept: int = Field(
        default=0,
        ge=0,
        description="go on, in the order of seed, until so many rows are kept, RL-only ones among them, or the source ends; 0: all",
    )
    seed: Seed = Field(default=0, description="of accept: which rows come first")
    decontaminate: Benchmarks = Field(default=(), description=f"drop rows that these benchmarks hold: {LISTS}")
    overwrite: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="write the tables anew where the folder holds a finished run with other settings"
    )

    @field_validator("shard")
    @classmethod
    def _one_of_several(cls, shard: str) -> str:
        if shard:
            split_shard(shard)
        return shard

    @property
    def roles(self) -> dict[str, Role]:
        """Who is asked, by step."""
        return {step: getattr(self, role) for step, role in ROLES.items()}

    def endpoint_of(self, role: Role) -> tuple[str, str, str]:
        """(address, model, name of the key) of a role: what an endpoint's own limits are for."""
        return role.base_url or self.base_url, role.model, role.api_key_env or self.api_key_env

    def rates_of(self, role: Role) -> tuple[float | None, float | None]:
        """(requests, tokens) a minute of all roles that ask the same model; one of them may say it for the others."""
        same = [other for other in self.roles.values() if self.endpoint_of(other) == self.endpoint_of(role)]
        given = [
            {rate for rate in rates if rate is not None} for rates in zip(*((r.rpm, r.tpm) for r in same), strict=True)
        ]
        if any(len(rates) > 1 for rates in given):
            raise ValueError(
                f"steps that ask the same model {role.model!r} have different rpm or tpm: it has one limit"
            )
        rpm, tpm = (next(iter(rates), None) for rates in given)
        return rpm, tpm

    @model_validator(mode="after")
    def _one_limit_per_model(self) -> DataConfig:
        for role in self.roles.values():
            self.rates_of(role)
        if self.seed and not self.accept:
            raise ValueError("seed is the order of accept: give accept, or split.seed for what a cap keeps")
        if self.accept and (self.shard or self.batch or any(role.batch for role in self.roles.values())):
            raise ValueError("accept starts an item once it is needed, which neither parts nor batches can tell")
        return self

    @model_validator(mode="after")
    def _streams_are_set_where_something_streams(self) -> DataConfig:
        check_patience(self.timeout, self.first_byte, self.idle, any(role.stream for role in self.roles.values()))
        if given := {"stream", "stream_options"} & {name for role in self.roles.values() for name in role.params}:
            raise ValueError(f"{min(given)} is no sampling parameter: set stream of the role instead of params")
        return self


def split_shard(shard: str) -> tuple[int, int]:
    """(i, n) of a part i/n, 1 <= i <= n. Raises ValueError for anything else."""
    part, of = (int(number) for number in shard.split("/")) if re.fullmatch(r"[0-9]{1,6}/[0-9]{1,6}", shard) else (0, 0)
    if not 1 <= part <= of:
        raise ValueError("a shard is i/n, from 1/n to n/n")
    return part, of


class MergeConfig(Config):
    """Make one run of the parts that `seethink data --shard i/n` has made, without calls."""

    runs: Annotated[tuple[Path, ...], Effect.INPUT] = Field(min_length=1, description="run folders of all n parts")
    out: Annotated[Path, Effect.OUTPUT] = Field(description="run folder of the whole")
    source: Annotated[Path | None, Effect.INPUT] = Field(
        default=None, description="where the rows are now; none: where the first part has read them"
    )
    images: Annotated[Path | None, Effect.PLACE] = Field(
        default=None, description="image folder of a published file; none: that of the first part"
    )
    overwrite: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="write the tables anew where the folder holds a finished run with other settings"
    )


SELECTED = "selected.jsonl"
"""What `curate` writes into its folder."""


class CurateConfig(Config):
    """Choose the rows that an arm trains on, and say of every other one why it went."""

    first: ClassVar[str] = "data out keep checker hesitation scores pass_rate shortest count decontaminate"
    out: Annotated[Path, Effect.OUTPUT] = Field(description="run folder")
    data: Annotated[Path, Effect.INPUT] = Field(
        description="traces.jsonl of a data run, SFT examples or samples; with from_scores the questions it answered"
    )
    keep: tuple[Literal["right", "wrong", "thinking", "aha", "no-aha", "unhesitating", "true", "false"], ...] = Field(
        default=(),
        description="what a trace must be: right or wrong by the reward of its kind; not empty; with or without an aha; "
        "without a marker of hesitation; all of its statements true or one false, as the checker says",
    )
    decontaminate: Benchmarks = Field(default=(), description=f"drop rows that these benchmarks hold: {LISTS}")
    aha: Annotated[str, Effect.INPUT] = Field(default="paper", description="lexicon of aha cues: preset or TOML file")
    hesitation: Annotated[str, Effect.INPUT] = Field(
        default="word", description="lexicon of hesitation: preset or TOML file"
    )
    checker: Annotated[str, Effect.CODE] = Field(
        default="", description="module:function that checks the statements of a trace; empty: none"
    )
    scores: Annotated[Path | None, Effect.INPUT] = Field(
        default=None,
        description="run folder of an eval with several samples on these questions: meta.difficulty of every row, pass_rate",
    )
    pass_rate: tuple[float, float] | None = Field(
        default=None, description="least and greatest share of right ones among that model's answers to the question"
    )
    from_scores: Annotated[Path | None, Effect.INPUT] = Field(
        default=None, description="rejection sampling: that eval's own right answers are the traces"
    )
    per_question: int = Field(default=1, ge=1, description="of from_scores: answers per question at most")
    pick: Literal["shortest", "first", "random"] = Field(default="first", description="of from_scores: which ones")
    same_questions_as: Annotated[tuple[Path, ...], Effect.INPUT] = Field(
        default=(), description="JSONL files: only questions that all of them have"
    )
    shortest: int = Field(default=0, ge=0, description="this many traces with the fewest words of thinking; 0: all")
    longest: int = Field(default=0, ge=0, description="this many with the most words of thinking; 0: all")
    count: int = Field(default=0, ge=0, description="this many drawn at random; 0: all")
    balance: Literal["", "kind", "shares"] = Field(
        default="", description="kind: equally many rows of each kind; shares: of each kind its share of the data"
    )
    reward: RewardConfig = RewardConfig()
    seed: Seed = Field(default=0, description="which rows are drawn at random")
    skip_bad: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="drop rows that cannot be used instead of stopping"
    )
    overwrite: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="start afresh where the folder holds a run with other settings"
    )

    @field_validator("keep", mode="before")
    @classmethod
    def _words(cls, keep: Any) -> Any:
        """`--keep true` reads as a TOML boolean; it is a word here."""
        words = keep if isinstance(keep, list | tuple) else ()
        return [str(word).lower() if isinstance(word, bool) else word for word in words] if words else keep

    @model_validator(mode="after")
    def _every_setting_counts(self) -> CurateConfig:
        for pair in (("right", "wrong"), ("aha", "no-aha"), ("true", "false")):
            if set(pair) <= set(self.keep):
                raise ValueError(f"keep asks for {pair[0]} and {pair[1]}: no trace is both")
        if {"true", "false"} & set(self.keep) and not self.checker:
            raise ValueError("keep true and keep false need a checker")
        if sum(size > 0 for size in (self.shortest, self.longest, self.count)) > 1:
            raise ValueError("shortest, longest and count exclude each other")
        if self.scores and self.from_scores:
            raise ValueError("give scores or from_scores: pass_rate takes either")
        if self.pass_rate and not (self.scores or self.from_scores):
            raise ValueError("pass_rate needs scores")
        if self.pass_rate and not 0 <= self.pass_rate[0] <= self.pass_rate[1] <= 1:
            raise ValueError("pass_rate is a lower and an upper bound in [0, 1]")
        if not self.from_scores and (self.per_question, self.pick) != (1, "first"):
            raise ValueError("per_question and pick are settings of from_scores")
        if self.from_scores and self.reward != RewardConfig():
            raise ValueError("from_scores takes the verdicts of the evaluation: leave reward out, or set it there")
        return self


Kinds = Literal["auto", "digit", "choice", "math", "box", "open"]
OTHER_NAMES = {"ms-swift": "swift", "llamafactory": "sharegpt", "llama-factory": "sharegpt"}
OTHER_NAMES |= dict.fromkeys(("tsv", "csv", "parquet", "datasets"), "hf")
"""Formats by the names of the programs that read them, or of the files that hold a column each."""
ByProgram = BeforeValidator(lambda name: OTHER_NAMES.get(name, name) if isinstance(name, str) else name)


class ImportConfig(Config):
    """Turn people's own data into our rows: one JSONL, and beside it a folder with the pictures that the source holds."""

    format: Annotated[
        Literal["hf", "easyr1", "verl", "trl", "messages", "swift", "sharegpt", "llava", "paper"], ByProgram
    ] = Field(
        description="hf: a column each for question, answer, image ...; the others as `export` writes them, ms-swift being "
        "swift and llamafactory sharegpt; llava: conversations with <image>"
    )
    source: Annotated[Path, Effect.INPUT] = Field(
        description="parquet, arrow, JSON, JSONL, CSV or TSV; a folder of datasets or of shards; or 'train-*.parquet'"
    )
    out: Annotated[Path, Effect.OUTPUT] = Field(description="FILE.jsonl; pictures go to FILE-images beside it")
    columns: tuple[str, ...] = Field(
        default=(), description="theirs=ours, e.g. problem=question,solution=gold; a dot leads into an object"
    )
    kind: Kinds = Field(
        default="auto", description="kind of the rows that name none; auto: as the gold shows, where it does"
    )
    images: Annotated[Path | None, Effect.PLACE] = Field(
        default=None, description="folder of pictures that rows name; none: that of the source"
    )
    skip_bad: Annotated[bool, Effect.PLACE] = Field(
        default=False, description="leave out rows that cannot be taken, and list them in FILE-dropped.jsonl"
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _apart(cls, columns: Any) -> Any:
        """One text with commas, or several words."""
        words = [columns] if isinstance(columns, str) else columns
        words = (
            [part.strip() for word in words for part in word.split(",")] if isinstance(words, list | tuple) else words
        )
        if wrong := [word for word in words if word.count("=") != 1 or not all(word.split("="))]:
            raise ValueError(f"{wrong[0]!r} is not theirs=ours, as in problem=question")
        return words


class ExportConfig(Config):
    """Write a data set in another trainer's format, or an evaluation in that of another program for evaluations."""

    data: Path = Field(description="JSONL of samples (rl.jsonl, sft.jsonl with completions); or an evaluation's folder")
    format: Annotated[
        Literal["hf", "trl", "messages", "verl", "easyr1", "swift", "sharegpt", "paper", "vlmevalkit", "inspect"],
        ByProgram,
    ] = Field(
        description="hf: columns for `datasets`; trl, verl, easyr1, swift (or ms-swift): GRPO; messages, sharegpt (or "
        "llamafactory), swift: SFT; paper: the published JSON; vlmevalkit, inspect: an evaluation"
    )
    out: Annotated[Path, Effect.OUTPUT] = Field(
        description="file to write: .parquet of hf, verl, easyr1; .jsonl of trl, messages, swift, sharegpt; .json of "
        "sharegpt, paper; of an evaluation, a folder or a file"
    )
    system: Path | None = Field(default=None, description="text file with a system prompt; none: no system message")
    table: Path | None = Field(
        default=None, description="of vlmevalkit: its own TSV of the board, where the evaluation read another file"
    )
    task: str = Field(
        default="", description="of an evaluation on a board you wrote: my_board.py:BOARD, as it was given to eval"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> ExportConfig:
        if self.format in ("vlmevalkit", "inspect") and self.system:
            raise ValueError("an evaluation has had its system prompt: leave system out")
        if self.format not in ("vlmevalkit", "inspect") and self.task or self.format != "vlmevalkit" and self.table:
            raise ValueError("table is a setting of vlmevalkit, and task of evaluations")
        return self


class DataPushConfig(Config):
    """Send data to the Hugging Face Hub, pictures inside, with a card that says where every row is from."""

    data: Annotated[Path, Effect.INPUT] = Field(description="run folder of data, split or curate; or a JSONL of rows")
    repo: str = Field(description="org/name of the data set on the Hub; made where it is not there")
    format: Literal["hf", "verl", "easyr1"] = Field(
        default="hf", description="layout of the tables, as `export` writes them; hf loads with `datasets` alone"
    )
    allow: tuple[str, ...] = Field(
        default=(), description="sources that nobody may pass on as things stand, and that you may: docvqa, geoqa170k"
    )
    public: bool = Field(default=False, description="for everyone to see; else private")
