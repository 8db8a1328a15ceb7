"""Image embeddings of CLIP ViT-B/16, fp32, batches of 1, 8 and 32: against transformers, ONNX Runtime and OpenVINO.

One run, the same weights and pictures, the same threads; outputs are asserted equal first. Sides take turns, and the
order is reversed every other turn. transformers runs with its default attention (SDPA), plain and compiled; ONNX
Runtime and OpenVINO run the graph that torch exports from transformers' model, with their default optimisations.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import figure, limit_threads, load, once, peer, save, table
from torch import Tensor

from sensorium.public import open_network
from sensorium.weights.family import Folder

BATCHES = (1, 8, 32)
SIDE = 224
OURS = "ours"

Side = Callable[[Tensor], Tensor]


def sides(folder: Path, threads: int, wanted: list[str]) -> dict[str, Side]:
    """What makes embeddings of pictures [n, 3, 224, 224], by name; all with the weights in ``folder``."""
    peer("torchvision")
    transformers = peer("transformers")
    torch.manual_seed(0)
    config = transformers.CLIPConfig(vision_config={"patch_size": 16})
    whole = transformers.CLIPModel(config).eval()
    whole.save_pretrained(folder)
    theirs = Vision(whole)
    found: dict[str, Side] = {OURS: ours(folder), "transformers": theirs}
    if "compiled" in wanted:
        found["transformers, compiled"] = torch.compile(theirs)
    if "onnxruntime" in wanted or "openvino" in wanted:
        graph = folder / "vision.onnx"
        torch.onnx.export(
            theirs, (torch.randn(2, 3, SIDE, SIDE),), str(graph), input_names=["pixels"], output_names=["vectors"],
            dynamic_axes={"pixels": {0: "n"}, "vectors": {0: "n"}}, dynamo=False,
        )  # fmt: skip
        if "onnxruntime" in wanted:
            found["ONNX Runtime"] = onnx_runtime(graph, threads)
        if "openvino" in wanted:
            found["OpenVINO"] = open_vino(graph, threads)
    return found


class Vision(torch.nn.Module):
    """transformers' image tower with its projection."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.tower, self.project = whole.vision_model, whole.visual_projection

    def forward(self, pixels: Tensor) -> Tensor:
        vectors = self.project(self.tower(pixel_values=pixels).pooler_output)
        return vectors / vectors.norm(dim=-1, keepdim=True)


def ours(folder: Path) -> Side:
    _, network = open_network(Folder(folder))
    network.eval()
    tower, project = network.towers["image"], network.projections["image"]

    def run(pixels: Tensor) -> Tensor:
        seen = tower(pixels.movedim(1, -1), torch.full((len(pixels),), SIDE))
        return torch.nn.functional.normalize(project(seen.pooled), dim=-1)

    return run


def onnx_runtime(graph: Path, threads: int) -> Side:
    library = peer("onnxruntime")
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    session = library.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(None, {"pixels": pixels.numpy()})[0])


def open_vino(graph: Path, threads: int) -> Side:
    library = peer("openvino")
    core = library.Core()
    model = core.compile_model(
        str(graph),
        "CPU",
        {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"},
    )
    return lambda pixels: torch.from_numpy(model(pixels.numpy())[0].copy())


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        runs = sides(Path(folder), arguments.threads, arguments.peers)
        for batch in arguments.batches:
            pixels = torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
            expected = runs["transformers"](pixels)
            worst = {name: float((run(pixels) - expected).abs().max()) for name, run in runs.items()}
            assert max(worst.values()) < 1e-4, worst
            for run in runs.values():  # what compiles or chooses its kernels does so now
                run(pixels)
            seconds: dict[str, list[float]] = {name: [] for name in runs}
            for turn in range(arguments.times):
                for name in list(runs)[:: 1 if turn % 2 == 0 else -1]:
                    seconds[name].append(once(lambda name=name, pixels=pixels: runs[name](pixels)).wall)
            found[f"batch {batch}"] = {
                name: {
                    "seconds": figure(own),
                    "times as long as ours": figure(
                        [one / mine for one, mine in zip(own, seconds[OURS], strict=True)]
                    ),
                    "largest difference": worst[name],
                }
                for name, own in seconds.items()
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--times", type=int, default=15, help="measured runs of each side")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--peers", nargs="+", default=["compiled", "onnxruntime", "openvino"])
    parser.add_argument(
        "--quick", action="store_true", help="batch 1 against transformers; nothing is written"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.batches, arguments.peers, arguments.times = [1], [], 3
    limit_threads(arguments.threads)
    before = load()
    found = measure(arguments)
    rows = [
        (
            f"{batch}: {name}",
            one["seconds"]["value"],
            *(one["times as long as ours"][k] for k in ("value", "low", "high")),
        )
        for batch, sides_ in found.items()
        for name, one in sides_.items()
    ]
    table("image embeddings of CLIP ViT-B/16", ("", "seconds", "of ours", "low", "high"), rows)
    if not arguments.quick:
        print(save("embed", found, load_before=before))


if __name__ == "__main__":
    main()
