"""Memory of one GRPO step and of one SFT step: LoRA or all weights, vision tower and projector frozen or trained.

    python benchmarks/memory.py [--size small] [--device cpu] [--verb grpo --verb sft] [--json out.json]

Every row is the second step of a process of its own: 4 prompts with an image of 256 tokens, 4 completions of 64 tokens each, all
16 sequences at once, with a reference model in GRPO. On a CPU: fp32, peak resident memory less that of the process with
everything imported and no model. On a GPU: bf16, torch.cuda.max_memory_allocated. Sizes: small, large (32M), 3B (the shape of
Qwen2.5-VL-3B; random weights).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from pathlib import Path

from work import Case, machine, peak_mb, prepare

from seethink.core.store import write_json

STEPS = 2


def measure(connection, verb: str, index: int, folder: Path, case: Case, device_name: str) -> None:
    """One row, in its own process."""
    import torch
    from step import CHOICES, GRPO, SFT, load

    torch.set_num_threads(1)
    device, choice = torch.device(device_name), CHOICES[index]
    on_gpu = device.type == "cuda"
    weights, dtype = ("bfloat16", "bfloat16") if on_gpu else ("float32", "float32")
    idle = peak_mb()
    policy = load(folder, choice, device, weights, dtype)
    trained = sum(p.numel() for p in policy.model.parameters() if p.requires_grad)
    side = {"grpo": GRPO, "sft": SFT}[verb](policy, folder, case, choice, dtype)
    for number in range(STEPS):
        side.step(number)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else peak_mb() - idle
    total = sum(p.numel() for p in policy.model.parameters())
    row = {"verb": verb, "trained": choice.name, "parameters_trained": trained, "parameters": total, "peak_mb": peak}
    connection.send(row)


def rows(verbs: list[str], case: Case, device: str) -> list[dict]:
    """All rows, one process after the other."""
    context = multiprocessing.get_context("spawn")
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        maker = context.Process(target=prepare, args=(folder, case, STEPS, 0, device))
        maker.start()
        maker.join()
        for verb in verbs:
            for index in range(5):
                here, there = context.Pipe(duplex=False)
                child = context.Process(target=measure, args=(there, verb, index, folder, case, device))
                child.start()
                there.close()
                found.append(here.recv())
                child.join()
                print(table(found[-1:]).splitlines()[-1], flush=True)
    return found


def table(found: list[dict]) -> str:
    """The rows as Markdown."""
    lines = ["| verb | trained | parameters trained | of | peak, MB |", "|---|---|---|---|---|"]
    for r in found:
        shares = f"{r['parameters_trained']:,} | {r['parameters']:,}"
        lines.append(f"| {r['verb']} | {r['trained']} | {shares} | {r['peak_mb']:,.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", choices=["small", "large", "3B"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--verb", action="append", choices=["grpo", "sft"], help="only this verb; may be repeated")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise SystemExit("memory.py: --device cuda, but torch sees no CUDA device")
    elif arguments.size == "3B":
        raise SystemExit("memory.py: --size 3B needs --device cuda")
    os.environ["OMP_NUM_THREADS"] = "1"
    case = Case("memory", 256, 4, size=arguments.size, vocabulary=151_936 if arguments.size == "3B" else 2048)
    found = rows(arguments.verb or ["grpo", "sft"], case, arguments.device)
    print(f"\n{table(found)}")
    if arguments.json:
        write_json(arguments.json, {"machine": machine(), "size": arguments.size, "rows": found})


if __name__ == "__main__":
    main()
