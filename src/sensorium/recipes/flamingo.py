"""Flamingo: a frozen language model whose words look at pictures through new layers, opened by gates; as IDEFICS, which
is LLaMA and CLIP joined so, and in the names of OpenFlamingo (see ``_open_flamingo``).

Alayrac et al. 2022, "Flamingo: a Visual Language Model for Few-Shot Learning", arXiv:2204.14198; IDEFICS: Laurençon et
al. 2023, "OBELICS: An Open Web-Scale Filtered Dataset of Interleaved Image-Text Documents", arXiv:2306.16527.
"""

from __future__ import annotations

from typing import Any

from ..core.errors import CapabilityError
from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import Repeated
from ..modalities.public_images import image_config
from ..nn.architectures.cross_attended import CrossAttended
from ..nn.connectors.resampler import Resampler, resampler_block
from ..nn.connectors.unchanged import Unchanged
from ..nn.encoders.patch_tower import PatchTower
from ..nn.layers.attention import CrossAttention
from ..nn.layers.gated_cross import CrossedBlock, GatedCrossAttention
from ..nn.layers.norms import LayerNorm, RMSNorm
from ..training.rules import Rule
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, Drop, KeyMap, fuse, fused, layer, same, shaped, under
from . import _open_flamingo, clip
from ._fresh import fresh
from ._layers import layers
from ._shared import PREPROCESSOR, picture
from ._trunks import gated, gated_fields, gated_keys, language_model, system
from ._vocabulary import vocabulary

_WHOLE = {"freeze_text_layers": False, "freeze_vision_layers": False, "eos_token_id": 1}
#: The public config of each size. All learns, as all is fresh; the end of what is said is token 1 where it is learnt.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
        "vocab_size": 2048, "cross_layer_interval": 2, "use_resampler": True,
        "perceiver_config": {"resampler_n_latents": 8, "resampler_depth": 2, "resampler_n_heads": 2,
                             "resampler_head_dim": 32},
        "vision_config": {"embed_dim": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "image_size": 64, "patch_size": 8},
        **_WHOLE,
    },
    "9b": {"cross_layer_interval": 4, "use_resampler": True, "qk_layer_norms": True,
           "perceiver_config": {"qk_layer_norms_perceiver": True},
           "vision_config": {"embed_dim": 1280}, **_WHOLE},
}  # fmt: skip
PROCESSOR = "IdeficsImageProcessor"
IMAGE, AROUND, END = "<image>", "<fake_token_around_image>", "<end_of_utterance>"
#: Fields without influence on what is computed: how a gate begins, and what the training of these models left.
_BEGINNING = ("alpha_initializer", "alphas_initializer_range")
_LEFT = ("cross_layer_activation_function", "ffn_dim", "max_sequence_length", "word_embed_proj_dim")
#: What a checkpoint without a template of its own is spoken to with; neighbouring pictures share a token around them.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    f"{{% if loop.first or loop.previtem['type'] != 'image' %}}{AROUND}{{% endif %}}{IMAGE}{AROUND}"
    "{% else %}{% if loop.first %} {% endif %}{{ part['text'] }}{% endif %}{% endfor %}"
    f"{END}{{{{ '\\n' }}}}{{% endfor %}}{{% if add_generation_prompt %}}Assistant:{{% endif %}}"
)


def flamingo(size: str = "9b") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    return fresh(FAMILY, SIZES, size)


