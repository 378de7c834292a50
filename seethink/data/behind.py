"""The training data behind a model: of the run that wrote it, and of the models that it started from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from seethink.core.run import EXPORTS
from seethink.core.store import hash_path, read_record


def data_behind(model: Path) -> Iterator[Path]:
    """Training data of a model folder that a run of ours wrote, and of the models it started from; unchanged files only."""
    seen: set[Path] = set()
    while (folder := _run_of(Path(model))) and folder not in seen:
        seen.add(folder)
        manifest = read_record(folder / "manifest.json")
        if not isinstance(manifest, dict) or manifest.get("verb") not in ("sft", "grpo"):
            return
        config = read_record(folder / "config.json")
        data = Path(config["data"])
        if data.is_file() and hash_path(data) == manifest["inputs"].get("data"):
            yield data
        model = Path(config["model"]["path"])


def _run_of(model: Path) -> Path | None:
    """The run folder that a model folder lies in: as its last model, or as one of its exports."""
    folder = model.resolve().parent
    if folder.name == EXPORTS:
        folder = folder.parent
    elif model.name != "model":
        return None
    return folder if (folder / "manifest.json").is_file() else None
