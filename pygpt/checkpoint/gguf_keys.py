"""GGUF's metadata: what pygpt asks for, and what may be passed over.

The keys that say what the model computes begin with the architecture's name. The family asks for them (under its own
names: gguf_settings.py), or they stand here with the value that changes nothing, or they are an error. Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from pygpt._json import shown
from pygpt.errors import ConfigError
from pygpt.families.keys import Known, fixed, harmless, refuse_unknown

KNOWN: dict[str, Known] = {
    **harmless(
        "what people read",
        "general.name", "general.basename", "general.finetune", "general.size_label", "general.version",
        "general.description", "general.author", "general.organization", "general.quantized_by", "general.url",
        "general.doi", "general.uuid", "general.repo_url", "general.license", "general.license.*", "general.tags",
        "general.languages", "general.datasets", "general.base_model.*", "general.dataset.*", "general.source.*",
        "general.source_url", "general.source_hf_repo", "general.base_models", "general.parameter_count",
    ),
    **harmless("most tensors' type; each tensor has its own", "general.file_type"),
    **harmless("how to choose among the next tokens: the caller of `generate` says it", "general.sampling.*"),
    **harmless("how the file was quantised", "quantize.*", "mradermacher.*"),
    **harmless("where the tensors begin; the parser has used it", "general.alignment"),
    **harmless("of one part of a split model; all have been read", "split.no", "split.count", "split.tensors.count"),
    **fixed("this is no model of its own", **{"general.type": "model"}),
    **fixed("blocks of quantised tensors had another layout before", **{"general.quantization_version": 2}),
}  # fmt: skip

ARCHITECTURE: dict[str, Known] = {
    **fixed("this family has no experts", expert_count=0, expert_used_count=0),
    **fixed("a position sees all before it", **{"attention.causal": True, "attention.sliding_window": 0}),
    **fixed(
        "this family has no such step", **{
            "attention.clamp_kqv": 0, "attention.max_alibi_bias": 0, "attn_logit_softcapping": 0,
            "final_logit_softcapping": 0, "router_logit_softcapping": 0, "use_parallel_residual": False,
            "rope.scaling.yarn_log_multiplier": 0, "attention.output_scale": (0, 1),
        },
    ),
    **fixed("this family has no such factor", logit_scale=(0, 1), residual_scale=(0, 1), embedding_scale=(0, 1)),
    **fixed("pygpt's experts are all alike and in every layer", **{
        "expert_shared_count": (0, 1), "expert_group_count": (0, 1), "expert_group_used_count": (0, 1),
        "expert_gating_func": (0, 1), "expert_weights_scale": (0, 1), "leading_dense_block_count": 0,
        "interleave_moe_layer_step": (0, 1), "moe_every_n_layers": (0, 1), "nextn_predict_layers": 0,
    }),
    **fixed(
        "no rotary frequency is stretched here", **{"rope.scaling.attn_factor": 1, "rope.scaling.yarn_attn_factor": 1}
    ),
    **harmless("of YaRN, which is not used here", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"),
    **harmless("whether the model was trained with its stretched frequencies", "rope.scaling.finetuned"),
    **fixed("pygpt stretches rotary frequencies by the whole of YaRN", **{"rope.scaling.yarn_ext_factor": (1, -1)}),
    **fixed("of a model that gives embeddings", pooling_type=0),
    **fixed("pygpt reads this order of the rows of q, k and v", tensor_data_layout=("Meta AI original pth", "jploski")),
}  # fmt: skip
"""Keys after "ARCHITECTURE."."""

_A_LAYER = ("attention.head_count", "attention.head_count_kv", "feed_forward_length")  # or a list of one for each


class Metadata:
    """The metadata of one file, and which keys were put to use. Arrays of numbers are lists here: they compare as one
    value; and one number for each layer, where they are equal, is that number."""

    def __init__(self, values: Mapping[str, object], file: str) -> None:
        own = {k: v for k, v in values.items() if not k.startswith("tokenizer.")}  # those are the tokenizer's to read
        self._tokenizer = {k: v for k, v in values.items() if k not in own}
        self._values = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in own.items()}
        self.file = file
        self._used: set[str] = set()
        self.architecture = self.get("general.architecture")
        n_layer = self.peek("block_count")
        for name in map(self.name, _A_LAYER):
            value = self._values.get(name)
            if isinstance(value, list) and len(value) == n_layer and value.count(value[0]) == n_layer:
                self._values[name] = value[0]

    def name(self, key: str) -> str:
        """The name in the file of a key after "ARCHITECTURE."."""
        return f"{self.architecture}.{key}"

    def get(self, name: str) -> object:
        """The value under a name, put to use; None where there is none."""
        self._used.add(name)
        return self._tokenizer.get(name, self._values.get(name))

    def own(self, key: str) -> object:
        """The value of a key after "ARCHITECTURE.", put to use; None where there is none."""
        return self.get(self.name(key))

    def peek(self, key: str) -> object:
        """The value of a key after "ARCHITECTURE.", for a family that may ask for it; None where there is none."""
        return self._values.get(self.name(key))

    def error(self, key: str, allowed: str) -> ConfigError:
        """The error for a value that pygpt cannot run."""
        return ConfigError(f"{self.file}: {self.name(key)} is {shown(self.peek(key))}, but must be {allowed}")

    def refuse_unknown(self, asked: Collection[str]) -> None:
        """ConfigError unless what was neither put to use nor `asked` for is known to change nothing."""
        known = KNOWN | {self.name(key): value for key, value in ARCHITECTURE.items()}
        rest = {k: v for k, v in self._values.items() if k not in self._used and k not in asked}
        refuse_unknown(rest, known, self.file)
