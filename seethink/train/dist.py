"""Several processes, one run: each holds a part of the weights (FSDP2) and works on its part of every optimiser step.

    seethink grpo ... --gpus 8                                     starts torchrun on this machine
    torchrun --nnodes 2 --nproc-per-node 8 ... -m seethink grpo .. more machines, see docs/cluster.md

Everything distributed is in this file; the trainers speak to `Ranks`, which is trivial in a single process. The result is
that of one process: the prompts of an optimiser step are split among the ranks, losses are weighted by the lengths of all
completions of the step, gradients are summed. All ranks call the same collectives in the same order, so every rank makes
the same number of forward passes (`even`, `model/turns.py`), and a rank without images runs the vision tower on an empty one
(`model/policy.py`). Shards may rest in the host's memory (`offload`), or be kept several times, so that layers are gathered
from fewer and nearer ranks (`replicas`, HSDP). Left out on purpose: tensor and pipeline parallelism.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from seethink.core.errors import UserError
from seethink.core.run import Run

T = TypeVar("T")
GOODBYE = 0.2  # seconds; gloo's threads drop their last tensors, which aborts a Python that is already shutting down
PATIENCE = timedelta(hours=2)  # rollouts and rewards of one rank may take long; a dead rank is noticed by torchrun


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Root(nn.Module):
    """The sharded model as FSDP's root: its forward runs a function while the root's own weights are whole.

    We call the parts of a model (`language_model`, `lm_head.weight`, `get_image_features`), never its forward, so the
    hooks that gather embeddings, norm, head and projector need a forward of their own.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], T]) -> T:
        return compute()


