"""Rules over parameter names: order, freezing, groups and what is refused."""

from __future__ import annotations

import pytest
import torch
from nn.toys import model
from training.kit import trainer, weights

from sensorium.core import ConfigError, Spec
from sensorium.training.optimizer import AdamW, set_rate
from sensorium.training.rules import Rule, Treatment, treatments

NAMED = dict(model().named_parameters())


def test_vectors_do_not_decay_before_any_rule():
    found = treatments(NAMED.items(), [])
    assert found["trunk.blocks.0.attention.qkv.weight"] == Treatment(1.0, 1.0)
    assert found["trunk.blocks.0.attention.qkv.bias"] == Treatment(1.0, 0.0)
    assert found["contrastive_head.log_scale"] == Treatment(1.0, 0.0)


def test_later_rules_win_and_leave_alone_what_they_do_not_name():
    rules = [
        Rule("trunk", rate=0.0, decay=0.5),
        Rule(r"blocks\.2", rate=0.1),
        Rule(r"blocks\.2.*bias$", decay=2.0),
    ]
    found = treatments(NAMED.items(), rules)
    assert found["trunk.blocks.0.attention.qkv.weight"] == Treatment(0.0, 0.5)
    assert found["trunk.blocks.2.attention.qkv.weight"] == Treatment(0.1, 0.5)
    assert found["trunk.blocks.2.attention.qkv.bias"] == Treatment(0.1, 2.0)
    assert treatments(NAMED.items(), rules[::-1])["trunk.blocks.2.attention.qkv.bias"] == Treatment(0.0, 0.5)


def test_a_rule_that_matches_nothing_is_refused_with_the_nearest_name():
    with pytest.raises(
        ConfigError, match=r"'language_heads.bias' matches no parameter.*did you mean 'language_head"
    ):
        treatments(NAMED.items(), [Rule("language_heads.bias", rate=0.0)])


def test_a_rule_that_is_no_regular_expression_is_refused():
    with pytest.raises(ConfigError, match=r"'trunk\(' is not a regular expression"):
        treatments(NAMED.items(), [Rule("trunk(", rate=0.0)])


@pytest.mark.parametrize("wrong", [{"rate": -1.0}, {"decay": -0.1}])
def test_negative_factors_are_refused(wrong):
    with pytest.raises(ConfigError, match="must be at least 0"):
        Rule("trunk", **wrong)


def test_freezing_everything_is_refused():
    with pytest.raises(ConfigError, match="nothing to train"):
        AdamW().make(model().named_parameters(), [Rule(".", rate=0.0)])


def test_each_group_has_its_own_rate_and_decay():
    network = model()
    rules = [Rule("encoders", rate=0.1), Rule("trunk", decay=0.5), Rule("language_head", rate=0.0)]
    optimizer = AdamW(lr=1.0, weight_decay=0.2).make(network.named_parameters(), rules)
    set_rate(optimizer, 0.5)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    named = dict(network.named_parameters())
    for name, treatment in treatments(named.items(), rules).items():
        group = group_of.get(id(named[name]))
        if treatment.rate == 0:
            assert group is None
            assert not named[name].requires_grad
        else:
            assert group["lr"] == pytest.approx(0.5 * treatment.rate)
            assert group["weight_decay"] == pytest.approx(0.2 * treatment.decay)
            assert named[name].requires_grad


def test_frozen_parameters_stay_bit_identical_and_the_others_move(tmp_path):
    trained = trainer(tmp_path, settings={"rules": [Spec(Rule, pattern="encoders|log_scale", rate=0.0)]})
    before = weights(trained)
    trained.run()
    for name, value in weights(trained).items():
        frozen = "encoders" in name or "log_scale" in name
        assert torch.equal(value, before[name]) == frozen, name
        assert torch.equal(trained.average.values[name], before[name]) == frozen, name


def test_a_small_rate_moves_less(tmp_path):
    moved = {}
    for rate in (1.0, 0.1):
        trained = trainer(
            tmp_path / str(rate),
            settings={"rules": [Spec(Rule, pattern="patch_heads", rate=rate)], "duration.steps": 1},
        )
        before = weights(trained)
        trained.run()
        name = next(n for n in before if n.startswith("patch_heads.picture") and n.endswith("weight"))
        moved[rate] = float((trained.named[name].detach() - before[name]).norm())
    assert moved[0.1] == pytest.approx(0.1 * moved[1.0], rel=1e-3)
