"""A reward model of your own for open answers: anything that gives a score, or None where it cannot.

python examples/own_reward_model.py

A model folder with one output needs no code: `seethink grpo ... --reward.open.scorer model --reward.open.path DIR`.
"""

from collections.abc import Sequence

from seethink.core.nouns import Sample
from seethink.rewards import Rewarder
from seethink.rewards.open.formula import OpenItem


class KeyWords:
    """Share of the reference's long words that an answer has. `mode` plain: the score is the reward."""

    name, version, mode = "key words", "1", "plain"

    def score_batch(self, items: Sequence[OpenItem]) -> list[float | None]:
        scores: list[float | None] = []
        for item in items:
            wanted = {word for word in item.reference.lower().split() if len(word) > 3}
            scores.append(len(wanted & set(item.answer.lower().split())) / len(wanted) if wanted else None)
        return scores

    def close(self) -> None:
        """Nothing to release."""


def main() -> None:
    sample = Sample("1", "mine", (), "What is on the table?", "a green bottle beside two glasses", "open")
    with Rewarder(scorer=KeyWords()) as rewarder:
        for answer in ("a green bottle", "two glasses and a green bottle", "nothing at all"):
            print(answer, rewarder.score(sample, f"<think>look</think> <answer>{answer}</answer>").value)


if __name__ == "__main__":
    main()
