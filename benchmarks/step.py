"""Training step: the share of the machine's own matrix-product rate that a step of unified:small reaches.

The rate of square fp32 products (the best of several sizes) is measured in the same process with the same
threads, before and after every step, so that a busy machine slows both. The step is what the trainer does:
forward, backward, clipping, optimizer and the moving average of weights. Only the operations of the forward and
backward passes count as work; those of the optimizer are part of the time alone. Loading is not part of it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from common import figure, figures, limit_threads, load, once, save, table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from sensorium.core.batch import Batch
from sensorium.core.modality import Modality
from sensorium.core.product import product
from sensorium.data.collate import collate
from sensorium.data.item import Item, Piece
from sensorium.start import resolve
from sensorium.training.average import Average
from sensorium.training.distributed import World
from sensorium.training.step import Learner, Step

KNOWN = ("image", "audio", "text")
SIZES = (512, 1024, 2048)  # of the square products
TARGET = 0.55

#: Groups of the profile, by what an operator's name begins with after ``aten::``; the first match counts.
GROUPS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear", "matmul", "mkldnn::_linear"),
    "attention": ("scaled_dot_product", "_scaled_dot_product"),
    "normalisation": ("layer_norm", "native_layer_norm"),
    "activation": ("gelu",),
    "convolution": ("conv", "_conv", "mkldnn_conv"),
    "optimizer": ("_fused_adam", "_foreach", "linalg_vector_norm"),
    "loss": ("log_softmax", "_log_softmax", "cross_entropy", "nll_loss", "softmax", "_softmax", "mse_loss"),
    "copies and indexing": (
        "copy_", "clone", "contiguous", "_to_copy", "to", "cat", "index", "repeat", "gather", "scatter",
        "embedding", "constant_pad", "pad", "fill_", "zero_", "zeros", "new_zeros", "full", "masked_fill",
        "nonzero", "stack", "empty", "resize_", "as_strided", "select", "slice", "_reshape_alias",
    ),
    "element-wise": ("add", "sub", "mul", "div", "square", "sum", "pow", "neg", "exp", "mean", "where", "norm"),
}  # fmt: skip


def attention_forward(query: list[int], key: list[int], *_: object, **__: object) -> int:
    """Operations of softmax(q k') v on [b, h, t, e] shapes: two products. A mask or causality saves none."""
    b, h, t, e = query
    return 4 * b * h * t * key[2] * e


def attention_backward(
    gradient: list[int], query: list[int], key: list[int], *_: object, **__: object
) -> int:
    """Five products for the two of the forward pass: the scores are computed again."""
    return attention_forward(query, key) * 5 // 2


def linear_operations(x: list[int], weight: list[int], *_: object, **__: object) -> int:
    """Operations of x @ weight.T."""
    return 2 * x[0] * x[1] * weight[0]


def count_operations(call: Callable[[], object]) -> int:
    """Floating-point operations of products, convolutions and attention in one call.

    torch counts attention only on a GPU, and oneDNN's products not at all; for the operators used on a CPU the
    formulas are given here.
    """
    aten = torch.ops.aten
    attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: attention_forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
        torch.ops.mkldnn._linear_pointwise: linear_operations,
    }
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        call()
    return counter.get_total_flops()


def make_batch(modalities: Mapping[str, Modality], size: int, seed: int = 0) -> Batch:
    """Random samples of realistic lengths: a picture, about 3 s of sound, a caption of about 24 tokens, a question
    of 10 and its answer of 5; half of the samples have one medium withheld, a tenth of the segments is masked.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    def chance(share: float) -> bool:
        return bool(torch.rand((), generator=generator) < share)

    def tokens(count: int) -> Tensor:
        return torch.randint(4, 2048, (count,), generator=generator)

    pixels, frame = modalities["image"].blank(), modalities["audio"].blank()
    items = []
    for index in range(size):
        sound = torch.randn(draw(156, 220), frame.shape[1], generator=generator)
        hidden = draw(0, 3)
        values = [
            ("image", torch.randn(pixels.shape, generator=generator), 0, True, False, hidden == 0),
            ("audio", sound, 0, True, False, hidden == 1),
            ("text", tokens(draw(16, 32)), 0, True, True, False),
            ("text", tokens(10), 1, False, False, False),
            ("text", tokens(5), 1, False, True, False),
        ]
        pieces = [
            Piece(name, value, turn, content, target, hide, content and chance(0.1), draw(0, 1 << 40))
            for name, value, turn, content, target, hide in values
        ]
        items.append(Item(f"{index}", index, tuple(pieces)))
    return collate(items, modalities)


class Trainee:
    """A recipe's model and modalities with everything that a step of training needs."""

    def __init__(self, recipe: str, overrides: Sequence[str] = ()) -> None:
        spec = resolve(recipe, overrides).spec
        encoders = {name: part for name, part in spec.model.encoders.items() if name in KNOWN}
        system = spec.set("model.encoders", encoders).build()
        self.modalities = {name: system.modalities[name].build() for name in KNOWN}
        self.training = system.training.build()
        torch.manual_seed(self.training.seed)
        self.model = system.model.build()
        self.named = dict(self.model.named_parameters())
        objectives = {name: part.build() for name, part in system.objectives.items()}
        learner = Learner(self.model, objectives)
        self.losses = Step(learner, objectives, system.contrastive.build(), World())
        self.optimizer = self.training.optimizer.make(self.named.items(), self.training.rules)
        self.average = Average(self.named.items(), self.training.average)

    def step(self, batch: Batch) -> None:
        """What the trainer does with a batch."""
        self.losses([batch])
        nn.utils.clip_grad_norm_(self.named.values(), self.training.clip)
        self.optimizer.step()
        self.average.update(1_000)
        self.optimizer.zero_grad(set_to_none=True)


