"""Writing: a picture (64 rows), 64 tokens of prompt, 128 new ones, batch 1, a LLaMA of 135 million parameters, in fp32
and with weights of 8 bits, against transformers' ``generate``.

All sides have the same weights and go for the likeliest token; the ids of fp32 are asserted equal first. For 8 bits the
loss is given too: the mean Kullback-Leibler divergence (nats per token) from the distribution of fp32 along its text.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from typing import Any

import torch
from common import figure, figures, interleaved, limit_threads, load, ratios, save
from common.vlm import ROWS, both, samples
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.generation.settings import Decoding
from sensorium.generation.write import write
from sensorium.nn.layers.quantised import quantise

PROMPT, NEW = 64, 128
TARGETS = {"fp32": 1.15, "int8": 2.5}


@torch.no_grad()
def ours(network: Any, batch: Batch, new: int) -> list[int]:
    state = network.begin(batch, new)
    return write(state, Decoding(new), stop_ids=(), decode=lambda ids: "")[0][0].ids


@torch.no_grad()
def theirs(model: Any, ids: Tensor, pixels: Tensor, new: int, cache: str | None) -> list[int]:
    how = {"cache_implementation": cache} if cache else {}
    found = model.generate(
        ids,
        pixel_values=pixels,
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        **how,
    )
    return found[0, ids.shape[1] :].tolist()


@torch.no_grad()
def divergence(network: Any, rounded: Any, batch: Batch, new: int) -> float:
    """From fp32 to 8 bits, mean over the tokens of the text that fp32 writes."""
    states = [one.begin(batch, new) for one in (network, rounded)]
    total = 0.0
    for _ in range(new):
        exact, other = (state.logits.log_softmax(-1) for state in states)
        total += float((exact.exp() * (exact - other)).sum())
        for state in states:
            state.extend(exact.argmax(-1))
    return total / new


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    model, network = both(arguments.depth)
    model, network = model.eval(), network.eval()
    ids, pixels, batch = samples(torch.tensor([ROWS + arguments.prompt]))
    rounded = quantise(network)
    new = arguments.new
    plain = theirs(model, ids, pixels, new, None)
    assert ours(network, batch, new) == plain
    found: dict[str, Any] = {
        "rows, prompt, new tokens": [ROWS, arguments.prompt, new],
        "divergence of int8, nats a token": divergence(network, rounded, batch, new),
        "targets": TARGETS,
    }
    for cache in (None, "static"):
        for name, side in (("fp32", network), ("int8", rounded)):
            run, other = partial(ours, side, batch, new), partial(theirs, model, ids, pixels, new, cache)
            run(), other()
            mine, others = interleaved(run, other, arguments.times)
            peer = f"transformers ({cache or 'dynamic'} cache)"
            found[f"{peer} beside {name}, tokens/s"] = figure([new / one.wall for one in others])
            found[f"ours {name} beside {cache or 'dynamic'}, tokens/s"] = figure(
                [new / one.wall for one in mine]
            )
            found[f"{name}, times as fast as {peer}"] = ratios(mine, others)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", type=int, default=PROMPT)
    parser.add_argument("--new", type=int, default=NEW)
    parser.add_argument("--depth", type=int, default=30, help="blocks of the language model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--times", type=int, default=7, help="measured texts of each side")
    parser.add_argument(
        "--quick", action="store_true", help="a few tokens of a small model; nothing is written"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.new, arguments.depth, arguments.times = 4, 2, 1
    warnings.filterwarnings("ignore", module="transformers")
    limit_threads(arguments.threads)
    before = load()
    found = measure(arguments)
    figures(f"writing {arguments.new} tokens (targets: {TARGETS})", found)
    if not arguments.quick:
        print(save("generate", found, load_before=before))


if __name__ == "__main__":
    main()
