"""What the contrastive loss asks of each embedding: its gradient there, before any graph of the model is needed.

The loss needs the embeddings of all micro-batches and processes at once, but of each only its numbers. Its
gradient at them is then carried into the backward pass of their own micro-batch (GradCache, Gao et al. 2021,
arXiv:2101.06983).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.exchange import Exchange
from ..core.outputs import Embedding, Outputs
from ..objectives.contrastive import Contrast, Contrastive

#: A model's embeddings with their owners, and what they are compared by, as plain tensors by group and name.
Parts = dict[str, dict[str, Tensor]]
_TEACHER = "teacher/"


@dataclass(frozen=True)
class Pull:
    """The contrastive losses, and the gradient at the embeddings of each micro-batch and at scale and bias, of which
    it is this process's share. ``keys`` are what all processes' micro-batches want remembered.
    """

    contrast: Contrast
    vectors: list[dict[str, Tensor]]
    similarity: dict[str, Tensor]
    keys: dict[str, Tensor]


def parts_of(outputs: Outputs) -> Parts:
    """The part of a model's outputs that is contrasted."""
    similarity = {"scale": outputs.scale, "bias": outputs.bias}
    found = {
        "vectors": {name: one.vectors for name, one in outputs.embeddings.items()},
        "owner": {name: one.owner for name, one in outputs.embeddings.items()},
        "similarity": {name: value for name, value in similarity.items() if value is not None},
        "queue": dict(outputs.queue),
        "keys": dict(outputs.keys),
    }
    if outputs.teacher is not None:
        found |= {_TEACHER + group: values for group, values in parts_of(outputs.teacher).items()}
    return found


def pull(
    contrastive: Contrastive, parts: Sequence[Parts], concepts: Sequence[Tensor], exchange: Exchange
) -> Pull:
    """The loss over the embeddings of all micro-batches (``parts``) of all processes, and its gradient there."""
    outputs = _joined(parts, [len(concept) for concept in concepts])
    vectors = {name: one.vectors.requires_grad_() for name, one in outputs.embeddings.items()}
    similarity = {name: value.requires_grad_() for name, value in parts_of(outputs)["similarity"].items()}
    with torch.enable_grad():
        contrast = contrastive(outputs, torch.cat(list(concepts)), exchange)
        loss = contrastive.weight * contrast.mean
    wanted = [*vectors.values(), *similarity.values()]
    if contrast.losses:
        found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    else:
        found = tuple(torch.zeros_like(leaf) for leaf in wanted)
    sizes = {name: [len(part["vectors"][name]) for part in parts] for name in vectors}
    cut = {name: one.split(sizes[name]) for name, one in zip(vectors, found[: len(vectors)], strict=True)}
    detached = {name: value.detach() for name, value in contrast.losses.items()}
    return Pull(
        Contrast(detached, contrast.mean.detach()),
        [{name: cut[name][index] for name in vectors} for index in range(len(parts))],
        dict(zip(similarity, found[len(vectors) :], strict=True)),
        {
            name: torch.cat(exchange.gather_rows(torch.cat([part["keys"][name].detach() for part in parts])))
            for name in parts[0]["keys"]
        },
    )


def surrogate(asked: Pull, part: Parts, index: int) -> Tensor:
    """A number whose gradient is that of the contrastive loss, as far as it goes through micro-batch ``index``."""
    found = [(vectors * asked.vectors[index][name]).sum() for name, vectors in part["vectors"].items()]
    share = len(asked.vectors)
    found += [value * asked.similarity[name] / share for name, value in part["similarity"].items()]
    return torch.stack(found).sum()


def _joined(parts: Sequence[Parts], sizes: Sequence[int], prefix: str = "") -> Outputs:
    """The outputs for the samples of all parts, one after the other, cut off from the graphs that made them."""
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    embeddings = {}
    for name in parts[0][prefix + "vectors"]:
        vectors = torch.cat([part[prefix + "vectors"][name].detach() for part in parts])
        owner = torch.cat(
            [part[prefix + "owner"][name] + start for part, start in zip(parts, starts, strict=True)]
        )
        embeddings[name] = Embedding(vectors, owner)
    similarity = {name: value.detach().clone() for name, value in parts[0][prefix + "similarity"].items()}
    taught = _TEACHER + prefix + "vectors" in parts[0]
    return Outputs(
        embeddings=embeddings,
        scale=similarity.get("scale"),
        bias=similarity.get("bias"),
        queue={name: rows.detach() for name, rows in parts[0][prefix + "queue"].items()},
        teacher=_joined(parts, sizes, _TEACHER + prefix) if taught else None,
    )
