"""A reward of your own for every verb that scores: `--reward.custom examples/own_reward.py:reward`.

python examples/own_reward.py
"""

from __future__ import annotations

from seethink.core.nouns import Sample
from seethink.rewards import RewardConfig, Rewarder


def reward(sample: Sample, answer: str):
    """Times of day pay by their distance; everything else is left to the rules of its kind."""
    if sample.meta.get("unit") != "minutes":
        return NotImplemented
    hours, colon, minutes = answer.partition(":")
    if not (colon and hours.isdigit() and minutes.isdigit()):
        return 0.0, "malformed", "no time of day"
    away = abs(int(hours) * 60 + int(minutes) - int(sample.gold))
    return max(0.0, 1 - away / 60), "ok", f"{away} minutes away"


def main() -> None:
    clock = Sample("1", "clocks", (), "What time is it?", "450", "open", meta={"unit": "minutes"})
    count = Sample("2", "clocks", (), "How many clocks are there?", "2", "digit")
    with Rewarder(RewardConfig(custom=f"{__file__}:reward")) as rewarder:
        for sample, answer in ((clock, "7:30"), (clock, "7:45"), (clock, "half past"), (count, "two")):
            scored = rewarder.score(sample, f"<think>look</think> <answer>{answer}</answer>")
            print(answer, scored.value, scored.status, scored.detail)


if __name__ == "__main__":
    main()
