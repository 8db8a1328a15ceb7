"""Random numbers that are a function of a seed and a place."""

from __future__ import annotations

import pytest
import torch

from sensorium.core.random import seed_of, uniform

_MASK = (1 << 64) - 1


def _splitmix(seed: int, index: int) -> int:
    """The published generator, in Python's own integers: its (index + 1)-th number."""
    x = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def test_splitmix_itself_has_its_known_value():
    """The first number from seed 1234567, as in the reference implementation's own tests."""
    assert _splitmix(1234567, 0) == 6457827717110365317


@pytest.mark.parametrize("seed", [0, 1, 1234567, (1 << 63) - 1, seed_of("a")])
def test_uniform_is_splitmix64(seed):
    found = uniform(torch.tensor([seed]), 50)[0]
    expected = torch.tensor([(_splitmix(seed, i) >> 40) / (1 << 24) for i in range(50)])
    assert torch.equal(found, expected)


def test_uniform_is_uniform():
    values = uniform(torch.arange(1000), 100).flatten()
    assert float(values.min()) >= 0.0
    assert float(values.max()) < 1.0
    counts = torch.histc(values, bins=20, min=0, max=1)
    expected = values.numel() / 20
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 43.8, "19 degrees of freedom, one in a thousand"
    rows = values.view(1000, 100)
    neighbours = torch.corrcoef(torch.stack([rows[:-1].flatten(), rows[1:].flatten()]))[0, 1]
    following = torch.corrcoef(torch.stack([rows[:, :-1].flatten(), rows[:, 1:].flatten()]))[0, 1]
    assert abs(float(neighbours)) < 0.012
    assert abs(float(following)) < 0.012


def test_a_row_depends_on_its_seed_alone():
    seeds = torch.tensor([seed_of("x", index) for index in range(7)])
    whole = uniform(seeds, 30)
    for index in range(7):
        assert torch.equal(uniform(seeds[index : index + 1], 30)[0], whole[index])
    assert torch.equal(uniform(seeds.flip(0), 10), whole.flip(0)[:, :10])
    assert uniform(seeds[:0], 5).shape == (0, 5)
    assert uniform(seeds, 0).shape == (7, 0)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    uniform(torch.arange(3), 3)
    seed_of("a")
    assert torch.equal(before, torch.get_rng_state())


def test_seeds_are_known_values():
    """They are part of what a checkpoint resumes, so they may not change between versions or processes."""
    assert [seed_of(0), seed_of("a", 1), seed_of("label", "cat")] == [
        4246866556266386882,
        45464548963205862,
        777455937889457484,
    ]


def test_seeds_fit_an_int64_and_differ():
    seeds = [seed_of(part, index) for part in ("a", "b", 1) for index in range(2000)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0
    assert max(seeds) < 1 << 63
    assert torch.tensor(seeds).tolist() == seeds
    assert sum(seed & 1 for seed in seeds) == pytest.approx(3000, abs=200)


def test_parts_are_kept_apart():
    assert seed_of("ab", "c") != seed_of("a", "bc")
    assert seed_of("a", "") != seed_of("a")
    assert seed_of(1, 2) != seed_of(12)
    assert seed_of(1) == seed_of("1")
