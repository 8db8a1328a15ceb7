"""OpenFlamingo's names against what its paper and its code say, written out here: there is no reference to install."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from recipes.language import real, same_logits, sequences, unscaled
from recipes.parity import INITIALISATIONS, edited, randomise, reference
from recipes.pictured import tokenizer
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, OPTConfig, OPTForCausalLM

from sensorium.core import CapabilityError, CheckpointError
from sensorium.core.batch import Batch
from sensorium.modalities.chat.messages import read_messages
from sensorium.public import open_network, open_public, read_public, save_public
from sensorium.training.rules import treatments
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

WIDTH, SEEN, HEADS, LATENTS = 48, 24, 2, 3
WORDS = len(tokenizer()) + 2  # two were added: what ends an answer, and a picture
PLACE = WORDS - 1


class Attention(nn.Module):
    """Heads of 64, from normalised rows to others."""

    def __init__(self, width: int, context: int, **norms: nn.Module) -> None:
        super().__init__()
        for name, norm in norms.items():
            setattr(self, name, norm)
        self.to_q = nn.Linear(width, 64 * HEADS, bias=False)
        self.to_kv = nn.Linear(context, 2 * 64 * HEADS, bias=False)
        self.to_out = nn.Linear(64 * HEADS, width, bias=False)

    def look(self, x: Tensor, context: Tensor, allowed: Tensor | None = None) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (HEADS, 64)).transpose(-2, -3)
            for part in (self.to_q(x), *self.to_kv(context).chunk(2, dim=-1))
        )
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return self.to_out(found.transpose(-2, -3).flatten(-2))


def feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width, bias=False),
        nn.GELU(),
        nn.Linear(4 * width, width, bias=False),
    )


class Perceiver(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(LATENTS, SEEN))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    Attention(SEEN, SEEN, norm_media=nn.LayerNorm(SEEN), norm_latents=nn.LayerNorm(SEEN)),
                    feed_forward(SEEN),
                ]
            )
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(SEEN)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.latents.expand(len(patches), -1, -1)
        for attention, fed in self.layers:
            media, latents = attention.norm_media(patches), attention.norm_latents(x)
            x = x + attention.look(latents, torch.cat([media, latents], dim=1))
            x = x + fed(x)
        return self.norm(x)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = Attention(WIDTH, SEEN, norm=nn.LayerNorm(WIDTH))
        self.ff = feed_forward(WIDTH)
        self.attn_gate, self.ff_gate = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, media: Tensor, allowed: Tensor) -> Tensor:
        blind = ~allowed.any(-1, keepdim=True)
        seen = self.attn.look(self.attn.norm(x), media, (allowed | blind)[:, None])
        x = x + self.attn_gate.tanh() * seen.masked_fill(blind, 0.0)
        return x + self.ff_gate.tanh() * self.ff(x)


class Flamingo(nn.Module):
    """OPT, whose every second block looks at the last picture before each word."""

    def __init__(self, initialisation: str, every: int = 2) -> None:
        super().__init__()
        opt = OPTConfig(
            vocab_size=WORDS,
            hidden_size=WIDTH,
            word_embed_proj_dim=WIDTH,
            ffn_dim=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=64,
        )
        tower = {
            "hidden_size": SEEN,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        }
        clip = CLIPConfig(
            text_config=tower | {"vocab_size": 99},
            vision_config=tower | {"image_size": 32, "patch_size": 8},
            projection_dim=16,
        )
        self.vision_encoder, self.lang_encoder = (
            reference(cls, config, initialisation)
            for cls, config in ((CLIPModel, clip), (OPTForCausalLM, opt))
        )
        torch.manual_seed(1)
        self.perceiver = Perceiver()
        self.gated = nn.ModuleDict({str(place): Gated() for place in range(every - 1, 4, every)})
        self.double()
        if initialisation == "random":
            randomise(self.perceiver)
            randomise(self.gated)

    def new(self) -> dict[str, Tensor]:
        """What is published of it."""
        layers = "lang_encoder.model.decoder.layers"
        table = self.lang_encoder.get_input_embeddings().weight
        found = {f"perceiver.{name}": one for name, one in self.perceiver.state_dict().items()}
        for place, gated in self.gated.items():
            for name, one in gated.state_dict().items():
                found[f"{layers}.{place}.gated_cross_attn_layer.{name}"] = one
        names = ("model.decoder.embed_tokens.weight", "lm_head.weight")
        return found | {f"lang_encoder.{name}": table.data for name in names}

    def save(self, folder: Path) -> None:
        """A folder as it is read: the language model in it has the words that there were before."""
        tokenizer().save_pretrained(folder)
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(
            folder / "vision_encoder"
        )
        self.vision_encoder.save_pretrained(folder / "vision_encoder")
        torch.save({name: one.clone() for name, one in self.new().items()}, folder / "checkpoint.pt")
        language = folder / "lang_encoder"
        self.lang_encoder.save_pretrained(language)
        tensors = dict(load_file(language / "model.safetensors"))
        table = "model.decoder.embed_tokens.weight"
        write_tensors(language, tensors | {table: tensors[table][:-2]})
        edited(language, vocab_size=WORDS - 2)

    def forward(self, given: Batch) -> Tensor:
        """Logits of padded sequences."""
        words, image = given.streams["text"], given.streams["image"]
        states = self.vision_encoder.vision_model(image.values.movedim(-1, 1), output_hidden_states=True)
        rows = self.perceiver(states.hidden_states[-1][:, 1:])
        most = max(int((image.owner == row).sum()) for row in range(len(given)))
        media = torch.zeros(len(given), most, LATENTS, SEEN, dtype=torch.float64)
        for row in range(len(given)):
            mine = rows[image.owner == row]
            media[row, : len(mine)] = mine
        time = (words.values == PLACE).cumsum(1)
        allowed = time[..., None] == 1 + torch.arange(most).repeat_interleave(LATENTS)
        hooks = [
            self.lang_encoder.model.decoder.layers[int(place)].register_forward_pre_hook(
                lambda layer, args, gated=gated: (gated(args[0], media.flatten(1, 2), allowed), *args[1:])
            )
            for place, gated in self.gated.items()
        ]
        mask = real(words.values, words.lengths.tolist())
        found = self.lang_encoder(words.values, attention_mask=mask).logits
        for hook in hooks:
            hook.remove()
        return found


def batch() -> Batch:
    """Two pictures in the first sequence, one in the second, none in the third."""
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(3, 32, 32, 3, generator=generator, dtype=torch.float64)
    ids = torch.randint(10, 97, (3, 12), generator=generator)
    ids[0, 2] = ids[0, 7] = ids[1, 1] = PLACE
    return sequences(ids, [12, 8, 5], first=2, image=(pixels, [32] * 3, [0, 0, 1]))


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("every", [1, 2])
@torch.no_grad()
def test_parity(initialisation: str, every: int, tmp_path: Path):
    theirs = Flamingo(initialisation, every)
    theirs.save(tmp_path)
    spec, ours = open_network(Folder(tmp_path), torch.float64)
    assert ours.placeholders == {"image": PLACE}
    unscaled(ours.eval(), "image")
    given = batch()
    same_logits(given, ours, theirs(given))
    named = treatments(ours.named_parameters(), [one.build() for one in spec.training.rules])
    learns = {name for name, how in named.items() if how.rate}
    assert {
        name.split(".")[-3] for name in learns if ".cross." not in name and name.startswith("decoder")
    } == {"embedding"}
    assert {name for name in named if name.startswith("connectors.")} < learns


def test_a_conversation(tmp_path: Path):
    Flamingo("default").save(tmp_path)
    opened = open_public(tmp_path)
    text = opened.modalities["text"]
    assert text.places == opened.network.placeholders == {"image": PLACE}
    messages = read_messages([{"role": "user", "content": "Hi"}], [])
    assert text.decode(text.prompt(messages)) == "Hi"
    assert PLACE - 1 in text.eos
    for layout, match in (
        ("open_flamingo", "holds the new layers alone"),
        ("transformers", "save as sensorium"),
    ):
        with pytest.raises(CapabilityError, match=match):
            save_public(tmp_path / "again", opened.spec, opened.network, opened.modalities, layout)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda new: new.pop("perceiver.latents"), "expected the tensor 'perceiver.latents', found none"),
        (lambda new: new.pop("perceiver.norm.bias"), "1 tensor is missing: 'perceiver.norm.bias'"),
        (lambda new: new.update(more=torch.zeros(1)), "1 tensor is not part of the model: 'more'"),
        (
            lambda new: new.pop("lang_encoder.model.decoder.layers.3.gated_cross_attn_layer.attn_gate"),
            r"every so many of 4 blocks, found them before \[1\]",
        ),
    ],
)
def test_every_tensor_has_its_place(change: Any, match: str, tmp_path: Path):
    theirs = Flamingo("default")
    theirs.save(tmp_path)
    new = theirs.new()
    change(new)
    torch.save(new, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=match):
        open_network(Folder(tmp_path))


def test_blocks_that_are_normalised_last_are_refused(tmp_path: Path):
    Flamingo("default").save(tmp_path)
    edited(tmp_path / "lang_encoder", do_layer_norm_before=False)
    with pytest.raises(CapabilityError, match="blocks that are alike and normalised first"):
        read_public(Folder(tmp_path))
