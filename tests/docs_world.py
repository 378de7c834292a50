"""Commands of the pages, and a world of stand-ins in which they run: small rows under the names that pages give, the pocket base
under the names of models, a scripted endpoint under every address, run folders made by the verbs that make them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import pyarrow.parquet as pq

from seethink import cli
from seethink.core.config import Config, Effect, describe, effects, resolve
from seethink.core.nouns import Example
from seethink.core.store import load_samples, save_examples, save_samples, write_jsonl
from seethink.core.tags import compose
from seethink.pocket.build import build
from tests import docs_boards, synthetic_study
from tests.data_world import make_samples, teacher
from tests.fake_api import Body, last_text

ROOT = Path(__file__).parents[1]
BASE = ROOT / "seethink" / "pocket" / "base"
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?ms)^([ \t]*)```(\w*)[^\n]*\n(.*?)^\1```[ \t]*$")
COMMAND = re.compile(r"(?:\$ )?((?:[A-Z_]+=\S+ )*)(seethink(?: .*)?)")
NAMED_FILE = re.compile(r"#\s+([\w./-]+\.(?:toml|py|txt|json))\s*$")


@dataclass(frozen=True)
class Shown:
    """A command line of a page."""

    page: str
    text: str
    inline: bool

    @property
    def words(self) -> list[str]:
        """What follows `seethink`, without its comment and what a shell does behind it."""
        lexer = shlex.shlex(self.text, posix=True, punctuation_chars="&|;>")
        lexer.whitespace_split = True
        words = list(lexer)[1:]
        return words[: next((at for at, word in enumerate(words) if set(word) <= set("&|;>")), len(words))]

    def __str__(self) -> str:
        return f"{self.page}: {self.text[:90]}"


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, content) of every block of a page."""
    for indent, language, content in BLOCK.findall(text):
        yield language, re.sub(f"(?m)^{indent}", "", content)


def shown(page: Path) -> list[Shown]:
    """The commands of a page: lines of blocks, and inline code that begins with `seethink `, in order within each."""
    text, found = page.read_text(encoding="utf-8"), []
    for _, content in blocks(text):
        for line in re.sub(r"\\\n\s*", "", content).splitlines():
            if match := COMMAND.fullmatch(line.strip()):
                found.append(Shown(page.name, match[2], False))
    rest = BLOCK.sub("", text)
    return found + [Shown(page.name, code, True) for code in re.findall(r"`(seethink [^`\n]*)`", rest)]


def files(page: Path, linked: bool = True) -> dict[str, str]:
    """Files that the blocks of a page define, or of a page that it links, by the comment on their first line: `# plan.toml`."""
    text = page.read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for name in re.findall(r"\]\(([\w./-]+\.md)[)#]", text) if linked else ():
        found |= files(page.parent / name, False) if (page.parent / name).is_file() else {}
    for _, content in blocks(text):
        if match := NAMED_FILE.search(content.partition("\n")[0]):
            found[match[1]] = content
    return found


def paths_of(config: Config) -> Iterator[tuple[str, str]]:
    """(key, value) of everything that a command reads: paths, and models by their folder."""
    marks = effects(type(config))
    for key, _ in describe(type(config)):
        value = reduce(getattr, key.split("."), config)
        if marks[key] in (Effect.OUTPUT, Effect.CODE) or value is None:
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            is_model = key in ("model", "base") and isinstance(one, str | Path) and not getattr(config, "base_url", "")
            if isinstance(one, Path) or is_model:
                yield key, str(one)


