"""Settings of training: values, and what is refused before anything is trained."""

from __future__ import annotations

import math

import pytest
from training.kit import trainer

from sensorium.core import ConfigError
from sensorium.training.optimizer import AdamW, WarmupCosine
from sensorium.training.settings import Duration, Limits, Loading, Saving


@pytest.mark.parametrize("given", [{}, {"steps": 3, "epochs": 2.0}, {"steps": 3, "minutes": 1.0}])
def test_a_duration_is_just_one_of_steps_epochs_and_minutes(given):
    with pytest.raises(ConfigError, match="one of steps, epochs or minutes"):
        Duration(**given)


@pytest.mark.parametrize(
    "given", [{"steps": 0}, {"epochs": -1.0}, {"minutes": 0.0}, {"minutes": math.inf}, {"epochs": math.nan}]
)
def test_a_duration_is_above_zero_and_finite(given):
    with pytest.raises(ConfigError, match=rf"duration.{next(iter(given))} must be above 0"):
        Duration(**given)


@pytest.mark.parametrize(
    ("duration", "per_epoch", "steps"),
    [
        (Duration(steps=7), 3.0, 7),
        (Duration(epochs=2), 3.0, 6),
        (Duration(epochs=1), 100 / 64, 2),
        (Duration(epochs=3), 1 / 3 + 1, 4),
        (Duration(epochs=0.01), 3.0, 1),
        (Duration(minutes=1), 3.0, None),
    ],
)
def test_epochs_become_the_steps_that_see_every_sample_as_often(duration, per_epoch, steps):
    assert duration.steps_of(per_epoch) == steps


def test_progress_follows_steps_or_the_clock():
    assert Duration(steps=8).progress(2, 1e9, 4.0) == 0.25
    assert Duration(epochs=2).progress(2, 0.0, 4.0) == 0.25
    assert Duration(minutes=2).progress(10**6, 30.0, 4.0) == 0.25
    assert Duration(minutes=2).progress(0, 1e9, 4.0) == 1.0
    assert Duration(steps=8).progress(9, 0.0, 4.0) == 1.0


def test_the_schedule_warms_up_linearly_and_falls_as_a_cosine():
    schedule = WarmupCosine(warmup=0.1, final=0.02)
    assert schedule(0.0) == 1e-3
    assert schedule(0.05) == pytest.approx(0.5)
    assert schedule(0.1) == pytest.approx(1.0)
    assert schedule(0.55) == pytest.approx((1 + 0.02) / 2)
    assert schedule(1.0) == pytest.approx(0.02)
    assert schedule(1.5) == pytest.approx(0.02)
    assert WarmupCosine(warmup=0.0)(0.0) == 1.0
    values = [schedule(0.1 + 0.009 * i) for i in range(100)]
    assert values == sorted(values, reverse=True)


def test_saving_is_due_by_steps_or_by_minutes():
    assert [Saving(steps=3).due(step, 2, 1e9) for step in (3, 4, 5, 6)] == [False, False, True, True]
    assert [Saving(minutes=2).due(10**6, 0, seconds) for seconds in (0, 119, 120)] == [False, False, True]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Saving(keep=0), "saving.keep must be at least 1, found 0"),
        (lambda: Saving(steps=0), "saving.steps must be at least 1, found 0"),
        (lambda: Saving(minutes=-1), "saving.minutes must be at least 0, found -1"),
        (lambda: Limits(broken=1.5), "limits.broken must be from 0 to 1, found 1.5"),
        (lambda: Limits(skipped=0), "limits.skipped must be at least 1, found 0"),
        (lambda: Limits(broken_grace=-1), "limits.broken_grace must be at least 0"),
        (lambda: Loading(batch=0), "loading.batch must be at least 1, found 0"),
        (lambda: Loading(accumulate=0), "loading.accumulate must be at least 1"),
        (lambda: Loading(workers=-1), "loading.workers must be at least 0"),
        (lambda: Loading(corrupt=2), "loading.corrupt must be from 0 to 1, found 2"),
        (lambda: Loading(withhold=math.nan), "loading.withhold must be from 0 to 1, found nan"),
        (lambda: AdamW(lr=-1.0), "optimizer.lr must be at least 0"),
        (lambda: AdamW(beta2=1.5), "optimizer.beta2 must be from 0 to 1"),
        (lambda: WarmupCosine(warmup=1.2), "schedule.warmup must be from 0 to 1"),
    ],
)
def test_impossible_settings_are_refused_by_name(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"clip": -1.0}, "training.clip must be at least 0"),
        ({"average": 1.5}, "training.average must be from 0 to 1"),
        ({"validate": -1}, "training.validate must be at least 0"),
        ({"precision": "fp8"}, "training.precision is 'fp8' .did you mean 'fp32'"),
        ({"distribution": "fsdb"}, "distribution 'fsdb' is unknown .did you mean 'fsdp'"),
    ],
)
def test_a_trainer_refuses_impossible_settings(tmp_path, settings, says):
    with pytest.raises(ConfigError, match=says):
        trainer(tmp_path, settings=settings)


def test_a_trainer_without_any_objective_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no objective"):
        trainer(tmp_path, losses={}, contrastive=None)
