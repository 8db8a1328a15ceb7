"""wav2vec 2.0: a speech encoder over raw samples, learnt from recordings alone, then taught to transcribe.

Baevski et al. 2020, "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations",
arXiv:2006.11477. Transcripts are by CTC (Graves et al. 2006).
"""

from __future__ import annotations

from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..core.system import System
from ..modalities.pretrained_text import PretrainedText
from ..modalities.public_sound import sound_config, sound_settings
from ..modalities.transcripts import Transcripts
from ..modalities.waveform import Waveform
from ..nn.architectures.single import Single
from ..nn.architectures.speech_pretraining import SpeechPretraining
from ..nn.architectures.transcriber import Transcriber
from ..nn.encoders.spec_augment import SpecAugment
from ..nn.encoders.wave_stem import FrameNorm, SegmentNorm, WaveConvolution, WaveStem
from ..nn.encoders.wave_tower import WaveTower
from ..nn.heads.ctc import CTCHead
from ..nn.heads.pooling import MeanToken, Pool
from ..nn.heads.quantiser import GumbelQuantiser
from ..nn.layers.attention import SelfAttention
from ..nn.layers.blocks import PostNorm, PreNorm
from ..nn.layers.convolved_positions import ConvolvedPositions
from ..nn.layers.drop_path import Dropout
from ..nn.layers.feed_forward import MLP
from ..nn.layers.norms import LayerNorm
from ..nn.layers.transformer import Transformer
from ..nn.skeleton import Skeleton
from ..objectives import CTC, CodeContrast, CodeDiversity
from ..training.optimizer import AdamW
from ..training.settings import Loading
from ..training.trainer import Training
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, Drop, KeyMap, fused, layer, same, shaped, under
from ._shared import PREPROCESSOR
from ._words import opened_as

#: The public config of each size, as far as it differs from that of base. The tiny one hears single words.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 384,
             "conv_dim": [32, 64, 64, 96], "conv_kernel": [10, 8, 8, 4], "conv_stride": [5, 4, 4, 4],
             "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "num_codevectors_per_group": 32,
             "codevector_dim": 64, "proj_codevector_dim": 64, "num_negatives": 20, "feat_extract_norm": "layer",
             "do_stable_layer_norm": True, "layerdrop": 0.0, "mask_time_length": 2, "mask_time_min_masks": 0},
    "base": {},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
              "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True, "codevector_dim": 768,
              "proj_codevector_dim": 768},
}  # fmt: skip
KINDS = ("ForPreTraining", "ForCTC", "Model")
_PRETRAINING = "-pretraining"
_CONVOLUTIONS = {
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
}


def wav2vec2(size: str = "base") -> Spec:
    """The System with fresh weights: ``base`` transcribes recordings, ``base-pretraining`` learns from them alone.

    Characters are learnt from your transcripts.
    """
    known = [name + ending for name in SIZES for ending in ("", _PRETRAINING)]
    if size not in known:
        raise ConfigError(f"wav2vec2 has no size {size!r}{nearest(size, known)}")
    fields = SIZES[size.removesuffix(_PRETRAINING)]
    config = Config(
        fields | {"mask_time_prob": 0.65 if size.endswith(_PRETRAINING) else 0.05}, f"wav2vec2:{size}"
    )
    sound = Spec(Waveform)
    if size.endswith(_PRETRAINING):
        spec = _pretraining(config, sound)
    else:
        spec = _transcriber(config, sound, Spec(Transcripts), zero_infinity=True)
    return spec.set("training.optimizer.lr", 2e-3) if size.startswith("tiny") else spec


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    config, kind = folder.config, opened_as(folder, "Wav2Vec2", KINDS)
    place = folder.path / PREPROCESSOR
    sound = sound_settings(folder.json(PREPROCESSOR) or {}, str(place), kind="Wav2Vec2FeatureExtractor")
    config.expect("add_adapter", False)
    config.expect("adapter_attn_dim", None)
    config.ignore("adapter_kernel_size", "adapter_stride", "num_adapter_layers", "output_hidden_size")
    config.ignore(
        "initializer_range", "bos_token_id", "eos_token_id", "hidden_dropout_prob", "feat_extract_dropout"
    )
    config.ignore("classifier_proj_size", "use_weighted_layer_sum", "xvector_output_dim")
    config.ignore("tdnn_dim", "tdnn_dilation", "tdnn_kernel", "mask_channel_length", "mask_channel_min_space")
    config.ignore("mask_channel_other", "mask_channel_prob", "mask_channel_selection", "mask_time_min_space")
    config.ignore("mask_time_other", "mask_time_selection", "no_mask_channel_overlap", "no_mask_time_overlap")
    config.ignore("freeze_feat_extract_train")
    if kind == "ForPreTraining":
        spec = _pretraining(config, sound)
    elif kind == "ForCTC":
        spec = _transcriber(config, sound, Spec(PretrainedText))
    else:
        network = Spec(Single, name="audio", tower=tower(config))
        spec = _system(network, sound, {}, {})
    config.ignore("pad_token_id", "vocab_size", "final_dropout", "ctc_loss_reduction", "ctc_zero_infinity")
    config.ignore(
        "num_codevectors_per_group", "num_codevector_groups", "codevector_dim", "proj_codevector_dim"
    )
    config.ignore(
        "num_negatives", "contrastive_logits_temperature", "diversity_loss_weight", "feat_quantizer_dropout"
    )
    config.finish()
    return spec


