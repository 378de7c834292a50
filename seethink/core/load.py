"""What the user names as "module:name" or "file.py:name" on the command line or in the config given there, never by data."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from seethink.core.errors import UserError
from seethink.core.store import hash_file, hash_text


def load_function(name: str, what: str) -> Callable[..., Any]:
    """The function that "module:function" or "file.py:function" names; `what` it is for. Raises UserError for none."""
    function, _ = load_object(name, what)
    if not callable(function):
        raise UserError(f"{what} {name!r} is no function", remedy="Name the function after the colon")
    return function


def hash_code(name: str) -> str:
    """What such a name stands for: itself, and the content of the file, which runs. Raises UserError as `load_object`."""
    return hash_text(name, hash_file(load_object(name, "function")[1]))


def load_object(name: str, what: str) -> tuple[Any, Path]:
    """(what "module:NAME" or "file.py:NAME" names, the file it stands in). Raises UserError where there is nothing."""
    module_name, _, attribute = name.rpartition(":")
    is_file = module_name.endswith(".py")
    if not attribute.isidentifier() or not (is_file or all(part.isidentifier() for part in module_name.split("."))):
        remedy = "E.g. my_module:name or folder/my_file.py:name"
        raise UserError(f"{what} {name!r} is not of the form module:name", remedy=remedy)
    module = (_file if is_file else _module)(module_name, f"{what} {name!r}")
    if attribute not in vars(module):
        raise UserError(
            f"{what}: {module_name} has no {attribute!r}", remedy="Give the name that stands there after the colon"
        )
    return vars(module)[attribute], Path(module.__file__ or module_name)


def _module(name: str, what: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last: nothing there stands in for what is installed
    try:
        return importlib.import_module(name)
    except (ImportError, SyntaxError) as error:
        raise UserError(
            f"{what} cannot be imported ({error})", remedy="Call it from its folder, or add that to PYTHONPATH"
        ) from None


def _file(path: str, what: str) -> ModuleType:
    """A file as a module of its own, whose name no other file has."""
    name = f"{Path(path).stem}_{hash_text(os.path.abspath(path))}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if not os.path.isfile(path) or spec is None or spec.loader is None:
        remedy = "Check the path" if os.path.isabs(path) else f"Check the path, which counts from {os.getcwd()}"
        raise UserError("file not found", where=path, remedy=remedy)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes of the file look themselves up here
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        del sys.modules[name]
        raise UserError(f"{what} cannot be imported ({error})", where=path, remedy="Repair the file") from None
    return module
