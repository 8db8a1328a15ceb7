"""Model: what a user holds. A network with its preprocessing, loaded from a run or a saved directory."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .core import (
    CapabilityError,
    CheckpointError,
    ConfigError,
    Modality,
    Sample,
    Segment,
    Spec,
    Stream,
    nearest,
)
from .core.batch import Batch
from .core.device import find_device
from .core.outputs import Reconstruction, products
from .core.state import saved_tensors
from .core.system import System
from .data.collate import collate
from .data.item import prepare
from .data.lengthwise import lengthwise
from .generation.ctc import best_path
from .generation.settings import Decoding
from .nn.architectures.multimodal_lm import MultimodalLM
from .nn.architectures.network import Network
from .nn.architectures.quantised import Quantised
from .nn.architectures.queried_retrieval import QueriedRetrieval
from .nn.architectures.single import Single
from .nn.architectures.transcriber import Transcriber
from .nn.architectures.unified import Unified
from .nn.layers.quantised import quantise
from .nn.skeleton import Skeleton
from .public import is_public, open_public, save_public
from .training.checkpoint import Checkpoints, check_names, read
from .weights.family import TRANSFORMERS
from .weights.hub import locate

if TYPE_CHECKING:
    from .session import Session
    from .speaking import Speaker

#: Version of the layout of ``spec.json``; a newer one is refused.
FORMAT = 1
_OWN = "sensorium"  # the layout of this package
_SORTED = 16  # batches within which values are sorted by length, so that little is padded


def load(path: str | Path, *, code: Collection[str | Path] = (), device: str | torch.device = "cpu") -> Model:
    """A model from a run directory (its newest good checkpoint, averaged weights), from ``save_pretrained``, or from a
    public checkpoint: a directory or a hub id.

    ``code`` names the user's own Python files or modules that the saved Spec refers to. Raises ConfigError for a
    directory that holds no model, CheckpointError for damaged or unfitting weights, CapabilityError for a public
    architecture that no recipe reads. What a user should know of a public checkpoint (a licence that forbids
    commercial use, say) is said by a warning.
    """
    place = find_device(device)
    directory = place_of(path)
    if is_public(directory):
        opened = open_public(directory)
        for notice in opened.notices:
            warnings.warn(f"{path}: {notice}", stacklevel=2)
        return Model(opened.network.to(place).eval(), opened.modalities, opened.spec)
    spec = read_spec(directory, code)
    system: System = spec.build()
    modalities = build_modalities(system, directory / "modalities")
    with Skeleton():
        network: Network = system.model.build()
    weights, where = _weights(directory)
    check_names(saved_tensors(network), weights, where)
    network.load_state_dict(network.state_dict() | weights)  # a tensor of several names is saved under one
    return Model(network.to(place).eval(), modalities, spec)


def place_of(path: str | Path) -> Path:
    """The directory of a model: a local one, or a hub id where no local folder can be meant."""
    local = Path(path)
    return local if local.is_dir() or local.parent.is_dir() else locate(path)


def import_code(code: Collection[str | Path]) -> set[str]:
    """Import the user's files (``my_file.py``) or modules (``pkg.my_file``); returns their module names."""
    names = set()
    for given in map(str, code):
        if not given.endswith(".py"):
            try:
                importlib.import_module(given)
            except ModuleNotFoundError as error:
                raise ConfigError(f"there is no module {given!r}: {error}") from None
            names.add(given)
            continue
        file = Path(given)
        if not file.is_file():
            raise ConfigError(f"there is no file {given}")
        name = file.stem
        loaded = sys.modules.get(name)
        if loaded is None or getattr(loaded, "__file__", None) != str(file.resolve()):
            if loaded is not None:
                raise ConfigError(f"{given}: a module named {name!r} is loaded already: rename the file")
            found = importlib.util.spec_from_file_location(name, file.resolve())
            if found is None or found.loader is None:
                raise ConfigError(f"{given}: not a Python file")
            module = importlib.util.module_from_spec(found)
            sys.modules[name] = module
            sys.path.insert(0, str(file.resolve().parent))  # as for a script: it may import its neighbours
            try:
                found.loader.exec_module(module)
            except (SyntaxError, ImportError) as error:
                del sys.modules[name]
                raise ConfigError(f"{given}: cannot be imported: {error}") from None
        names.add(name)
    return names


