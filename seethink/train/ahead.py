"""Pictures of the next round, prepared in threads while this one is computed: decoding and resizing let go of the interpreter.

Only pictures: tokenizers do not bear two threads, and take little time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from seethink.core.nouns import Sample
from seethink.train.model.policy import EncodedPrompt, Pixels, Policy, encode_prompt, load_pixels

ON_GPU = 8  # threads where none are asked for and a GPU computes; on a CPU they would only take its cores


class Ahead:
    """Prompts by number of round or step. Use as a context manager.

    samples_of  the samples of a round that are this rank's, empty past the last one
    workers     threads; 0: nothing is prepared ahead; None: as the device has it
    """

    def __init__(self, policy: Policy, samples_of: Callable[[int], Sequence[Sample]], workers: int | None):
        self.policy, self.samples_of = policy, samples_of
        workers = (ON_GPU if policy.device.type == "cuda" else 0) if workers is None else workers
        self._pool = ThreadPoolExecutor(workers) if workers else None
        self._coming: dict[int, list[Future[Pixels]]] = {}

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def take(self, number: int) -> list[EncodedPrompt]:
        """The prompts of a round; those of the next one are begun. Raises UserError as `encode_prompt` does."""
        samples = self.samples_of(number)
        if self._pool is None:
            return [encode_prompt(self.policy, sample) for sample in samples]
        coming = self._coming.pop(number, None) or self._begin(self._pool, samples)
        self._coming[number + 1] = self._begin(self._pool, self.samples_of(number + 1))
        return [encode_prompt(self.policy, s, pixels.result()) for s, pixels in zip(samples, coming, strict=True)]

    def _begin(self, pool: ThreadPoolExecutor, samples: Sequence[Sample]) -> list[Future[Pixels]]:
        return [pool.submit(load_pixels, self.policy, sample) for sample in samples]
