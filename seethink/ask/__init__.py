"""Questions to OpenAI-compatible endpoints: asynchronous, cached by content, every attempt on record."""

from seethink.ask.client import CallFailed, Client, Endpoint, NotCached, PendingCall, Reply
from seethink.ask.ledger import Ledger, tell_lost
from seethink.ask.limits import Budget
from seethink.ask.messages import sample_message, user_message

__all__ = [
    "Budget",
    "CallFailed",
    "Client",
    "Endpoint",
    "Ledger",
    "NotCached",
    "PendingCall",
    "Reply",
    "sample_message",
    "tell_lost",
    "user_message",
]