def _transcriber(config: Config, sound: Spec, words: Spec, zero_infinity: bool = False) -> Spec:
    listener = tower(config)
    network = Spec(
        Transcriber,
        name="audio",
        tower=listener,
        head=Spec(
            CTCHead,
            width=listener.trunk.width,
            vocabulary=config.take("vocab_size", int, 32, least=1),
            dropout=_rate(config, "final_dropout", 0.1),
        ),
        transcripts="text",
        blank=config.take("pad_token_id", int, 0, least=0),
    )
    loss = Spec(
        CTC,
        reduction=config.take("ctc_loss_reduction", str, "sum", among=("sum", "mean")),
        zero_infinity=config.take("ctc_zero_infinity", bool, zero_infinity),
    )
    return _system(network, sound, {"text": words}, {"ctc": loss})


def _pretraining(config: Config, sound: Spec) -> Spec:
    listener = tower(config)
    augment = listener.augment
    if augment is None or not augment.active or not augment.time_share:
        wanted = "expected true, and a mask_time_prob above 0"
        raise config.error("apply_spec_augment", f"pre-training hides frames: {wanted}")
    network = Spec(
        SpeechPretraining,
        name="audio",
        tower=listener,
        quantiser=Spec(
            GumbelQuantiser,
            width=listener.stem.layers[-1].width,
            books=config.take("num_codevector_groups", int, 2, least=1),
            entries=config.take("num_codevectors_per_group", int, 320, least=1),
            code_width=config.take("codevector_dim", int, 256, least=1),
        ),
        embedding=config.take("proj_codevector_dim", int, 256, least=1),
        distractors=config.take("num_negatives", int, 100, least=1),
        dropout=_rate(config, "feat_quantizer_dropout", 0.0),
    )
    temperature = config.take("contrastive_logits_temperature", float, 0.1)
    weight = config.take("diversity_loss_weight", float, 0.1, least=0)
    losses = {
        "codes": Spec(CodeContrast, temperature=temperature),
        "diversity": Spec(CodeDiversity, weight=weight),
    }
    return _system(network, sound, {}, losses, corrupt=1.0)


def _system(
    network: Spec, sound: Spec, words: dict[str, Spec], losses: dict[str, Spec], corrupt: float = 0.0
) -> Spec:
    with Skeleton():
        least = network.tower.stem.build().field
    return Spec(
        System,
        modalities={"audio": sound.replace(least=least), **words},
        model=network,
        objectives=losses,
        contrastive=None,
        training=Spec(
            Training,
            loading=Spec(Loading, batch=32, withhold=0.0, corrupt=corrupt),
            optimizer=Spec(AdamW, lr=5e-4, weight_decay=0.01),
        ),
        family="wav2vec2",
    )


def tower(config: Config) -> Spec:
    """The tower of a public config."""
    width = config.take("hidden_size", int, 768, least=1)
    eps = config.take("layer_norm_eps", float, 1e-5, least=0)
    stable = config.take("do_stable_layer_norm", bool, False)
    dropout, activation = (
        _rate(config, "hidden_dropout", 0.1),
        config.take("feat_extract_activation", str, "gelu"),
    )
    norm = Spec(LayerNorm, width=width, eps=eps)
    block = Spec(
        PreNorm if stable else PostNorm,
        norm=norm,
        attention=Spec(
            SelfAttention,
            width=width,
            heads=config.take("num_attention_heads", int, 12, least=1),
            dropout=_rate(config, "attention_dropout", 0.1),
        ),
        feed_forward=Spec(
            MLP,
            width=width,
            hidden=config.take("intermediate_size", int, 3072, least=1),
            activation=config.take("hidden_act", str, "gelu"),
            dropout=_rate(config, "activation_dropout", 0.1),
        ),
        branch=Spec(Dropout, rate=dropout),
    )
    return Spec(
        WaveTower,
        stem=_stem(config, activation),
        positions=Spec(
            ConvolvedPositions,
            width=width,
            kernel=config.take("num_conv_pos_embeddings", int, 128, least=1),
            groups=config.take("num_conv_pos_embedding_groups", int, 16, least=1),
            activation=activation,
        ),
        trunk=Spec(
            Transformer, width=width, depth=config.take("num_hidden_layers", int, 12, least=0), block=block
        ),
        pool=Spec(Pool, width=width, select=Spec(MeanToken)),
        norm_in=None if stable else norm,
        norm_out=norm if stable else None,
        augment=_augment(config, width),
        eps=eps,
        dropout_frames=_rate(config, "feat_proj_dropout", 0.0),
        dropout=dropout,
        layer_drop=_rate(config, "layerdrop", 0.1),
    )


