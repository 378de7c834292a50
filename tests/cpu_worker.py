"""An extension of vLLM's worker that changes nothing of it: imported in the worker's process, it takes CUDA out of its transfer."""

from tests.cpu_transfer import without_gpu


class CpuTransfer:
    """Named with --worker-extension-cls."""


without_gpu(setattr)
