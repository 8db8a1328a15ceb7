"""The tokens of public checkpoints, against transformers' own tokenizers. No package `ftfy` takes part in either."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import transformers
from modalities import language_layouts as language
from modalities import layouts
from modalities.strings import strings
from transformers import AutoTokenizer

from sensorium.core import CapabilityError, CheckpointError, ConfigError, DataError, Spec
from sensorium.modalities import PretrainedText
from sensorium.testing import check_modality

STRINGS = strings()
#: Name: how its files are written, the reference's class, and settings of ours.
FAMILIES = {
    "clip": (layouts.clip, "CLIPTokenizer"),
    "bert": (layouts.bert, "BertTokenizer"),
    "bert-cased": (lambda f: layouts.bert(f, do_lower_case=False), "BertTokenizer"),
    "bert-accents": (
        lambda f: layouts.bert(f, strip_accents=False, tokenize_chinese_chars=False),
        "BertTokenizer",
    ),
    "distilbert": (lambda f: layouts.bert(f, "DistilBertTokenizer"), "DistilBertTokenizer"),
    "electra": (lambda f: layouts.bert(f, "ElectraTokenizer"), "ElectraTokenizer"),
    "roberta": (layouts.roberta, "RobertaTokenizer"),
    "roberta-space": (lambda f: layouts.roberta(f, add_prefix_space=True), "RobertaTokenizer"),
    "gpt2": (lambda f: layouts.roberta(f, "GPT2Tokenizer"), "GPT2Tokenizer"),
    "xlm-roberta": (layouts.xlm_roberta, "XLMRobertaTokenizer"),
    "siglip": (layouts.siglip, "SiglipTokenizer"),
    "siglip2": (layouts.gemma, "Siglip2Tokenizer"),
    "gemma": (lambda f: layouts.gemma(f, "gemma"), "GemmaTokenizer"),
    "llama": (language.llama, "LlamaTokenizer"),
    "llama-legacy": (lambda f: language.llama(f, legacy=True), "LlamaTokenizer"),
    "llama-bare": (lambda f: language.llama(f, add_prefix_space=False, add_eos_token=True), "LlamaTokenizer"),
    "llama3": (language.llama3, "TokenizersBackend"),
    "llama3-named": (lambda f: language.llama3(f, "LlamaTokenizerFast"), "TokenizersBackend"),
    "llava": (language.legacy_llama, "TokenizersBackend"),
    "code-llama": (lambda f: language.llama(f, "CodeLlamaTokenizer"), "CodeLlamaTokenizer"),
    "gemma-pieces": (language.gemma, "GemmaTokenizer"),
    "qwen2": (language.qwen2, "Qwen2Tokenizer"),
    "opt": (language.opt, "GPT2Tokenizer"),
    "cohere": (language.cohere, "CohereTokenizer"),
    "t5": (language.t5, "T5Tokenizer"),
    "smolvlm": (language.smol, "TokenizersBackend"),
    "wav2vec2": (layouts.wav2vec2, "Wav2Vec2CTCTokenizer"),
    "wav2vec2-lower": (lambda f: layouts.wav2vec2(f, do_lower_case=True), "Wav2Vec2CTCTokenizer"),
}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    found = {}
    for name, (write, _) in FAMILIES.items():
        found[name] = tmp_path_factory.mktemp(name)
        write(found[name])
    return found


def reference(name, folder):
    return getattr(transformers, FAMILIES[name][1]).from_pretrained(folder)


def opened(folder, **settings):
    text = PretrainedText(**settings)
    text.load(folder)
    return text


def assert_same(ours, theirs, texts=STRINGS, **settings):
    for text in texts:
        found, expected = ours.prepare(text).tolist(), theirs(text, **settings)["input_ids"]
        assert found == expected, (
            text,
            theirs.convert_ids_to_tokens(found),
            theirs.convert_ids_to_tokens(expected),
        )


def special_ids(text):
    return {one for one in (text.pad, text.bos, text.eos, text.mask, text.cls, text.sep) if one is not None}


@pytest.mark.parametrize("name", FAMILIES)
def test_first_files_give_the_same_tokens(name, checkpoints):
    ours, theirs = opened(checkpoints[name]), reference(name, checkpoints[name])
    assert_same(ours, theirs, truncation=theirs.model_max_length < 1000)
    for role in ("pad", "bos", "eos", "mask", "cls", "sep", "unk"):
        assert getattr(ours, role) == getattr(theirs, f"{role}_token_id"), role
    assert ours.vocabulary_size == len(theirs)


@pytest.mark.parametrize("name", FAMILIES)
def test_files_of_the_reference_give_the_same_tokens(name, checkpoints, tmp_path):
    theirs = reference(name, checkpoints[name])
    theirs.save_pretrained(tmp_path)
    assert_same(opened(tmp_path), theirs, truncation=theirs.model_max_length < 1000)


@pytest.mark.parametrize("name", FAMILIES)
def test_saved_files_are_read_by_the_reference_and_by_us(name, checkpoints, tmp_path):
    ours = opened(checkpoints[name])
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, text in ((first, ours), (second, None)):
        folder.mkdir()
        (text or opened(first)).save(folder)
    names = sorted(file.name for file in first.iterdir())
    assert names == sorted(file.name for file in second.iterdir())
    assert "config.json" not in names  # the model's
    assert all((first / one).read_bytes() == (second / one).read_bytes() for one in names)
    theirs, again = AutoTokenizer.from_pretrained(first), opened(first)
    assert type(theirs).__name__ == type(reference(name, checkpoints[name])).__name__
    texts = STRINGS[::5]
    assert_same(again, theirs, texts, truncation=theirs.model_max_length < 1000)
    assert all(torch.equal(again.prepare(text), ours.prepare(text)) for text in texts)


@pytest.mark.parametrize("name", FAMILIES)
def test_cuts_as_the_reference_does(name, checkpoints):
    theirs = reference(name, checkpoints[name])
    assert_same(opened(checkpoints[name], max_tokens=9), theirs, STRINGS[::5], truncation=True, max_length=9)


@pytest.mark.parametrize("name", FAMILIES)
def test_fills_as_the_reference_does(name, checkpoints):
    theirs = reference(name, checkpoints[name])
    if theirs.pad_token is None:
        with pytest.raises(ConfigError, match="pad_to needs a vocabulary with a pad token"):
            opened(checkpoints[name], pad_to=64)
        return
    ours = opened(checkpoints[name], pad_to=64)
    texts = STRINGS[1::5]  # without "", which the reference leaves empty for CTC
    assert_same(ours, theirs, texts, truncation=True, max_length=64, padding="max_length")
    assert ours.blank().shape == ours.prepare("a").shape == (64,)


@pytest.mark.parametrize("name", FAMILIES)
def test_decodes_as_the_reference_does(name, checkpoints):
    ours, theirs = opened(checkpoints[name]), reference(name, checkpoints[name])
    ctc = {"group_tokens": False} if name.startswith("wav2vec2") else {}
    for text in STRINGS[::5]:
        ids = ours.prepare(text)
        assert ours.decode(ids) == theirs.decode(ids.tolist(), skip_special_tokens=True, **ctc), text
    with pytest.raises(DataError, match="found -1"):
        ours.decode([-1])
    with pytest.raises(DataError, match=f"from 0 to {len(theirs) - 1}, found {len(theirs)}"):
        ours.decode(torch.tensor([len(theirs)]))


@pytest.mark.parametrize("name", ["bert", "electra", "roberta", "xlm-roberta", "gpt2"])
def test_pairs(name, checkpoints):
    theirs = reference(name, checkpoints[name])
    for limit in (512, 12):
        ours = opened(checkpoints[name], max_tokens=limit)
        for first, second in zip(STRINGS[::9], STRINGS[4::9], strict=False):
            tokens, types = ours.pair(first, second)
            found = theirs(first, second, truncation=True, max_length=limit, return_token_type_ids=True)
            assert tokens.tolist() == found["input_ids"]
            assert types.tolist() == found["token_type_ids"]


@pytest.mark.parametrize("name", ["siglip", "wav2vec2"])
def test_no_pairs(name, checkpoints):
    with pytest.raises(CapabilityError, match="pairs"):
        opened(checkpoints[name]).pair("a", "b")


@pytest.mark.parametrize("name", ["wav2vec2", "wav2vec2-lower"])
def test_frames_of_ctc(name, checkpoints):
    ours, theirs = opened(checkpoints[name]), reference(name, checkpoints[name])
    frames = torch.randint(0, ours.vocabulary_size, (200, 40), generator=torch.Generator().manual_seed(0))
    frames = frames.where(torch.rand(200, 40, generator=torch.Generator().manual_seed(1)) < 0.5, 0)
    frames = torch.cat((frames, frames.repeat_interleave(3, 1)[:, :40], frames % 8))
    assert [ours.decode_ctc(row) for row in frames] == theirs.batch_decode(frames)
    assert ours.decode_ctc([]) == ""
    with pytest.raises(DataError, match="found 99"):
        ours.decode_ctc([99])


def test_frames_of_other_vocabularies(checkpoints):
    with pytest.raises(CapabilityError, match="not for CTC"):
        opened(checkpoints["bert"]).decode_ctc([1])


@pytest.mark.parametrize("name", FAMILIES)
def test_special_tokens_in_a_text_are_plain_text_unless_asked_for(name, checkpoints):
    folder = checkpoints[name]
    plain, as_reference, theirs = (
        opened(folder),
        opened(folder, special_in_text=True),
        reference(name, folder),
    )
    unlike = (
        "|",
        "<FILL_ME>",
    )  # the delimiter is text; the other is where the reference wants a text filled in
    contents = [token for token in theirs.all_special_tokens if token not in unlike]
    around = plain.prepare("").tolist()  # e.g. cls and sep
    draw = random.Random(0)
    texts = contents + ["".join(draw.choices([*contents, " ", "a", "<", "▁", ">"], k=9)) for _ in range(100)]
    taken = 0
    for text in texts:
        ids = plain.prepare(text).tolist()
        special = [token for token in ids if token in special_ids(plain) - {plain.unk}]
        assert len(special) == len([token for token in around if token != plain.unk]), (text, ids)
        taken += any(
            token in special_ids(plain) for token in set(as_reference.prepare(text).tolist()) - set(around)
        )
    assert taken > 0 or name in (
        "clip",
        "siglip",
        "gpt2",
    )  # whose only special tokens stand around every text
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This sequence already has </s>")
        assert_same(as_reference, theirs, texts, truncation=theirs.model_max_length < 1000)


def test_added_tokens_are_found_first(checkpoints, tmp_path):
    for name in FAMILIES:
        theirs = reference(name, checkpoints[name])
        theirs.add_tokens(["Zebra", transformers.AddedToken("ab c", lstrip=True, normalized=False)])
        folder = tmp_path / name
        theirs.save_pretrained(folder)
        theirs, ours = AutoTokenizer.from_pretrained(folder), opened(folder)
        assert ours.vocabulary_size == len(theirs), name
        for text in ("Zebra", "a Zebra  ab cZebras", "zebra ab c"):
            assert ours.prepare(text).tolist() == theirs(text)["input_ids"], (name, text)


def test_tokenizer_json_as_it_is(checkpoints, tmp_path):
    theirs = reference("bert", checkpoints["bert"])
    theirs.save_pretrained(tmp_path)
    layouts.write(
        tmp_path,
        "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"},
    )
    ours = opened(tmp_path)
    assert_same(ours, theirs, STRINGS[::5])
    assert (ours.pad, ours.cls) == (0, None)
    (tmp_path / "tokenizer_config.json").unlink()
    assert_same(opened(tmp_path), theirs, STRINGS[::20])


def test_the_type_of_the_model_stands_in_for_the_class(checkpoints, tmp_path):
    for kind, name in (
        ("align", "bert"),
        ("clap", "roberta"),
        ("clip", "clip"),
        ("opt", "gpt2"),
        ("qwen3", "qwen2"),
        ("cohere2", "cohere"),
        ("t5", "t5"),
        ("gemma3_text", "gemma"),
        ("idefics", "llama"),
        ("xlm-roberta", "xlm-roberta"),
    ):
        folder = shutil.copytree(checkpoints[name], tmp_path / kind)
        (folder / "tokenizer_config.json").unlink()
        layouts.write(folder, "config.json", {"model_type": kind})
        assert_same(opened(folder), AutoTokenizer.from_pretrained(folder), STRINGS[::20])


def test_lower(checkpoints):
    gemma, siglip2 = opened(checkpoints["gemma"], lower=True), opened(checkpoints["siglip2"])
    assert all(torch.equal(gemma.prepare(text), siglip2.prepare(text)) for text in ("A RED Cat", "Straße"))


def test_a_language_of_many(checkpoints, tmp_path):
    layouts.wav2vec2(tmp_path, target_lang="eng")
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    layouts.write(tmp_path, "vocab.json", {"eng": vocabulary, "deu": {"<unk>": 0}})
    assert_same(opened(tmp_path), AutoTokenizer.from_pretrained(tmp_path), STRINGS[::20])


def test_conformance_and_other_processes(checkpoints):
    for name in ("clip", "siglip", "wav2vec2"):
        modality = PretrainedText(checkpoint=str(checkpoints[name]))
        check_modality(modality, ["A RED CAT", "zwei Hunde"], broken=["", " \n", b"\xff"])
        text = opened(checkpoints[name])
        copy = pickle.loads(pickle.dumps(text))
        assert torch.equal(copy.prepare("a <s> b"), text.prepare("a <s> b"))


def test_spec():
    spec = Spec(PretrainedText, max_tokens=77)
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))).build().max_tokens == 77


def test_without_a_vocabulary(tmp_path):
    for use in (
        lambda t: t.prepare("a"),
        lambda t: t.pad,
        lambda t: t.fit(["a"]),
        lambda t: t.vocabulary_size,
    ):
        with pytest.raises(ConfigError, match=r"call load\(directory\), or give checkpoint=DIRECTORY"):
            use(PretrainedText())
    with pytest.raises(CheckpointError, match=r"found none of tokenizer\.json, vocab\.json"):
        PretrainedText().load(tmp_path)
    for wrong in ({"max_tokens": 2}, {"pad_to": 1}, {"max_tokens": 77, "pad_to": 64}):
        with pytest.raises(ConfigError, match="must be at least"):
            PretrainedText(**wrong)


def test_sentencepiece_is_only_for_siglip(checkpoints, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    opened(checkpoints["xlm-roberta"])
    with pytest.raises(
        CapabilityError, match=r"spiece\.model needs .*pip install sensorium\[sentencepiece\]"
    ):
        opened(checkpoints["siglip"])


CONFIG = "tokenizer_config.json"
DAMAGE = [
    ("bert", CONFIG, b"{", rf"{CONFIG}: expected a JSON object"),
    ("bert", CONFIG, b"[]", rf"{CONFIG}: expected a JSON object, found list"),
    ("bert", CONFIG, b"[" * 200_000, rf"{CONFIG}: expected a JSON object"),
    ("bert", CONFIG, b"\xff", rf"{CONFIG}: expected a JSON object"),
    ("bert", CONFIG, b"", rf"{CONFIG}: the file is empty"),
    (
        "bert",
        CONFIG,
        {"auto_map": {"AutoTokenizer": ["x.Y", None]}},
        rf"{CONFIG}: field 'auto_map': names code",
    ),
    (
        "bert",
        CONFIG,
        {"tokenizer_class": "BrotTokenizer"},
        r"'tokenizer_class'.*'BrotTokenizer' \(did you mean 'BertT",
    ),
    ("bert", CONFIG, {"tokenizer_class": 7}, r"'tokenizer_class': expected a string, found 7"),
    ("bert", CONFIG, {}, r"'tokenizer_class': expected one of .* found nothing"),
    (
        "bert",
        CONFIG,
        {"tokenizer_class": "BertTokenizer", "do_lower_case": "yes"},
        "'do_lower_case': expected true or",
    ),
    (
        "bert",
        CONFIG,
        {"tokenizer_class": "BertTokenizer", "model_max_length": -1},
        "'model_max_length': expected a number",
    ),
    (
        "bert",
        CONFIG,
        {"tokenizer_class": "BertTokenizer", "padding_side": "up"},
        "'padding_side': expected 'right' or",
    ),
    ("bert", CONFIG, {"tokenizer_class": "BertTokenizer", "cls_token": 5}, "'cls_token': expected a token"),
    (
        "bert",
        CONFIG,
        {"tokenizer_class": "BertTokenizer", "cls_token": None},
        "'cls_token': expected a token of",
    ),
    (
        "bert",
        CONFIG,
        {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": {"1": {}}},
        "field '1': expected a token",
    ),
    (
        "bert",
        CONFIG,
        {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": {"7": {"content": "new"}}},
        "added token 'new': expected the number 7, found",
    ),
    (
        "bert",
        CONFIG,
        {"tokenizer_class": "CLIPTokenizer"},
        r"expected tokenizer\.json, or vocab\.json and merges\.txt",
    ),
    ("bert", CONFIG, {"tokenizer_class": "Siglip2Tokenizer"}, r"expected tokenizer\.json, found vocab\.txt"),
    ("bert", CONFIG, {"tokenizer_class": "SiglipTokenizer"}, r"expected spiece\.model"),
    ("bert", CONFIG, {"tokenizer_class": "Wav2Vec2CTCTokenizer"}, r"expected vocab\.json"),
    ("bert", "vocab.txt", b"a\nb\n", "field 'cls_token': expected a token of the vocabulary"),
    ("bert", "vocab.txt", b"\xff", r"vocab\.txt: expected UTF-8 text"),
    (
        "clip",
        "vocab.json",
        {"a": "b"},
        r"vocab\.json: field 'a': expected a token's number, from 0, found 'b'",
    ),
    ("clip", "vocab.json", {"a": -1}, "field 'a': expected a token's number"),
    ("clip", "vocab.json", {"a": 0}, "not a tokenizer"),
    ("clip", "merges.txt", b"#version\na b c\n", r"merges\.txt: expected two tokens, found 'a b c'"),
    ("siglip2", "tokenizer.json", b"{}", r"tokenizer\.json: not a tokenizer"),
    ("siglip2", "tokenizer.json", b"\xff", r"tokenizer\.json: not a tokenizer"),
    ("xlm-roberta", "sentencepiece.bpe.model", b"abc", "not a SentencePiece model"),
    ("siglip", "spiece.model", b"\x0a\xff\xff\xff\xff\x0f", "not a SentencePiece model"),
    ("wav2vec2", "vocab.json", {"a": 0}, r"'unk_token': expected a token of vocab\.json"),
    (
        "wav2vec2",
        "special_tokens_map.json",
        {"unk_token": []},
        r"special_tokens_map\.json: field 'unk_token'",
    ),
]


@pytest.mark.parametrize(("name", "file", "content", "message"), DAMAGE)
def test_damaged_and_hostile_files(name, file, content, message, checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints[name], tmp_path / "checkpoint")
    if isinstance(content, bytes):
        (folder / file).write_bytes(content)
    else:
        layouts.write(folder, file, content)
    with pytest.raises((CheckpointError, CapabilityError), match=message) as caught:
        opened(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["siglip", "xlm-roberta"])
def test_every_cut_of_a_model_file_is_an_error_or_a_vocabulary(name, checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints[name], tmp_path / "checkpoint")
    (file,) = folder.glob("*.model")
    content, draw = file.read_bytes(), random.Random(0)
    for _ in range(60):
        cut = bytearray(content[: draw.randrange(1, len(content))])
        cut[draw.randrange(len(cut))] = draw.randrange(256)
        file.write_bytes(cut)
        with suppress(CheckpointError):
            opened(folder).prepare("Ein großer Hund ①")


@pytest.mark.parametrize("name", ["clip", "bert", "xlm-roberta", "siglip2"])
def test_a_damaged_tokenizer_json_is_an_error_or_a_vocabulary(name, checkpoints, tmp_path):
    reference(name, checkpoints[name]).save_pretrained(tmp_path)
    if name == "siglip2":  # as it is
        layouts.write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    file, draw = tmp_path / "tokenizer.json", random.Random(0)
    content = file.read_text()
    ends = [place for place, character in enumerate(content) if character in '0123456789",:']
    for _ in range(60):
        place = draw.choice([draw.choice(ends), draw.choice(ends[:200]), draw.choice(ends[-200:])])
        file.write_text(content[:place] + draw.choice('9-"a,:[{}') + content[place + 1 :])
        with suppress(CheckpointError):
            opened(tmp_path).prepare("Ein großer Hund ①")


def test_a_huge_file_is_not_read(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["bert"], tmp_path / "checkpoint")
    with open(folder / "added_tokens.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(
        CheckpointError, match=r"added_tokens\.json: the file has 1,099,511,627,776 bytes, the limit is"
    ):
        opened(folder)
