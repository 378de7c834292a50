"""A model folder on disk, looked at before transformers is: complete, whole, of a known family, not quantised.

transformers fills missing weights with random numbers and says so in a warning; here everything that would not be the
model of this folder is refused, in one line that names the file and what to do. No torch is needed to look.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.hub import HUB_NAME
from seethink.core.store import read_json

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")  # model_type
MODELS = "Qwen2-VL, Qwen2.5-VL or Qwen3-VL (dense)"
NEEDED = ("torch", "transformers", "peft", "accelerate", "safetensors")

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
REQUIRED = ("config.json", "tokenizer_config.json")
READ_TOO = (
    "generation_config.json", "tokenizer.json", "vocab.json", "preprocessor_config.json", "processor_config.json",
    "chat_template.json", "special_tokens_map.json", "added_tokens.json", INDEX,
)  # fmt: skip
"""What else transformers reads where it is there."""
ADAPTERS = "adapter_config.json"
TEXTS = ("system.txt", "chat_template.jinja", "merges.txt")
QUANTISED = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""As GPTQ, AWQ and ModelOpt write them beside the weights."""
NUMBERS = ("F64", "F32", "F16", "BF16")  # dtypes of plain weights
LFS = b"version https://git-lfs"
FETCH = "Fetch the model again"


def check_folder(folder: Path, weights: bool = True) -> dict[str, Any]:
    """config.json of a folder that can be loaded. Raises UserError naming the file that is missing, cut or not for us.

    `weights` False: they may be missing, as where a run is planned before they are fetched.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UserError(
            f"a model folder needs {missing[0]}", remedy="pip install 'seethink[train]', or use an endpoint"
        )
    if not folder.is_dir():
        named = HUB_NAME.fullmatch(str(folder))
        remedy = f"Check the path, or fetch the model: hf download {folder}" if named else "Check the path"
        raise UserError("there is no such model folder", where=folder, remedy=remedy)
    if (folder / ADAPTERS).is_file():  # transformers would load the base that they name, and not this folder
        remedy = "Merge them into their base (merge_and_unload of peft) and save that"
        raise UserError("holds LoRA adapters", where=folder / ADAPTERS, remedy=remedy)
    for path in (folder / name for name in (*REQUIRED, *READ_TOO, *TEXTS, WEIGHTS)):
        if path.is_symlink() and not path.exists():  # a cache that was fetched by half, or copied without its blobs
            raise UserError("is a link to a file that is missing", where=path, remedy=FETCH)
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise UserError(f"model folder has no {name}", where=folder, remedy=_instead(folder))
    parts = {name: read_part(folder / name) for name in (*REQUIRED, *READ_TOO) if (folder / name).is_file()}
    for path in (folder / name for name in TEXTS if (folder / name).is_file()):
        refuse_pointer(path)
    config = parts["config.json"]
    _check_family(folder, config)
    _check_plain(folder, config)
    if "tokenizer.json" not in parts and not ("vocab.json" in parts and (folder / "merges.txt").is_file()):
        raise UserError("model folder has no tokenizer.json", where=folder, remedy=FETCH)
    if not parts["tokenizer_config.json"].get("tokenizer_class"):
        raise UserError("names no tokenizer_class", where=folder / "tokenizer_config.json", remedy=FETCH)
    _check_tokenizer(folder, parts.get("tokenizer.json"))
    image_settings(folder)
    for path in weight_files(folder, parts.get(INDEX)) if weights or [*folder.glob("*.safetensors")] else ():
        _check_weights(path)
    return config


def read_part(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder. Raises UserError for anything else, also for a pointer in its place."""
    refuse_pointer(path)
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError("is not a JSON object", where=path, remedy=FETCH)
    return value


def refuse_pointer(path: Path) -> None:
    """Raises UserError for what git leaves in a file's place where git-lfs is not installed."""
    with open(path, "rb") as f:
        if f.read(len(LFS)) == LFS:
            remedy = f"Run: git -C {path.parent} lfs pull"
            raise UserError("is a git-lfs pointer, not the file itself", where=path, remedy=remedy)


