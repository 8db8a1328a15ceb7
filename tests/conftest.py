"""What all tests share: one thread, and the real recordings beside the repository where there are any."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes do not name a test: some files hold the time at which they were made, and names must not change."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real media and digits; a test that asks for it is skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data in {folder}")
    return folder
