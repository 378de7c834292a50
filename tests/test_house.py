"""The house: rooms import only from floors below, help is quick, the README's file tree is true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "seethink"
FLOORS = {
    "core": 1, "ask": 2, "doctor": 2.5, "rewards": 3, "traces": 4, "data": 5, "train": 5, "evals": 6, "study": 7, "show": 8, "pocket": 8, "cli": 9,
}  # fmt: skip
TORCH_ROOMS = {"train"}
TORCH_FILES = {f"pocket/{name}.py" for name in ("model", "tokens", "lessons", "exam", "pretrain")} | {
    "rewards/open/models.py"
}
SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem in FLOORS)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    return found | {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_from_floors_below(path):
    here = room(path)
    for module in imports(path):
        parts = module.split(".")
        if parts[0] != "seethink" or len(parts) == 1 or parts[1] == here:
            continue
        assert FLOORS[parts[1]] < FLOORS[here], f"{path.name} imports {module} from the same floor or above"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_stays_in_its_rooms(path):
    if room(path) in TORCH_ROOMS or str(path.relative_to(PACKAGE)) in TORCH_FILES:
        return
    heavy = {m.split(".")[0] for m in imports(path, top_level_only=True)} & {"torch", "transformers", "peft"}
    assert not heavy, f"{path.name} imports {heavy} at import time"


@pytest.mark.parametrize(
    "command", [["-c", "import seethink"], ["-m", "seethink", "--help"], ["-m", "seethink", "grpo", "--help"]]
)
def test_help_is_quick_and_loads_no_torch(command):
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=ROOT)
        best = min(best, time.perf_counter() - start)
    limit = 0.5 if command[-1] != "--help" or "grpo" not in command else 1.5
    assert best < limit
    script = "import sys, seethink.cli as c; c.main(['grpo', '--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=ROOT).returncode == 0


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_broad_except_and_no_evaluation(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException")
            assert not broad, f"{path.name}:{node.lineno} catches everything"
            assert not (len(node.body) == 1 and isinstance(node.body[0], ast.Pass)), f"{path.name}:{node.lineno} passes"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), f"{path.name}:{node.lineno} evaluates text"


def test_readme_lists_every_source_file():
    tree = (ROOT / "README.md").read_text()
    listed = set(re.findall(r"^\s*([\w/]+\.py)\s", tree, re.M))
    actual = {
        str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "__main__.py")
    }
    assert listed == actual
