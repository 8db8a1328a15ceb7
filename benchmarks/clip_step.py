"""CLIP training step: ViT-B/32, 224 pixels, captions of 18 tokens on average, fp32, against open_clip.

Both sides have the same weights and see the same pictures and captions; embeddings and losses are asserted equal
first. A step is forward, backward and AdamW (open_clip's as its training script makes it), without loading. open_clip
pads captions to its context of 77, as its tokenizer does; ours computes the tokens that there are, which is exact.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import figure, figures, interleaved, limit_threads, load, peer, ratios, save
from torch import Tensor

from sensorium.core.batch import Batch, Stream
from sensorium.core.state import saved_tensors
from sensorium.public import open_network
from sensorium.recipes import find
from sensorium.training.distributed import World
from sensorium.training.optimizer import AdamW
from sensorium.training.step import Learner, Step
from sensorium.weights.family import Folder

START, END = 49406, 49407
MEAN_TOKENS, SIDE, CONTEXT = 18, 224, 77
TARGET = 1.5


def captions(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids padded to the context with zeros, and their lengths, from 8 to 28 tokens."""
    lengths = torch.randint(8, 2 * MEAN_TOKENS - 8 + 1, (count,), generator=generator)
    ids = torch.randint(1, START, (count, CONTEXT), generator=generator)
    place = torch.arange(CONTEXT)
    ids[:, 0] = START
    ids[place == lengths[:, None] - 1] = END
    return ids.masked_fill(place >= lengths[:, None], 0), lengths


def stream(values: Tensor, lengths: Tensor) -> Stream:
    count = len(values)
    numbers, no = torch.arange(count), torch.zeros(count, dtype=torch.bool)
    zeros = torch.zeros(count, dtype=torch.long)
    return Stream(
        values=values, lengths=lengths, owner=numbers, order=zeros, ordinal=zeros, turn=zeros,
        content=~no, target=no, hidden=no, corrupt=no, seed=zeros,
    )  # fmt: skip


class Theirs:
    """open_clip's model, loss and optimizer, as its training script puts them together."""

    def __init__(self, name: str, lr: float, fused: bool) -> None:
        library = peer("open_clip")
        torch.manual_seed(0)
        self.name = name
        self.model = library.create_model(name)
        self.loss = library.loss.ClipLoss()
        decays = [p for p in self.model.parameters() if p.ndim >= 2]
        others = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": others, "weight_decay": 0.0}, {"params": decays, "weight_decay": 0.2}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=fused)

    def write(self, folder: Path) -> None:
        """In open_clip's own layout."""
        import json

        from safetensors.torch import save_file

        library = peer("open_clip")
        weights = {name: value.contiguous() for name, value in self.model.state_dict().items()}
        save_file(weights, folder / "open_clip_model.safetensors")
        config = {"model_cfg": library.get_model_config(self.name), "preprocess_cfg": {}}
        (folder / "open_clip_config.json").write_text(json.dumps(config))

    def losses(self, pixels: Tensor, ids: Tensor) -> Tensor:
        return self.loss(*self.model(pixels, ids), output_dict=False)

    def step(self, pixels: Tensor, ids: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.losses(pixels, ids).backward()
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, 4.6052)


class Ours:
    """The same weights, read from what open_clip wrote."""

    def __init__(self, folder: Path, lr: float) -> None:
        self.spec, self.network = open_network(Folder(folder))
        self.network.train()
        optimizer = AdamW(lr=lr, weight_decay=0.2, eps=1e-6)
        self.optimizer = optimizer.make(self.network.named_parameters(), [])
        self.step_of = Step(Learner(self.network, {}), {}, self.spec.contrastive.build(), World())

    def losses(self, batch: Batch) -> Tensor:
        loss, _ = self.step_of([batch])
        return loss

    def step(self, batch: Batch) -> None:
        self.losses(batch)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(arguments.batch, 3, SIDE, SIDE, generator=generator)
    ids, lengths = captions(arguments.batch, generator)
    theirs = Theirs(arguments.model, arguments.lr, fused=False)
    with tempfile.TemporaryDirectory() as folder:
        theirs.write(Path(folder))
        ours = Ours(Path(folder), arguments.lr)
        longest = int(lengths.max())
        image = stream(pixels.movedim(1, -1).contiguous(), torch.full((arguments.batch,), SIDE))
        keys, concept = tuple(map(str, range(arguments.batch))), torch.arange(arguments.batch)
        batch = Batch({"image": image, "text": stream(ids[:, :longest], lengths)}, keys, concept)
        difference = compare(theirs, ours, pixels, ids, batch)
        give_back(ours, theirs)
        assert compare(theirs, ours, pixels, ids, batch) == difference
        fused = Theirs(arguments.model, arguments.lr, fused=True)
        fused.model.load_state_dict(theirs.model.state_dict())
        run = partial(ours.step, batch)
        found: dict[str, Any] = {
            "model": arguments.model,
            "batch": arguments.batch,
            "mean tokens": round(float(lengths.float().mean()), 2),
            "largest difference of embeddings": difference,
            "target": TARGET,
        }
        for name, side in (("open_clip", theirs), ("open_clip with fused AdamW", fused)):
            other = partial(side.step, pixels, ids)
            run(), other()
            mine, others = interleaved(run, other, arguments.times)
            found[f"{name}, seconds"] = figure([one.wall for one in others])
            found[f"ours beside {name}, seconds"] = figure([one.wall for one in mine])
            found[f"times faster than {name}"] = ratios(mine, others)
    return found


def give_back(ours: Ours, theirs: Theirs) -> None:
    """Our export into open_clip's model: every key must be one of its own, and every one of its own be there."""
    family = find.family("clip", "open_clip")
    theirs.model.load_state_dict(family.keys(ours.spec).save(saved_tensors(ours.network)), strict=True)


def compare(theirs: Theirs, ours: Ours, pixels: Tensor, ids: Tensor, batch: Batch) -> float:
    """Assert equal embeddings and losses; the largest difference of embeddings."""
    with torch.no_grad():
        image, text, _ = theirs.model(pixels, ids)
        found = ours.network(batch).embeddings
        differences = [
            float((found[name].vectors - other).abs().max())
            for name, other in (("image", image), ("text", text))
        ]
        expected = float(theirs.losses(pixels, ids))
    loss = float(ours.losses(batch))
    ours.optimizer.zero_grad(set_to_none=True)
    assert max(differences) < 1e-5, differences
    assert abs(loss - expected) < 1e-4, (loss, expected)
    return max(differences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--times", type=int, default=7, help="measured steps of each side")
    parser.add_argument("--quick", action="store_true", help="one step of 4 samples; nothing is written")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.batch, arguments.times = 4, 1
    limit_threads(arguments.threads)
    before = load()
    found = measure(arguments)
    figures(f"CLIP {arguments.model}, batch {arguments.batch} (target {TARGET} times faster)", found)
    if not arguments.quick:
        print(save("clip_step", found, load_before=before))


if __name__ == "__main__":
    main()
