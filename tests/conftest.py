"""Fixtures: a tiny random Qwen2.5-VL made on the spot, and the folder of shared material where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the folder of real data is not beside the checkout")
    return SHARED