def weight_files(folder: Path, index: dict[str, Any] | None) -> list[Path]:
    """The safetensors files that hold the weights. Raises UserError where one of them, or all, are missing."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if index is None:
        pickles = sorted(p.name for p in folder.glob("*.bin"))
        remedy = "Save them with save_pretrained of transformers 5" if pickles else FETCH
        beside = f"; {pickles[0]} is a pickle, which is never opened" if pickles else ""
        raise UserError(f"model folder has no weights ({WEIGHTS}{beside})", where=folder, remedy=remedy)
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places or not all(map(_own, places.values())):
        raise UserError("names no files of weights (weight_map)", where=folder / INDEX, remedy=FETCH)
    files = [folder / name for name in sorted(set(places.values()))]
    if missing := [p.name for p in files if not p.is_file()]:
        what = f"model folder has no {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        raise UserError(f"{what} of the {len(files)} files in {INDEX}", where=folder, remedy=FETCH)
    return files


def _own(name: Any) -> bool:
    """Whether it names a file of the folder itself."""
    return isinstance(name, str) and name == Path(name).name


def image_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """(file, settings) of the image processor, inside processor_config.json or in a file of its own."""
    both, own = folder / "processor_config.json", folder / "preprocessor_config.json"
    found = read_part(both).get("image_processor") if both.is_file() else None
    if isinstance(found, dict):
        return both, found
    if not own.is_file():
        what = f"model folder has no {own.name}, and no image processor in {both.name}"
        raise UserError(what, where=folder, remedy=FETCH)
    return own, read_part(own)


def pixel_budget(folder: Path, least: int | None = None, most: int | None = None) -> tuple[int | None, int | None]:
    """(fewest, most) pixels of a picture as the model sees it: those given, else the folder's own; None: it names none.

    Raises UserError where the two exclude each other.
    """
    path, settings = image_settings(folder)
    size = settings.get("size")
    own = size if isinstance(size, dict) else {}
    low = least or settings.get("min_pixels") or own.get("shortest_edge")
    high = most or settings.get("max_pixels") or own.get("longest_edge")
    if isinstance(low, int) and isinstance(high, int) and low > high and (least or most):
        what = f"min_pixels {low} is larger than max_pixels {high}"
        raise UserError(what, where=path, remedy="Give both min_pixels and max_pixels")
    return low, high


def _check_family(folder: Path, config: dict[str, Any]) -> None:
    text = config.get("text_config", config)
    if config.get("model_type") not in FAMILIES or (isinstance(text, dict) and text.get("use_sliding_window")):
        sliding = " with sliding windows" if isinstance(text, dict) and text.get("use_sliding_window") else ""
        what = f"model type {config.get('model_type')!r}{sliding} is not supported"
        raise UserError(what, where=folder, remedy=_instead(folder))
    vision = config.get("vision_config")
    if not isinstance(text, dict) or not isinstance(vision, dict) or not vision:
        raise UserError("describes no language and vision model", where=folder / "config.json", remedy=FETCH)
    sizes = {name: text.get(name) for name in ("hidden_size", "num_hidden_layers", "vocab_size")}
    for name, value in {**sizes, "image_token_id": config.get("image_token_id")}.items():
        if type(value) is not int or value < 1:  # transformers would take those of a 7B model
            raise UserError(f"has no {name}", where=folder / "config.json", remedy=FETCH)


def _check_plain(folder: Path, config: dict[str, Any]) -> None:
    """Raises UserError for quantised weights, by what the folder says of itself."""
    parts = (config, config.get("text_config") or {})
    found = (part.get(name) for part in parts for name in ("quantization_config", "compression_config"))
    settings = next(filter(None, found), None)
    beside = next((name for name in QUANTISED if (folder / name).is_file()), "")
    if settings or beside:
        how = settings.get("quant_method") if isinstance(settings, dict) else None
        _refuse_quantised(folder, str(how or beside or "quantization_config"))


def _refuse_quantised(where: Path, how: str) -> None:
    remedy = "Give the plain weights (bfloat16, float16 or float32) of the model it was made from"
    raise UserError(f"the model is quantised ({how}), which is not supported", where=where, remedy=remedy)


def _check_tokenizer(folder: Path, content: dict[str, Any] | None) -> None:
    """Raises UserError for a tokenizer.json without words, which the tokenizers library only panics about."""
    model = {"vocab": True} if content is None else content.get("model")
    if not isinstance(model, dict) or not model.get("vocab"):
        raise UserError("holds no vocabulary", where=folder / "tokenizer.json", remedy=FETCH)


def _check_weights(path: Path) -> None:
    """Raises UserError for a file that is cut, no safetensors, or quantised: its header fits its size and names floats."""
    from safetensors import SafetensorError, safe_open  # here: a study is planned where torch may be missing

    refuse_pointer(path)
    try:
        with safe_open(path, framework="np") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise UserError(f"weights are cut or damaged ({error})", where=path, remedy=FETCH) from None
    for name, kind in kinds.items():
        if kind not in NUMBERS:
            _refuse_quantised(path, f"{name} is {kind}")


def _instead(folder: Path) -> str:
    """What was probably meant."""
    if (folder / "model" / "config.json").is_file():
        return f"This is the folder of a run: give {folder / 'model'}"
    if snapshots := sorted(folder.glob("snapshots/*/config.json")):
        return f"This is the cache of a model: give {snapshots[-1].parent}"
    return f"Use {MODELS}"
