"""Questions to OpenAI-compatible endpoints: asynchronous, cached by content, every attempt on record."""

from seethink.ask.client import CallFailed, Client, Endpoint, NotCached, Reply
from seethink.ask.ledger import Ledger, tell_lost
from seethink.ask.limits import Budget, Limiter
from seethink.ask.messages import sample_message, user_message

__all__ = [
    "Budget",
    "CallFailed",
    "Client",
    "Endpoint",
    "Ledger",
    "Limiter",
    "NotCached",
    "Reply",
    "sample_message",
    "tell_lost",
    "user_message",
]
