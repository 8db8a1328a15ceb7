"""Characters for CTC: learnt, saved as transformers reads them, and read back."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from transformers import Wav2Vec2CTCTokenizer

from sensorium.core import CheckpointError, ConfigError, DataError
from sensorium.modalities import PretrainedText
from sensorium.modalities.transcripts import Transcripts
from sensorium.testing import check_modality

TEXTS = ["one two", "Two two", "non | né", "to be"]


def learnt(**settings: int | bool) -> Transcripts:
    made = Transcripts(**settings)
    made.fit(TEXTS)
    return made


def test_as_a_modality():
    check_modality(learnt(), TEXTS)


def test_the_most_frequent_characters():
    made = learnt(vocabulary=9)
    assert made.vocabulary_size == 9
    assert made.decode(made.prepare("TWO né")) == "two n", "the least frequent are unknown"
    assert made.prepare("o").tolist() == [5]
    assert made.pad == 0
    assert not (made.prepare("one  two\nnon") == 0).any()


def test_repeats_and_blanks():
    made = learnt()
    t, o, n, space = made.prepare("t").tolist() + made.prepare("on |").tolist()[:2] + [4]
    frames = [0, 0, t, t, 0, o, o, 0, o, space, space, n, 0]
    assert made.decode_ctc(torch.tensor(frames)) == made.decode_ctc(frames) == "too n"


def test_case():
    assert learnt().decode(learnt().prepare("One")) == "one"
    assert learnt(case=True).decode(learnt(case=True).prepare("Two")) == "Two"
    assert learnt(case=True).vocabulary_size == learnt().vocabulary_size + 1


@pytest.mark.parametrize("case", [False, True])
def test_saved_as_the_reference_reads_it(case: bool, tmp_path: Path):
    made = learnt(case=case)
    made.save(tmp_path)
    theirs, ours, again = (
        Wav2Vec2CTCTokenizer.from_pretrained(tmp_path),
        PretrainedText(),
        Transcripts(case=case),
    )
    ours.load(tmp_path)
    again.load(tmp_path)
    for text in [*TEXTS, "zero"]:
        ids = made.prepare(text).tolist()
        if "|" not in text:
            assert theirs(text).input_ids == ids
        assert ours.prepare(text).tolist() == again.prepare(text).tolist() == ids
        frames = [token for one in ids for token in (one, one, 0)]
        assert ours.decode_ctc(frames) == again.decode_ctc(frames) == theirs.decode(frames)
    assert ours.pad == theirs.pad_token_id == 0
    assert len(json.loads((tmp_path / "vocab.json").read_text())) == made.vocabulary_size


def test_can_be_sent_to_other_processes():
    assert pickle.loads(pickle.dumps(learnt())).prepare("one").tolist() == learnt().prepare("one").tolist()


def test_mistakes(tmp_path: Path):
    with pytest.raises(ConfigError, match="more than the 5 special tokens, found 5"):
        Transcripts(vocabulary=5)
    with pytest.raises(ConfigError, match="not learnt yet"):
        Transcripts().prepare("one")
    with pytest.raises(DataError, match="no text to learn characters from"):
        Transcripts().fit(["|"])
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        Transcripts().load(tmp_path)
