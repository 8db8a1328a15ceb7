"""A remote model as users and evaluation see it."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from providers.service import KEY, QUICK, Act, Service, chunk, fails, replies, says, streams

from sensorium.core import CapabilityError, ConfigError, DataError, Sample, Segment
from sensorium.evaluation import Answer, Caption, Classify, Retrieval, evaluate
from sensorium.providers import Remote, ServiceError, is_remote, remote

USER = [{"role": "user", "content": "hi"}]
GREEN, RED = (np.full((4, 4, 3), colour, np.uint8) for colour in ((0, 255, 0), (255, 0, 0)))


def test_a_question_about_pictures(service: Service):
    assert service.remote().generate("What is it?", image=[GREEN, RED]) == "hello"
    ((path, headers, body),) = service.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    (message,) = body.pop("messages")
    assert body == {"model": "m", "max_tokens": 64, "temperature": 0.0}
    assert message["role"] == "user"
    assert [part["type"] for part in message["content"]] == ["image_url", "image_url", "text"]
    assert message["content"][2]["text"] == "What is it?"


def test_without_a_question_it_describes(service: Service):
    model = service.remote(instruction="Say what you see.")
    assert model.generate(image=GREEN) == "hello"
    assert service.bodies[0]["messages"][0]["content"][1]["text"] == "Say what you see."
    assert model.generate("Who are you?") == "hello"
    assert service.bodies[1]["messages"] == [{"role": "user", "content": "Who are you?"}]
    with pytest.raises(ConfigError, match="needs a prompt or something"):
        model.generate()


def test_a_conversation(service: Service):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image", "image": RED}]},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    service.remote().chat(
        messages, max_new_tokens=7, temperature=0.5, top_p=0.9, top_k=3, seed=4, stop=["x", "y"]
    )
    (body,) = service.bodies
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][3]["content"] == "c"
    del body["messages"]
    assert body == {
        "model": "m", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 4, "stop": ["x", "y"],
    }  # fmt: skip


def test_fields_that_a_service_wants(service: Service):
    extra = {"reasoning_effort": "low", "temperature": None}
    service.remote(extra=extra, length_field="max_completion_tokens").chat(USER, max_new_tokens=9)
    (body,) = service.bodies
    del body["messages"]
    assert body == {"model": "m", "max_completion_tokens": 9, "reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be from 1"),
        ({"max_new_tokens": 10**12}, "max_new_tokens must be from 1"),
        ({"temperature": float("nan")}, "temperature must be a number from 0"),
        ({"top_p": 1.1}, "top_p must be a number from 0 to 1"),
        ({"top_k": -1}, "top_k must be from 0"),
        ({"stop": ["a", ""]}, "stop.1. must be a string"),
    ],
)
def test_settings_are_checked_before_anything_is_sent(service: Service, how: dict[str, Any], reason: str):
    for use in (service.remote().chat, service.remote().stream):
        with pytest.raises(ConfigError, match=reason):
            use(USER, **how)
    assert service.requests == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model": ""}, "model is empty"),
        ({"parallel": 0}, "parallel must be from 1 to 256"),
        ({"reads": ("smell",)}, "'smell' cannot be sent"),
    ],
)
def test_constructor_mistakes(service: Service, settings: dict[str, Any], reason: str):
    with pytest.raises(ConfigError, match=reason):
        service.remote(**settings)


def test_media_that_the_model_does_not_read(service: Service):
    with pytest.raises(CapabilityError, match="m is not sent 'audio'; it reads text, image"):
        service.remote().generate("what?", audio="a.wav")
    with pytest.raises(DataError, match=r"field 'messages\[0\]\.content\[1\]': not a readable picture"):
        service.remote().generate("what?", image=[RED, b"nothing"])
    with pytest.raises(DataError, match=r"field 'messages\[0\]\.content\[0\]': file not found"):
        service.remote().chat([{"role": "user", "content": [{"type": "image", "image": "gone.png"}]}])
    assert service.requests == []


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "field 'messages': the conversation is empty"),
        ([{"role": "usr", "content": "x"}], r"field 'messages\[0\]\.role': unknown role 'usr'"),
        (
            [*USER, {"role": "assistant", "content": "x"}],
            r"field 'messages\[1\]': .* found one of the assistant",
        ),
        (
            [{"role": "user", "content": [{"type": "audio", "audio": "a.wav"}]}],
            r"field 'messages\[0\]\.content\[0\]\.type': expected a type that the model knows, found 'audio'",
        ),
    ],
)
def test_conversations_that_cannot_be(service: Service, messages: Any, reason: str):
    for use in (service.remote().chat, service.remote().stream):
        with pytest.raises(DataError, match=reason):
            use(messages)
    assert service.requests == []


def test_streaming(service: Service):
    service.play(
        streams(
            ": hello\r\n\r\n",
            'data: {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": null}]}\r\n\r\n',
            chunk("Ein "),
            "event: message\nid: 3\n" + chunk("grüner "),
            chunk("Stern"),
            chunk(None, "stop"),
            'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n',
            "data: [DONE]\n\n",
        )
    )
    assert list(service.remote().stream(USER)) == ["Ein ", "grüner ", "Stern"]
    assert service.bodies[0]["stream"] is True
    service.play(
        streams('data: {"choices":\ndata: [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n')
    )
    assert list(service.remote().stream(USER)) == ["a"]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([chunk("a")], "the stream ended before the answer did"),
        ([chunk("a"), "data: [DONE]\n\n"], "ended before the answer did"),
        ([chunk("a"), chunk(None, "stop")[:-3]], "ended before the answer did"),
        ([chunk("a"), chunk(None, "content_filter")], "withheld the answer"),
        ([chunk(None, "length")], "used up before the first word"),
        ([chunk("a"), 'data: {"error": {"message": "no memory"}}\n\n'], "broke the stream off: no memory"),
        ([chunk("a"), "data: {oops\n\n"], "what is not JSON"),
        ([chunk("a"), b"data: \xff\n\n"], "what is not JSON"),
        ([chunk("a"), "data: 3\n\n"], "choices: expected list, found int"),
        ([chunk("a"), 'data: {"choices": [3]}\n\n'], "choices: expected an object in it"),
        ([chunk("a"), 'data: {"choices": [{}]}\n\n'], r"choices\[0\]\.delta: expected dict, found NoneType"),
        (
            [chunk("a"), 'data: {"choices": [{"delta": {"content": 3}}]}\n\n'],
            r"delta\.content: expected .*str",
        ),
        ([chunk("a"), "data: " + "x" * (1 << 21) + "\n\n"], "too long a line"),
    ],
)
def test_streams_that_break(service: Service, lines: list[str | bytes], reason: str):
    service.play(streams(*lines))
    found = []
    with pytest.raises(ServiceError, match=reason):
        found.extend(service.remote().stream(USER))
    assert len(service.requests) == 1


def test_an_answer_that_was_cut_off_is_an_answer(service: Service):
    service.play(says("a long", "length"))
    assert service.remote().chat(USER) == "a long"
    service.play(streams(chunk("a long"), chunk(None, "length")))
    assert list(service.remote().stream(USER)) == ["a long"]


def test_a_refusal_is_an_answer(service: Service):
    service.play(says(None, refusal="I cannot."))
    assert service.remote().chat(USER) == "I cannot."


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (says("partly", "content_filter"), "withheld the answer"),
        (says(None, "content_filter"), "withheld the answer"),
        (says("", "length"), "max_new_tokens was used up before the first word"),
        (says(None, "tool_calls"), "has no text .finish_reason 'tool_calls'"),
        (replies([]), "choices: expected list, found list in its answer"),
        (replies({}), "choices: expected list, found NoneType"),
        (replies({"choices": []}), "choices: expected an object in it, found"),
        (replies({"choices": [{}]}), r"choices\[0\]\.message: expected dict, found NoneType"),
        (replies({"choices": [{"message": {"content": ["a"]}}]}), r"message\.content: expected str | None"),
        (
            replies({"choices": [{"message": {"content": "a"}, "finish_reason": 3}]}),
            r"finish_reason: expected str",
        ),
    ],
)
def test_answers_that_are_none(service: Service, act: Act, reason: str):
    service.play(act)
    with pytest.raises(ServiceError, match=reason):
        service.remote().chat(USER)


def question(i: int, *more: Segment) -> Sample:
    return Sample(
        f"s{i}", (*more, Segment("text", f"question {i}", role="user", turn=1)), file="a.jsonl", line=i
    )


def echo(handler: Any) -> None:
    """Answers with the question, later ones sooner."""
    asked = handler.body["messages"][-1]["content"]
    time.sleep(0.02 * (9 - int(asked[-1])))
    says(f"answer to {asked}")(handler)


def test_completions_keep_their_order_and_a_limit(service: Service):
    together, most, lock = 0, 0, threading.Lock()

    def counted(handler: Any) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.05)  # for others to come meanwhile
        with lock:
            together -= 1  # before the answer, after which the next may be asked
        echo(handler)

    service.play(counted)
    samples = [question(i) for i in range(8)]
    found = service.remote(parallel=3).complete(samples, max_new_tokens=5)
    assert found == [f"answer to question {i}" for i in range(8)]
    assert most == 3
    assert {body["max_tokens"] for body in service.bodies} == {5}
    most = 0
    service.remote(parallel=3).complete(samples, batch_size=1)
    assert most == 1
    assert service.remote().complete([]) == []


def test_completing_stops_at_the_first_error(service: Service):
    def broken(handler: Any) -> None:
        (fails(400, "no such picture") if "2" in handler.body["messages"][-1]["content"] else echo)(handler)

    service.play(broken)
    with pytest.raises(ServiceError, match="no such picture"):
        service.remote(parallel=1).complete([question(i) for i in range(9)])
    assert 3 <= len(service.requests) < 6  # what was under way when it came
    with pytest.raises(
        DataError, match=r"a\.jsonl:1, key 's1', field 'messages\[0\]\.content\[0\]': file not found"
    ):
        service.remote().complete([question(1, Segment("image", "gone.png"))])


def test_withheld_answers_are_counted(service: Service):
    service.play(says("par", "content_filter"), says("fine"), says("", "length"))
    with pytest.warns(UserWarning, match="1 of 3 answers") as caught:
        found = service.remote(parallel=1).complete([question(i) for i in range(3)])
    assert found == ["par", "fine", ""]
    said = " ".join(str(one.message) for one in caught)
    assert "m: 1 of 3 answers: the service withheld" in said
    assert "m: 1 of 3 answers: max_new_tokens was used up" in said


def colour(handler: Any) -> None:
    """Looks at the picture and says its colour, or describes it."""
    import base64
    import io

    from PIL import Image

    *_, last = handler.body["messages"]
    picture, text = last["content"]
    content = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
    red, green, _ = Image.open(io.BytesIO(content)).getpixel((0, 0))
    word = "red" if red > green else "green"
    says(word if "colour" in text["text"] else f"a {word} square")(handler)


class Listed(list):
    problems = ()


def test_evaluation_treats_it_alike(service: Service):
    samples = Listed(
        Sample(
            f"s{i}",
            (
                Segment("image", RED if i % 2 else GREEN),
                Segment("text", "a red square" if i % 2 else "a green square", target=True, turn=2),
                Segment("text", "what colour?", role="user", turn=1),
                Segment("text", "red", role="assistant", target=True, turn=1),
            ),
            labels={"label": "red"},
        )
        for i in range(4)
    )
    service.play(colour)
    model = service.remote()
    assert model.writes
    found = evaluate(model, samples, tasks=[Answer(), Caption(), Retrieval(), Classify()])
    assert found.figures["answer"]["accuracy"].value == 0.5
    assert found.figures["caption"]["image exact match"].value == 1
    assert set(found.skipped) == {"retrieval", "classify"}
    assert "gives no embeddings" in found.skipped["retrieval"]
    assert found.media["s0"]["image"].startswith("<img")
    with pytest.raises(CapabilityError, match="restores nothing"):
        model.reconstruct(image=[RED])


PROBABILITIES = {"What": None, " co": -1.0, "lour": -2.0, "?\n": -0.5, "re": -0.25, "d": -4.0}


def scored(tokens: dict[str, Any], text: str | None = None) -> Act:
    logprobs = {
        "tokens": list(tokens),
        "token_logprobs": list(tokens.values()),
        "text_offset": [0] * len(tokens),
    }
    return replies(
        {"choices": [{"text": text or "".join(tokens), "logprobs": logprobs, "finish_reason": "length"}]}
    )


ASKED = Sample(
    "s", (Segment("text", "What colour?", role="user"), Segment("text", "red", role="assistant", target=True))
)


def test_scores(service: Service):
    service.play(scored(PROBABILITIES))
    found = service.remote().score(ASKED)
    torch.testing.assert_close(found, torch.tensor([-0.25, -4.0]))
    assert service.requests[0][0] == "/v1/completions"
    assert service.bodies[0] == {
        "model": "m", "prompt": "What colour?\nred", "echo": True, "logprobs": 1, "max_tokens": 0, "temperature": 0.0,
    }  # fmt: skip


def test_scores_among_other_tokens(service: Service):
    """A token of the beginning, one that straddles the target's, and one too many at the end."""
    tokens = {"<s>": None, "What": -1, " colour": -2, "?": -3, "\nr": -4, "ed": -5, "!": -6}
    service.play(scored(tokens))
    torch.testing.assert_close(service.remote().score(ASKED), torch.tensor([-4.0, -5.0]))
    service.play(scored({"What": None, " colour?": -2, " r": -4, "ed": -5}))
    torch.testing.assert_close(service.remote().score(ASKED, separator=" "), torch.tensor([-4.0, -5.0]))


