"""`seethink pocket teach`: serve the simulated teacher on loopback until interrupted."""

from __future__ import annotations

import threading

from seethink.pocket.config import TeachConfig
from seethink.pocket.server import MODELS, Faults, Teacher


def run(config: TeachConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError where there is no world or the port is taken."""
    faults = Faults(config.too_many, config.server_error, config.hang, config.cut, config.hang_seconds)
    teacher = Teacher(config.world, config.port, config.seed, faults, config.replay)
    print(f"simulated teacher at {teacher.base_url} with {', '.join(MODELS)}; Ctrl-C stops it", flush=True)
    if dry_run:
        teacher.close()
        return
    with teacher:
        try:
            threading.Event().wait(config.minutes * 60 or None)
        except KeyboardInterrupt:
            print("stopped")
    print(f"{teacher.requests} requests answered")
