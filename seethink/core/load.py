"""A function of the user's, named "module:function" on the command line or in the config given there, never by data."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from seethink.core.errors import UserError


def load_function(name: str, what: str) -> Callable[..., Any]:
    """The function that "module:function" names; `what` it is for. Raises UserError where there is none."""
    module_name, colon, function_name = name.partition(":")
    if not (colon and function_name and all(part.isidentifier() for part in module_name.split("."))):
        raise UserError(f"{what} {name!r} is not of the form module:function", remedy="E.g. my_domain.steps:check")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last: nothing there stands in for what is installed
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise UserError(
            f"{what} {name!r} cannot be imported ({error})", remedy="Call it from its folder, or add that to PYTHONPATH"
        ) from None
    function = vars(module).get(function_name)
    if not callable(function):
        raise UserError(f"{module_name} has no function {function_name!r}", remedy="Name the function after the colon")
    return function
