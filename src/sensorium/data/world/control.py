"""A small control task with an exact expert: a puck on ice is to be brought to rest at a goal.

Deterministic: everything follows from the seed. Lengths are in units of which the ice is 2 wide, times in steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ...core.errors import ConfigError

STEPS = 20  # in which the puck must arrive
_FORCE, _FRICTION = 0.1, 0.9
_NEAR, _SLOW = 0.12, 0.08  # how near to the goal and how slow it must be
_STIFF, _DAMPED = 4.0, 10.0  # of the expert

#: From what is seen to what is done.
Policy = Callable[[dict[str, Float[np.ndarray, "2"]]], Float[np.ndarray, "2"]]


class Puck:
    """One round: a puck at rest and a goal, both drawn from ``seed``. A step pushes it by a force from -1 to 1 on each
    axis.
    """

    def __init__(self, seed: int) -> None:
        drawn = np.random.default_rng(seed)
        self.place, self.goal = drawn.uniform(-0.9, 0.9, (2, 2))
        self.velocity = np.zeros(2)

    @property
    def observation(self) -> dict[str, Float[np.ndarray, "2"]]:
        """How far the goal is, and how fast the puck."""
        seen = {"offset": self.goal - self.place, "velocity": self.velocity}
        return {name: values.astype(np.float32) for name, values in seen.items()}

    @property
    def arrived(self) -> bool:
        """Whether it rests at the goal."""
        return bool(np.hypot(*(self.goal - self.place)) < _NEAR and np.hypot(*self.velocity) < _SLOW)

    def step(self, force: Float[np.ndarray, "2"]) -> None:
        """Push it once. At the edges of the ice it stops."""
        self.velocity = _FRICTION * self.velocity + _FORCE * np.clip(force, -1, 1)
        place = np.clip(self.place + self.velocity, -1, 1)
        self.velocity, self.place = np.where(np.abs(place) < 1, self.velocity, 0.0), place


def expert(observation: dict[str, Float[np.ndarray, "2"]]) -> Float[np.ndarray, "2"]:
    """A spring to the goal, and a damper."""
    push = _STIFF * observation["offset"] - _DAMPED * observation["velocity"]
    return np.clip(push, -1, 1).astype(np.float32)


def episode(seed: int, policy: Policy = expert) -> dict[str, Any]:
    """``observations`` and ``actions`` of a round of ``STEPS`` steps, as float32 arrays."""
    puck, seen, done = Puck(seed), [], []
    for _ in range(STEPS):
        seen.append(puck.observation)
        done.append(policy(seen[-1]))
        puck.step(done[-1])
    observations = {name: np.stack([one[name] for one in seen]) for name in seen[0]}
    return {"observations": observations, "actions": np.stack(done)}


def write_control(out: Path, episodes: int, *, prompted: float = 0.25, seed: int = 0) -> Path:
    """Write demonstrations, one NPZ file each, and a manifest, whose path is returned. A share of them is
    ``prompted`` by another one before. Raises ConfigError for numbers out of range, or a folder that holds something.
    """
    if episodes < 1 or seed < 0 or not 0 <= prompted <= 1:
        raise ConfigError(
            f"expected 1 episode or more, a seed from 0 and a share from 0 to 1, found {episodes}, {seed}, "
            f"{prompted}"
        )
    folder = out / "episodes"
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} holds something already")
    folder.mkdir(parents=True)
    drawn, lines = np.random.default_rng(seed), []
    for index in range(episodes):
        made = episode(seed + index)
        np.savez(folder / f"{index:05}.npz", actions=made["actions"], **made["observations"])
        files = [f"episodes/{index:05}.npz"]
        if drawn.random() < prompted and index:
            files.insert(0, f"episodes/{drawn.integers(index):05}.npz")
        lines.append(json.dumps({"key": f"puck-{index:05}", "episode": files}))
    manifest = out / "train.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest
