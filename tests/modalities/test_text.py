from __future__ import annotations

import json
import pickle
import subprocess
import sys
import unicodedata

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from modalities.strings import strings
from transformers import AutoTokenizer

from sensorium.core import CheckpointError, ConfigError, DataError
from sensorium.modalities import PretrainedText, Text

TEXTS = [
    "A red circle is left of a blue square.",
    "two dogs run",
    "a cat sits on a red mat",
    "das größte Haus",
] * 5


def fitted(**settings):
    text = Text(vocabulary=400, **settings)
    text.fit(TEXTS)
    return text


TEXT = fitted()
WIDE = fitted(max_tokens=4096)


def test_special_tokens_are_the_first():
    assert (TEXT.pad, TEXT.bos, TEXT.eos, TEXT.mask) == (0, 1, 2, 3)
    assert 260 < TEXT.vocabulary_size <= 400


def test_prepares_tokens_between_bos_and_eos():
    ids = TEXT.prepare("a red cat")
    assert ids.dtype == torch.int64
    assert ids[0] == 1
    assert ids[-1] == 2
    assert TEXT.decode(ids) == "a red cat"
    assert len(ids) < len("a red cat")  # words were learnt


def test_cuts_the_end_but_keeps_eos():
    short = fitted(max_tokens=5)
    ids = short.prepare("a red cat sits on a red mat")
    assert len(ids) == 5
    assert ids[-1] == short.eos
    assert "a red cat sits on a red mat".startswith(short.decode(ids))


def test_a_word_is_the_same_tokens_anywhere():
    red = TEXT.encode("red")
    assert TEXT.encode("a red")[-len(red) :] == red
    assert TEXT.encode("  red \n") == red


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_round_trip(text):
    assert WIDE.decode(WIDE.prepare(text)) == unicodedata.normalize("NFC", text).strip()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["<pad>", "<bos>", "<eos>", "<mask>", " ", "a", "<", "eos>"])).map("".join))
def test_special_tokens_in_a_text_are_plain_text(text):
    assert min(TEXT.encode(text), default=9) > 3
    assert WIDE.decode(WIDE.prepare(text)) == text.strip()


def test_special_tokens_stay_plain_after_saving_and_in_other_processes(tmp_path):
    TEXT.save(tmp_path)
    loaded = Text()
    loaded.load(tmp_path)
    given_file = Text(tokenizer=str(tmp_path / "tokenizer.json"))
    for copy in (
        loaded,
        given_file,
        pickle.loads(pickle.dumps(TEXT)),
        pickle.loads(pickle.dumps(given_file)),
    ):
        assert copy.encode("a <eos> cat") == TEXT.encode("a <eos> cat")
        assert min(copy.encode("<pad><mask>")) > 3
        assert copy.vocabulary_size == TEXT.vocabulary_size


def test_special_tokens_in_the_training_texts_teach_nothing_special():
    text = Text(vocabulary=300)
    text.fit(["<eos> <eos> <mask>"] * 50)
    assert min(text.encode("<eos> <mask>")) > 3
    assert text.decode(text.prepare("<eos> <mask>")) == "<eos> <mask>"


FIT = """
import random
from sensorium.modalities import PretrainedText, Text
draw = random.Random(0)
words = ["".join(draw.choices("abcdefgh", k=draw.randint(2, 8))) for _ in range(500)]
text = Text(vocabulary=1000)
text.fit(" ".join(draw.choices(words, k=10)) for _ in range(500))  # many pairs are equally frequent
found = text._fitted().to_str()
"""


def test_fitting_is_deterministic():
    found = set()
    for _ in range(3):
        names: dict[str, str] = {}
        exec(FIT, names)
        found.add(names["found"])
    command = [sys.executable, "-c", FIT + "print(found, end='')"]
    run = subprocess.run(command, env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True)
    assert found == {run.stdout}


def test_lower_case():
    text = fitted(lower=True)
    assert text.encode("A RED Cat") == text.encode("a red cat")
    assert text.decode(text.prepare("A RED Cat")) == "a red cat"


def test_composed_and_decomposed_characters_are_the_same():
    assert TEXT.encode("größte") == TEXT.encode(unicodedata.normalize("NFD", "größte"))


def test_decode_stops_at_eos_and_drops_special_tokens():
    red = TEXT.encode("red")
    assert TEXT.decode([1, *red, 3, 0, 2, *red]) == "red"
    assert TEXT.decode([]) == ""
    assert TEXT.decode(torch.tensor([1, 2])) == ""
    for wrong in (-1, TEXT.vocabulary_size):
        with pytest.raises(DataError, match=f"found {wrong}"):
            TEXT.decode([wrong])


def test_decode_of_half_a_character_does_not_fail():
    ids = TEXT.encode("漢")
    assert "\ufffd" in TEXT.decode(ids[:2])