def _stem(config: Config, activation: str) -> Spec:
    widths, kernels, strides = (
        config.take(name, list[int], default, least=1) for name, default in _CONVOLUTIONS.items()
    )
    if not widths or not len(widths) == len(kernels) == len(strides):
        found = f"{len(widths)}, {len(kernels)} and {len(strides)} layers"
        raise config.error("conv_dim", f"expected as many as in conv_kernel and conv_stride, found {found}")
    config.expect("num_feat_extract_layers", len(widths))
    every = config.take("feat_extract_norm", str, "group", among=("group", "layer")) == "layer"
    bias = config.take("conv_bias", bool, False)
    layers = [
        Spec(
            WaveConvolution,
            width_in=before,
            width=width,
            kernel=kernel,
            stride=stride,
            bias=bias,
            norm=Spec(FrameNorm if every else SegmentNorm, width=width) if every or index == 0 else None,
            activation=activation,
        )
        for index, (before, width, kernel, stride) in enumerate(
            zip([1, *widths], widths, kernels, strides, strict=False)
        )
    ]
    return Spec(WaveStem, layers=layers)


def _augment(config: Config, width: int) -> Spec | None:
    """What is hidden in training; where the shares are 0, checkpoints have no vector for it."""
    found = Spec(
        SpecAugment,
        width=width,
        time_share=_rate(config, "mask_time_prob", 0.05),
        time_length=config.take("mask_time_length", int, 10, least=1),
        time_least=config.take("mask_time_min_masks", int, 2, least=0),
        channel_share=_rate(config, "mask_feature_prob", 0.0),
        channel_length=config.take("mask_feature_length", int, 10, least=1),
        channel_least=config.take("mask_feature_min_masks", int, 0, least=0),
        active=config.take("apply_spec_augment", bool, True),
    )
    if found.time_share or found.channel_share:
        return found
    config.ignore("mask_time_length", "mask_time_min_masks", "mask_feature_length", "mask_feature_min_masks")
    config.ignore("apply_spec_augment")
    return None


def _rate(config: Config, name: str, default: float) -> float:
    return config.take(name, float, default, least=0, most=1)


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network = spec.model
    config = {"model_type": "wav2vec2", **_written(network.tower)}
    if network.cls is Single:
        config["architectures"] = ["Wav2Vec2Model"]
    elif network.cls is Transcriber:
        loss = spec.objectives["ctc"]
        config |= {
            "architectures": ["Wav2Vec2ForCTC"],
            "vocab_size": network.head.vocabulary,
            "final_dropout": network.head.dropout,
            "pad_token_id": network.blank,
            "ctc_loss_reduction": loss.reduction,
            "ctc_zero_infinity": loss.zero_infinity,
        }
    else:
        config |= {
            "architectures": ["Wav2Vec2ForPreTraining"],
            "num_codevector_groups": network.quantiser.books,
            "num_codevectors_per_group": network.quantiser.entries,
            "codevector_dim": network.quantiser.code_width,
            "proj_codevector_dim": network.embedding,
            "num_negatives": network.distractors,
            "feat_quantizer_dropout": network.dropout,
            "contrastive_logits_temperature": spec.objectives["codes"].temperature,
            "diversity_loss_weight": spec.objectives["diversity"].weight,
        }
    # Where a norm sees padding, the reference was trained without a mask, else with one.
    sound = sound_config(spec.modalities["audio"]) | {
        "return_attention_mask": config["feat_extract_norm"] == "layer"
    }
    return {"config.json": config, PREPROCESSOR: sound}