@pytest.mark.parametrize(
    ("act", "kind", "reason"),
    [
        (
            fails(404, "no such address"),
            CapabilityError,
            "no log-probabilities of given texts: .*no such address",
        ),
        (fails(400, "echo is not supported"), CapabilityError, "echo is not supported"),
        (fails(401, "who?"), ServiceError, "who?"),
        (
            replies({"choices": [{"text": "x", "logprobs": None}]}),
            CapabilityError,
            "gives no log-probabilities",
        ),
        (scored({"Some": -1, "thing": -2}), CapabilityError, "do not spell what was sent"),
        (scored({"What colour?\nred": None}), CapabilityError, "no log-probability of a first token"),
        (
            scored({"What colour?\n": None, "red": float("nan")}),
            ServiceError,
            "expected log-probabilities, found nan",
        ),
        (scored({"What colour?\n": None, "red": 0.5}), ServiceError, "expected log-probabilities, found 0.5"),
        (scored({"What colour?\n": None, "red": "x"}), ServiceError, "expected log-probabilities, found 'x'"),
        (
            replies({"choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": []}}]}),
            ServiceError,
            "expected 0",
        ),
        (
            replies({"choices": [{"logprobs": {"tokens": [1], "token_logprobs": [1]}}]}),
            ServiceError,
            "expected 1",
        ),
        (replies({"choices": [{"logprobs": {"tokens": None}}]}), ServiceError, "tokens: expected list"),
    ],
)
def test_services_that_give_no_scores(service: Service, act: Act, kind: type[Exception], reason: str):
    service.play(act)
    with pytest.raises(kind, match=reason):
        service.remote().score(ASKED)


