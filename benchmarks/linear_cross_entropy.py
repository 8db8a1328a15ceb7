"""Cross-entropy over a large vocabulary, chunked against all logits: time and extra peak memory, forward and backward.

All logits at once is what training code commonly does: a linear map by torch's own product, then ``F.cross_entropy``.
The chunked loss takes the product that ``core.product`` finds fastest, which on processors of AMD is a good part of the
difference; so all logits are timed by that product too. All must give the same loss and gradients first. Rows and
table, the tied embedding, both need a gradient. Times alternate (one, other, other, one); memory is the peak of a
fresh process beyond what it held before the loss, gradients included.
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

from sensorium.core.product import linear
from sensorium.objectives.linear_cross_entropy import linear_cross_entropy

TOKENS, WIDTH, VOCABULARY = 4096, 576, 49_152
TARGETS = {"memory": 6.0, "time": 1.1}
CHUNKED = "chunked"
KINDS = ("all logits", "all logits, the same product", CHUNKED)


def leaves(tokens: int, vocabulary: int) -> dict[str, Tensor]:
    """Features as a norm leaves them, and an embedding as training starts with."""
    generator = torch.Generator().manual_seed(0)
    return {
        "rows": torch.randn(tokens, WIDTH, generator=generator).requires_grad_(),
        "table": torch.randn(vocabulary, WIDTH, generator=generator).mul_(0.02).requires_grad_(),
        "target": torch.randint(0, vocabulary, (tokens,), generator=generator),
    }


def total(kind: str, given: dict[str, Tensor]) -> Tensor:
    rows, embedding, target = given["rows"], given["table"], given["target"]
    if kind == CHUNKED:
        return linear_cross_entropy(rows, embedding, target)
    product = F.linear if kind == "all logits" else linear
    return F.cross_entropy(product(rows, embedding), target, reduction="sum")


def run(kind: str, given: dict[str, Tensor]) -> Tensor:
    """The mean loss; forward and backward, gradients are left at ``given``."""
    for value in given.values():
        value.grad = None
    loss = total(kind, given) / len(given["target"])
    loss.backward()
    return loss.detach()


def differences(given: dict[str, Tensor]) -> dict[str, float]:
    """The largest difference of loss and gradients from those of all logits, as a share of the largest value."""
    found = [
        {"loss": run(kind, given)} | {name: given[name].grad for name in ("rows", "table")}
        for kind in ("all logits", CHUNKED)
    ]
    one, other = found
    return {name: float((one[name] - other[name]).abs().max() / one[name].abs().max()) for name in one}


def extra_memory(kind: str) -> int:
    """For a process of its own: megabytes of the peak beyond what was held before."""
    run(kind, leaves(64, 1024))  # what libraries take once
    given = leaves(TOKENS, VOCABULARY)
    return round(extra_peak(lambda: run(kind, given)))


def times(plain: str, given: dict[str, Tensor], rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds of all logits and of the chunked loss, and by round how many times as long the former takes."""
    calls: list[Callable[[], Tensor]] = [partial(run, kind, given) for kind in (plain, CHUNKED)]
    theirs, ours, ratios = [], [], []
    for _ in range(rounds):
        a, b, c, d = (once(calls[which]).wall for which in (0, 1, 1, 0))
        theirs += [a, d]
        ours += [b, c]
        ratios.append((a + d) / (b + c))
    return theirs, ours, ratios


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    given = leaves(arguments.tokens, VOCABULARY)
    apart = differences(given)
    assert max(apart.values()) < 1e-4, apart
    found: dict[str, Any] = {
        "tokens": arguments.tokens,
        "width": WIDTH,
        "vocabulary": VOCABULARY,
        "targets": TARGETS,
        "largest differences": {name: f"{value:.1e}" for name, value in apart.items()},
    }
    for plain in KINDS[:2]:
        theirs, ours, ratios = times(plain, given, arguments.times)
        found |= {
            f"{plain}: chunked is times as fast": figure(ratios),
            f"{plain}: seconds": figure(theirs) | {"least": round(min(theirs), 3)},
            f"{plain}: seconds of chunked beside it": figure(ours) | {"least": round(min(ours), 3)},
        }
    if arguments.tokens == TOKENS:
        found["extra peak MB"] = {kind: in_a_process(__file__, kind, arguments.threads) for kind in KINDS}
        held = found["extra peak MB"]
        found["times less memory"] = round(held["all logits"] / held[CHUNKED], 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--times", type=int, default=15, help="rounds of four measured calls")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 512 tokens; nothing is written")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tokens, arguments.times = 512, 2
    limit_threads(arguments.threads)
    if arguments.child:
        print(extra_memory(json.loads(arguments.child)))
        return
    before = load()
    found = measure(arguments)
    figures("cross-entropy over a large vocabulary, forward and backward", found)
    if "extra peak MB" in found:
        held = found["extra peak MB"]
        row = ("extra peak MB", *held.values(), found["times less memory"])
        table(f"memory (target {TARGETS['memory']:g} times less)", ("", *KINDS, "ratio"), [row])
    if arguments.tokens == TOKENS:
        print(save("linear_cross_entropy", found, load_before=before))


if __name__ == "__main__":
    main()
