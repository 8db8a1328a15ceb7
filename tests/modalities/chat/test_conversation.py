"""The words of a chat model: vocabularies, templates, samples, and what cannot be read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from modalities import language_layouts as layouts
from modalities import layouts as others
from modalities.chat import zoo
from modalities.layouts import write
from modalities.strings import TEXTS
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessor, LlavaProcessor

from sensorium.core import CapabilityError, ConfigError, DataError, Sample, Segment, Spec
from sensorium.core.modality import Composer, Medium
from sensorium.data.item import prepare
from sensorium.modalities import Image as Pictures
from sensorium.modalities.chat import Conversation, Message, Part, Repeated, read_messages, templates
from sensorium.testing import check_modality

IMAGE = Medium(torch.zeros(2, 2, 3))
HELD = {"image": Repeated(written="<image>", token="<image>", count=3)}
PAD = {"image": Repeated(written="<|image_pad|>", token="<|image_pad|>", count=3)}
HELLO = [Message("user", (Part("text", "hello"),))]


@pytest.fixture(scope="session")
def qwen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen")
    layouts.qwen2(folder)
    (folder / "chat_template.jinja").write_text(zoo.QWEN_VL)
    return folder


@pytest.fixture(scope="session")
def llava(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava")
    layouts.legacy_llama(folder)
    return folder


def opened(folder, **settings):
    made = Conversation(**settings)
    made.load(folder)
    return made


def fresh(**settings):
    made = Conversation(vocabulary=500, **settings)
    made.fit(TEXTS)
    return made


def test_it_keeps_the_promises_of_a_modality(qwen, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("from a file")
    check_modality(
        Conversation(checkpoint=str(qwen)),
        ["a text", "another one", file],
        broken=["", "\ud800", b"\xff\xfe\xfa"],
    )
    check_modality(Conversation(vocabulary=400), ["a text", "another one", file])
    assert isinstance(Conversation(), Composer)


def test_the_template_is_the_checkpoints_unless_another_is_given(qwen, llava):
    assert "You are helpful." in opened(qwen).decode(opened(qwen).prompt(HELLO))
    other = opened(qwen, template=zoo.CHATML, fallback=zoo.PHI_3)
    assert "You are helpful." not in other.decode(other.prompt(HELLO))
    last = opened(llava, fallback=zoo.LLAMA_2)
    assert last.decode(last.prompt(HELLO)).strip() == "[INST] hello [/INST]"


def test_without_a_template_there_are_no_conversations(llava, tmp_path):
    ours = opened(llava)
    with pytest.raises(ConfigError, match=r"no chat template: the checkpoint has none; give template=SOURCE"):
        ours.prompt(HELLO)
    assert ours.prepare("hello").tolist()
    assert ours.eos == {2}
    ours.save(tmp_path)
    assert opened(tmp_path).prepare("hello").tolist() == ours.prepare("hello").tolist()
    config = json.loads((llava / "tokenizer_config.json").read_text())
    write(tmp_path, "tokenizer_config.json", config | {"chat_template": [{"name": "tools", "template": "x"}]})
    with pytest.raises(ConfigError, match="the checkpoint has only ones named tools"):
        opened(tmp_path).prompt(HELLO)


def test_without_a_vocabulary_nothing_can_be_read():
    with pytest.raises(ConfigError, match="no text vocabulary yet"):
        Conversation().fit([])


def test_a_vocabulary_without_tokens_for_turns(tmp_path):
    others.siglip(tmp_path)
    with pytest.raises(CapabilityError, match="not for conversations"):
        opened(tmp_path, template=zoo.CHATML).prompt(HELLO)
    with pytest.raises(CapabilityError, match="'<image>' cannot be added"):
        opened(tmp_path, special=["<image>"]).prepare("hello")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"vocabulary": 258}, "vocabulary must be at least 262"),
        ({"vocabulary": 261, "special": ["<x>"], "placeholders": HELD}, "vocabulary must be at least 265"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, found 0"),
        ({"placeholders": {"text": HELD["image"]}}, "expected one for each modality besides text"),
        ({"placeholders": HELD | {"video": HELD["image"]}}, "expected one for each modality besides text"),
    ],
)
def test_settings_are_checked(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        Conversation(**settings)


def test_it_is_built_from_a_spec(qwen):
    held = Spec(Repeated, written="<|image_pad|>", token="<|image_pad|>", count=3)
    built = Spec(Conversation, placeholders={"image": held}, checkpoint=str(qwen)).build()
    assert list(built.places) == ["image"]


def test_the_reference_opens_what_is_saved(qwen, tmp_path):
    ours = opened(qwen, template=zoo.CHATML, special=["<new>", "<|im_end|>"])
    ours.save(tmp_path)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    assert reference.chat_template == zoo.CHATML
    given = zoo.messages(last=3)
    expected = reference.apply_chat_template(given, add_generation_prompt=True, return_dict=False)
    assert ours.prompt(read_messages(given, ())).tolist() == expected
    assert reference("<new>")["input_ids"] == [ours.vocabulary_size - 1]
    assert opened(tmp_path).prompt(HELLO).tolist() == ours.prompt(HELLO).tolist()


def test_saving_replaces_the_template_of_a_processor(llava, tmp_path):
    opened(llava).save(tmp_path)
    write(tmp_path, "chat_template.json", {"chat_template": "old"})
    ours = opened(tmp_path, template=zoo.LLAMA_2)
    ours.save(tmp_path)
    assert opened(tmp_path).prompt(HELLO).tolist() == ours.prompt(HELLO).tolist()


def test_what_ends_an_answer(qwen, llava, tmp_path):
    reference = AutoTokenizer.from_pretrained(qwen)
    end, text = reference.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert opened(qwen).eos == {end}
    opened(qwen).save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    write(tmp_path, "tokenizer_config.json", config | {"eos_token": "<|endoftext|>"})
    assert opened(tmp_path).eos == {end, text}
    assert opened(llava, template=zoo.FORGETFUL).eos == {2}


def test_a_sample_is_composed(qwen):
    ours = opened(qwen, placeholders=PAD)
    segments = [
        Segment("image", "x.png", field="image"),
        Segment("text", "What?", role="user", turn=1, field="question"),
        Segment("text", "A cat.", role="assistant", target=True, turn=1, field="answer"),
    ]
    found = ours.compose(segments, [IMAGE, None, None])
    assert found.values.dtype == torch.long
    assert found.learnt.dtype == torch.bool
    assert int((found.values == ours.places["image"]).sum()) == 3
    assert ours.decode(found.values[found.learnt]) == "A cat."
    asked = ours.compose(segments[:2], [IMAGE, None], answer=True)
    assert not asked.learnt.any()
    begin = found.learnt.int().argmax()
    assert asked.values.tolist() == found.values[:begin].tolist()
    messages = [Message("user", (Part("image", "x.png"), Part("text", "What?")))]
    assert ours.prompt(messages, [IMAGE]).tolist() == asked.values.tolist()


def test_a_sample_is_prepared(qwen, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    modalities = {"image": Pictures(size=8), "text": opened(qwen, placeholders=PAD)}
    caption = Segment("text", "a cat", target=True, field="text")
    item = prepare(Sample("k", (Segment("image", tmp_path / "a.png"), caption)), modalities)
    picture, words = item.pieces
    assert (picture.modality, words.modality) == ("image", "text")
    assert modalities["text"].decode(words.values[words.learnt]) == "a cat"
    broken = Sample("k", (Segment("image", tmp_path / "a.png"), Segment("text", b"\xff", field="text")))
    with pytest.raises(DataError, match=r"key 'k', field 'text': expected UTF-8"):
        prepare(broken, modalities, answer=True)


def test_llava_is_read_as_by_its_processor(llava):
    side = {"height": 8, "width": 8}
    processor = LlavaProcessor(
        CLIPImageProcessor(size=side, crop_size=side),
        AutoTokenizer.from_pretrained(llava),
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=zoo.LLAVA,
    )
    picture = Image.new("RGB", (8, 8))
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "What?"}]
    expected = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"][0]
    held = {"image": Repeated(written="<image>", token="<image>", count=4)}
    ours = opened(llava, template=zoo.LLAVA, placeholders=held)
    messages = [Message("user", (Part("image", None), Part("text", "What?")))]
    assert ours.prompt(messages, [IMAGE]).tolist() == list(expected)
    assert expected[0] == ours.bos


def test_bos_comes_first_where_it_is_wanted(llava):
    def first(**settings):
        return opened(llava, **settings).prompt(HELLO)[:2].tolist()

    assert first(template=zoo.CHATML)[0] != 1
    assert first(template=zoo.CHATML, begin=True)[0] == 1
    assert first(template=zoo.CHATML, placeholders=HELD, begin=False)[0] != 1
    assert first(template=zoo.LLAMA_2, begin=True).count(1) == 1


def test_a_learnt_vocabulary_speaks_the_plain_template(tmp_path):
    ours = fresh(placeholders=HELD)
    messages = [
        Message("user", (Part("image", IMAGE), Part("text", "What <|end|>?"))),
        Message("assistant", (Part("text", "A  café…\n"),), True),
    ]
    found = ours.prompt(messages[:1], [IMAGE])
    assert ours._words.opened.engine.id(templates.END) in ours.eos
    ours.save(tmp_path)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    text = reference.decode(found)
    assert text == "<|user|><image><image><image>What <|end|>?<|end|><|assistant|>"
    again = Conversation(vocabulary=500, placeholders=HELD)
    again.load(tmp_path)
    assert again.prompt(messages[:1], [IMAGE]).tolist() == found.tolist()
    given = zoo.messages(last=3)
    expected = reference.apply_chat_template(given, add_generation_prompt=True, return_dict=False)
    assert ours.prompt(read_messages(given, ())).tolist() == expected
    trained = ours._composed(messages, answer=False)
    assert reference.decode(trained.values[trained.learnt]) == "A  café…\n<|end|>"
    with pytest.raises(DataError, match="no text"):
        Conversation(vocabulary=400).fit([])


def test_texts_are_continued_where_no_template_was_taught(llava):
    ours = opened(llava, fallback=templates.CONTINUED, begin=True)
    reference = AutoTokenizer.from_pretrained(llava)
    assert ours.prompt(HELLO).tolist() == reference("hello")["input_ids"]
    segments = [Segment("text", "hello", target=True)]
    found = ours.compose(segments, [None])
    assert found.values.tolist() == [*reference("hello")["input_ids"], 2]
    assert found.learnt.tolist() == [False, *[True] * (len(found.values) - 1)]


def test_a_loader_process_gets_it(qwen):
    ours = opened(qwen, placeholders=PAD)
    before = ours.prompt(HELLO).tolist()
    assert pickle.loads(pickle.dumps(ours)).prompt(HELLO).tolist() == before


def error(call, *given, **settings):
    with pytest.raises(DataError) as caught:
        call(*given, **settings)
    return caught.value.field, caught.value.reason


def test_bad_conversations_are_named(qwen):
    ours = opened(qwen, placeholders=PAD)
    picture = Message("user", (Part("text", "a"), Part("image", None)))
    assert error(ours.prompt, []) == ("messages", "the conversation is empty: expected at least one message")
    assert error(ours.prompt, [picture])[1] == "the messages have 1 parts that are no text, 0 media are given"
    assert (
        error(ours.prompt, HELLO, [IMAGE])[1]
        == "the messages have 0 parts that are no text, 1 media are given"
    )
    sound = [*HELLO, Message("user", (Part("audio", None),))]
    field, reason = error(ours.prompt, sound, [IMAGE])
    assert (field, reason) == ("messages[1].content[0]", "this model reads no audio (one of: image, text)")
    half = [Message("user", (Part("text", "a"), Part("text", "\ud800")))]
    field, reason = error(ours.prompt, half)
    assert field == "messages[0].content[1]"
    assert "surrogate" in reason
    field, reason = error(ours.prompt, [*HELLO, Message("assistant", (Part("text", "hi"),))])
    assert field == "messages[1]"
    assert "the last message is one" in reason
    refused = opened(qwen, template=zoo.LLAMA_2, variables={"bos_token": ""})
    assert "must take turns" in error(refused.prompt, [*HELLO, *HELLO])[1]


def test_an_image_in_a_text_model_is_named(qwen):
    field, reason = error(opened(qwen).compose, [Segment("image", "x")], [IMAGE], answer=True)
    assert field == "messages[0].content[0]"
    assert reason.startswith("this model reads no image")


def test_what_is_too_long_is_named(qwen):
    long = {"image": Repeated(written="<|image_pad|>", token="<|image_pad|>", count=50)}
    ours = opened(qwen, placeholders=long, max_tokens=60)
    assert len(ours.prompt(HELLO)) <= 60
    messages = [*HELLO, Message("user", (Part("text", "and this"), Part("image", None)))]
    field, reason = error(ours.prompt, messages, [IMAGE])
    assert field == "messages[1].content[1]"
    assert "the limit is 60; this part, image, is the longest with 50" in reason
    field, reason = error(ours.prompt, [Message("user", (Part("text", "word " * 200),))])
    assert field == "messages[0].content[0]"
    assert "this part, text" in reason


def test_a_sample_of_which_nothing_is_learnt_is_an_error(qwen):
    segments = [Segment("text", "What?", role="user", turn=1)]
    assert "nothing to learn" in error(opened(qwen).compose, segments, [None])[1]


def test_tokens_out_of_range_are_an_error(qwen):
    assert "expected tokens from 0" in error(opened(qwen).decode, [10**6])[1]


def test_no_paths_are_saved(qwen, tmp_path):
    opened(qwen).save(tmp_path)
    for file in Path(tmp_path).iterdir():
        assert str(qwen) not in file.read_text(encoding="utf-8")


def test_independent_turns_are_branches(llava):
    """A caption and questions about one picture: each as the conversation that it would be alone."""
    held = Repeated(written="<image>", token="<image>", count=4)
    words = opened(llava, template=zoo.LLAVA, placeholders={"image": held})
    picture = Segment("image", None)
    parts = [
        [Segment("text", "a red star", target=True)],
        [Segment("text", "which colour?", "user", turn=1), Segment("text", "red", "assistant", True, 1)],
        [Segment("text", "how many?", "user", turn=2), Segment("text", "one", "assistant", True, 2)],
    ]
    medium = Medium(torch.zeros(3, 2))

    def composed(*segments: Segment):
        return words.compose(segments, [medium if one.modality == "image" else None for one in segments])

    whole = composed(picture, *parts[0], *parts[1], *parts[2])
    common = whole.values[whole.branch == 0]
    assert not whole.learnt[whole.branch == 0].any()
    for number, part in enumerate(parts, 1):
        alone, mine = composed(picture, *part), whole.branch == number
        assert alone.branch is None
        assert torch.equal(torch.cat([common, whole.values[mine]]), alone.values)
        assert torch.equal(whole.learnt[mine], alone.learnt[len(common) :])
    asked = [picture, *parts[1][:1]]
    answer = words.compose(asked, [medium, None], answer=True)
    assert answer.branch is None
