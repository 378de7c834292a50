"""A finished run's model to the Hugging Face Hub, its card as README.md.

seethink push --run runs/grpo --repo me/my-model [--adapter] [--dry-run]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from seethink.core.config import Config, Effect
from seethink.core.errors import UserError
from seethink.core.hub import check_repo, hub
from seethink.core.store import read_record
from seethink.train.model.folder import check_folder


class PushConfig(Config):
    """Send a finished run's model to the Hugging Face Hub."""

    run: Annotated[Path, Effect.INPUT] = Field(description="folder of a finished sft or grpo run")
    repo: str = Field(description="org/name on the Hub; made where it is not there")
    adapter: bool = Field(default=False, description="send the LoRA adapters alone")
    public: bool = Field(default=False, description="for everyone to see; else private")


def run(config: PushConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; where it went. Raises UserError for a run without a model, or what the Hub refuses."""
    source = config.run / ("adapter" if config.adapter else "model")
    card = config.run / "card.md"
    check_repo(config.repo)
    if not (config.run / "done.json").is_file():
        raise UserError(
            "is no finished run of sft or grpo", where=config.run, remedy="Give the folder that --out named"
        )
    if (verb := read_record(config.run / "manifest.json").get("verb")) not in ("sft", "grpo"):
        what = f"holds a run of seethink {verb}, which makes no model"
        raise UserError(what, where=config.run, remedy="Data are sent by seethink data push --data")
    if config.adapter and not source.is_dir():
        raise UserError(
            "has no adapters", where=config.run, remedy="Only runs with model.lora_rank have; push the model"
        )
    if not config.adapter:
        check_folder(source)
    files = sorted(path for path in source.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    what = f"{len(files) + card.is_file()} files, {size / 1e9:.2f} GB, to {config.repo} ({'public' if config.public else 'private'})"
    if dry_run:
        print(
            "\n".join([*(f"{path.relative_to(source)}" for path in files), *(["README.md"] if card.is_file() else [])])
        )
        print(f"would send {what}")
        return
    address = send(source, card, config)
    print(f"push: {address}, {what}")
    return {"address": address, "files": len(files) + card.is_file(), "bytes": size}


def send(source: Path, card: Path, config: PushConfig) -> str:
    """The address of what was sent."""
    with hub(config.repo) as api:
        api.create_repo(config.repo, private=not config.public, exist_ok=True)
        if card.is_file():
            api.upload_file(path_or_fileobj=card.read_bytes(), path_in_repo="README.md", repo_id=config.repo)
        api.upload_folder(repo_id=config.repo, folder_path=source, commit_message="from seethink")
    return f"https://huggingface.co/{config.repo}"
