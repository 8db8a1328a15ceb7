"""One stream of what is seen and done, token by token."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sensorium.core import ConfigError, DataError, Sample, Segment
from sensorium.data.item import prepare
from sensorium.modalities import Video
from sensorium.modalities.control import Episode
from sensorium.testing import check_modality

SPEED = np.array([[0.5, -0.5], [0.0, 3.0], [1.0, 1.0]], np.float32)
ONE = {"observations": {"speed": SPEED, "keys": [7, 8, 9]}, "actions": [[0.25], [-1.0], [1.0]]}
WORDS = [{"text": text} for text in ("go to the red thing", "go to the blue thing")]


def composed(episode: Episode, *values, answer: bool = False, **frames):
    segments = [Segment("episode", value) for value in values]
    modalities = {"video": Video(frames=64, size=8), "episode": episode}
    seen = [Segment("video", one) for one in frames.get("video", [])]
    item = prepare(Sample("s", (*seen, *segments)), modalities, answer=answer)
    last = item.pieces[-1]
    return last.values.tolist(), last.learnt.tolist()


def plain(episode: Episode, ids: list[int]) -> list[tuple[int, int]]:
    """Each token and where in its step it is seen, -1 for none."""
    return [(token % episode.alphabet.size, token // episode.alphabet.size - 1) for token in ids]


def test_a_step_is_what_is_seen_by_name_then_what_is_done():
    episode = Episode()
    ids, learnt = composed(episode, ONE)
    letters = episode.alphabet
    expected = []
    for step in range(3):
        expected += [(ONE["observations"]["keys"][step], 0)]
        expected += [(int(token), 1 + k) for k, token in enumerate(letters.seen(SPEED[step : step + 1])[0])]
        expected += [(letters.separator, -1)]
        expected += [(int(letters.done(np.array([ONE["actions"][step]], np.float32))[0, 0]), -1)]
    assert plain(episode, ids) == expected
    assert learnt == [False, False, False, False, True] * 3
    assert episode.prepare(episode.load_value(ONE)).tolist() == ids


def test_a_prompt_comes_before_and_an_open_step_is_asked():
    episode = Episode()
    whole, _ = composed(episode, ONE)
    shown = {"observations": {name: values[:2] for name, values in ONE["observations"].items()},
             "actions": ONE["actions"][:1]}  # fmt: skip
    ids, learnt = composed(episode, ONE, shown, answer=True)
    assert ids == whole + whole[:9]
    assert not any(learnt)
    both, learnt = composed(episode, ONE, ONE)
    assert both == whole + whole
    assert sum(learnt) == 6, "the actions of the prompt are learnt too"


def test_texts_come_first_and_are_learnt():
    episode = Episode()
    episode.fit(iter([episode.load_value(one) for one in WORDS]))
    said = [*episode._words.encode("go to the red thing"), episode.eos]
    ids, learnt = composed(episode, ONE | {"text": "go to the red thing"})
    assert ids == said + composed(episode, ONE)[0]
    assert learnt[: len(said)] == [True] * len(said)
    alone, learnt = composed(episode, {"text": "go to the red thing"})
    assert (alone, learnt) == (said, [True] * len(said))
    assert episode.decode([*said, 5]) == "go to the red thing"
    assert episode.decode([episode.alphabet.separator, *said]) == "go to the red thing"


def test_pictures_stand_at_their_steps():
    episode = Episode(pictures={"video": 2})
    frames = [np.zeros((3, 9, 9, 3), np.uint8)]
    place = episode.alphabet.places["video"]
    ids, _ = composed(episode, ONE, video=frames)
    steps = np.array(ids).reshape(3, 7)
    assert (steps == place).tolist() == [[False] * 3 + [True] * 2 + [False] * 2] * 3, (
        "video comes after speed"
    )
    early = Episode(pictures={"video": 2})
    ids_early, _ = composed(early, {"observations": {"wind": [0.5]}, "actions": [1]}, video=[frames[0][:1]])
    assert [at for _, at in plain(early, ids_early)] == [-1, -1, 2, -1, -1], (
        "places are counted over pictures"
    )
    two, _ = composed(episode, ONE, ONE, video=frames * 2)
    assert two == ids + ids
    only, learnt = composed(episode, answer=True, video=frames)
    assert (only, any(learnt)) == ([place] * 6, False)


def test_what_does_not_fit_is_named():
    episode = Episode(pictures={"video": 2}, places=5, max_tokens=30)
    frames = np.zeros((2, 9, 9, 3), np.uint8)
    with pytest.raises(DataError, match=r"video': expected a picture for each of 3 steps, found 2"):
        composed(episode, ONE, video=[frames])
    with pytest.raises(DataError, match=r"video': expected one for each of 1 episodes, found 2"):
        composed(episode, ONE, video=[frames, frames])
    with pytest.raises(DataError, match="the sample has 30 tokens or more, the limit is 29: cut"):
        composed(Episode(max_tokens=29), ONE, ONE)
    with pytest.raises(DataError, match="6 tokens are seen at a step, the limit is 5"):
        composed(episode, {"observations": np.zeros((1, 6)), "actions": [1]})
    with pytest.raises(DataError, match="actions': expected an action for each step, found one less"):
        composed(episode, {"observations": [1, 2], "actions": [1]})
    with pytest.raises(DataError, match="actions': an action is wanted: the last episode must have one less"):
        composed(episode, ONE, answer=True)
    with pytest.raises(DataError, match="nothing to learn"):
        composed(episode, video=[frames])
    with pytest.raises(DataError, match="sees no video at its steps"):
        composed(Episode(), ONE, video=[np.zeros((3, 9, 9, 3), np.uint8)])
    with pytest.raises(ConfigError, match="not learnt yet"):
        composed(Episode(), {"text": "go"})
    with pytest.raises(ConfigError, match="must be at least 1"):
        Episode(places=0)


def test_the_promises_of_a_modality(tmp_path):
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"observations": [0.5, 1.5], "actions": [3, 4], "text": "<b>go</b>"}))
    check_modality(
        Episode(),
        [ONE, file, file.read_bytes(), {"text": "go there"}],
        broken=[{}, {"actions": [1]}, b"\0\1", tmp_path / "none.npz"],
    )


def test_without_texts_words_are_bytes(tmp_path):
    episode = Episode()
    episode.fit(iter([episode.load_value(ONE)]))
    episode.save(tmp_path)
    again = Episode()
    again.load(tmp_path)
    said = again.prepare(again.load_value({"text": "go"})).tolist()
    assert len(said) == len(" go") + 1
    assert again.decode(said) == "go"
