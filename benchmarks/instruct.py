"""Instruction tuning: SigLIP-B/16 (frozen) and a LLaMA of 135 million parameters, sequences of 64 to 1,024 tokens with
lengths log-uniform, answers learnt, against a training loop of transformers that pads to the longest.

Both sides have the same weights, samples and optimizer; the loss and the gradient of the connector are asserted equal
first. A step is forward, backward and AdamW (fused), without loading. Figures are useful tokens (no padding) a second.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from common import figure, figures, interleaved, limit_threads, load, ratios, save
from common.vlm import ROWS, both, samples
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.objectives import NextToken
from sensorium.training.distributed import World
from sensorium.training.optimizer import AdamW
from sensorium.training.step import Learner, Step

SHORTEST, LONGEST = 64 + ROWS // 8, 1024
TARGET = 2.0


class Theirs:
    """transformers' model in a plain loop."""

    def __init__(self, model: Any, lr: float) -> None:
        self.model = model.train()
        self.model.model.vision_tower.requires_grad_(False)
        learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(learnt, lr=lr, weight_decay=0.0, fused=True)

    def loss(self, ids: Tensor, pixels: Tensor, real: Tensor, labels: Tensor) -> Tensor:
        return self.model(input_ids=ids, pixel_values=pixels, attention_mask=real, labels=labels).loss

    def step(self, *inputs: Tensor) -> None:
        self.loss(*inputs).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class Ours:
    """The same by our own step."""

    def __init__(self, network: Any, lr: float) -> None:
        self.network = network.train()
        self.network.towers.requires_grad_(False)
        self.optimizer = AdamW(lr=lr, weight_decay=0.0).make(
            [(name, one) for name, one in network.named_parameters() if one.requires_grad], []
        )
        objectives = {"language": NextToken(stream="text")}
        self.step_of = Step(Learner(network, objectives), objectives, None, World())

    def loss(self, batch: Batch) -> Tensor:
        return self.step_of([batch])[0]

    def step(self, batch: Batch) -> None:
        self.loss(batch)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def compare(theirs: Theirs, ours: Ours, inputs: tuple[Tensor, ...], batch: Batch) -> float:
    """Assert equal losses and gradients; the largest difference of a gradient of the connector."""
    expected = theirs.loss(*inputs)
    expected.backward()
    found, wanted = float(ours.loss(batch)), float(expected.detach())
    assert abs(found - wanted) < 1e-4, (found, wanted)
    mine = ours.network.connectors["image"].layers[0].weight.grad
    other = theirs.model.model.multi_modal_projector.linear_1.weight.grad
    difference = float((mine - other).abs().max() / other.abs().max())
    assert difference < 1e-3, difference
    for side in (theirs.model, ours.network):
        side.zero_grad(set_to_none=True)
    return difference


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    share = torch.rand(arguments.batch, generator=generator)
    lengths = (SHORTEST * (LONGEST / SHORTEST) ** share).long().clamp(ROWS + 4, LONGEST)
    ids, pixels, batch = samples(lengths)
    words = batch.streams["text"]
    labels = ids.masked_fill(~words.learnt, -100)
    inputs = ids, pixels, words.padding().long(), labels
    model, network = both(arguments.depth)
    theirs, ours = Theirs(model, 1e-5), Ours(network, 1e-5)
    difference = compare(theirs, ours, inputs, batch)
    run, other = partial(ours.step, batch), partial(theirs.step, *inputs)
    run(), other()
    mine, others = interleaved(run, other, arguments.times)
    useful = int(lengths.sum())
    return {
        "samples a step": arguments.batch,
        "useful tokens": useful,
        "padded tokens": ids.numel(),
        "learnt tokens": int(words.learnt.sum()),
        "largest relative difference of gradients": difference,
        "transformers, useful tokens/s": figure([useful / one.wall for one in others]),
        "ours, useful tokens/s": figure([useful / one.wall for one in mine]),
        "times as fast": ratios(mine, others),
        "target": TARGET,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--depth", type=int, default=30, help="blocks of the language model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--times", type=int, default=7, help="measured steps of each side")
    parser.add_argument("--quick", action="store_true", help="one step of a small model; nothing is written")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.batch, arguments.depth, arguments.times = 3, 2, 1
    limit_threads(arguments.threads)
    before = load()
    found = measure(arguments)
    figures(f"instruction tuning (target {TARGET} times as fast)", found)
    if not arguments.quick:
        print(save("instruct", found, load_before=before))


if __name__ == "__main__":
    main()
