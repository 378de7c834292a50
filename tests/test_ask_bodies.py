"""What endpoints write into a body: every shape of an answer is read, and what is none gets its name."""

from __future__ import annotations

import json

import pytest

from seethink.ask.body import MOST_TOKENS, count, read_reply
from seethink.ask.faults import Fault, Words, error_words, retry_after, scrub, status_fault


def completion(finish="stop", choice=None, top=None, **message):
    message = {"role": "assistant", "content": "yes", **message}
    return json.dumps({"choices": [{"message": message, "finish_reason": finish, **(choice or {})}], **(top or {})})


def read(body: str, kind: str = "application/json"):
    return read_reply(body, 0.0, 7, kind)


def thinking(part):
    return [part, {"type": "text", "text": "yes"}]


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({}, "yes", ""),
        ({"reasoning_content": "hm"}, "yes", "hm"),
        ({"reasoning": "hm"}, "yes", "hm"),
        ({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}, "yes", "hm"),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]}, "yes", "hm"),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, "yes", ""),
        ({"thinking": "hm"}, "yes", "hm"),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "x"}]}, "yes", "hm"),
        ({"reasoning": {"content": "hm"}}, "yes", "hm"),
        ({"reasoning": None, "reasoning_content": 3}, "yes", ""),
        ({"content": thinking({"type": "thinking", "thinking": "hm"})}, "yes", "hm"),
        ({"content": thinking({"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]})}, "yes", "hm"),
        ({"content": thinking({"type": "reasoning", "text": "hm"})}, "yes", "hm"),
        ({"content": thinking({"type": "image_url", "image_url": {}})}, "yes", ""),
        ({"content": ["y", "es"]}, "yes", ""),
        ({"content": {"type": "text", "text": "yes"}}, "yes", ""),
        ({"content": [{"type": "text", "text": {"value": "yes", "annotations": []}}]}, "yes", ""),
        ({"content": None, "reasoning": "hm"}, "", "hm"),
        ({"content": "half \ud800 pair"}, "half \ufffd pair", ""),
    ],
)
def test_text_and_reasoning_are_found_wherever_they_stand(message, text, reasoning):
    reply = read(completion(**message))
    assert (reply.text, reply.reasoning) == (text, reasoning)


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        *((f, "stop") for f in (None, "", "stop", "STOP", "eos", "eos_token", "end_of_sequence", "end_turn")),
        *((f, "length") for f in ("length", "max_tokens", "MAX_TOKENS")),
        *((f, "broken") for f in ("error", "abort", "insufficient_system_resource", "tool_calls", "unknown", 1, True)),
        *((f, "filtered") for f in ("content_filter", "SAFETY", "refusal")),
    ],
)
def test_an_answer_that_did_not_end_is_none(finish, stop):
    if stop in ("stop", "length"):
        assert read(completion(finish)).stop == stop
        return
    with pytest.raises(Fault) as fault:
        read(completion(finish))
    assert fault.value.name == stop and str(finish) in fault.value.detail and fault.value.billed


@pytest.mark.parametrize(
    ("body", "name", "words"),
    [
        (completion(choice={"error": {"code": 502, "message": "Provider disconnected"}}), "broken", "Provider disc"),
        (completion(choice={"error": {"code": 402, "message": "no"}}), "quota", "no"),
        (completion(content=None, refusal="I cannot help"), "filtered", "I cannot help"),
        (completion(content=" "), "empty", "empty answer"),
        ('{"error": {"message": "Insufficient credits", "code": 402}}', "quota", "Insufficient credits"),
        ('{"error": {"message": "No auth", "code": "401"}}', "key", "No auth"),
        ('{"error": {"message": "Wrong", "code": "invalid_api_key"}}', "key", "Wrong"),
        ('{"error": {"message": "Flagged for moderation", "code": 403}}', "filtered", "Flagged"),
        ('{"error": {"message": "Overloaded", "code": 503}}', "server", "Overloaded"),
        ('{"error": {"message": "Slow down", "code": 429}}', "rate_limit", "Slow down"),
        ('{"error": "model is loading"}', "error", "model is loading"),
        ('{"error": true, "message": "it failed"}', "error", "it failed"),
        ('{"error": {"code": "insufficient_quota"}}', "quota", "insufficient_quota"),
        ('{"error": {}, "choices": null}', "unreadable", "no choices"),
        ('{"object": "error", "message": "it failed", "code": 400}', "refused", "it failed"),
        ('{"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}', "quota", "insufficient balance"),
        ('{"choices": [], "error": {}}', "unreadable", "no choices"),
        ('{"choices": {"0": 1}}', "unreadable", "no choices"),
        ('{"choices": [{"message": "yes"}]}', "unreadable", "no choices"),
        ('[{"error": {"code": 402, "message": "no credit left"}}]', "quota", "no credit left"),
        ('[{"error": {"code": 503, "message": "Overloaded"}}]', "server", "Overloaded"),
        ("[]", "unreadable", "text"),
        ("7", "unreadable", "text"),
        ("", "unreadable", "an empty body"),
        ("Service is starting", "unreadable", "Service is starting"),
        ("<!DOCTYPE html><title>Welcome</title><script>x()</script>", "unreadable", "a page of HTML (Welcome)"),
        ('data: {"choices": []}\n\ndata: [DONE]\n', "unreadable", "an event stream"),
        (": KEEP-ALIVE\n\ndata: {}\n", "unreadable", "an event stream"),
        (completion()[:40], "cut", "half of a JSON object"),
        ("[" * 100_000, "cut", "half of a JSON object"),
        (completion(content="DEEP").replace('"DEEP"', "[" * 900 + "]" * 900), "unreadable", "nested without end"),
    ],
)
def test_what_is_no_answer_gets_its_name(body, name, words):
    with pytest.raises(Fault) as fault:
        read(body)
    assert (fault.value.name, words in fault.value.detail) == (name, True), fault.value


