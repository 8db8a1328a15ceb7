"""Contrastive losses: time and extra peak memory of forward and backward, tiled against the matrix written out.

The matrix written out is what training code commonly does: all similarities at once, then cross-entropy in both
directions, or the sigmoid of each, by torch's own product. The tiled one takes the product that ``core.product``
finds fastest, which on processors of AMD is a good part of the difference. Both must give the same loss and gradients
first. Times alternate (one, other, other, one); memory is the peak of a fresh process beyond what it held before the
loss, gradients included.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from common import extra_peak, figure, figures, in_a_process, limit_threads, load, once, save, table
from torch import Tensor

from sensorium.core.outputs import Embedding, Outputs
from sensorium.objectives import Contrastive, InfoNCE, Pairwise, Sigmoid

WIDTH = 512
BATCHES = (8192, 16384)
LOSSES: dict[str, tuple[Pairwise, float, float]] = {
    "info_nce": (InfoNCE(), 1 / 0.07, 0.0),
    "sigmoid": (Sigmoid(), 10.0, -10.0),
}  # with the scale and bias that training starts from
TARGETS = {"memory": 8.0, "time": 1.0}
KINDS = ("written out", "tiled")


def leaves(batch: int, loss: str) -> dict[str, Tensor]:
    """Pairs of unit vectors with a cosine of about 0.4, scale and bias."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(batch, WIDTH, generator=generator)
    b = a + 2.3 * torch.randn(batch, WIDTH, generator=generator)
    _, scale, bias = LOSSES[loss]
    made = {
        "a": F.normalize(a, dim=1),
        "b": F.normalize(b, dim=1),
        "scale": torch.tensor(scale),
        "bias": torch.tensor(bias),
    }
    return {name: value.requires_grad_() for name, value in made.items()}


def written_out(given: dict[str, Tensor], loss: str) -> Tensor:
    logits = given["scale"] * given["a"] @ given["b"].T
    if loss == "sigmoid":
        labels = 2 * torch.eye(len(logits)) - 1
        return -F.logsigmoid(labels * (logits + given["bias"])).sum() / len(logits)
    truth = torch.arange(len(logits))
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


def tiled(given: dict[str, Tensor], loss: str) -> Tensor:
    number = torch.arange(len(given["a"]))
    outputs = Outputs(
        embeddings={name: Embedding(given[name], number) for name in "ab"},
        scale=given["scale"],
        bias=given["bias"],
    )
    return Contrastive(pairwise=LOSSES[loss][0])(outputs, number).mean


def run(kind: str, given: dict[str, Tensor], loss: str) -> Tensor:
    """Forward and backward; gradients are left at ``given``."""
    for value in given.values():
        value.grad = None
    made = {"written out": written_out, "tiled": tiled}[kind](given, loss)
    made.backward()
    return made.detach()


def differences(given: dict[str, Tensor], loss: str) -> dict[str, float]:
    """The largest difference of loss and gradients between the two, as a share of the largest value."""
    found = []
    for kind in KINDS:
        value = run(kind, given, loss)
        gradients = {n: torch.zeros(()) if x.grad is None else x.grad.clone() for n, x in given.items()}
        found.append({"loss": value} | gradients)
    one, other = found
    return {
        name: float((one[name] - other[name]).abs().max() / one[name].abs().max().clamp(min=1e-12))
        for name in one
        if not (name == "bias" and loss == "info_nce")  # of which it is independent
    }


def extra_memory(kind: str, batch: int, loss: str) -> int:
    """For a process of its own: megabytes of the peak beyond what was held before."""
    run(kind, leaves(64, loss), loss)  # what libraries take once
    given = leaves(batch, loss)
    return round(extra_peak(lambda: run(kind, given, loss)))


def times(given: dict[str, Tensor], loss: str, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds of each, and by round how many times as long the matrix written out takes."""
    calls: list[Callable[[], Tensor]] = [partial(run, kind, given, loss) for kind in KINDS]
    plain, ours, ratios = [], [], []
    for _ in range(rounds):
        a, b, c, d = (once(calls[which]).wall for which in (0, 1, 1, 0))
        plain += [a, d]
        ours += [b, c]
        ratios.append((a + d) / (b + c))
    return plain, ours, ratios


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"width": WIDTH, "targets": TARGETS}
    for loss in LOSSES:
        for batch in arguments.batches:
            given = leaves(batch, loss)
            apart = differences(given, loss)
            assert max(apart.values()) < 1e-4, apart
            plain, ours, ratios = times(given, loss, arguments.times)
            held = {kind: in_a_process(__file__, [kind, batch, loss], arguments.threads) for kind in KINDS}
            found |= {
                f"{loss} {batch}: times as fast": figure(ratios),
                f"{loss} {batch}: seconds written out": figure(plain),
                f"{loss} {batch}: seconds tiled": figure(ours),
                f"{loss} {batch}: largest differences": {
                    name: f"{value:.1e}" for name, value in apart.items()
                },
                f"{loss} {batch}: extra peak MB": held
                | {"ratio": round(held["written out"] / held["tiled"], 1)},
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--times", type=int, default=5, help="rounds of four measured calls")
    parser.add_argument(
        "--quick", action="store_true", help="2 rounds of a batch of 2048; nothing is written"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.batches, arguments.times = [2048], 2
    limit_threads(arguments.threads)
    if arguments.child:
        print(extra_memory(*json.loads(arguments.child)))
        return
    before = load()
    found = measure(arguments)
    figures("contrastive losses, forward and backward", found)
    held = [(name, *value.values()) for name, value in found.items() if name.endswith("extra peak MB")]
    table(f"memory (target {TARGETS['memory']:g} times less)", ("", *KINDS, "ratio"), held)
    if not arguments.quick:
        print(save("contrastive", found, load_before=before))


if __name__ == "__main__":
    main()