def _written(listener: Spec) -> dict[str, Any]:
    layers, block, augment = listener.stem.layers, listener.trunk.block, listener.augment
    fields = {
        "hidden_size": listener.trunk.width,
        "num_hidden_layers": listener.trunk.depth,
        "num_attention_heads": block.attention.heads,
        "intermediate_size": block.feed_forward.hidden,
        "hidden_act": block.feed_forward.activation,
        "layer_norm_eps": listener.eps,
        "do_stable_layer_norm": block.cls is PreNorm,
        "attention_dropout": block.attention.dropout,
        "activation_dropout": block.feed_forward.dropout,
        "hidden_dropout": listener.dropout,
        "feat_proj_dropout": listener.dropout_frames,
        "layerdrop": listener.layer_drop,
        "feat_extract_norm": "layer" if layers[0].norm.cls is FrameNorm else "group",
        "feat_extract_activation": layers[0].activation,
        "conv_dim": [part.width for part in layers],
        "conv_kernel": [part.kernel for part in layers],
        "conv_stride": [part.stride for part in layers],
        "conv_bias": layers[0].bias,
        "num_conv_pos_embeddings": listener.positions.kernel,
        "num_conv_pos_embedding_groups": listener.positions.groups,
        "mask_time_prob": augment.time_share if augment is not None else 0.0,
        "mask_feature_prob": augment.channel_share if augment is not None else 0.0,
    }
    if augment is not None:
        fields |= {
            "apply_spec_augment": augment.active,
            "mask_time_length": augment.time_length,
            "mask_time_min_masks": augment.time_least,
            "mask_feature_length": augment.channel_length,
            "mask_feature_min_masks": augment.channel_least,
        }
    return fields


#: One block, pre-norm or post-norm.
BLOCK: list[AnyRule] = [
    *fused([f"attention.{part}_proj" for part in "qkv"], "attention.qkv"),
    *layer("attention.out_proj", "attention.out"),
    *layer("layer_norm", "norm_attention"),
    *layer("feed_forward.intermediate_dense", "feed_forward.up"),
    *layer("feed_forward.output_dense", "feed_forward.down"),
    *layer("final_layer_norm", "norm_feed_forward"),
]
POSITIONS = "encoder.pos_conv_embed.conv"
TOWER_KEYS: list[AnyRule] = [
    *layer("feature_extractor.conv_layers.{i}.conv", "stem.layers.{i}.conv"),
    *layer("feature_extractor.conv_layers.{i}.layer_norm", "stem.layers.{i}.norm"),
    *layer("feature_projection.layer_norm", "norm_stem"),
    *layer("feature_projection.projection", "project"),
    same("masked_spec_embed", "augment.vector"),
    same(f"{POSITIONS}.weight_g", "positions.scale"),
    same(f"{POSITIONS}.weight_v", "positions.direction"),
    same(f"{POSITIONS}.bias", "positions.bias"),
    *under("encoder.layers.{i}.", "trunk.blocks.{i}.", BLOCK),
]


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a head, and the head; weight norm in both spellings."""
    network = spec.model
    place = "norm_out" if network.tower.norm_out is not None else "norm_in"
    rules = [*TOWER_KEYS, *layer("encoder.layer_norm", place)]
    if network.tower.augment is None:
        rules.append(Drop("masked_spec_embed", "nothing is hidden"))
    spellings = [
        (r"\.parametrizations\.weight\.original0$", ".weight_g"),
        (r"\.parametrizations\.weight\.original1$", ".weight_v"),
    ]
    if network.cls is Single:
        return KeyMap(under("", "towers.audio.", rules), [*spellings, (r"^wav2vec2\.", "")])
    spellings.append((r"^(feature_extractor|feature_projection|encoder|masked_spec_embed)", r"wav2vec2.\1"))
    rules = under("wav2vec2.", "towers.audio.", rules)
    if network.cls is Transcriber:
        return KeyMap([*rules, *layer("lm_head", "head.project")], spellings)
    books, entries = network.quantiser.books, network.quantiser.entries
    return KeyMap(
        [
            *rules,
            *layer("project_hid", "project_context"),
            *layer("project_q", "project_codes"),
            *layer("quantizer.weight_proj", "quantiser.choose"),
            same(
                "quantizer.codevectors",
                "quantiser.codes",
                shaped([1, books * entries, -1], [books, entries, -1]),
            ),
        ],
        spellings,
    )


FAMILY = Family(
    name="wav2vec2",
    model_types=("wav2vec2",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="wav2vec 2.0",
        paper="Baevski et al. 2020, arXiv:2006.11477",
        licence="Apache 2.0",
        preparation="samples at 16 kHz with mean 0 and variance 1 per recording; transcripts as characters",
        examples=(
            "facebook/wav2vec2-base",
            "facebook/wav2vec2-base-960h",
            "facebook/wav2vec2-large-960h-lv60-self",
        ),
    ),
)