@dataclass
class Ranks:
    """This process among those of its run. The default is a process alone: nothing is split, nothing is sent."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=best_device)
    mesh: DeviceMesh | None = None
    """What weights are sharded over, [ranks] or [replicas, ranks of one]; None: not at all."""
    offload: bool = False
    """Whether shards rest in the host's memory, where AdamW works on them."""
    roots: dict[nn.Module, Any] = field(default_factory=dict)
    """Sharded model -> its Root, to which FSDP has added methods."""

    @property
    def first(self) -> bool:
        """True on the rank that owns the run folder and speaks."""
        return self.rank == 0

    # ---- work

    def share(self, items: list[T]) -> list[T]:
        """This rank's contiguous part; all parts in rank order are `items`."""
        start, end = (len(items) * r // self.world for r in (self.rank, self.rank + 1))
        return items[start:end]

    def share_of_each(self, items: list[T], size: int) -> list[T]:
        """This rank's part of every `size` consecutive items, so that all ranks work on each optimiser step."""
        return [x for at in range(0, len(items), size) for x in self.share(items[at : at + size])]

    def even(self, work: Iterable[T], idle: T) -> Iterator[tuple[T, bool]]:
        """(item, True) for each item, then (`idle`, False) until every rank has had as many turns."""
        if self.world > 1:
            work = list(work)
            most = max(self.gather([len(work)]))
            idles = [idle] * (most - len(work))
        else:
            idles = []
        for item in work:
            yield item, True
        for item in idles:
            yield item, False

    # ---- words between ranks (on the CPU)

    def gather(self, items: list[T]) -> list[T]:
        """The items of all ranks in rank order, on every rank. They are pickled: keep them small."""
        if self.world == 1:
            return items
        parts: list[list[T]] = [[] for _ in range(self.world)]
        dist.all_gather_object(parts, items)
        return [x for part in parts for x in part]

    def sum(self, values: dict[str, float]) -> dict[str, float]:
        """Sums over ranks, equal on every rank."""
        parts = self.gather([values])
        return {key: sum(part[key] for part in parts) for key in values}

    def of_first(self, value: T) -> T:
        """The first rank's value, on every rank."""
        return self.gather([value])[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """An error that a user can fix ends all ranks here and is said once, on whichever rank it happened."""
        error = None
        try:
            yield
        except (UserError, OSError) as raised:
            error = raised
        for raised in self.gather([error]):
            if raised is not None and self.first:
                raise raised
            if raised is not None:
                raise SystemExit(raised.code if isinstance(raised, UserError) else 1)

    @contextmanager
    def open(self, run: Callable[[], Run]) -> Iterator[Run]:
        """The run folder: opened, locked and written by the first rank, read by the others."""
        folder = None
        with self.together():
            folder = run() if self.first else None
        first = self.of_first((folder.folder, folder.key, folder.unit) if folder else None)
        if folder is None and first:
            folder = Run(*first, owner=False)
        assert folder, "the first rank opens the folder, or all have ended together"
        with folder:
            yield folder

    # ---- weights

    def shard(self, dtype: torch.dtype, *models: nn.Module | None) -> None:
        """Split the weights of the models over the ranks: a group per layer, the rest in the root's.

        Weights of layers are gathered in `dtype`, gradients are summed in fp32. A vision tower that does not train stays
        whole on every rank, because features are computed when a rank needs them. Weights without memory (meta) get it here,
        for this rank's part, and are to be filled. Call it before making an optimiser.
        """
        rest = CPUOffloadPolicy(pin_memory=self.device.type == "cuda") if self.offload else OffloadPolicy()
        for model in models:
            if self.mesh is None or model is None or model in self.roots:
                continue
            parts: Any = model.model  # modules do not declare their parts
            visual = parts.visual
            frozen = not any(p.requires_grad for p in visual.parameters())
            if frozen:
                give_memory(visual, self.device)
                visual.to(self.device)
            policy = MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False)  # autocast does the rest
            for layer in [*parts.language_model.layers, *([] if frozen else visual.blocks)]:
                fully_shard(layer, mesh=self.mesh, mp_policy=policy, offload_policy=rest)
            whole = set(visual.parameters()) if frozen else set()
            root = Root(model)
            fully_shard(root, mesh=self.mesh, reshard_after_forward=False, ignored_params=whole, offload_policy=rest)
            give_memory(root, torch.device("cpu") if self.offload else self.device)
            for group in groups(root):
                group.set_force_sum_reduction_for_comms(True)
                group.set_gradient_divide_factor(1.0)
            self.roots[model] = root
            with torch.no_grad():
                self.forward(model, lambda: None)  # the first forward decides who is the root

    def forward(self, model: nn.Module, compute: Callable[[], T]) -> T:
        """`compute()`, which may use every weight of the model. Its tensors must come out as the result."""
        if model not in self.roots:
            return compute()
        result = self.roots[model](compute)
        if not torch.is_grad_enabled():  # otherwise the backward pass does it
            self.roots[model].reshard()
        return result

    def gather_weights(self, model: nn.Module) -> None:
        """Every weight whole on every rank, until `release_weights`: what follows needs no other rank."""
        if model in self.roots:
            self.roots[model].set_reshard_after_forward(False)
            for group in groups(self.roots[model]):
                group.unshard()

    def release_weights(self, model: nn.Module) -> None:
        """Back to shards."""
        if model in self.roots:
            self.roots[model].set_reshard_after_forward(True)
            self.roots[model].set_reshard_after_forward(False, recurse=False)
            for group in groups(self.roots[model]):
                group.reshard()

    # ---- checkpoints

    def save(self, path: Path, state: dict[str, Any]) -> None:
        """The folder `path` with every rank's shards of `state`, complete or absent; end of it where all are `together`.

        Raises UserError on all ranks when one cannot write.
        """
        temporary = path.with_name(".saving.tmp")
        if self.first:
            shutil.rmtree(temporary, ignore_errors=True)
        self.gather([None])
        try:
            save(state, checkpoint_id=temporary)
            if self.first:
                temporary.rename(path)
        except CheckpointException as error:
            raise cannot_write(path.parent, next(iter(error.failures.values()))[0]) from None
        finally:
            if self.first:
                shutil.rmtree(temporary, ignore_errors=True)


def cannot_write(folder: Path, error: BaseException) -> UserError:
    """A full disk, most of the time."""
    free = shutil.disk_usage(folder).free / 2**20
    return UserError(
        f"cannot write ({error}; {free:.0f} MB free)",
        where=folder,
        remedy="Free some space; the same command then continues",
        code=1,
    )


@contextmanager
def join(device: str = "auto", replicas: int = 1, offload: bool = False) -> Iterator[Ranks]:
    """This process's ranks: those that torchrun started, or it alone. `device` "cpu" leaves GPUs alone.

    `replicas` copies of the weights are each sharded over a part of the ranks; with `offload` shards rest on the host, those
    of a process alone too. Raises UserError where the copies do not divide the ranks.
    """
    place = torch.device("cpu") if device == "cpu" else best_device()
    launched = dist.is_torchelastic_launched()
    rank, local, world = (int(os.environ[n]) for n in ("RANK", "LOCAL_RANK", "WORLD_SIZE")) if launched else (0, 0, 1)
    if world % replicas:
        what = f"{replicas} replicas do not divide {world} process{'es' if world > 1 else ''}"
        raise UserError(what, where="--replicas", remedy="Give a divisor of the number of GPUs, or leave it out")
    if not launched and not offload:
        yield Ranks(device=place)
        return
    if place.type == "cuda":
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    backend = "gloo" if place.type == "cpu" else "cpu:gloo,cuda:nccl"
    alone = {} if launched else {"store": dist.HashStore(), "rank": 0, "world_size": 1}  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group(backend, timeout=PATIENCE, **alone)
    try:
        yield Ranks(rank, world, place, make_mesh(place.type, world, replicas), offload)
        dist.destroy_process_group()  # not after an error: it would wait for ranks that are gone
    finally:
        time.sleep(GOODBYE)


def make_mesh(kind: str, world: int, replicas: int = 1) -> DeviceMesh:
    """All ranks, [shards] or [replicas, shards]: neighbours share a copy, so that a machine may hold one of its own."""
    if replicas == 1:
        return init_device_mesh(kind, (world,), mesh_dim_names=("shards",))
    return init_device_mesh(kind, (replicas, world // replicas), mesh_dim_names=("replicas", "shards"))


def groups(module: nn.Module) -> list[FSDPModule]:
    """The parts of a module whose weights are gathered together; none if it is not sharded."""
    return [m for m in module.modules() if isinstance(m, FSDPModule)]


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor as it is on all ranks together; every rank must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor sharded as `other` is, in the same memory."""
    if isinstance(other, DTensor) and not isinstance(tensor, DTensor):
        return distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None).to(other.device)
    return tensor


def is_sharded(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor)


def part_of(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, to be written to; of one that is not sharded all."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def rows_of(tensor: Tensor) -> slice:
    """The rows of the whole tensor that `part_of` it are."""
    if not isinstance(tensor, DTensor):
        return slice(None)
    own = part_of(like(torch.arange(len(tensor)), tensor)).tolist()
    return slice(own[0], own[-1] + 1) if own else slice(0)


def give_memory(model: nn.Module, device: torch.device) -> None:
    """Memory on the device for parameters without any (meta), what is in it undefined. Tied ones stay one."""
    given: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, empty in module.named_parameters(recurse=False):
            if empty.is_meta:
                if empty not in given:
                    given[empty] = nn.Parameter(torch.empty_like(empty, device=device), empty.requires_grad)
                setattr(module, name, given[empty])


def copied(state: Any) -> Any:
    """A copy of a state (tensors in dicts and lists) in CPU memory; sharded tensors stay on their devices."""
    if isinstance(state, Tensor):
        return state.detach().clone() if isinstance(state, DTensor) else state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    return [copied(value) for value in state] if isinstance(state, list) else state


def load_shards(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """`state` filled from a folder that `Ranks.save` wrote, on any number of ranks.

    What the folder lacks stays as it is: moments of an optimiser whose first update is still to come. Files that are
    missing or cut raise here, where torch would print a traceback of its own.
    """
    for part in (FileSystemReader(path).read_metadata().storage_data or {}).values():
        if (path / part.relative_path).stat().st_size < part.offset + part.length:
            raise ValueError(f"{part.relative_path} is cut")
    planner = DefaultLoadPlanner(allow_partial_load=True)
    load(state, checkpoint_id=path, planner=planner, no_dist=not dist.is_initialized())
    return state
