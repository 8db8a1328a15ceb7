"""Parts that several modalities share."""

from __future__ import annotations

import pytest
from torch import nn

from sensorium.core import ConfigError
from sensorium.nn.architectures.same import Held, Same


def test_each_has_its_own_or_that_of_another():
    eye = nn.Linear(1, 1)
    held = Held({"near": eye, "far": Same(of="near")})
    assert held.own == {"near": eye}
    assert held.whose == {"near": "near", "far": "near"}


def test_what_is_shared_must_be_there():
    with pytest.raises(ConfigError, match="near is to have the part of far, which has none of its own"):
        Held({"near": Same(of="far"), "far": Same(of="near")})
