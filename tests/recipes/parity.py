"""What every test of a recipe page does: a tiny random reference of transformers, read, compared and written back."""

from __future__ import annotations

import json
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from sensorium.core import Spec
from sensorium.core.state import saved_tensors
from sensorium.public import open_network, public_files
from sensorium.recipes import find
from sensorium.weights.family import Folder, write_files
from sensorium.weights.write import write_tensors

TOLERANCE = 1e-7
#: The page that is being tested, and the largest difference found so far of each.
page = ""
worst: dict[str, float] = {}
#: The default initialisation hides missing parts (zeros, ones), the random one hides epsilons.
INITIALISATIONS = ("default", "random")


def reference(cls: type[PreTrainedModel], config: Any, initialisation: str) -> Any:
    """A model of transformers in float64, in evaluation mode, all of it random if asked for."""
    torch.manual_seed(0)
    config._attn_implementation = attention(cls)
    config._experts_implementation = "eager"  # the others take single precision alone
    model = unrounded(cls(config).double().eval())
    if initialisation == "random":
        randomise(model)
    return model


def unrounded(model: Any) -> Any:
    """The same model without the rounding to single precision inside its RMS norms, the routers of experts and the
    scales of words.
    """
    for module in model.modules():
        if hasattr(module, "scalar_embed_scale"):
            module.embed_scale = torch.tensor(module.scalar_embed_scale, dtype=torch.float64)
        if type(module).__name__ in ("Qwen2MoeTopKRouter", "Qwen3MoeTopKRouter"):
            module.forward = MethodType(_route, module)
        if type(module).__name__.endswith(("RMSNorm", "T5LayerNorm")):
            module.forward = MethodType(_rms_norm, module)
    return model


def _rms_norm(norm: Any, x: Tensor) -> Tensor:
    eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    around_zero = type(norm).__name__.startswith("Gemma")
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * (norm.weight + float(around_zero))


def _route(router: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logits = x.reshape(-1, router.hidden_dim) @ router.weight.T
    shares, chosen = logits.softmax(-1).topk(router.top_k)
    return logits, shares / shares.sum(-1, keepdim=True) if router.norm_topk_prob else shares, chosen


def attention(cls: type[PreTrainedModel]) -> str:
    """The implementation that rounds least; convolutional networks know none."""
    return "sdpa" if cls._supports_sdpa else "eager"


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Every parameter and floating buffer of statistics drawn anew; variances stay positive."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        drawn = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        if name.endswith("running_var"):
            tensor.copy_(1 + drawn.abs())
        elif name in dict(model.named_parameters()) or name.endswith("running_mean"):
            tensor.copy_(0.2 * drawn + (1.0 if _is_scale(name, tensor) else 0.0))


def _is_scale(name: str, tensor: Tensor) -> bool:
    return tensor.ndim == 1 and name.endswith("weight")


def opened(model: PreTrainedModel, folder: Path) -> tuple[Spec, Any]:
    """The same model, by way of files, as a network of ours in float64."""
    global page
    model.save_pretrained(folder)
    spec, network = open_network(Folder(folder), torch.float64)
    page = spec.family or page  # a page may have several
    return spec, network.eval()


def written(spec: Spec, network: nn.Module, cls: type[PreTrainedModel], folder: Path) -> Any:
    """Our network, by way of files, as a model of transformers; every key must have found its place."""
    family = find.family(spec.family, "transformers")
    folder.mkdir(exist_ok=True)
    write_tensors(folder, family.keys(spec).save(saved_tensors(network)))
    write_files(folder, public_files(family, spec))
    model, found = cls.from_pretrained(
        folder,
        output_loading_info=True,
        dtype=torch.float64,
        attn_implementation=attention(cls),
        experts_implementation="eager",
    )
    assert not found["missing_keys"], found
    assert not found["unexpected_keys"], found
    assert not found["mismatched_keys"], found
    return unrounded(model.eval())


def respelled(folder: Path, rename: Any) -> None:
    """The weights of a folder under other names."""
    file = folder / "model.safetensors"
    tensors = {rename(name): tensor for name, tensor in load_file(file).items()}
    write_tensors(folder, tensors)


def edited(folder: Path, **fields: Any) -> None:
    """The config of a folder with some fields changed."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def settings(config: Any) -> dict[str, Any]:
    """What a config of transformers, or a section of one, says of the model."""
    origin = ("_name_or_path", "architectures", "dtype", "transformers_version")
    fields = config if isinstance(config, dict) else config.to_dict()
    return {
        name: settings(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if name not in origin
    }


def rows(maps: Tensor) -> Tensor:
    """The places of feature maps [n, c, h, w], one picture after the other."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def close(found: Tensor, expected: Tensor) -> None:
    """Equal to 1e-7 in float64."""
    assert found.dtype == expected.dtype == torch.float64
    assert found.shape == expected.shape
    difference = float((found - expected).abs().max()) if found.numel() else 0.0
    worst[page] = max(worst.get(page, 0.0), difference)
    assert difference <= TOLERANCE, f"differ by {difference:.2e}"
