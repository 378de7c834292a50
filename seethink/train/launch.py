"""`--gpus N`: the same command as N processes of torchrun on this machine; no torch until it is asked for.

    seethink grpo @grpo.toml --out runs/grpo --gpus 8

More machines: torchrun or Slurm start `python -m seethink grpo ...` themselves, see docs/cluster.md.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Sequence

from seethink.core.errors import UserError
from seethink.core.run import PARENT


def under_torchrun() -> bool:
    """True in a process that torchrun started: it works, and leaves last words to its parent."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch(arguments: Sequence[str], gpus: int, device: str) -> int:
    """Run `seethink ARGUMENTS` on `gpus` processes; exit code of the first one that failed, 0 if none did.

    Raises UserError on a machine with fewer GPUs, unless `device` is "cpu".
    """
    import torch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    found = torch.cuda.device_count()
    if device != "cpu" and found < gpus:
        raise UserError(
            f"{gpus} GPUs asked for, this machine has {found}",
            where="--gpus",
            remedy="Ask for fewer; --device cpu tries it on processors",
        )
    line = ["--standalone", "--nproc-per-node", str(gpus), "-m", "seethink", *arguments]
    print(shlex.join([sys.executable, "-m", "torch.distributed.run", *line]), file=sys.stderr, flush=True)
    os.environ[PARENT] = str(os.getpid())  # they end when we do, however that happens
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // gpus)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the process that failed has spoken
    try:
        run(parse_args(line))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise UserError(f"rank {rank} was ended by signal {-failure.exitcode}", code=1) from None
        return failure.exitcode
    except SignalException:
        raise KeyboardInterrupt from None
    return 0