def write_spec(directory: Path, spec: Spec) -> None:
    """Save a System's Spec where ``load`` finds it."""
    directory.mkdir(parents=True, exist_ok=True)
    record = {"format": FORMAT, "spec": spec.to_json()}
    temporary = directory / ".spec.json.tmp"
    temporary.write_text(json.dumps(record, indent=1))
    temporary.replace(directory / "spec.json")


def read_spec(directory: Path, code: Collection[str | Path] = ()) -> Spec:
    """The System's Spec of a run; the file may only name this package's classes and those of ``code``."""
    file = directory / "spec.json"
    try:
        record = json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        siblings = (
            [p.parent.name for p in directory.parent.glob("*/spec.json")] if directory.parent.is_dir() else []
        )
        hint = nearest(directory.name, siblings)
        raise ConfigError(f"{directory} holds no model: there is no spec.json in it{hint}") from None
    except ValueError:
        raise CheckpointError(f"{file}: not a JSON object: the file is damaged") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise CheckpointError(
            f"{file}: format {record.get('format') if isinstance(record, dict) else None!r}, expected {FORMAT}"
        )
    spec = Spec.from_json(record["spec"], modules=import_code(code), where=str(file))
    if spec.cls is not System:
        raise ConfigError(f"{file}: describes a {spec.cls.__qualname__}, expected a System")
    return spec


def build_modalities(system: System, directory: Path | None) -> dict[str, Modality]:
    """The modalities of a System, with what they learnt from data if ``directory`` is given."""
    modalities = {name: spec.build() for name, spec in system.modalities.items()}
    if directory is not None:
        for modality in modalities.values():
            modality.load(directory)
    return modalities


def _weights(directory: Path) -> tuple[dict[str, Tensor], str]:
    saved = directory / "model.safetensors"
    if saved.is_file():
        from safetensors.torch import load_file

        return load_file(saved), str(saved)
    newest, damaged = Checkpoints(directory / "checkpoints").newest()
    if newest is None:
        raise CheckpointError(
            damaged[0] if damaged else f"{directory} holds no weights yet: training has not saved"
        )
    tensors = read(newest, ("average", "weights")).tensors
    return dict(tensors.get("average", tensors["weights"])), str(newest)


