"""A function of the user's, named "module:function" in a config."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from seethink.core.errors import UserError


def load_function(name: str, what: str) -> Callable[..., Any]:
    """The function that "module:function" names; `what` it is for. Raises UserError where there is none."""
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise UserError(f"{what} {name!r} is not of the form module:function", remedy="E.g. my_domain.steps:check")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"{what} {name!r} cannot be imported ({error})", remedy="Add its folder to PYTHONPATH"
        ) from None
    function = vars(module).get(function_name)
    if not callable(function):
        raise UserError(f"{module_name} has no function {function_name!r}", remedy="Name the function after the colon")
    return function
