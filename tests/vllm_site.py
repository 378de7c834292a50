"""The sitecustomize of the vLLM environment: torchvision built for GPUs, beside CPU torch, misses operators it registers.

Installed as `sitecustomize.py`, so that it also holds in processes that vLLM starts.
"""

import sys


class OperatorSchemas:
    """Declares the missing operators just before torchvision is imported; every other import passes by."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for operator in ("nms", "qnms"):
                schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{operator}", schema)
        return None


sys.meta_path.insert(0, OperatorSchemas())
