"""Arms, comparisons and evaluations of a study in words."""

from __future__ import annotations

from seethink.study.fair import repeats, root
from seethink.study.folder import Study


def title_of(study: Study, arm: str) -> str:
    """An arm in words: `SFT (hesitant), then GRPO`."""
    spec, said = study.arms[arm], study.plan["arms"].get(arm, {})
    if said.get("title"):
        return said["title"]
    placebo = (said.get("set", {}).get("reward") or {}).get("placebo", "")
    words = {
        "sft": f"SFT ({spec.style})" if spec.style else "SFT",
        "grpo": f"GRPO (placebo reward: {placebo})" if placebo else "GRPO",
    }
    stages = [words.get(stage, stage) for stage in spec.stages]
    if not stages:
        return "Base model" if arm == "base" else f"Base model {arm}"
    text = f"{stages[0]} alone" if len(stages) == 1 else ", then ".join(stages)
    if said.get("at"):
        text += f", from {spec.start} at {said['at']}"
    return text if root(study, arm) == "base" else f"{text}, on {root(study, arm)}"


def title_of_pair(study: Study, a: str, b: str, off: str = "") -> str:
    """Two arms in words, and on what they are not matched. A base that no other repeats is called what it is: one checkpoint."""
    against = title_of(study, b)
    if not study.arms[b].stages and not repeats(study, a, b):
        against = f"this checkpoint of {'the base' if b == 'base' else b}"
    return f"{title_of(study, a)}, against {against}" + (f" (not matched on {off})" if off else "")


def asked(study: Study, cue: str) -> str:
    """A further evaluation in words: what it changes."""
    further = study.plan.get("evals", {}).get(cue)
    if further is None or "system" in further.get("set", {}):
        return f"asked to be {cue}"
    return ", ".join(f"{key} {value}" for key, value in further.get("set", {}).items()) or cue
