"""The judge of an evaluation: questions of a profile, put to an OpenAI-compatible endpoint.

Calls go through the run's ledger: priced, within a budget, and never made twice. A reply counts only if it is the one JSON object
that was asked for, in the form that was asked for; any other is asked once more, in a sharper wording, and kept on record as
paid but of no use, so that the same command asks it again. An endpoint that is slow, dead or refuses costs no more than the
verdicts it owes: they are None, how many and why is said, and the run goes on. Only a spent budget ends it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from seethink.ask import Budget, CallFailed, Client, Endpoint, Ledger, user_message
from seethink.ask.ledger import Reply
from seethink.ask.messages import call_key
from seethink.core.errors import UserError
from seethink.core.progress import Progress, progress
from seethink.evals.config import EvalConfig, JudgeCheckConfig
from seethink.evals.judge.questions import JudgeQuestion, version
from seethink.rewards.config import JudgeConfig

STEPS = ("extract", "grade")
LONGEST = 4_000
"""Characters of a reply that are looked at; a longer one is none."""
AGAIN = "\n\nNothing but this one JSON object is read: no words before or after it, no other key."
UNUSABLE, CUT = "not the JSON object that was asked for", "longer than --judge.max_tokens, cut"
_FENCED = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
_ESCAPE = re.compile(r'\\(?:(["\\/]|u[0-9a-fA-F]{4})|)')


def _schema(name: str, kind: str | list[str]) -> dict[str, Any]:
    shape = {"type": "object", "properties": {name: {"type": kind}}, "required": [name], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": shape}}


SCHEMAS = {"extract": _schema("answer", ["string", "null"]), "grade": _schema("same", "boolean")}


@contextmanager
def open_judge(config: EvalConfig | JudgeCheckConfig) -> Iterator[EndpointJudge | None]:
    """The judge that the settings name, None where they name none: then nobody is asked."""
    if not config.judge.url:
        yield None
        return
    with closing(Ledger(config.out / "ledger.sqlite")) as ledger:
        yield EndpointJudge(config.judge, ledger)


class EndpointJudge:
    """Answers in order, None where there was no usable one. Blocks; raises UserError (code 4) for a spent budget."""

    def __init__(self, config: JudgeConfig, ledger: Ledger):
        self.name, self.version = config.model, version()
        self._config, self._ledger = config, ledger
        self._endpoint = Endpoint(
            base_url=config.url,
            model=config.model,
            api_key_env=config.key_env,
            params={config.tokens_param: config.max_tokens},
            price=config.price,
            in_flight=config.in_flight,
            timeout=config.seconds,
        )
        self._untaken: set[str] = set()
        """Parameters that the endpoint does not take."""
        for said in ledger.refusals(config.model):
            self._untaken |= named_in(said)
        self._why: Counter[str] = Counter()

    def extract(self, questions: Sequence[JudgeQuestion]) -> list[str | None]:
        """The short answer that each response gives; "" where the judge says that it gives none."""
        return self._ask("extract", questions)

    def grade(self, questions: Sequence[JudgeQuestion]) -> list[bool | None]:
        """Whether each answer means what the gold means."""
        return self._ask("grade", questions)

    def spending(self) -> list[dict[str, Any]]:
        """Calls, tokens, price and seconds per step, over all runs of the folder."""
        return [row for row in self._ledger.spending() if row["step"] in STEPS]

    def _ask(self, step: str, questions: Sequence[JudgeQuestion]) -> list[Any]:
        """Identical questions are one."""
        texts = {question.text: question for question in questions}
        found = {text: value for text, q in texts.items() if (value := self._kept(step, q)) is not None}
        self._why.clear()
        if left := [q for text, q in texts.items() if text not in found]:
            with progress(f"judge {step}", len(texts), len(found)) as bar:
                found.update(asyncio.run(self._ask_all(step, left, bar)))
        if missing := len(texts) - len(found):
            why = "; ".join(f"{n} x {reason}" for reason, n in self._why.most_common(3))
            what = f"judge {self.name}: no usable reply to {missing} of {len(texts)} questions ({step})"
            print(f"  ! {what}: {why}. The same command asks them again", file=sys.stderr)
        return [found.get(question.text) for question in questions]

    def _kept(self, step: str, question: JudgeQuestion) -> str | bool | None:
        """What an earlier reply says, if it is of use."""
        for text in wordings(question):
            key = self._key(step, text)
            reply = self._ledger.find(key)
            if reply and (value := self._value(step, question, key, reply)) is not None:
                return value
        return None

    async def _ask_all(self, step: str, questions: list[JudgeQuestion], bar: Progress) -> dict[str, Any]:
        """{text: what the judge says} of those that got a usable reply."""
        slots = asyncio.Semaphore(self._config.in_flight)  # a question's clock starts when it leaves, not in a queue

        async def one(question: JudgeQuestion) -> str | bool | None:
            async with slots:
                value = await self._answer(client, step, question)
            bar.advance(text=f"{budget.spent:.2f} USD" if self._config.price else "")
            return value

        budget = Budget(self._config.budget, self._ledger.spent(*STEPS), setting="--judge.budget")
        async with Client(self._endpoint, self._ledger, budget) as client:
            tasks = {q.text: asyncio.create_task(one(q)) for q in questions}
            try:
                await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for task in tasks.values():
                    task.cancel()
                ends = await asyncio.gather(*tasks.values(), return_exceptions=True)
        for end in ends:
            if isinstance(end, UserError) and end.code == 3:  # dead: nobody else will be answered
                self._why[str(end).replace("--base_url", "--judge.url")] += 1
            elif isinstance(end, Exception):
                raise end
            elif isinstance(end, asyncio.CancelledError):
                self._why["not asked any more"] += 1
        return {text: end for text, end in zip(tasks, ends, strict=True) if isinstance(end, str | bool)}

    async def _answer(self, client: Client, step: str, question: JudgeQuestion) -> str | bool | None:
        why = UNUSABLE
        try:
            async with asyncio.timeout(self._config.seconds):
                for text in wordings(question):
                    key, reply = await self._reply(client, step, text)
                    value = self._value(step, question, key, reply)
                    if value is not None:
                        return value
                    why = CUT if reply.stop == "length" else UNUSABLE
            self._why[why] += 1
        except CallFailed as failure:
            self._why[str(failure)[:200]] += 1
        except TimeoutError:
            self._why[f"no reply within {self._config.seconds:g} seconds"] += 1
        return None

    async def _reply(self, client: Client, step: str, text: str) -> tuple[str, Reply]:
        """A reply and its key. What an endpoint refuses for a parameter that it does not take is asked without it."""
        while True:
            extra = self._extra(step)
            try:
                reply = await client.chat(user_message(text), step=step, **extra)
                return self._key(step, text, extra), reply
            except CallFailed as failure:
                untaken = named_in(failure.detail) & extra.keys()
                if failure.reason != "refused" or not untaken:
                    raise
                self._untaken |= untaken

    def _value(self, step: str, question: JudgeQuestion, key: str, reply: Reply) -> str | bool | None:
        """What a reply says; one of no use is never used again."""
        value = None if reply.stop == "length" else read_reply(reply.text, step, question)
        if value is None:
            self._ledger.discard(key)
        return value

    def _extra(self, step: str) -> dict[str, Any]:
        wanted = {"temperature": 0, "response_format": SCHEMAS[step]}
        return {name: value for name, value in wanted.items() if name not in self._untaken}

    def _key(self, step: str, text: str, extra: dict[str, Any] | None = None) -> str:
        params = {**self._endpoint.params, **(self._extra(step) if extra is None else extra)}
        return call_key(self._endpoint.model, user_message(text), params, 0)


def wordings(question: JudgeQuestion) -> tuple[str, str]:
    """A question as it is asked first, and once more where the reply was of no use."""
    return question.text, question.text + AGAIN


def named_in(refusal: str) -> set[str]:
    """Parameters that an endpoint's refusal names."""
    said = refusal.lower()
    words = {"temperature": ("temperature",), "response_format": ("response_format", "json_schema", "response format")}
    return {name for name, forms in words.items() if any(form in said for form in forms)}


def read_reply(text: str, step: str, question: JudgeQuestion) -> str | bool | None:
    """What a reply says that is exactly one JSON object with the one key of its step, else None."""
    text = text.rpartition("</think>")[2].strip()
    if len(text) > LONGEST:
        return None
    if fenced := _FENCED.fullmatch(text):
        text = fenced[1]
    try:
        # numbers as they are written; a lone backslash is one of LaTeX, whatever JSON makes of it
        said = json.loads(_ESCAPE.sub(lambda m: m[0] if m[1] else r"\\", text), parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    if step == "grade":
        return said["same"] if _has_only(said, "same") and isinstance(said["same"], bool) else None
    if not _has_only(said, "answer"):
        return None
    answer = "" if said["answer"] is None else said["answer"]
    return question.form(answer.strip()) if isinstance(answer, str) else None


def _has_only(value: Any, key: str) -> bool:
    return isinstance(value, dict) and set(value) == {key}
