"""README.md and every page of docs/: each command is understood, each named file exists, and each command runs.

Pages are found, not listed. A command that cannot run here runs with --dry-run or not at all, for a reason that stands below.
"""

from __future__ import annotations

import ast
import html
import re
import shutil
from pathlib import Path

import pytest

import seethink
from seethink import cli
from seethink.core.config import describe
from seethink.core.errors import UserError
from seethink.core.load import load_object
from seethink.core.shipped import SHIPPED
from tests.docs_world import PAGES, ROOT, Shown, World, answer, blocks, files, paths_of, read, rename, shown, tiny
from tests.fake_api import FakeApi

BY_NAME = {page.name: page for page in PAGES}
COMMANDS = [command for page in PAGES for command in shown(page)]
RENDERED = "house.md"  # from docstrings, which hold fragments with | for `or`

PLACEHOLDERS = {
    r"\bVERB\b": "any verb",
    r"\.\.\.": "settings that the sentence is not about",
    r" (F|FILE|PATH|FOLDER|RUN|STUDY|NAME|N|COMMIT|DIR)\b|\bFILE\.": "yours to fill in, as the sentence says",
    r"@(config|mine|base|file)\.(json|toml)": "any file",
}
"""In a command -> why its values are not read; its verb and its keys are."""

ELSEWHERE = {
    "subsets.md": "tests/test_subsets.py runs all of it and looks at what comes out",
    "first-hour.md": "docs/follow.py runs it word for word, with the shell between",
    RENDERED: "a list of files",
}
"""Pages whose commands another one runs."""

HEAVY = ("README.md", "distilling.md", "evals.md", "faq.md", "study.md", "verbs.md")
"""Pages whose commands take a minute or more where others work beside."""

DRY = {
    r"--gpus [2-9]": "several GPUs",
    r"--(sampler\.)?engine vllm": "vLLM has an environment of its own (make test-vllm)",
    r"^seethink (data )?push\b": "the Hub",
    r"^seethink study( --out \S+)?$|@studies/": "hours, or minutes (tests/test_study.py)",
    r"--sampler\.url": "a vLLM server",
}
"""In a command -> why it runs with --dry-run."""

NOT_RUN = {
    r"chat_model|--reward\.open\.scorer remote": "weights and libraries of a reward model (tests/test_rewards_remote.py)",
    r"--table WeMath\.tsv": "VLMEvalKit's own table (tests/test_evals_export.py)",
    r"plates\.py": "tests/test_docs_evals.py runs it, with its golds",
    r"judge-check": "items with known verdicts (tests/test_evals_judge_check.py)",
    r"train_trl|runs/trl|their-data|runs/verl": "tests/test_docs_trainers.py runs the page",
    r"--format (datasets|sharegpt|csv|paper) --source|DocVQA": "tables of every form (tests/test_data_import.py)",
}
"""In a command -> why it does not run here."""


def first(reasons: dict[str, str], command: Shown) -> str:
    return next((why for pattern, why in reasons.items() if re.search(pattern, command.text)), "")


def placeholder(command: Shown) -> str:
    return first(PLACEHOLDERS, command)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.page != RENDERED], ids=str)
def test_a_command_is_understood(command, here):
    for name, content in files(BY_NAME[command.page]).items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(content)
    for words in alternatives(command):
        if words[0] in ("VERB", "help", "completion", "--help", "--version"):
            continue
        verb, rest = cli.split_verb(words)
        if placeholder(command):
            known = dict(describe(cli.load(cli.VERBS[verb][0])))
            keys = [word[2:] for word in rest if word.startswith("--")]
            told = ("dry-run", "json", "help", "help-all")
            assert all(k in known or k in told or any(k.startswith(f"{t}.") for t in known) for k in keys), keys
            continue
        try:
            assert read(verb, rest)
        except UserError as error:
            lacking = command.inline and "is required" in str(
                error
            )  # code in a sentence may leave out what it is not about
            assert lacking, error


def alternatives(command: Shown) -> list[list[str]]:
    """`reward score | check` are two commands."""
    one, *others = html.unescape(command.text).removeprefix("seethink ").split(" | ")
    if command.inline and others:
        words = one.split()
        return [words, *([*words[:-1], other] for other in others)]
    return [command.words] if command.words else []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_named_file_is_there(page):
    defined, text = files(page), page.read_text(encoding="utf-8")
    for name in re.findall(r"(?<![\w@])@([\w./-]+\.(?:toml|txt|json))", text):
        any_file = re.match(r"(config|mine|base|file)\b|\.\.\.", name)
        made = name == "system.txt" and "--system system.txt" in text  # the user's, which the page names before
        assert any_file or made or name in defined or (SHIPPED / name).is_file() or (ROOT / name).is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith(("http://", "https://")) or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_are_headings(page):
    for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([\w-]+)\)", page.read_text(encoding="utf-8")):
        text = (page.parent / target if target else page).read_text(encoding="utf-8")
        headings = [
            re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in re.findall(r"(?m)^#+ (.*)$", text)
        ]
        assert anchor in [*headings, *re.findall(r'<a (?:id|name)="([\w-]+)"', text)], f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles(page):
    for language, content in blocks(page.read_text(encoding="utf-8")):
        if language == "python":
            ast.parse(content)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_files_of_a_page_are_modules(page, here):
    """What a page names as a file of functions is loaded; train_trl.py, a script, is run by tests/test_docs_trainers.py."""
    for name, content in files(page, linked=False).items():
        if name.endswith(".py") and name != "train_trl.py":
            (here / name).write_text(content)
            load_object(f"{name}:{re.search(r'(?m)^(?:def )?([A-Za-z]+)', content)[1]}", "a page's code")


