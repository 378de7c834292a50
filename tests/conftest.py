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


def pytest_collection_modifyitems(items):
    """Files with slow tests first: at the end one of them would leave the other workers without work."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