class Model:
    """A network with its preprocessing: the same for training, evaluation and use.

    Values are whatever the modality reads: a path, bytes, an array, a PIL image, or text. Every method
    raises DataError for a value that cannot be used and CapabilityError for a modality the model lacks.
    """

    def __init__(self, network: Network, modalities: Mapping[str, Modality], spec: Spec) -> None:
        self.network, self.modalities, self.spec = network, modalities, spec

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @torch.no_grad()
    def embed(self, *, batch_size: int = 64, **values: Any) -> Float[Tensor, "n *q d"]:
        """Unit-length embeddings of values of one modality: ``embed(image=[...])``. One value makes one row; of BLIP-2,
        a picture makes one for each query, of which the nearest counts.
        """
        return self._rows(self.network.embed, values, batch_size)

    @torch.no_grad()
    def features(self, *, batch_size: int = 64, **values: Any) -> list[Float[Tensor, "t d"]]:
        """Token features of each value after the blocks that read it alone, before pooling."""
        found = [
            one
            for places, name, stream in self._streams(values, batch_size)
            for one in zip(places, self.network.read(name, stream).segments(), strict=True)
        ]
        return [features for _, features in sorted(found, key=lambda one: one[0])]

    @torch.no_grad()
    def classify(
        self,
        labels: Sequence[str] | None = None,
        templates: str | Sequence[str] = ("{}",),
        *,
        batch_size: int = 64,
        **values: Any,
    ) -> Float[Tensor, "n labels"]:
        """Zero-shot probabilities of ``labels``; several templates make a prompt ensemble (arXiv:2103.00020).

        A template holds one ``{}`` for the label. A class is the mean of its templates' embeddings. A model trained
        with the sigmoid loss gives each label a probability of its own; of others they sum to 1. Without labels,
        the probabilities of the classes that the network itself was trained on (``network.labels``).
        """
        if labels is None:
            return self._own_classes(values, batch_size)
        if not labels:
            raise ConfigError("classify needs at least one label")
        language, scale = self.network.language, self.network.scale
        if language is None or scale is None:
            raise CapabilityError(
                "this model compares with no texts: it can only name the classes of its own, if any"
            )
        templates = [templates] if isinstance(templates, str) else list(templates)
        for template in templates:
            if template.count("{}") != 1:
                raise ConfigError(f"the template {template!r} must hold one {{}} for the label")
        texts = [template.replace("{}", label) for label in labels for template in templates]
        words = self.embed(batch_size=batch_size, **{language: texts})
        classes = F.normalize(words.unflatten(0, (len(labels), len(templates))).mean(1), dim=-1)
        similarity = products(self.embed(batch_size=batch_size, **values), classes)
        if self.network.bias is not None:
            return (scale * similarity + self.network.bias).sigmoid()
        return (scale * similarity).softmax(1)

    @torch.no_grad()
    def match(self, *, batch_size: int = 64, **values: Any) -> Float[Tensor, "n"]:
        """How probably a text fits what is beside it, as a network says that reads both at once:
        ``match(image=[...], text=[...])``.

        Raises CapabilityError for a network that does not.
        """
        network = self.network
        if not isinstance(network, QueriedRetrieval):
            raise CapabilityError("this model does not match pairs: it compares embeddings, if any")
        names = [*network.towers, network.language]
        if sorted(values) != sorted(names):
            raise ConfigError(f"match needs {' and '.join(names)}, found {sorted(values) or 'nothing'}")
        first, second = (_listed(values[name]) for name in names)
        if not first or len(first) != len(second):
            raise ConfigError(
                f"match needs pairs, found {len(first)} {names[0]} and {len(second)} {names[1]}"
            )
        pairs = list(zip(first, second, strict=True))
        found = []
        for start in range(0, len(pairs), batch_size):
            samples = [
                Sample(f"pair[{place}]", tuple(map(Segment, names, pair)))
                for place, pair in enumerate(pairs[start : start + batch_size], start)
            ]
            batch = collate([prepare(one, self.modalities) for one in samples], self.modalities)
            streams = batch.to(self.device).streams
            logits = network.match(names[0], *(streams[name] for name in names))
            found.append(logits.softmax(1)[:, 1])
        return torch.cat(found)

    @torch.no_grad()
    def reconstruct(self, *, seed: int = 0, batch_size: int = 64, **values: Any) -> list[Reconstruction]:
        """Values of one modality with a part hidden, drawn from ``seed``, and what the network restores of it.

        Raises CapabilityError for a network that restores nothing of that modality.
        """
        found: dict[int, Reconstruction] = {}
        for places, name, batch in self._batches(values, batch_size, seed):
            undo, stream = self.modalities[name].undo, batch.streams[name]
            made = self.network.restore(name, batch)
            grey = 127 if made.values.dtype == torch.uint8 else 0.0
            covered = made.values.masked_fill(made.hidden[..., None], grey)
            for row, (place, share) in enumerate(zip(places, made.explained().tolist(), strict=True)):
                length = int(stream.lengths[row])
                whole, hidden, restored = (
                    undo(part[row, :length].cpu()) for part in (made.values, covered, made.restored)
                )
                explained = None if made.borrowed else share
                found[place] = Reconstruction(whole, hidden, restored, explained)
        return [found[place] for place in range(len(found))]

    @torch.no_grad()
    def score(self, sample: Sample) -> Float[Tensor, "m"]:
        """Log-probability (nats) of each target token of the sample given everything before it."""
        batch = collate([prepare(sample, self.modalities)], self.modalities).to(self.device)
        found = self._speaker().network(batch).language
        if not len(found.target):
            raise ConfigError(f"sample {sample.key!r} has no target segment to score")
        return found.logits.float().log_softmax(1).gather(1, found.target[:, None])[:, 0]

    def generate(self, prompt: str | None = None, **settings_and_media: Any) -> str:
        """An answer to ``prompt`` about the media given, such as ``image=...``; without a prompt, a caption.

        Settings are those of ``sensorium.Decoding``: ``max_new_tokens=64``, ``temperature=0.0`` and others.
        """
        how, media = _settings(settings_and_media)
        speaker = self._speaker()
        segments = []
        for name, value in media.items():
            self._require(name)
            segments += [Segment(name, one, field=name) for one in _listed(value)]
        if prompt is not None:
            segments.append(Segment(speaker.network.language, prompt, role="user", turn=1, field="prompt"))
        if not segments:
            raise ConfigError("generate needs a prompt or something to describe")
        return speaker.complete([Sample("prompt", tuple(segments))], how)[0]

    def chat(self, messages: Any, *, session: Session | None = None, **settings: Any) -> str:
        """The answer that follows ``messages``: dicts of ``role`` and ``content``, which is text or a list of parts
        such as ``{"type": "text", "text": ...}`` and ``{"type": "image", "image": ...}``.

        Settings are those of ``sensorium.Decoding``. With a ``session``, what earlier calls with it have read is not
        read again. Raises DataError naming the message and the part that cannot be used, CapabilityError for a model
        that holds no conversations.
        """
        return "".join(self.stream(messages, session=session, **settings))

    def stream(self, messages: Any, *, session: Session | None = None, **settings: Any) -> Iterator[str]:
        """What ``chat`` answers, as it is written."""
        how, rest = _settings(settings)
        if rest:
            known = [field.name for field in fields(Decoding)]
            name = next(iter(rest))
            raise ConfigError(f"there is no setting {name!r}{nearest(name, known)}")
        if how.n > 1:
            raise ConfigError(f"a conversation has one answer: n must be 1, found {how.n}")
        return (piece.text for piece in self._speaker().answer(messages, how, session))

    def complete(
        self, samples: Sequence[Sample], *, max_new_tokens: int = 64, batch_size: int = 64
    ) -> list[str]:
        """The text that continues the non-target segments of each sample; the likeliest token each time."""
        contexts = [
            replace(s, segments=tuple(part for part in s.segments if not part.target)) for s in samples
        ]
        speaker, how = self._speaker(), Decoding(max_new_tokens)
        return [
            text
            for start in range(0, len(contexts), batch_size)
            for text in speaker.complete(contexts[start : start + batch_size], how)
        ]

    @torch.no_grad()
    def transcribe(self, audio: Any, *, batch_samples: int = 4_000_000) -> list[str]:
        """What is said in recordings, one text for each: the likeliest token of each frame (greedy CTC).

        Recordings of similar length are read together, up to ``batch_samples`` padded samples at once. Raises
        CapabilityError for a model that does not transcribe.
        """
        network = self.network
        if not isinstance(network, Transcriber):
            raise CapabilityError("this model does not transcribe: it has no head for CTC")
        name, words = network.name, cast(Any, self.modalities[network.transcripts])
        items = (
            (place, prepare(Sample(f"{name}[{place}]", (Segment(name, one),)), self.modalities))
            for place, one in enumerate(_listed(audio))
        )
        texts: dict[int, str] = {}
        for group in lengthwise(items, lambda item: len(item[1].pieces[0].values), batch_samples):
            batch = collate([item for _, item in group], self.modalities)
            paths = best_path(*network.logits(batch.streams[name].to(self.device)))
            texts |= {place: words.decode_ctc(path) for (place, _), path in zip(group, paths, strict=True)}
        return [texts[place] for place in range(len(texts))]

    def save_pretrained(self, directory: str | Path, layout: str | None = None) -> None:
        """Write the model for ``load``, in a ``layout``: ``transformers``, which others open and which is the default
        where the model's family has it; ``open_clip`` likewise; or ``sensorium``: ``spec.json``, ``model.safetensors``
        and what the modalities learnt.

        Raises CapabilityError for a layout that the family has not, CheckpointError for a file that cannot be written.
        """
        from safetensors.torch import save_file

        directory = Path(directory)
        layout = layout or (TRANSFORMERS if self.spec.family else _OWN)
        if layout != _OWN:
            save_public(directory, self.spec, self.network, self.modalities, layout)
            return
        write_spec(directory, self.spec)
        save_modalities(self.modalities, directory / "modalities")
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in saved_tensors(self.network).items()},
            directory / "model.safetensors",
        )

    def quantise(self, keep: Sequence[str] | None = None) -> Model:
        """A copy whose weights are held in 8 bits, to be used and saved in our own layout but not trained: writing is
        faster, a little is lost (see ``nn.architectures.quantised``). ``keep`` are patterns of parts that stay as they
        are; by default what reads media.
        """
        spec = self.spec.replace(
            model=Spec(Quantised, network=self.spec.model, keep=keep), family=None, public=None
        )
        return Model(quantise(self.network, keep=keep), self.modalities, spec)

    @property
    def writes(self) -> bool:
        """Whether the model produces text: captions and answers."""
        return isinstance(self.network, Unified | MultimodalLM)

    def _speaker(self) -> Speaker:
        from .speaking import Speaker

        return Speaker.of(self.network, self.modalities, self.device)

    def _own_classes(self, values: Mapping[str, Any], batch_size: int) -> Float[Tensor, "n classes"]:
        network = self.network
        if not isinstance(network, Single):
            raise CapabilityError("this network has no classes of its own: give labels")
        return self._rows(network.classify, values, batch_size).softmax(1)

    def _rows(
        self, use: Callable[[str, Stream], Tensor], values: Mapping[str, Any], batch_size: int
    ) -> Float[Tensor, "n d"]:
        """One row per value, in the order given."""
        found = [(places, use(name, stream)) for places, name, stream in self._streams(values, batch_size)]
        order = torch.tensor([place for places, _ in found for place in places], device=self.device)
        return torch.cat([rows for _, rows in found])[order.argsort()]

    def _require(self, name: str) -> None:
        if name not in self.modalities:
            raise CapabilityError(f"this model does not know {name!r}; it knows {', '.join(self.modalities)}")

    def _streams(self, values: Mapping[str, Any], batch_size: int) -> Iterator[tuple[list[int], str, Stream]]:
        """Values of similar length together, with their places among those given."""
        for places, name, batch in self._batches(values, batch_size):
            yield places, name, batch.streams[name]

    def _batches(
        self, values: Mapping[str, Any], batch_size: int, seed: int = 0
    ) -> Iterator[tuple[list[int], str, Batch]]:
        """The same as whole batches, with a seed for what a network may draw."""
        if len(values) != 1:
            raise ConfigError(
                f"give the values of one modality, such as image=[...]; found {sorted(values) or 'none'}"
            )
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, found {batch_size}")
        name, value = next(iter(values.items()))
        self._require(name)
        given = _listed(value)
        if not given:
            raise ConfigError(f"{name}=[] holds nothing")
        for start in range(0, len(given), _SORTED * batch_size):
            items = {
                place: prepare(
                    Sample(f"{name}[{place}]", (Segment(name, given[place]),)),
                    self.modalities,
                    seed=seed,
                    apart=True,
                )
                for place in range(start, min(start + _SORTED * batch_size, len(given)))
            }
            places = sorted(items, key=lambda place: len(items[place].pieces[0].values))
            for first in range(0, len(places), batch_size):
                chosen = places[first : first + batch_size]
                batch = collate([items[place] for place in chosen], self.modalities)
                yield chosen, name, batch.to(self.device)


def save_modalities(modalities: Mapping[str, Modality], directory: Path) -> None:
    """Write what the modalities learnt from data."""
    directory.mkdir(parents=True, exist_ok=True)
    for modality in modalities.values():
        modality.save(directory)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _settings(given: Mapping[str, Any]) -> tuple[Decoding, dict[str, Any]]:
    """Those of decoding, and the rest."""
    known = {field.name for field in fields(Decoding)}
    chosen = {name: value for name, value in given.items() if name in known}
    return Decoding(**chosen), {name: value for name, value in given.items() if name not in known}
