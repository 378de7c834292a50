"""The four steps that ask a model, one method each, and the walk of an item through them.

    caption   an image becomes a description (skipped where the source has one)
    distil    a text-only reasoner answers from the description, thinking aloud
    rewrite   "the caption says" becomes "the image shows"; a trace whose length moves by more than 15 words is dropped
    verify    rules decide what they can, a judge says Yes or No to the rest

Paper (arXiv 2504.11468) section 2. A step raises Rejected where the sample must go, with the reason for the funnel.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from string import Template

from seethink.ask import Budget, CallFailed, Client, Endpoint, Ledger, Reply, user_message
from seethink.core.errors import UserError
from seethink.core.nouns import Drop, Sample, Verdict
from seethink.core.prompt import prompt_text
from seethink.core.store import read_text
from seethink.core.tags import ANSWER, ANSWER_END, THINK, THINK_END, compose, extract
from seethink.data.config import DataConfig
from seethink.data.funnel import STEPS
from seethink.data.kept import Draft, Kept
from seethink.data.outcomes import UNANSWERED, Ended, Outcome
from seethink.rewards import Rewarder

PROMPTS = ("caption", "caption_context", "distill", "distill_context", "rewrite", "verify")
_FINAL = re.compile(r"\banswer\s*(?:is\s*)?[:：]\s*\**", re.IGNORECASE)
_YES_NO = re.compile(r"[\W_]*(yes|no)(?:\s*$|\s*[^\w\s])", re.IGNORECASE)


class Rejected(Exception):
    """The sample leaves here: `reason` is a word of the funnel, `detail` helps to look it up.

    `draft` and `verdict` are what the step made of it nevertheless.
    """

    def __init__(self, reason: str, detail: str = "", *, draft: Draft | None = None, verdict: Verdict | None = None):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.draft, self.verdict = reason, detail, draft, verdict


@dataclass(slots=True)
class Candidate:
    """A sample on its way; it ends kept or dropped. What was written of it is in its outcome, not here."""

    id: str
    source: str
    read: Callable[[], Sample]
    """The sample itself, whose texts need not be in memory."""
    key: str = ""
    """Of its outcome."""
    step: str = "caption"
    """Where it is, or where it ended: `split` where it came through."""
    drop: Drop | None = None
    failed: bool = False
    """Dropped because the endpoint gave no answer; worth asking again."""

    @property
    def sample(self) -> Sample:
        return self.read()

    @property
    def kept(self) -> bool:
        """Whether it came through."""
        return self.step == "split" and self.drop is None

    @property
    def waits(self) -> bool:
        """Whether it has still to go on."""
        return self.step != "split" and self.drop is None


class Steps:
    """The four steps, over one client per role on one ledger and one budget. `dry` asks the ledger only."""

    def __init__(
        self, config: DataConfig, prompts: dict[str, Template], ledger: Ledger, budget: Budget, dry: bool = False
    ):
        self.config, self.prompts, self.ledger, self.budget = config, prompts, ledger, budget
        self.clients, waits = [], {"first_byte": config.first_byte, "idle": config.idle}
        self.by_batch: dict[str, Client] = {}
        """Steps whose calls go in batches: their clients answer from the ledger only."""
        first: dict[tuple[str, ...], Client] = {}  # steps that ask the same model share its limits
        for step, role in config.roles.items():
            base_url, model, api_key_env = place = config.endpoint_of(role)
            rpm, tpm = config.rates_of(role)
            batch = config.batch if role.batch is None else role.batch
            endpoint = Endpoint(
                base_url=base_url,
                model=model,
                api_key_env=api_key_env,
                params=role.params,
                price=role.price,
                in_flight=config.in_flight,
                timeout=config.timeout,
                rpm=rpm,
                tpm=tpm,
                stream=role.stream,
                **(waits if role.stream else {}),
            )
            self.clients.append(Client(endpoint, ledger, budget, dry or batch, beside=first.get(place)))
            first.setdefault(place, self.clients[-1])
            if batch:
                self.by_batch[step] = self.clients[-1]
        self.captioner, self.reasoner, self.rewriter, self.judge = self.clients

    async def caption(self, sample: Sample) -> str:
        """Description of the image: the source's caption, a text that stands for one, or the captioner's."""
        if own := str(sample.meta.get("caption") or "").strip():
            return own
        if not sample.images or sample.context and sample.source in self.config.context_is_caption:
            return sample.context
        prompt = self._prompt("caption_context" if sample.context else "caption", context=sample.context)
        reply = await self.captioner.chat(user_message(prompt, sample.images), step="caption")
        return _complete(reply).text.strip()

    async def distill(self, sample: Sample, caption: str) -> Draft:
        """What the reasoner thinks and answers, having read the caption."""
        if self.config.reuse and sample.meta.get("ds_answer"):
            return read_trace(str(sample.meta["ds_answer"]))
        known = sample.context if sample.context != caption else ""
        name = "distill_context" if known else "distill"
        prompt = self._prompt(name, caption=caption, context=known, question=prompt_text(sample))
        reply = _complete(await self.reasoner.chat(user_message(prompt), step="distill", rank=1))
        draft = read_trace(reply.text, reply.reasoning)
        return replace(draft, model=reply.model, tokens=reply.completion_tokens)

    async def rewrite(self, sample: Sample, draft: Draft) -> Draft:
        """The same trace, speaking of the image. Rejected where its length moved too far."""
        if self.config.reuse and sample.meta.get("ds_answer"):
            return draft
        prompt = self._prompt("rewrite", trace=f"{THINK}\n{draft.think}\n{THINK_END}\n\n{draft.answer}")
        reply = _complete(await self.rewriter.chat(user_message(prompt), step="rewrite", rank=2))
        after = read_trace(reply.text)
        rewritten = replace(draft, think=after.think, answer=after.answer)
        words = [len(d.think.split()) + len(d.answer.split()) for d in (draft, rewritten)]
        gap = abs(words[1] - words[0])
        if gap > self.config.max_gap:
            raise Rejected("gap", f"length changed by {gap} words", draft=rewritten)
        return rewritten

    async def verify(self, sample: Sample, draft: Draft) -> Verdict:
        """Yes, by rule or by judge. Rejected for No and for a judge who says neither."""
        if self.config.rule_first and (verdict := await decide_by_rule(sample, draft)) is not None:
            if not verdict.ok:
                raise Rejected("rule_no", verdict.reason, verdict=verdict)
            return verdict
        prompt = self._prompt(
            "verify", question=prompt_text(sample), gold=" or ".join(sample.golds), answer=draft.answer
        )
        for draw in (0, 1):
            reply = await self.judge.chat(user_message(prompt), step="verify", draw=draw, rank=3)
            if (agrees := yes_or_no(reply.text)) is False:
                said = f"gold {sample.gold[:100]!r}, answer {final_answer(draft.answer)[:100]!r}"
                raise Rejected("judge_no", said, verdict=Verdict(False, reply.model, said))
            if agrees:
                return Verdict(True, reply.model)
        raise Rejected("judge_unparsable", repr(reply.text[:200]))

    def credit(self, settled: Iterable[Ended]) -> None:
        """Count the steps that led to earlier outcomes as answered: only an endpoint that never answered is dead."""
        order, answered = STEPS[1:4], set()  # caption, distill, rewrite
        for end in settled:
            answered.update(order[: order.index(end.step) + 1] if end.step in order else order)
            answered.update(["verify"] if end.by not in ("", "rule") else [])
        for step, client in zip(STEPS[1:5], self.clients, strict=True):
            client.answers += step in answered

    def _prompt(self, name: str, **values: str) -> str:
        return self.prompts[name].substitute(values).strip()


async def walk(item: Candidate, steps: Steps) -> Outcome:
    """Take one item through the steps; how it ended, with all that was written on the way.

    Raises only what concerns the whole run: UserError, or NotCached where it waits for a batch, or is dry.
    """
    sample = item.sample
    end = Outcome(sample.id, sample.source, "split")
    try:
        if sample.source in steps.config.split.rl_only:
            item.step = "split"
            return end
        item.step = "caption"
        end = replace(end, caption=await steps.caption(sample))
        item.step = "distill"
        draft = await steps.distill(sample, end.caption or "")
        end = replace(end, distilled=draft)
        item.step = "rewrite"
        draft = await steps.rewrite(sample, draft)
        end = replace(end, rewritten=draft)
        item.step = "verify"
        end = replace(end, verdict=await steps.verify(sample, draft))
        item.step = "split"
        return end
    except Rejected as error:
        item.drop = Drop(sample.id, sample.source, item.step, error.reason, error.detail)
        if error.draft:
            end = replace(end, rewritten=error.draft)
        return replace(end, step=item.step, drop=item.drop, verdict=error.verdict)
    except CallFailed as error:
        item.drop = Drop(sample.id, sample.source, item.step, error.reason, error.detail)
        item.failed = error.reason not in UNANSWERED
        return replace(end, step=item.step, drop=item.drop, failed=item.failed)


def kept_row(sample: Sample, outcome: Outcome) -> Kept:
    """The sample of an outcome that came through, with its trace; the caption goes to its meta."""
    meta = {key: value for key, value in sample.meta.items() if key != "ds_answer"}
    if outcome.caption is not None:
        meta["caption"] = outcome.caption
    return Kept(replace(sample, meta=meta), outcome.rewritten, outcome.verdict)


def load_prompts(folder: Path | None) -> dict[str, Template]:
    """The six prompts; files of the same name in `folder` replace ours. Raises UserError for what would not be used."""
    theirs = {path.stem: path for path in sorted(folder.glob("*.txt"))} if folder else {}
    if folder and (not theirs or theirs.keys() - set(PROMPTS)):
        what = f"no prompt is called {(theirs.keys() - set(PROMPTS)).pop()!r}" if theirs else "no prompt files here"
        raise UserError(what, where=folder, remedy=f"Name them {', '.join(f'{name}.txt' for name in PROMPTS)}")
    prompts = {}
    for name in PROMPTS:
        ours = Template((files("seethink.data") / "prompts" / f"{name}.txt").read_text(encoding="utf-8"))
        prompts[name] = Template(read_text(theirs[name])) if name in theirs else ours
        if not prompts[name].is_valid() or set(prompts[name].get_identifiers()) - set(ours.get_identifiers()):
            placeholders = ", ".join(f"${p}" for p in ours.get_identifiers()) or "none"
            remedy = f"Use {placeholders}; $$ is a dollar sign"
            raise UserError("unknown placeholder", where=theirs[name], remedy=remedy)
    return prompts


def read_trace(text: str, reasoning: str = "") -> Draft:
    """Thinking and answer of an R1-like reply: told apart by the server, or `<think>..</think>` and what follows.

    The opening tag may be missing (it often stands in the prompt), and `<answer>` tags around the answer are taken off.
    Raises Rejected for everything else.
    """
    if reasoning.strip():
        think, answer = reasoning, text
    else:
        if text.count(THINK) > 1 or text.count(THINK_END) != 1:
            raise Rejected("format", "no single <think>..</think>")
        before, _, answer = text.partition(THINK_END)
        ahead, opening, think = before.partition(THINK)
        think = think if opening else ahead
        if opening and ahead.strip():
            raise Rejected("format", "text before <think>")
    answer = answer.strip()
    if answer.startswith(ANSWER) and answer.endswith(ANSWER_END):
        answer = answer[len(ANSWER) : -len(ANSWER_END)].strip()
    parsed = extract(compose(think.strip(), answer))
    if parsed.status != "ok" or not parsed.think:
        raise Rejected("format", "empty thinking" if parsed.status == "ok" else parsed.status)
    assert parsed.answer is not None  # a completion that is ok has one
    return Draft(parsed.think, parsed.answer)


async def decide_by_rule(sample: Sample, draft: Draft) -> Verdict | None:
    """`rule_verdict`, in a thread where it may take long; a thread costs more than the other rules do."""
    if sample.kind == "math":
        return await asyncio.to_thread(rule_verdict, sample, draft)
    return rule_verdict(sample, draft)


def rule_verdict(sample: Sample, draft: Draft) -> Verdict | None:
    """What the rewards say of the final answer, or None where they cannot tell (open questions, prose, bad golds)."""
    if sample.kind == "open":
        return None
    rewarder = Rewarder()
    reward = rewarder.score(sample, compose(draft.think, final_answer(draft.answer)))
    if reward.status != "ok":
        return None
    return Verdict(
        rewarder.is_correct(reward), "rule", f"gold {sample.gold[:100]!r}, read {str(reward.answer)[:100]!r}"
    )


def final_answer(answer: str) -> str:
    """What follows the last "Answer:", or the whole answer."""
    marks = list(_FINAL.finditer(answer))
    last = answer[marks[-1].end() :].strip().strip("*").strip() if marks else ""
    return last or answer


def yes_or_no(text: str) -> bool | None:
    """True or False for a reply that is Yes or No, alone or before punctuation; None for anything else."""
    match = _YES_NO.match(text)
    return None if match is None else match[1].lower() == "yes"


def _complete(reply: Reply) -> Reply:
    if reply.stop == "length":
        raise Rejected("too_long", f"longer than {reply.completion_tokens} tokens")
    if not reply.text.strip():
        raise Rejected("empty")
    return reply
