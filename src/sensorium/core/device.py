"""From the name of a device to the device, if this machine has it."""

from __future__ import annotations

import torch

from .errors import CapabilityError, ConfigError


def find_device(named: str | torch.device) -> torch.device:
    """The device ``cpu``, ``cuda`` or ``cuda:1``. Raises ConfigError for another, CapabilityError for an absent one."""
    try:
        found = torch.device(named)
    except RuntimeError:
        raise ConfigError(f"there is no device {str(named)!r}: expected cpu, cuda or cuda:NUMBER") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise CapabilityError(
            f"{found}: this machine has {torch.cuda.device_count()} CUDA devices that torch can use"
        )
    return found
