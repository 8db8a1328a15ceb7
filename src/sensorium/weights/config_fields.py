"""Fields that any ``config.json`` of transformers may carry, besides those that describe its model.

Versions before 4.57 wrote every attribute of the base class, also into each nested section. A family that uses one of
these takes it, which goes before what is said here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ORIGIN = frozenset(
    {
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "finetuning_task",
        "model_type",
        "name_or_path",
        "prefix",
        "task_specific_params",
        "tokenizer_class",
        "transformers_version",
    }
)
_EXECUTION = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_attn_implementation_internal",
        "_experts_implementation_internal",
        "attn_implementation",
        "chunk_size_feed_forward",
        "dtype",
        "experts_implementation",
        "gradient_checkpointing",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "return_dict",
        "return_dict_in_generate",
        "tf_legacy_loss",
        "torch_dtype",
        "torchscript",
        "transformers.js_config",
        "use_bfloat16",
        "use_cache",
    }
)
_LABELS = frozenset({"_num_labels", "id2label", "label2id", "num_labels", "problem_type"})
_GENERATION = frozenset(
    {
        "assistant_confidence_threshold",
        "assistant_lookbehind",
        "bad_words_ids",
        "begin_suppress_tokens",
        "bos_token_id",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "encoder_repetition_penalty",
        "epsilon_cutoff",
        "eta_cutoff",
        "exponential_decay_length_penalty",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "length_penalty",
        "max_length",
        "max_new_tokens",
        "min_length",
        "no_repeat_ngram_size",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "remove_invalid_values",
        "repetition_penalty",
        "sep_token_id",
        "suppress_tokens",
        "target_lookbehind",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
    }
)

#: Whatever their value, a forward pass computes the same numbers.
UNUSED = _ORIGIN | _EXECUTION | _LABELS | _GENERATION
#: These would change the model: the values at which they do not.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "eos_token_id": (None,),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "pad_token_id": (None,),
    "per_layer_config": (None,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "tie_encoder_decoder": (False,),
}
#: These name code of the file's author.
CODE = ("auto_map", "custom_generate", "custom_pipelines", "trust_remote_code")