class World:
    """The folder in which a page's commands run; `url` is the endpoint."""

    def __init__(self, folder: Path, url: str):
        self.folder, self.url = folder, url
        stock = folder / "stock"
        build(stock, seed=7, sft=40, rl=24, board=16, ood=0, unseen=0, old=8)
        docs_boards.build(folder / "boards")
        make_samples(folder / "items", 60)
        for name in ("rl", "train"):
            save_samples(folder / f"{name}.jsonl", load_samples(stock / "rl_pool.jsonl"))
        save_samples(folder / "board.jsonl", load_samples(stock / "board.jsonl"))
        items = load_samples(folder / "items" / "samples.jsonl")
        save_samples(folder / "samples.jsonl", items)
        save_samples(folder / "licensed.jsonl", [s for s in items if s.source not in ("docvqa", "geoqa170k")])
        told = [Example(s, compose("Let me look .", s.gold)) for s in load_samples(stock / "sft_pool.jsonl")]
        save_examples(folder / "sft.jsonl", told)
        rows = [json.loads(line) for line in (folder / "board.jsonl").read_text().splitlines()]
        write_jsonl(folder / "answers.jsonl", ({"id": r["id"], "text": compose("I look.", r["gold"])} for r in rows))
        write_jsonl(folder / "responses.jsonl", ({**r, "response": compose("I look.", r["gold"])} for r in rows))
        (folder / "system.txt").write_text("Write your thoughts in <think>, your answer in <answer> tags.\n")
        for model in ("Qwen2-VL-2B-Instruct", "Qwen2.5-VL-3B-Instruct"):
            (folder / model).symlink_to(BASE)
            (folder / "Qwen").mkdir(exist_ok=True)
            (folder / "Qwen" / model).symlink_to(BASE)

    def write(self, named: dict[str, str]) -> None:
        """Files of a page, asking our endpoint."""
        for name, content in named.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.local(content))

    def local(self, text: str) -> str:
        """With our endpoint in the place of every other one."""
        return re.sub(r"https?://[\w.:-]+(?:/v1)?", self.url, text)

    def localised(self, words: list[str]) -> list[str]:
        """A command with our endpoint, and with the files of the benchmark that it names."""
        words = [self.local(word) for word in words]
        task = words[words.index("--task") + 1] if "--task" in words else ""
        for key in ("--data", "--predictions"):
            if key in words and (at := self.folder / "boards" / task / words[words.index(key) + 1]).exists() and task:
                words[words.index(key) + 1] = str(at)
        return words

    def provide(self, verb: str, key: str, name: str) -> None:
        """A stand-in at a path that a command reads, where nothing is. Raises LookupError where none is known."""
        path = Path(name)
        if path.exists() or name == "." or ("*" in name and any(Path().glob(name))):
            return
        if "*" in name:
            path = Path(name.replace("*", "0"))
        path.parent.mkdir(parents=True, exist_ok=True)
        if key in ("model", "model.path", "models", "against", "teacher", "base", "bases") or path.name == "model":
            path.symlink_to(BASE)
            return
        what = f"{verb} {key} {name}"
        make = next((make for kind, make in STANDINS.items() if re.fullmatch(kind, what)), None)
        if make is None:
            raise LookupError(f"no stand-in for {what}")
        make(self, path)

    def made(self, command: str, out: Path) -> None:
        """A run folder, made by the verb that makes such."""
        words = shlex.split(command.replace("STOCK", str(self.folder)).replace("URL", self.url))
        verb, rest = cli.split_verb(words)
        assert cli.main([*verb.split(), *rest, *tiny(verb, rest), "--out", str(out)]) == 0, command


def copy(name: str) -> Callable[[World, Path], object]:
    """Rows of the world at another place, with the same pictures."""

    def write(world: World, path: Path) -> None:
        rows = [json.loads(line) for line in (world.folder / name).read_text().splitlines()]
        write_jsonl(path, ({**row, **_pictures(world.folder, row)} for row in rows))

    return write


def _pictures(folder: Path, row: dict) -> dict:
    return {"images": [str((folder / name).resolve()) for name in row["images"]]} if "images" in row else {}


def run_of(command: str) -> Callable[[World, Path], object]:
    return lambda world, path: world.made(command, path)


def file_of(command: str) -> Callable[[World, Path], object]:
    """A file that `export` writes."""

    def write(world: World, path: Path) -> None:
        assert cli.main([*shlex.split(command.replace("STOCK", str(world.folder))), "--out", str(path)]) == 0

    return write


def rename(path: Path, columns: str) -> None:
    """A stand-in for somebody's table gets the names of columns that `--columns theirs=ours` says it has."""
    theirs = {ours: name for name, _, ours in (pair.partition("=") for pair in columns.split(","))}
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        pq.write_table(table.rename_columns([theirs.get(name, name) for name in table.column_names]), path)
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        write_jsonl(path, ({theirs.get(key, key): value for key, value in row.items()} for row in rows))