def test_unfitted_says_what_to_do():
    for use in (
        lambda t: t.prepare("a"),
        lambda t: t.pad,
        lambda t: t.vocabulary_size,
        lambda t: t.decode([1]),
    ):
        with pytest.raises(
            ConfigError, match=r"call fit\(texts\), load\(directory\), or give tokenizer=FILE"
        ):
            use(Text())


def test_reads_strings_files_and_bytes(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfgr\xc3\xbcn")
    assert TEXT.load_value(file) == "grün"
    assert TEXT.load_value(b"gr\xc3\xbcn") == "grün"
    assert TEXT.load_value(str(file)) == str(file)  # a string is the text itself


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        (b"   ", "empty"),
        (b"ab\xff", "found the byte 0xff at position 2"),
        ("a\ud800", "character 2 is not valid Unicode"),
        ("x" * 1_000_001, "1,000,001 characters, the limit is 1,000,000"),
        (7, "found int"),
        (None, "found NoneType"),
    ],
)
def test_refuses(source, reason):
    with pytest.raises(DataError, match=reason):
        TEXT.load_value(source)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="file not found"):
        TEXT.load_value(tmp_path / "none.txt")


def test_nothing_to_learn_from():
    with pytest.raises(DataError, match="no text"):
        Text().fit([])


def test_a_foreign_tokenizer_gets_the_special_tokens_it_lacks(tmp_path):
    vocabulary = {"[UNK]": 0, "a": 1, "cat": 2, "<pad>": 3}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    file = tmp_path / "t.json"
    parts = ("truncation", "padding", "normalizer", "post_processor", "decoder")
    file.write_text(
        json.dumps(
            dict.fromkeys(parts)
            | {
                "version": "1.0",
                "added_tokens": [],
                "model": model,
                "pre_tokenizer": {"type": "WhitespaceSplit"},
            }
        )
    )
    text = Text(tokenizer=str(file))
    text.fit(["never looked at"])
    assert (text.pad, text.vocabulary_size) == (3, 7)
    assert text.prepare("a cat").tolist() == [text.bos, 1, 2, text.eos]
    assert text.decode(text.prepare("a cat")) == "a cat"


def test_wrong_files(tmp_path):
    with pytest.raises(ConfigError, match="tokenizer: file not found"):
        Text(tokenizer=str(tmp_path / "none.json")).fit(["a"])
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"not a tokenizer\.json"):
        Text(tokenizer=str(tmp_path / "tokenizer.json")).fit(["a"])
    with pytest.raises(CheckpointError, match=r"not a tokenizer\.json"):
        Text().load(tmp_path)
    with pytest.raises(CheckpointError, match="file not found"):
        Text().load(tmp_path / "none")


def test_size_and_show():
    assert TEXT.size("abc") == (3.0, "characters")
    shown = TEXT.show('<script>alert("\'&")</script>')
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


def test_blank_is_like_prepared_text():
    assert Text().blank().dtype == TEXT.prepare("a").dtype
    assert Text().blank().ndim == 1


def test_wrong_settings():
    for wrong in ({"vocabulary": 259}, {"max_tokens": 2}):
        with pytest.raises(ConfigError, match="Text"):
            Text(**wrong)


@pytest.mark.parametrize("lower", [False, True])
def test_others_find_the_same_tokens_in_what_is_published(lower, tmp_path):
    """But for a sigma that ends a word, which only Python puts in lower case as Greeks do."""
    text = Text(vocabulary=600, max_tokens=40, lower=lower)
    texts = [one for one in strings(300) if one.strip() and not (lower and "\u03a3" in one)]
    text.fit(texts[:200])
    text.publish(tmp_path)
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), PretrainedText()
    ours.load(tmp_path)
    for one in texts:
        expected = text.prepare(one)
        assert theirs(one, truncation=True).input_ids == expected.tolist()
        assert torch.equal(ours.prepare(one), expected)
    assert (ours.pad, ours.bos, ours.eos, ours.mask) == (text.pad, text.bos, text.eos, text.mask)
    assert (ours.cls, ours.sep) == (theirs.cls_token_id, theirs.sep_token_id) == (text.bos, text.eos)
    first, types = ours.pair("red", "blue")
    assert first.tolist() == theirs("red", "blue").input_ids
    assert types.tolist() == [0] * (len(text.encode("red")) + 2) + [1] * (len(text.encode("blue")) + 1)


def test_what_is_published_can_be_loaded_as_what_is_saved(tmp_path):
    TEXT.publish(tmp_path)
    again = Text(vocabulary=400)
    again.load(tmp_path)
    for one in [*TEXTS, "  A red\tcircle e\u0301 "]:
        assert torch.equal(again.prepare(one), TEXT.prepare(one))
        assert again.decode(again.prepare(one)) == TEXT.decode(TEXT.prepare(one))