@pytest.mark.parametrize(
    "top",
    [
        {"model": None},
        {"model": 7},
        {"usage": []},
        {"usage": "none"},
        {"error": None},
        {"error": {}},
        {"error": {"code": 0}},
        {},
    ],
)
def test_what_is_beside_an_answer_never_costs_it(top):
    reply = read(completion(top=top))
    assert (reply.text, reply.model, reply.prompt_tokens) == ("yes", "", 7)


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        *((10, 10), ("10", 10), (5.5, 6), ("5.5", 6), (MOST_TOKENS, MOST_TOKENS)),
        *((v, 7) for v in (None, True, "many", [], {}, 0, -1, -(10**9), 10**30, 1e999, float("nan"), "-5", "1e30")),
    ],
)
def test_tokens_are_bounded(value, tokens):
    assert count(value, 7) == tokens


def test_a_number_of_thousands_of_digits_costs_no_answer():
    body = completion(top={"usage": {"prompt_tokens": 0}}).replace(": 0", ": " + "9" * 5000)
    assert read(body).prompt_tokens == 7


def error(message, **more):
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize(
    ("status", "body", "name"),
    [
        (402, error("Insufficient Balance"), "quota"),
        (402, None, "quota"),
        (429, error("You exceeded your current quota", code="insufficient_quota"), "quota"),
        (429, error("balance too low", type="exceeded_current_quota_error"), "quota"),
        (400, error("Your credit balance is too low to access the API"), "quota"),
        (403, error("Your team has run out of credits"), "quota"),
        (400, {"code": "Arrearage", "message": "Access denied"}, "quota"),
        (429, error("You exceeded your current quota, please retry in 8 s", status="RESOURCE_EXHAUSTED"), "rate_limit"),
        (429, error("Rate limit exceeded: free-models-per-day", code=429), "rate_limit"),
        (401, error("Incorrect API key provided", code="invalid_api_key"), "key"),
        (400, error("Wrong", code="invalid_api_key"), "key"),
        (400, [error("API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT")], "key"),
        (403, error("You do not have access"), "key"),
        (403, error("Your account was flagged for suspicious activity"), "key"),
        (403, error("Input was flagged for moderation: violence", metadata={"flagged_input": "x"}), "filtered"),
        (403, error("Not allowed", metadata={"reasons": ["violence"], "flagged_input": "x"}), "filtered"),
        (422, {"detail": [{"loc": ["body"], "msg": "content moderation"}]}, "filtered"),
        (451, error("Blocked by the content policy"), "filtered"),
        (400, error("The response was filtered", code="content_filter"), "filtered"),
        (400, error("Input data may contain inappropriate content", code="DataInspectionFailed"), "filtered"),
        (400, [error("Request contains an invalid argument", code=400)], "refused"),
        (400, error("maximum context length is 4096 tokens"), "refused"),
        (413, None, "refused"),
        (422, {"detail": "temperature"}, "refused"),
        (451, error("not here"), "refused"),
        (404, error("no such model"), "missing"),
        (308, None, "missing"),
        (500, error("Insufficient memory"), "server"),
        (529, error("Overloaded"), "server"),
        (408, None, "server"),
    ],
)
def test_every_refusal_has_its_consequence(status, body, name):
    assert status_fault(status, error_words(body) or Words("nothing"), {}).name == name


def test_a_gateway_repeats_its_suppliers_words():
    words = error_words(error("Provider returned error", code=400, metadata={"raw": "prompt is too long"}))
    assert words and words.message == "Provider returned error; prompt is too long" and words.status == 400


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("36000", 36000.0),
        ("99999999", 99999999.0),
        ("9" * 400, float("inf")),
        *((v, None) for v in ("²", "-5", "", "1e5", "Thu, 01 Jan 99999999 00:00:00 GMT", "Thu, 99 Foo")),
    ],
)
def test_announced_waits_are_read_or_ignored(value, seconds):
    assert retry_after({"retry-after": value}) == seconds


def test_details_are_one_line_without_secrets():
    assert scrub("a\nb\x1b[31m\u2028c hunter2 d", "hunter2") == "a b [31m c [key] d"