def vision(config: Config) -> Spec:
    """The image tower of a public ``vision_config``: that of CLIP, in other words and sizes."""
    width = config.take("embed_dim", int, config.raw.get("hidden_size") or 768, least=1)
    config.expect("hidden_size", width)
    config.ignore("vision_model_name")
    usual = {"patch_size": 14, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
    config.assume({"hidden_size": width, "hidden_act": "gelu", **usual})
    return clip.vision(config)


def crossed(config: Config, trunk: Spec, seen: int) -> Spec:
    """The ``trunk`` of a public config, in which every so many blocks begin by looking at rows of width ``seen``."""
    width, plain, depth = trunk.width, trunk.block, trunk.depth
    every = config.take("cross_layer_interval", int, 1, least=1)
    if depth % every:
        raise config.error("cross_layer_interval", f"expected a divisor of {depth} layers, found {every}")
    kind = config.take("alpha_type", str, "float", among=("float", "vector"))
    start = config.take(
        "alpha_initializer", str, "zeros", among=("zeros", "ones", "normal", "gaussian", "random")
    )
    spread = config.take("alphas_initializer_range", float, 0.0, least=0)
    config.ignore(*_BEGINNING)  # kept, and written again
    heads = plain.attention.heads
    norm = None
    if config.take("qk_layer_norms", bool, False):
        norm = Spec(RMSNorm, width=width // heads, eps=plain.norm.eps)
    cross = Spec(
        GatedCrossAttention,
        norm=plain.norm,
        attention=Spec(
            CrossAttention,
            width=width,
            context_width=seen,
            heads=heads,
            biases="",
            norm_query=norm,
            norm_key=norm,
        ),
        feed_forward=plain.feed_forward,
        gate_width=width if kind == "vector" else 1,
        gate_mean=1.0 if start == "ones" else 0.0,
        gate_std=spread if start not in ("zeros", "ones") else 0.0,
    )
    looking = Spec(CrossedBlock, **plain.arguments, cross=cross)
    return trunk.replace(block=[looking, *[plain] * (every - 1)])


def connector(config: Config, width: int) -> Spec:
    """What is between pictures and words, of a public config: a resampler, or nothing."""
    section = config.section("perceiver_config")
    section.ignore("use_resampler")
    if not config.take("use_resampler", bool, False):
        section.ignore("resampler_n_latents", "resampler_depth", "resampler_n_heads", "resampler_head_dim")
        section.ignore("qk_layer_norms_perceiver")
        return Spec(Unchanged, width=width)
    return Spec(
        Resampler,
        width=width,
        latents=section.take("resampler_n_latents", int, 64, least=1),
        depth=section.take("resampler_depth", int, 6, least=1),
        block=resampler_block(
            width=width,
            heads=section.take("resampler_n_heads", int, 16, least=1),
            head_width=section.take("resampler_head_dim", int, 96, least=1),
            activation="relu",
            norm_heads=section.take("qk_layer_norms_perceiver", bool, False),
        ),
        norm_out=Spec(LayerNorm, width=width),
    )


def flamingo_network(config: Config, place: int | None) -> Spec:
    """The network of a public config; ``place`` is the token of a picture, by default the second of those added."""
    tower = vision(config.section("vision_config"))
    config.expect("dropout", 0.0)
    config.ignore(*_LEFT)
    between, trunk = connector(config, tower.trunk.width), gated(config)
    decoder = language_model(config, crossed(config, trunk, tower.trunk.width), trunk.block.norm, tied=False)
    base = decoder.embedding.vocabulary
    vocabulary = base + config.take("additional_vocab_size", int, 0, least=0)
    config.ignore("additional_vocab_size")  # kept, and written again
    decoder = decoder.set("embedding.vocabulary", vocabulary)
    if decoder.head is not None:
        decoder = decoder.set("head.vocabulary", vocabulary)
    end = config.take("eos_token_id", int | list[int] | None, 2)
    return Spec(
        CrossAttended,
        language="text",
        decoder=decoder,
        towers={"image": tower},
        connectors={"image": between},
        placeholders={"image": base + 1 if place is None else place},
        end=end[0] if isinstance(end, list) else end,
    )


def frozen(config: Config, tied: bool) -> list[Spec]:
    """What of a public config's network does not learn: by default all that was there before the new layers."""
    patterns = []
    if config.take("freeze_text_layers", bool, True):
        patterns += [r"^decoder\.(embedding|norm)\.", r"^decoder\.trunk\.blocks\.\d+\.(?!cross\.)"]
    if config.take("freeze_lm_head", bool, False) and not tied:
        patterns.append(r"^decoder\.head\.")
    if config.take("freeze_vision_layers", bool, True):
        patterns.append(r"^towers\.")
    config.ignore("freeze_text_layers", "freeze_lm_head", "freeze_vision_layers")  # kept, and written again
    config.ignore("freeze_text_module_exceptions", "freeze_vision_module_exceptions")
    return [Spec(Rule, pattern=pattern, rate=0.0) for pattern in patterns]


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    side = folder.config.section("vision_config").take("image_size", int, 224, least=1)
    image, pixels = picture(folder, PROCESSOR, {"image_size": side})
    place, template = None, TEMPLATE
    if (words := vocabulary(folder)) is not None:
        place = words.engine.id(IMAGE)
        if END not in words.engine.added:  # those that were not taught to converse
            template = TEMPLATE.replace(END, "")
    network = flamingo_network(folder.config, place).set("towers.image.embedding.values", pixels)
    rules = frozen(folder.config, network.decoder.head is None)
    folder.config.finish()
    held = Spec(Repeated, written=IMAGE, token=IMAGE, count=1)
    text = Spec(Conversation, placeholders={"image": held}, fallback=template)
    found = system("flamingo", network, {"image": image, "text": text}, lr=1e-4)
    return found.set("training.rules", rules)


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network = spec.model
    decoder, tower, between = network.decoder, network.towers["image"], network.connectors["image"]
    if tower.cls is not PatchTower:
        raise CapabilityError(
            "IDEFICS looks at all tokens of its encoder, this model does not: save as sensorium"
        )
    every, cross = _interval(decoder), layers(decoder.trunk)[0].cross
    text = gated_fields(decoder)
    for name in ("num_key_value_heads", "head_dim", "attention_dropout"):
        del text[name]
    seen = clip.vision_fields(tower)
    seen["embed_dim"] = seen.pop("hidden_size")
    resampled = {}
    if between.cls is Resampler:
        attention = between.block.attention
        resampled = {
            "resampler_n_latents": between.latents,
            "resampler_depth": between.depth,
            "resampler_n_heads": attention.heads,
            "resampler_head_dim": attention.head_width,
            "qk_layer_norms_perceiver": attention.norm_query is not None,
        }
    config = text | {
        "architectures": ["IdeficsForVisionText2Text"],
        "model_type": "idefics",
        "vocab_size": decoder.embedding.vocabulary - _added(spec),
        "additional_vocab_size": _added(spec),
        "cross_layer_interval": every,
        "qk_layer_norms": cross.attention.norm_query is not None,
        "alpha_type": "float" if cross.gate_width == 1 else "vector",
        "use_resampler": bool(resampled),
        "perceiver_config": resampled,
        "vision_config": seen | {"model_type": "idefics_vision"},
    }
    prepared = image_config(spec.modalities["image"], tower.embedding.values, PROCESSOR)
    return {"config.json": config, PREPROCESSOR: prepared}


def _interval(decoder: Spec) -> int:
    """Of how many blocks one looks at pictures."""
    return len(decoder.trunk.block)


def _added(spec: Spec) -> int:
    """How many tokens stand in tables of their own."""
    return (spec.public or {}).get("additional_vocab_size", 0)


def keys(spec: Spec) -> KeyMap:
    """LLaMA, the layers between its blocks, CLIP and the resampler. Words that were added have tables of their own."""
    decoder = spec.model.decoder
    every, added = _interval(decoder), _added(spec)
    sizes = [decoder.embedding.vocabulary - added, added]
    words: list[AnyRule] = []
    if added:
        table, more = "model.embed_tokens.weight", "model.embed_tokens.additional_embedding.weight"
        words = [fuse([table, more], "decoder.embedding.token.weight", sizes)]
        if decoder.head is None:
            words.append(Drop("lm_head.additional_fc.weight", "it is a table of words", equal=more))
        else:
            words.append(
                fuse(["lm_head.weight", "lm_head.additional_fc.weight"], "decoder.head.weight", sizes)
            )
    gates = shaped([1, 1, -1], [-1]) if layers(decoder.trunk)[0].cross.gate_width > 1 else shaped([-1], [-1])
    cross: list[AnyRule] = [
        same("alpha_cross_attn", "gate_attention", gates),
        same("alpha_dense", "gate_feed_forward", gates),
        same("input_layernorm.weight", "norm_attention.weight"),
        same("post_attention_layernorm.weight", "norm_feed_forward.weight"),
        same("cross_attn.q_proj.weight", "attention.q.weight"),
        fuse(["cross_attn.k_proj.weight", "cross_attn.v_proj.weight"], "attention.kv.weight"),
        same("cross_attn.o_proj.weight", "attention.out.weight"),
        same("cross_attn.q_layer_norm.weight", "attention.norm_query.weight"),
        same("cross_attn.k_layer_norm.weight", "attention.norm_key.weight"),
        Drop("cross_attn.rotary_emb.inv_freq", "pictures have no places"),
        *fused(["mlp.gate_proj", "mlp.up_proj"], "feed_forward.gate_up"),
        *layer("mlp.down_proj", "feed_forward.down"),
    ]
    between = [
        rule
        for place in range(decoder.trunk.depth // every)
        for rule in under(
            f"model.gated_cross_attn_layers.{place}.", f"decoder.trunk.blocks.{place * every}.cross.", cross
        )
    ]
    return KeyMap(
        [
            *words,
            *between,
            *under("", "decoder.", gated_keys(decoder)),
            *under("model.vision_model.", "towers.image.", clip.vision_keys(spec.model.towers["image"])),
            same("model.perceiver_resampler.latents", "connectors.image.latents"),
            *under("model.perceiver_resampler.blocks.{i}.", "connectors.image.blocks.{i}.", RESAMPLER),
            *layer("model.perceiver_resampler.layer_norm", "connectors.image.norm_out"),
        ]
    )


#: One block of the resampler.
RESAMPLER: list[AnyRule] = [
    *layer("0.context_layer_norm", "norm_context"),
    *layer("0.latents_layer_norm", "norm_latents"),
    *layer("0.q_layer_norm", "attention.norm_query"),
    *layer("0.k_layer_norm", "attention.norm_key"),
    same("0.q_proj.weight", "attention.q.weight"),
    fuse(["0.k_proj.weight", "0.v_proj.weight"], "attention.kv.weight"),
    same("0.output_proj.weight", "attention.out.weight"),
    *layer("1.ln", "norm_feed_forward"),
    same("1.fc.weight", "feed_forward.up.weight"),
    same("1.c_proj.weight", "feed_forward.down.weight"),
]
FAMILY = Family(
    name="flamingo",
    model_types=("idefics",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="Flamingo (IDEFICS)",
        paper="Alayrac et al. 2022, arXiv:2204.14198; Laurençon et al. 2023, arXiv:2306.16527",
        licence="terms of Meta's LLaMA; new layers MIT",
        preparation="224 x 224 bicubic, 64 rows a picture, which the words after it look at; OpenFlamingo's names "
        "from its code, no published file read",
        examples=("HuggingFaceM4/idefics-9b-instruct", "HuggingFaceM4/idefics-9b"),
    ),
)
OPEN_FLAMINGO = _open_flamingo.Assembled(
    name="flamingo",
    model_types=(),
    read=_open_flamingo.read,
    write=_open_flamingo.write,
    keys=_open_flamingo.keys,
    card=FAMILY.card,
    layout=_open_flamingo.LAYOUT,
    config_file=_open_flamingo.CONFIG,
    weights_files=(_open_flamingo.NEW,),
    claims=_open_flamingo.claims,
)