def evaluation(world: World, path: Path) -> None:
    """On the benchmark that the folder's name names, else on our own rows."""
    task = next((board.__name__ for board in docs_boards.BOARDS if board.__name__ in path.name), "")
    if not task:
        world.made(EVALUATION, path)
        return
    home = world.folder / "boards" / task
    files = [file for file in sorted(home.glob("*")) if file.suffix in (".json", ".jsonl") or file.name == "DynaMath"]
    data = next(file for file in files if file.name != "answers.jsonl")
    world.made(f"eval --task {task} --data {data} --model answerer --base_url URL", path)


EVALUATION = "eval --data STOCK/board.jsonl --predictions STOCK/answers.jsonl"
DISTILLED = "data --source STOCK/licensed.jsonl --base_url URL"
STANDINS: dict[str, Callable[[World, Path], object]] = {
    r"traces input \S*\.parquet": lambda world, path: world.made(EVALUATION, path.parent),
    r"(view|export|eval compare|eval table) \S+ (?!.*jsonl$).*": evaluation,
    r"(findings|report) \S+ .*": lambda _, path: synthetic_study.build(path),
    r"curate (scores|from_scores) .*": run_of(EVALUATION),
    r"(data push|split|data merge) \S+ \S*(?<!jsonl)": run_of(DISTILLED),
    r"split traces \S+": lambda world, path: world.made(DISTILLED, path.parent),
    r"(watch input|push run) .*": run_of("grpo --model.path Qwen2.5-VL-3B-Instruct --data STOCK/rl.jsonl"),
    r"import source \S+\.parquet": file_of("export --format hf --data STOCK/rl.jsonl"),
    r"import images .*": lambda _, path: path.mkdir(),
    r"reward (score|audit) input .*": copy("responses.jsonl"),
    r"eval predictions .*": copy("answers.jsonl"),
    r"(sft|select|curate|export|reward check) \S+ \S*(sft|traces)\S*\.jsonl": copy("sft.jsonl"),
    r"\S+ .*(board|held|test)\S*\.jsonl": copy("board.jsonl"),
    r"data source .*\.jsonl": copy("samples.jsonl"),
    r"sft data .*": copy("sft.jsonl"),
    r".* \S+\.jsonl": copy("rl.jsonl"),
}  # fmt: skip
"""What a command reads, as `verb key name` -> what makes a stand-in for it; the first that matches."""

TINY = {
    "sft": "--epochs 1 --batch_size 8 --optim.lr 1e-4",
    "grpo": "--rounds 1 --prompts 2 --update_prompts 2 --group 2 --max_tokens 12 --rollout_prompts 2",
    "eval": "--max_tokens 12 --limit 6",
    "select": "--sizes 12 6",
    "study": '--seeds "[0]" --sft.batch_size 8 --grpo.rounds 1 --grpo.prompts 2 --grpo.update_prompts 2 --grpo.group 2 '
    "--grpo.max_tokens 12 --eval.max_tokens 12 --workers 1",
    "reward serve": "--seconds 0.2 --port 0",
    "pocket teach": "--minutes 0.003 --port 0",
    "pocket build": "--sft 4 --rl 4 --board 4 --unseen 0 --ood 0 --old 0",
    "watch": "--once true",
}
"""Verb -> settings behind a page's own, which make it a matter of seconds."""


def tiny(verb: str, rest: list[str]) -> list[str]:
    """What makes a command small; predictions are of the whole board."""
    return shlex.split(TINY.get(verb, "")) if "--predictions" not in rest else []


def answer(body: Body) -> str:
    """Teacher, judge and model of an evaluation in one."""
    text = last_text(body)
    if "(item " in text or "<reference>" in text or "<text>" in text:
        role = {"gpt-4o": "captioner", "deepseek-reasoner": "reasoner"}.get(body["model"], "")
        if not role:
            role = "rewriter" if "<text>" in text else "judge" if "<reference>" in text else "reasoner"
        if role == "reasoner" and isinstance(body["messages"][-1]["content"], list):
            role = "captioner"
        return teacher({**body, "model": role})
    return compose("I look.", "A")


def read(verb: str, rest: list[str]) -> Config:
    """The settings of a command. Raises UserError as the command would."""
    rest = [word for word in rest if word not in ("--dry-run", "--json", "--help", "--help-all")]
    if verb in cli.EXAMINED:
        rest = ["--out", "runs/examined", *rest]
    if verb in cli.DEFAULTS and not any(word.startswith("@") for word in rest):
        rest = [f"@{ROOT / 'seethink' / cli.DEFAULTS[verb]}", *rest]
    return resolve(cli.load(cli.VERBS[verb][0]), rest)
