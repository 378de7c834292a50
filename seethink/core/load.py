"""What the user names as "module:name" or "file.py:name" on the command line or in the config given there, never by data."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from seethink.core.errors import UserError
from seethink.core.store import hash_file, hash_text

_IMPORTED: dict[str, str] = {}
"""Module -> hash of its file when it was first loaded here."""


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
        module = importlib.import_module(name)
    except (ImportError, SyntaxError) as error:
        raise UserError(
            f"{what} cannot be imported ({error})", remedy="Call it from its folder, or add that to PYTHONPATH"
        ) from None
    content = hash_file(Path(module.__file__)) if module.__file__ else ""
    if _IMPORTED.setdefault(name, content) != content:  # the file's hash would answer for code that does not run
        raise UserError(f"{what} has changed since it was imported", remedy="Start Python again")
    return module


def _file(path: str, what: str) -> ModuleType:
    """A file as a module of its own, whose name no other file has, nor the same one before it was changed."""
    content = hash_file(Path(path)) if os.path.isfile(path) else ""
    name = f"{Path(path).stem}_{hash_text(os.path.abspath(path), content)}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _Unkept(name, path)
    spec = importlib.util.spec_from_loader(name, loader)
    if not content or spec is None:
        remedy = "Check the path" if os.path.isabs(path) else f"Check the path, which counts from {os.getcwd()}"
        raise UserError("file not found", where=path, remedy=remedy)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes of the file look themselves up here
    whole = False
    try:
        loader.exec_module(module)
        whole = True
    except (ImportError, SyntaxError) as error:
        remedy = "Repair the file; what it imports from beside it is found where its folder is in PYTHONPATH"
        raise UserError(f"{what} cannot be imported ({error})", where=path, remedy=remedy) from None
    finally:
        if not whole:
            del sys.modules[name]
    return module


class _Unkept(SourceFileLoader):
    """Runs what stands in the file: a .pyc beside it is taken for it where the second of the change and the size agree."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)
