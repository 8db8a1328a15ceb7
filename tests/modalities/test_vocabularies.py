"""What chat models need of a vocabulary: stretches of a rendered text, templates, and the tokens that end it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from modalities import language_layouts as language
from modalities import layouts
from modalities.strings import strings
from transformers import AutoTokenizer

from sensorium.core import CheckpointError
from sensorium.modalities import PretrainedText
from sensorium.modalities.vocabularies import Vocabulary, open_vocabulary, read_files

STRINGS = strings()
WRITE = {
    "llama": language.llama,
    "llama-legacy": lambda f: language.llama(f, legacy=True),
    "llama-bare": lambda f: language.llama(f, add_prefix_space=False),
    "llama3": language.llama3,
    "llava": language.legacy_llama,
    "code-llama": lambda f: language.llama(f, "CodeLlamaTokenizer"),
    "gemma": lambda f: layouts.gemma(f, "gemma"),
    "gemma-pieces": language.gemma,
    "qwen2": language.qwen2,
    "opt": language.opt,
    "gpt2": lambda f: layouts.roberta(f, "GPT2Tokenizer"),
    "gpt2-space": lambda f: layouts.roberta(f, "GPT2Tokenizer", add_prefix_space=True),
    "cohere": language.cohere,
    "t5": language.t5,
    "smolvlm": language.smol,
    "bert": layouts.bert,
    "roberta": layouts.roberta,
    "clip": layouts.clip,
    "xlm-roberta": layouts.xlm_roberta,
}
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    found = {name: tmp_path_factory.mktemp(name) for name in WRITE}
    for name, folder in found.items():
        WRITE[name](folder)
    return found


def vocabulary(folder: Path, *, plain: bool = True) -> Vocabulary:
    return open_vocabulary(read_files(folder), max_tokens=None, pad_to=None, plain=plain)


def joined(engine, text: str) -> list[int]:
    """The tokens of a text whose added tokens are meant."""
    found, start = [], True
    for part, added in engine.split(text):
        found += [engine.id(part)] if added else engine.plain(part, start=start)
        start = False
    return found


def rendered(tokens: list[str], draw: random.Random, texts: list[str]) -> str:
    """Stretches of text between added tokens."""
    between = ["\n", " ", "", "user\n", " [INST] ", "\n\n"]
    parts = [draw.choice((*tokens, *between, *texts)) for _ in range(draw.randint(1, 9))]
    return "".join(part + draw.choice(tokens) if draw.random() < 0.5 else part for part in parts)


@pytest.mark.parametrize("name", WRITE)
def test_stretches_and_added_tokens_join_to_the_tokens_of_the_whole(name, checkpoints):
    theirs, engine = AutoTokenizer.from_pretrained(checkpoints[name]), vocabulary(checkpoints[name]).engine
    assert engine.added == {
        token.content: token.special for _, token in sorted(theirs.added_tokens_decoder.items())
    }
    tokens = [token for token in engine.added if token != "<FILL_ME>"]
    draw = random.Random(0)
    for _ in range(300):
        text = rendered(tokens, draw, STRINGS)
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert joined(engine, text) == expected, text


@pytest.mark.parametrize("name", WRITE)
def test_a_stretch_is_taken_literally_and_never_cut(name, checkpoints):
    folder = checkpoints[name]
    for plain in (True, False):
        engine = vocabulary(folder, plain=plain).engine
        special = [token for token, is_special in engine.added.items() if is_special]
        numbers = {engine.id(token) for token in special} - {vocabulary(folder).special["unk"]}
        for start in (True, False):
            for text in ("".join(special), " ".join(special), *(f"a{token}b" for token in special)):
                assert not numbers & set(engine.plain(text, start=start)), text
        assert len(engine.plain("a cat. " * 400, start=True)) > 1000
        assert engine.plain("", start=False) == []


@pytest.mark.parametrize("name", ["llama", "llama-legacy", "llava", "llama3", "qwen2", "t5", "bert"])
def test_the_characters_of_tokens(name, checkpoints):
    engine = vocabulary(checkpoints[name]).engine
    for start in (True, False):
        for text in STRINGS[::9]:
            spans = engine.spans(text, start=start)
            assert len(spans) == len(engine.plain(text, start=start))
            assert all(0 <= begin <= end <= len(text) for begin, end in spans)
            assert spans == sorted(spans)
    text = "a cat; two dogs"
    covered = {at for begin, end in engine.spans(text, start=False) for at in range(begin, end)}
    assert covered >= {at for at, character in enumerate(text) if character != " "}


def test_spaces_before_stretches(checkpoints):
    first, always, never = (
        vocabulary(checkpoints[n]).engine for n in ("llama", "llama-legacy", "llama-bare")
    )
    assert first.plain("a", start=True) == always.plain("a", start=True) == always.plain("a", start=False)
    assert first.plain("a", start=False) == never.plain("a", start=True) == never.plain("a", start=False)
    assert first.plain("a", start=True) != first.plain("a", start=False)


def test_white_space_beside_added_tokens(tmp_path):
    language.llama3(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    for token, side in zip(config["added_tokens_decoder"].values(), ("rstrip", "lstrip"), strict=False):
        token[side] = True
    layouts.write(tmp_path, "tokenizer_config.json", config)
    theirs, engine = AutoTokenizer.from_pretrained(tmp_path), vocabulary(tmp_path).engine
    right, left = list(engine.added)[:2]
    for text in (f"{right} \n user \n{left} \n{right}", f"a {left}{right} \n {left} b", f" {left}", "a  b"):
        assert joined(engine, text) == theirs(text, add_special_tokens=False)["input_ids"]


def test_names_of_tokens_are_special(tmp_path):
    language.qwen2(tmp_path, image_token="<|image_pad|>", extra_special_tokens={"video_token": "<|video|>"})
    theirs, opened = AutoTokenizer.from_pretrained(tmp_path), vocabulary(tmp_path)
    assert theirs.video_token == "<|video|>"
    assert opened.engine.added["<|video|>"]
    assert opened.engine.id("<|video|>") == theirs.convert_tokens_to_ids("<|video|>")
    for text in ("a<|video|>b", "<|image_pad|><think> a"):
        assert joined(opened.engine, text) == theirs(text, add_special_tokens=False)["input_ids"]
    assert opened.engine.size == len(theirs)


def test_rules_of_digits_hold_although_the_class_has_none(tmp_path):
    """The reference drops them for models that it does not know by type (transformers 5)."""
    folders = [tmp_path / kind for kind in ("smolvlm", "idefics3")]
    for folder in folders:
        folder.mkdir()
        language.smol(folder, folder.name)
    theirs = AutoTokenizer.from_pretrained(folders[0])
    for text in ("in 1990, 12,345 cats", *STRINGS[::9]):
        expected = theirs(text)["input_ids"]
        assert [vocabulary(folder).engine.encode(text) for folder in folders] == [expected] * 2


@pytest.mark.parametrize("first", [True, False])
def test_the_space_of_the_first_stretch_of_a_saved_llama(first, checkpoints, tmp_path):
    theirs = AutoTokenizer.from_pretrained(checkpoints["llama" if first else "llama-legacy"])
    theirs.save_pretrained(tmp_path)
    again, engine = AutoTokenizer.from_pretrained(tmp_path), vocabulary(tmp_path).engine
    for text in ("<s>a b</s>c", "a<s> b", " <s>"):
        assert joined(engine, text) == again(text, add_special_tokens=False)["input_ids"]


def with_templates(folder: Path, kind: str) -> dict[str, str]:
    """Write templates; what is expected of them."""
    language.qwen2(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    if kind == "one":
        layouts.write(folder, "tokenizer_config.json", config | {"chat_template": TEMPLATE})
        return {"default": TEMPLATE}
    if kind == "named":
        named = [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": "tools"}]
        layouts.write(folder, "tokenizer_config.json", config | {"chat_template": named})
        return {"default": TEMPLATE, "tool_use": "tools"}
    layouts.write(folder, "tokenizer_config.json", config | {"chat_template": "older"})
    if kind == "processor":
        layouts.write(folder, "chat_template.json", {"chat_template": TEMPLATE})
        return {"default": TEMPLATE}
    (folder / "chat_template.jinja").write_bytes(TEMPLATE.encode() + b"\r\nend")
    if kind == "file":
        return {"default": f"{TEMPLATE}\nend"}
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("documents")
    return {"default": f"{TEMPLATE}\nend", "rag": "documents"}


@pytest.mark.parametrize("kind", ["one", "named", "processor", "file", "files"])
def test_templates(kind, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    expected = with_templates(first, kind)
    assert vocabulary(first).templates == expected
    text = PretrainedText()
    text.load(first)
    text.save(second)
    assert vocabulary(second).templates == expected
    found, again = (AutoTokenizer.from_pretrained(folder).chat_template for folder in (first, second))
    assert found == again
    if kind != "processor":  # which is read by processors alone
        assert found == (expected if len(expected) > 1 else expected["default"])


def test_no_templates(checkpoints):
    assert vocabulary(checkpoints["qwen2"]).templates == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "chat_template.jinja",
            b"\xff",
            r"chat_template\.jinja: expected UTF-8 text, found a broken byte at 0",
        ),
        (
            "chat_template.jinja",
            b" " * (1 << 20) + b" ",
            r"chat_template\.jinja: the file has 1,048,577 bytes",
        ),
        ("chat_template.json", b"[]", r"chat_template\.json: expected a JSON object, found list"),
        ("chat_template.json", b"{}", r"chat_template\.json: expected a template, found NoneType"),
        (
            "chat_template.json",
            b'{"chat_template": 3}',
            r"chat_template\.json: expected a template, found int",
        ),
        (
            "tokenizer_config.json",
            {"chat_template": 3},
            "field 'chat_template': expected a template, found int",
        ),
        ("tokenizer_config.json", {"chat_template": [3]}, "expected a template or a list of named ones"),
        (
            "tokenizer_config.json",
            {"chat_template": [{"name": "a", "template": None}]},
            "'chat_template' 'a': expected a template, found NoneType",
        ),
        (
            "tokenizer_config.json",
            {"chat_template": "x" * ((1 << 20) + 1)},
            "'chat_template': the template has 1,048,577 characters, the limit is 1,048,576",
        ),
        (
            "generation_config.json",
            {"eos_token_id": "2"},
            "'eos_token_id': expected a token's number or a list",
        ),
        ("generation_config.json", {"eos_token_id": [1, -1]}, r"'eos_token_id': .*found \[1, -1\]"),
        ("generation_config.json", {"eos_token_id": True}, "'eos_token_id': .*found True"),
    ],
)
def test_damaged_templates_and_ends(name, content, message, tmp_path):
    language.qwen2(tmp_path)
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        file = tmp_path / name
        known = json.loads(file.read_text()) if file.exists() else {}
        layouts.write(tmp_path, name, known | content)
    with pytest.raises(CheckpointError, match=message):
        vocabulary(tmp_path)


def test_templates_of_two_layouts_and_too_many(tmp_path):
    with_templates(tmp_path, "files")
    layouts.write(tmp_path, "chat_template.json", {"chat_template": TEMPLATE})
    with pytest.raises(CheckpointError, match=r"chat_template\.json: expected no other templates beside it"):
        vocabulary(tmp_path)
    for number in range(70):
        (tmp_path / "additional_chat_templates" / f"{number}.jinja").write_text("x")
    with pytest.raises(CheckpointError, match="expected at most 64 templates, found 71"):
        read_files(tmp_path)


def test_ends(tmp_path):
    language.qwen2(tmp_path)
    opened = vocabulary(tmp_path)
    eos, other = opened.engine.id("<|im_end|>"), opened.engine.id("<|endoftext|>")
    assert opened.ends == {eos}
    for said, expected in ((other, {eos, other}), ([other, 7], {eos, other, 7}), (None, {eos})):
        layouts.write(tmp_path, "generation_config.json", {"eos_token_id": said})
        assert vocabulary(tmp_path).ends == expected
    assert "generation_config.json" in vocabulary(tmp_path).files