def test_every_reason_is_needed():
    """An exception that no command needs any more goes."""
    texts = [command.text for command in COMMANDS]
    for reasons in (PLACEHOLDERS, DRY, NOT_RUN):
        for pattern, why in reasons.items():
            assert why and any(re.search(pattern, text) for text in texts), pattern


def runnable(page: Path) -> list[Shown]:
    """Commands of a page that say all they need: lines of blocks, and whole commands within sentences."""
    whole = [c for c in shown(page) if not (placeholder(c) or first(NOT_RUN, c)) and (not c.inline or "--" in c.text)]
    return whole if page.name not in ELSEWHERE else []


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if any("import seethink\n" in b for _, b in blocks(p.read_text("utf-8")))],
    ids=lambda p: p.name,
)
def test_python_of_a_page_runs(page, here, monkeypatch):
    """Programs that use the package from outside, one after the other, with a grpo of seconds."""
    World(here, "http://127.0.0.1:9")
    small = dict(rounds=1, prompts=2, update_prompts=2, group=2, max_tokens=12)
    grpo = seethink.grpo
    monkeypatch.setattr(seethink, "grpo", lambda **given: grpo(**{**given, **small}), raising=False)
    for language, content in blocks(page.read_text(encoding="utf-8")):
        if language == "python" and "import seethink\n" in content:
            exec(compile(content, page.name, "exec"), {})


def page_that_runs(page: Path):
    return pytest.param(
        page, marks=[pytest.mark.slow, *([pytest.mark.long] if page.name in HEAVY else [])], id=page.name
    )


@pytest.mark.parametrize("page", [page_that_runs(page) for page in PAGES if runnable(page)])
def test_the_commands_of_a_page_run(page, here, capfd):
    with FakeApi(answer) as api:
        world = World(here, api.base_url)
        world.write(files(page))
        for command in runnable(page):
            try:
                run(world, command)
            except (AssertionError, LookupError, UserError) as error:
                pytest.fail(f"{command.text}\n{error}\n{capfd.readouterr().err[-1500:]}")


def run(world: World, command: Shown) -> None:
    """A command as it stands, with stand-ins for what it reads, small. Raises AssertionError where it does not end well."""
    words = world.localised(command.words)
    if words[0] in ("help", "completion") or words[0].startswith("-"):
        assert cli.main(words) == 0
        return
    verb, rest = cli.split_verb(words)
    if verb == "curate":
        rest = [re.sub(r"^(\d+)000$", r"\1", word) for word in rest]  # thousands of rows are units here
    try:
        config = read(verb, rest)
    except UserError as error:
        assert command.inline and "is required" in str(error), error
        return
    theirs = rest[rest.index("--columns") + 1] if verb == "import" and "--columns" in rest else ""
    made = bool(theirs) and not Path(config.source).exists()
    for key, name in paths_of(config):
        if not (getattr(config, "base_url", "") and key == "model"):
            world.provide(verb, key, name)
    if made:
        rename(Path(config.source), theirs)
    dry = ["--dry-run"] if first(DRY, command) and "--dry-run" not in rest else []
    out = Path(getattr(config, "out", None) or ".")
    if verb == "import" and out.is_file():
        rest = [*rest, "--out", f"imported-{out.name}"]  # the stand-ins stay: what follows is made of them
    for part in parts(rest):
        told = [*verb.split(), *part, *tiny(verb, rest), *dry]
        code = cli.main(told)
        if code == 2 and out.is_dir() and out != Path(".") and not dry:
            shutil.rmtree(out)  # a page may show several ways to the same folder
            code = cli.main(told)
        assert code == 0, told


def parts(rest: list[str]) -> list[list[str]]:
    """`--shard 1/8 --out runs/data-1` stands for all eight."""
    shard = rest[rest.index("--shard") + 1] if "--shard" in rest else ""
    if not shard.startswith("1/"):
        return [rest]
    count, line = int(shard[2:]), "\0".join(rest)
    return [line.replace(shard, f"{n}/{count}").replace("-1", f"-{n}").split("\0") for n in range(1, count + 1)]
