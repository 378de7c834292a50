"""Score one answer, and be told why.

python examples/score_one_answer.py
"""

from seethink.core.nouns import Sample
from seethink.rewards import Rewarder, score

half = Sample(id="1", source="mine", images=(), question="What is 1/4 + 1/4?", gold="\\frac{1}{2}", kind="math")
RESPONSES = (
    "<think>two quarters are a half</think> <answer>0.5</answer>",
    "<think>either</think> <answer>1/2 or 1/3</answer>",
    "one half",
)


def main() -> None:
    print(score(half, RESPONSES[0]))
    with Rewarder() as rewarder:  # for many answers: workers and scorers live as long as it does
        for reward in rewarder.score_batch([half] * len(RESPONSES), RESPONSES):
            print(f"{reward.value} {reward.status} {reward.detail or reward.answer or ''}".strip())


if __name__ == "__main__":
    main()
