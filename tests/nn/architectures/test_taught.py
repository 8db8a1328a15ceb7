"""A taught model: the teacher takes part in the forward pass and in nothing else."""

from __future__ import annotations

import copy

import torch
from nn.toys import batch, model, sample
from torch import nn

from sensorium.nn.architectures.taught import Taught

BATCH = batch([sample(index) for index in range(3)])


def _taught() -> Taught:
    return Taught(student=model(0), teacher=model(1))


def test_outputs_are_the_students_and_carry_the_teachers():
    network, student, teacher = _taught(), model(0), model(1)
    for embed_only in (False, True):
        found = network(BATCH, embed_only=embed_only)
        mine, taught = student(BATCH, embed_only=embed_only), teacher(BATCH, embed_only=embed_only)
        for name in mine.embeddings:
            assert torch.equal(found.embeddings[name].vectors, mine.embeddings[name].vectors)
            assert torch.equal(found.teacher.embeddings[name].vectors, taught.embeddings[name].vectors)
        assert (found.language is None) == (found.teacher.language is None) == embed_only
        assert found.scale.requires_grad
        assert not found.teacher.scale.requires_grad
    stream = BATCH.streams["words"]
    assert torch.equal(network.embed("words", stream), student.embed("words", stream))
    assert torch.equal(network.scale, student.scale)
    assert network.language == "words"


def test_the_teacher_is_neither_trained_nor_saved():
    network = _taught()
    assert {name for name, _ in network.named_parameters()} == {
        f"student.{name}" for name, _ in model().named_parameters()
    }
    assert all(name.startswith("student.") for name in network.state_dict())
    nn.Sequential(network).train()
    assert network.student.training
    assert not network.teacher.training
    assert not any(p.requires_grad for p in network.teacher.parameters())


def test_the_teacher_moves_along_and_is_copied():
    network = nn.ModuleList([_taught()]).to(torch.float32)[0]
    assert {p.dtype for p in network.teacher.parameters()} == {torch.float32}
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    other = copy.deepcopy(network)
    assert other.teacher is not network.teacher
