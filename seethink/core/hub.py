"""The Hugging Face Hub: names on it, and what it says where it refuses.

The token is huggingface_hub's own (`hf auth login`, or HF_TOKEN); it is never read or shown here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from seethink.core.errors import UserError
from seethink.core.terminal import one_line

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def check_repo(repo: str) -> None:
    """Raises UserError for what cannot be a name there."""
    if not HUB_NAME.fullmatch(repo):
        raise UserError(f"{repo!r} is no name on the Hub", where="--repo", remedy="Give org/name")


@contextmanager
def hub(repo: str) -> Iterator[Any]:
    """huggingface_hub's HfApi for a block that only asks the Hub about `repo` or sends to it.

    Raises UserError for what the Hub refuses, or where it cannot be reached.
    """
    try:
        from huggingface_hub import HfApi  # here: it is slow to import, and comes with transformers
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    except ImportError:
        raise UserError("this verb needs huggingface_hub", remedy="pip install huggingface_hub") from None
    # of the HTTP client, which differs between versions
    no_network = cast("type[Exception]", HfHubHTTPError.__bases__[0])
    try:
        yield HfApi()
    except (no_network, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        what = f"the Hub refuses it ({one_line(str(error))[:200]})"
        raise UserError(what, where=repo, remedy="Check the name and `hf auth whoami`", code=1) from None
