"""Sound preparation of public checkpoints: from a ``preprocessor_config.json`` of transformers, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core import CapabilityError, Spec, nearest
from .fields import FILE, Fields
from .mel_picture import MelPicture
from .spectrogram import LogMel
from .waveform import Waveform

_SHORT = {"repeatpad": "repeat_whole", "repeat": "repeat", "pad": "silence"}
_LONG = {"fusion": "fusion", "rand_trunc": "crop"}
_FLOOR = 1e-10
_WHISPER = {"span": 8.0, "mean": -4.0, "std": 4.0}  # bels


def sound_settings(config: Mapping[str, Any], where: str = FILE, *, kind: str | None = None) -> Spec:
    """The Spec of a ``Waveform`` (wav2vec 2.0) or ``MelPicture`` (CLAP, Whisper) that prepares as ``config`` says.

    ``config`` is the content of the file that transformers wrote; ``kind`` (such as "Wav2Vec2FeatureExtractor") is
    what wrote it, if the file does not say. Raises CapabilityError for another extractor or an ability that is not
    built, ConfigError for a field that is unknown, wrong or contradicts another; each names ``where`` and the field.
    """
    fields = Fields(config, where, "feature_extractor")
    name = fields.kind(kind)
    if name not in _READERS:
        raise CapabilityError(
            f"{where}: feature_extractor_type: no preparation for {name}FeatureExtractor{nearest(name, _READERS)}"
        )
    fields.expect("padding_value", 0.0)
    fields.expect("padding_side", "right")
    fields.ignore("return_attention_mask")  # real samples are always known here
    spec = _READERS[name](fields)
    fields.finish()
    return spec


def _read_waveform(fields: Fields) -> Spec:
    fields.expect("feature_size", 1)
    rate = fields.whole("sampling_rate", 16_000)
    return Spec(Waveform, sample_rate=rate, normalise=fields.flag("do_normalize", True))


def _read_clap(fields: Fields) -> Spec:
    rate, seconds = fields.whole("sampling_rate", 48_000), fields.whole("max_length_s", 10)
    window, hop = fields.whole("fft_window_size", 1024), fields.whole("hop_length", 480)
    long = _LONG[fields.text("truncation", "fusion", among=_LONG)]
    fields.agree("nb_max_samples", seconds * rate)
    fields.agree("nb_frequency_bins", window // 2 + 1)
    fields.ignore("top_db", "chunk_length_s", "n_fft")  # the extractor does not use them
    spectrogram = Spec(
        LogMel,
        **_public_mel(rate, window, hop, fields.whole("feature_size", 64)),
        low=fields.number("frequency_min", 0, least=0),
        high=fields.number("frequency_max", 14_000, least=0),
        scale="htk" if long == "fusion" else "slaney",
        equal_area=long != "fusion",
        last_frame=True,
        unit="decibel",
        double=True,
    )
    short = _SHORT[fields.text("padding", "repeatpad", among=_SHORT)]
    return Spec(MelPicture, spectrogram=spectrogram, seconds=seconds, short=short, long=long)


def _read_whisper(fields: Fields) -> Spec:
    rate, seconds = fields.whole("sampling_rate", 16_000), fields.whole("chunk_length", 30)
    window, hop = fields.whole("n_fft", 400), fields.whole("hop_length", 160)
    fields.agree("n_samples", seconds * rate)
    fields.agree("nb_max_frames", seconds * rate // hop)
    fields.expect("dither", 0.0)
    fields.ignore("mel_filters")  # of the first files, which wrote them out
    # In single precision, as the reference computes where torch is present: in double it differs by 3e-5.
    mel = _public_mel(rate, window, hop, fields.whole("feature_size", 80))
    spectrogram = Spec(LogMel, **mel, low=0.0, high=8_000.0, unit="bel", span=_WHISPER["span"])
    scaling = {"mean": _WHISPER["mean"], "std": _WHISPER["std"]}
    return Spec(MelPicture, spectrogram=spectrogram, seconds=seconds, **scaling)


_READERS = {"Wav2Vec2": _read_waveform, "Clap": _read_clap, "Whisper": _read_whisper}


def _public_mel(rate: int, window: int, hop: int, mels: int) -> dict[str, Any]:
    return {"rate": rate, "window": window, "hop": hop, "mels": mels, "edges": "reflect", "floor": _FLOOR}


def sound_config(sound: Spec) -> dict[str, Any]:
    """The content of a ``preprocessor_config.json`` with which transformers' AutoFeatureExtractor prepares as ``sound``
    (the Spec of a ``Waveform`` or ``MelPicture``) does.

    Raises CapabilityError for a preparation that transformers has not.
    """
    common = {"padding_side": "right", "padding_value": 0.0, "return_attention_mask": False}
    if sound.cls is Waveform:
        config = {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": sound.sample_rate,
            "do_normalize": sound.normalise,
        }
    elif sound.cls is MelPicture:
        config = _written_clap(sound) if sound.long != "first" else _written_whisper(sound)
    else:
        raise CapabilityError(f"transformers has no feature extractor for {sound.cls.__name__}")
    config |= common
    if sound.cls is MelPicture:
        _check_same(sound, sound_settings(config, "what was written"))
    return config


def _written_clap(sound: Spec) -> dict[str, Any]:
    mel = sound.spectrogram
    return {
        "feature_extractor_type": "ClapFeatureExtractor",
        "feature_size": mel.mels,
        "sampling_rate": mel.rate,
        "fft_window_size": mel.window,
        "hop_length": mel.hop,
        "max_length_s": _whole(sound.seconds),
        "frequency_min": mel.low,
        "frequency_max": mel.high,
        "truncation": _name(_LONG, sound.long),
        "padding": _name(_SHORT, sound.short),
    }


def _written_whisper(sound: Spec) -> dict[str, Any]:
    mel = sound.spectrogram
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": mel.mels,
        "sampling_rate": mel.rate,
        "n_fft": mel.window,
        "hop_length": mel.hop,
        "chunk_length": _whole(sound.seconds),
    }


def _whole(seconds: float) -> int:
    if seconds != int(seconds):
        raise CapabilityError(f"transformers takes whole seconds of sound, found {seconds}")
    return int(seconds)


def _name(names: Mapping[str, str], ours: str) -> str:
    return next(theirs for theirs, value in names.items() if value == ours)


def _check_same(sound: Spec, again: Spec) -> None:
    """Whether what is read back equals what was written, as far as preparation goes."""
    for name in ("short", "long", "mean", "std"):
        if getattr(sound, name) != getattr(again, name):
            raise _unknown(name, getattr(sound, name), getattr(again, name))
    for name in again.spectrogram.arguments:
        ours, theirs = getattr(sound.spectrogram, name), getattr(again.spectrogram, name)
        if ours != theirs:
            raise _unknown(f"spectrogram.{name}", ours, theirs)


def _unknown(name: str, ours: Any, theirs: Any) -> CapabilityError:
    return CapabilityError(f"transformers has no feature extractor with {name} {ours!r}: expected {theirs!r}")