class Products:
    """Square fp32 products of several sizes by both of torch's libraries, the best of which is the machine's rate."""

    def __init__(self) -> None:
        self.pairs = [(torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)) for n in SIZES]
        self.rate()

    def rate(self) -> tuple[float, float]:
        """Operations per second, on the clock and by CPU time."""
        found = []
        for a, b, out in self.pairs:
            times = max(1, 2**32 // len(a) ** 3)
            operations = 2 * times * len(a) ** 3
            for call in (partial(torch.mm, a, b, out=out), partial(product, a, b)):
                spent = once(partial(repeat, call, times))
                found.append((operations / spent.wall, operations / spent.cpu))
        return max(wall for wall, _ in found), max(cpu for _, cpu in found)


def repeat(call: Callable[[], object], times: int) -> None:
    """The same product several times."""
    for _ in range(times):
        call()


def group_of(name: str) -> str:
    """The group of a profiled operator."""
    if name.startswith("Optimizer"):
        return "optimizer"
    short = name.removeprefix("aten::")
    return next((group for group, starts in GROUPS.items() if short.startswith(starts)), "other")


def profiled(call: Callable[[], object], times: int) -> dict[str, float]:
    """The share of each group of operators in the time of a call, the largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(times):
            call()
    spent: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        spent[group_of(event.key)] += event.self_cpu_time_total
    total = sum(spent.values())
    return {name: round(value / total, 4) for name, value in sorted(spent.items(), key=lambda x: -x[1])}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    trainee = Trainee(arguments.recipe, arguments.overrides)
    size = arguments.batch or trainee.training.loading.batch
    batch = make_batch(trainee.modalities, size)

    run = partial(trainee.step, batch)
    operations = count_operations(partial(trainee.losses, [batch]))
    products = Products()
    run()
    wall, cpu, seconds, rates = [], [], [], []
    for _ in range(arguments.times):
        before = products.rate()
        spent = once(run)
        after = products.rate()
        best_wall, best_cpu = (max(pair) for pair in zip(before, after, strict=True))
        wall.append(operations / spent.wall / best_wall)
        cpu.append(operations / spent.cpu / best_cpu)
        seconds.append(spent.wall)
        rates.append(best_wall / 1e9)
    return {
        "recipe": arguments.recipe,
        "overrides": arguments.overrides,
        "batch": size,
        "parameters": sum(parameter.numel() for parameter in trainee.model.parameters()),
        "GFLOP of forward and backward": round(operations / 1e9, 1),
        "seconds of a step": figure(seconds),
        "matrix-product rate, GFLOP/s": figure(rates),
        "share by the clock": figure(wall),
        "share by CPU time": figure(cpu),
        "target": TARGET,
        "profile": profiled(run, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="unified:small")
    parser.add_argument("--batch", type=int, help="samples; by default the recipe's")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--times", type=int, default=5, help="measured steps")
    parser.add_argument("--quick", action="store_true", help="3 steps of 16 samples; nothing is written")
    parser.add_argument("overrides", nargs="*", help="settings as path=value")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.batch, arguments.times = 16, 3
    limit_threads(arguments.threads)
    before = load()
    found = measure(arguments)
    figures(f"training step of {arguments.recipe}, batch {found['batch']} (target share {TARGET})", found)
    table("where the time goes", ("operators", "share"), list(found["profile"].items()))
    if not arguments.quick:
        print(save("step", found, load_before=before))


if __name__ == "__main__":
    main()
