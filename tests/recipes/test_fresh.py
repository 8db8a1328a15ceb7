"""Fresh systems that read media among words: as the family's own files would have them, with words learnt here."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.core import ConfigError, Sample, Segment, Spec
from sensorium.modalities.chat.templates import TURNS
from sensorium.recipes.flamingo import flamingo
from sensorium.recipes.instructblip import instructblip
from sensorium.recipes.internvl import AFTER, BEFORE, IMAGE, VIDEO, internvl
from sensorium.recipes.llama import llama
from sensorium.recipes.llava import llava
from sensorium.recipes.llava_next import llava_next
from sensorium.recipes.siglip import siglip
from sensorium.recipes.vlm import vlm
from sensorium.testing.material import Material, ready
from sensorium.training.rules import treatments


def told(*texts: str) -> list[Sample]:
    return [
        Sample(
            f"s{index}",
            (Segment("text", text, role="user"), Segment("text", "it is", role="assistant", target=True)),
        )
        for index, text in enumerate(texts)
    ]


def never_learnt(material: Material) -> set[str]:
    """What no gradient reaches, though rules do not freeze it, and what they freeze though one does."""
    found = treatments(material.network.named_parameters(), material.training.rules)
    frozen = {name for name, one in found.items() if one.rate == 0}
    for parameter in material.network.parameters():
        parameter.requires_grad_(True)
    gradients = material.gradients([material.batch(material.samples)])
    return {name for name, gradient in gradients.items() if gradient is None} ^ frozen


def joined(size: str) -> Spec:
    """A tower that gives one vector by attention, before a language model."""
    eye = siglip(size)
    return vlm(llama(size), {"image": (eye.model.towers["image"], eye.modalities["image"])})


@pytest.mark.parametrize("made", [joined, llava, llava_next, internvl, instructblip, flamingo])
def test_rules_freeze_what_nothing_reads_and_no_more(made):
    assert not never_learnt(ready(made("tiny"), told("what is it?", "is it?")))


def test_the_vocabulary_is_learnt_with_the_tokens_of_media_and_the_network_follows():
    material = ready(internvl("tiny"), told("what is it?", "is it?"))
    words, network = material.modalities["text"], material.network
    special = {words.token(number) for number in range(words.vocabulary_size)}
    assert special >= {IMAGE, VIDEO, BEFORE, AFTER, *TURNS}
    assert network.placeholders == words.places
    assert network.decoder.embedding.token.weight.shape[0] == words.vocabulary_size


def test_what_is_asked_is_told_to_the_queries_in_the_same_vocabulary():
    material = ready(instructblip("tiny"), told("what is it?", "is it?"))
    words = material.modalities["text"]
    picture = Segment("image", np.zeros((8, 8, 3), np.uint8))
    asked = Sample("a", (picture, *told("what?")[0].segments))
    (told_to,) = material.batch([asked]).streams["image"].asked
    assert words.decode(told_to) == "what?"


def test_flamingos_end_of_an_answer_is_that_of_the_vocabulary():
    material = ready(flamingo("tiny"), told("what is it?", "is it?"))
    assert material.modalities["text"].eos == {material.network.end}


def test_an_unknown_size_is_named():
    with pytest.raises(ConfigError, match=r"llava has no size '7'.*7b"):
        llava("7")
