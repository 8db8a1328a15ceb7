"""Remote: a chat model that others run, with what a ``Model`` offers to users and to evaluation."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from ..core import CapabilityError, ConfigError, DataError, Modality, Sample, Segment, nearest
from ..generation.settings import Decoding
from ..modalities.chat.messages import TEXT, Message, read_messages
from .endpoint import Endpoint
from .errors import ServiceError
from .parts import Parts
from .patience import Patience
from .replies import Reply, read_models, read_reply, read_scores, read_stream
from .request import check_open, decoding_fields, question

OPENAI = "https://api.openai.com/v1"
_PROTOCOL = "openai"
_NO_SCORES = (400, 404, 405, 422, 501)  # of services that have no such address, or no such option


class Remote:
    """The model that the service at ``base_url`` calls ``model``, by the protocol of OpenAI, which most services and
    local servers (vLLM, llama.cpp, Ollama) speak.

    The key is read from the environment variable ``key_variable`` when it is sent, and kept nowhere. If none is named,
    OpenAI's own service gets the key in ``OPENAI_API_KEY`` and every other none.

    ``reads`` names the modalities that the model takes, of text, image, audio and video; a video goes out as
    ``frames`` pictures, no picture longer than ``side`` pixels. ``instruction`` asks where a sample has no question.
    ``parallel`` answers of ``complete`` are waited for at a time. ``extra`` are fields for every request for an answer;
    those that are None are left out of it. ``length_field`` is the name of the one with the greatest number of tokens,
    where the usual one is not taken. An answer has at most ``most_bytes``. ``plain_http`` allows http:// to other
    machines than this one.

    Every method raises ServiceError for a service that fails, DataError for a value that cannot be used, naming message
    and part, and CapabilityError for what this protocol or service has not.
    """

    #: Whether the model produces text, as ``Model.writes``.
    writes: ClassVar[bool] = True

    def __init__(
        self,
        *,
        model: str,
        base_url: str = OPENAI,
        key_variable: str | None = None,
        reads: Sequence[str] = (TEXT, "image"),
        instruction: str = "Describe this in one sentence.",
        frames: int = 8,
        side: int = 2048,
        parallel: int = 8,
        patience: Patience = Patience(),  # noqa: B008  it is immutable
        most_bytes: int = 1 << 24,
        plain_http: bool = False,
        extra: Mapping[str, Any] | None = None,
        length_field: str | None = None,
    ) -> None:
        if not model:
            raise ConfigError("Remote.model is empty: expected the name that the service has for it")
        if not 1 <= parallel <= 256:
            raise ConfigError(f"Remote.parallel must be from 1 to 256, found {parallel}")
        self._endpoint = Endpoint(
            base_url=base_url,
            key_variable=key_variable,
            patience=patience,
            most_bytes=most_bytes,
            plain_http=plain_http,
        )
        self.model, self.instruction, self.parallel = model, instruction, parallel
        self._parts = Parts(reads, frames, side)
        self._extra = dict(extra or {})
        self._length = length_field or ("max_completion_tokens" if self._endpoint.official else "max_tokens")

    def __repr__(self) -> str:
        return f"Remote({self.model!r} at {self._endpoint.host}, reads {', '.join(self.modalities)})"

    @property
    def modalities(self) -> Mapping[str, Modality]:
        """The modalities that can be sent."""
        return self._parts.modalities

    def models(self) -> list[str]:
        """The names of the models that the service offers."""
        return read_models(self._endpoint.get("/models"), self._endpoint.host)

    def generate(
        self,
        prompt: str | None = None,
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        **media: Any,
    ) -> str:
        """An answer to ``prompt`` about the media given; without a prompt, a caption."""
        segments = []
        for name, value in media.items():
            if name not in self.modalities:
                known = ", ".join(self.modalities)
                raise CapabilityError(f"{self.model} is not sent {name!r}; it reads {known}")
            values = value if isinstance(value, list) else [value]
            segments += [Segment(name, one, field=name) for one in values]
        if prompt is not None:
            segments.append(Segment(TEXT, prompt, role="user", turn=1, field="prompt"))
        if not segments:
            raise ConfigError("generate needs a prompt or something to describe")
        how = Decoding(
            max_new_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, stop=stop
        )
        return self._continue(Sample("prompt", tuple(segments)), how).checked(self._endpoint.host)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> str:
        """The answer to a conversation; ``messages`` are as in data: see ``read_messages``."""
        how = Decoding(
            max_new_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, stop=stop
        )
        return self._reply(read_messages(messages, self.modalities), how).checked(self._endpoint.host)

    def stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> Iterator[str]:
        """The same in pieces, as they come. What is wrong with the request is raised at once."""
        how = Decoding(
            max_new_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, stop=stop
        )
        body = self._request(read_messages(messages, self.modalities), how) | {"stream": True}
        return read_stream(self._endpoint.stream("/chat/completions", body), self._endpoint.host)

    def complete(
        self, samples: Sequence[Sample], *, max_new_tokens: int = 64, batch_size: int = 64
    ) -> list[str]:
        """The text that continues the non-target segments of each sample; the likeliest token each time.

        At most ``batch_size`` are asked for at a time. Where an answer is withheld or has not begun in time, there is
        what came; a warning counts these.
        """
        how = Decoding(max_new_tokens)
        pool = ThreadPoolExecutor(max(1, min(self.parallel, batch_size)))
        try:
            replies = list(pool.map(lambda sample: self._continue(sample, how), samples))
        finally:
            pool.shutdown(cancel_futures=True)  # after an error nothing more is asked
        problems = Counter(reply.problem for reply in replies if reply.problem)
        for problem, count in problems.items():
            warnings.warn(f"{self.model}: {count} of {len(replies)} answers: {problem}", stacklevel=2)
        return [reply.text for reply in replies]

    def score(self, sample: Sample, *, separator: str = "\n") -> Float[Tensor, "m"]:
        """Log-probability (nats) of each token of the targets, given everything before it.

        For services with completions that echo their prompt with log-probabilities: the texts one after the other with
        ``separator`` between, as they are; no roles are told. A token counts that has a part in a target. Raises
        CapabilityError for other services and for samples with media.
        """
        text, spans = "", []
        for place, segment in enumerate(sample.segments):
            if segment.modality != TEXT:
                raise CapabilityError(
                    f"sample {sample.key!r}: {segment.modality} cannot be scored: completions are text alone"
                )
            text += separator if place else ""
            words = self.modalities[TEXT].load_value(segment.value)
            if segment.target:
                spans.append((len(text), len(text) + len(words)))
            text += words
        if not spans:
            raise ConfigError(f"sample {sample.key!r} has no target segment to score")
        where = self._endpoint.host
        body = {"model": self.model, "prompt": text, "echo": True, "logprobs": 1, "max_tokens": 0}
        try:
            answer = self._endpoint.post("/completions", body | {"temperature": 0.0})
        except ServiceError as error:
            if error.status not in _NO_SCORES:
                raise
            raise CapabilityError(f"no log-probabilities of given texts: {error}") from None
        return torch.tensor(read_scores(answer, text, spans, where))

    def embed(self, **values: Any) -> NoReturn:
        """No chat service gives embeddings: CapabilityError."""
        raise CapabilityError(f"{self.model} is behind a chat service, which gives no embeddings")

    def classify(self, *arguments: Any, **values: Any) -> NoReturn:
        """CapabilityError, as it takes embeddings."""
        self.embed()

    def reconstruct(self, **values: Any) -> NoReturn:
        """CapabilityError."""
        raise CapabilityError(f"{self.model} is behind a chat service, which restores nothing")

    def _continue(self, sample: Sample, how: Decoding) -> Reply:
        try:
            return self._reply(question(sample, self.modalities, self.instruction), how)
        except DataError as error:
            raise error.at(key=sample.key, file=sample.file or None, line=sample.line) from None

    def _reply(self, messages: Sequence[Message], how: Decoding) -> Reply:
        answer = self._endpoint.post("/chat/completions", self._request(messages, how))
        return read_reply(answer, self._endpoint.host)

    def _request(self, messages: Sequence[Message], how: Decoding) -> dict[str, Any]:
        check_open(messages)
        body = {"model": self.model, "messages": self._parts.messages(messages)}
        body |= decoding_fields(how, self._length) | self._extra
        return {name: value for name, value in body.items() if value is not None}


def is_remote(typed: str) -> bool:
    """Whether a name typed by a user is that of a model behind a service: ``openai:gpt-4o``."""
    return typed.startswith(f"{_PROTOCOL}:")


def remote(
    typed: str, *, base_url: str | None = None, key_variable: str | None = None, **more: Any
) -> Remote:
    """The ``Remote`` of a name such as ``openai:gpt-4o``: the protocol, and what the service calls the model.

    ``more`` are settings of ``Remote``. Raises ConfigError for another protocol.
    """
    protocol, _, model = typed.partition(":")
    if protocol != _PROTOCOL or not model:
        raise ConfigError(f"{typed!r}: expected {_PROTOCOL}:MODEL{nearest(protocol, [_PROTOCOL])}")
    return Remote(model=model, base_url=base_url or OPENAI, key_variable=key_variable, **more)
