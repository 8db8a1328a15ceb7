from __future__ import annotations

import inspect
import json
import pickle
import subprocess
import sys

from sensorium.core import Modality, Spec
from sensorium.modalities import standard


def test_one_of_each_by_name():
    found = standard()
    assert list(found) == ["text", "image", "audio", "video", "series"]
    assert all(isinstance(modality, Modality) for modality in found.values())
    endings = [ending for modality in found.values() for ending in modality.extensions]
    assert len(endings) == len(set(endings))
    assert all(ending == ending.lower() and ending.startswith(".") for ending in endings)


def test_settings_are_keywords_and_json():
    for modality in standard().values():
        parameters = inspect.signature(type(modality)).parameters.values()
        assert len(parameters) <= 15
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
        settings = {parameter.name: parameter.default for parameter in parameters}
        assert json.loads(json.dumps(settings)) == settings
        spec = Spec(type(modality), **settings)
        assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
        assert type(spec.build()) is type(modality)


def test_can_be_sent_to_loader_processes():
    for modality in standard().values():
        assert type(pickle.loads(pickle.dumps(modality))) is type(modality)


def test_importing_is_light():
    heavy = {"tokenizers", "soundfile", "PIL", "av"}
    code = f"import sys, sensorium.modalities as m; m.standard(); print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
