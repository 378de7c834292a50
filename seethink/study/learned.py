"""Can a comparison say anything? Not where nothing was learned, nor where a board is too hard or too easy for both arms.

A study that says nothing must not read as a finding. So these words stand in the place of "not distinguishable" and
"equivalent", and "nothing learned" in the place of any verdict where an arm is no other model than the base.
"""

from __future__ import annotations

import numpy as np

from seethink.study.folder import StageRun, Study
from seethink.train.alarms import nothing_learned

EDGE = 0.02  # accuracy this close to 0 or to 1 leaves no room to differ


def idle_runs(study: Study) -> dict[str, dict[int, str]]:
    """Arm -> seed -> why the arm's own training stage learned nothing there; only where it did not."""
    found: dict[str, dict[int, str]] = {}
    for name, arm in study.arms.items():
        own = {run.seed: why for run in arm.of(arm.stages[-1]) if (why := _idle(study, run))} if arm.stages else {}
        found[name] = own
    return found


def cut_runs(study: Study, arm: str) -> dict[int, str]:
    """Seed -> the words for a training in which no completion ever ended by itself."""
    shares = {run.seed: {share for _, share in run.curve("completion/cut_share")} for run in study.arms[arm].of("grpo")}
    return {seed: "every completion was cut at max_tokens in training" for seed, cut in shares.items() if cut == {1}}


def silence(study: Study, a: str, b: str, word: str, items: np.ndarray | slice = slice(None)) -> tuple[str, str]:
    """(word, why) of a comparison over these items whose verdict by the numbers is `word`; why is empty where that stands."""
    idle = idle_runs(study)
    for arm in (a, b):
        behind = [study.lineage(arm, seed) for seed in study.arms[arm].seeds]
        if behind and all(runs and all(run.seed in idle[run.arm] for run in runs) for runs in behind):
            return "nothing learned", f"{arm}: {next(iter(idle[arm].values()))}"
    if word not in ("not distinguishable", "equivalent"):
        return word, ""
    for arm in (a, b):
        dull = {**cut_runs(study, arm), **idle[arm]}
        if dull and set(dull) >= set(study.arms[arm].seeds):
            return "nothing learned", f"{arm}: {next(iter(dull.values()))}"
    right = [float(np.nanmean(outcomes[:, items])) for outcomes in study.paired(a, b) or ()]
    shares = " and ".join(f"{100 * share:.1f} %" for share in right)
    if max(right) <= EDGE:
        return "at the floor", f"{shares} of the answers are right"
    if min(right) >= 1 - EDGE:
        return "at the ceiling", f"{shares} of the answers are right"
    return word, ""


def _idle(study: Study, run: StageRun) -> str:
    """Why a training run learned nothing; empty where it may have."""
    if why := nothing_learned(run.metrics):
        return why
    if 0 in (run.summary.get("tokens_trained"), run.summary.get("optimiser_steps")):
        return "no token was trained"
    start = study.arms[run.arm].start
    before = study.arms[start].runs if start in study.arms else {}
    after, first = (
        study.arms[run.arm].runs.get((run.seed, "eval")),
        before.get((run.seed, "eval"), before.get((0, "eval"))),
    )
    if not (after and first and after.scores):
        return ""
    if (model := after.manifest["inputs"].get("model")) and model == first.manifest["inputs"].get("model"):
        return f"its model is that of {start}"
    said = [{score.sample_id: score.text for score in one.scores} for one in (after, first)]
    return f"it answers word for word as {start}" if said[0] == said[1] else ""