def test_samples_that_cannot_be_scored(service: Service):
    with pytest.raises(CapabilityError, match="sample 's': image cannot be scored"):
        service.remote().score(Sample("s", (Segment("image", RED), Segment("text", "a", target=True))))
    with pytest.raises(ConfigError, match="no target segment"):
        service.remote().score(Sample("s", (Segment("text", "a"),)))
    assert service.requests == []


def test_models(service: Service):
    service.play(replies({"object": "list", "data": [{"id": "a"}, {"id": "b", "owned_by": "c"}]}))
    assert service.remote().models() == ["a", "b"]
    assert service.requests[0][0] == "/v1/models"
    service.play(replies({"data": [{"id": "a"}, {"name": "b"}]}))
    with pytest.raises(ServiceError, match=r"data\[1\]\.id: expected str, found NoneType"):
        service.remote().models()


def test_names_that_users_type(service: Service):
    model = remote("openai:org/m:latest", base_url=service.url, key_variable="TEST_KEY", patience=QUICK)
    assert model.model == "org/m:latest"
    assert model.generate("hi") == "hello"
    assert repr(model) == "Remote('org/m:latest' at 127.0.0.1, reads text, image)"
    assert repr(remote("openai:gpt-x")) == "Remote('gpt-x' at api.openai.com, reads text, image)"
    assert is_remote("openai:gpt-x")
    assert not any(map(is_remote, ("runs/openai", "openai", "org/openai:x", "C:\\models")))
    for typed in ("gpt-x", "openai:", "openia:gpt-x", ""):
        with pytest.raises(ConfigError, match=re.escape(f"{typed!r}: expected openai:MODEL")):
            remote(typed)


def test_openai_has_its_own_name_for_the_number_of_tokens():
    own = remote("openai:gpt-x")
    other = Remote(model="gpt-x", base_url="https://example.org/v1")
    assert (own._length, other._length) == ("max_completion_tokens", "max_tokens")
