"""GGUF's metadata: what pygpt asks for, and what may be passed over.

The keys that say what the model computes begin with the architecture's name. They are asked for, or they stand here
with the value that changes nothing, or they are an error. Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections.abc import Mapping

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
        "general.source_url", "general.source_hf_repo", "general.base_models",
    ),
    **harmless("most tensors' type; each tensor has its own", "general.file_type"),
    **harmless("how to choose among the next tokens: the caller of `generate` says it", "general.sampling.*"),
    **harmless("how the file was quantised", "quantize.*", "mradermacher.*"),
    **harmless("where the tensors begin; the parser has used it", "general.alignment"),
    **harmless("of one part of a split file; a whole one may keep them", "split.no", "split.tensors.count"),
    **fixed("this is no model of its own", **{"general.type": "model"}),
    **fixed("blocks of quantised tensors had another layout before", **{"general.quantization_version": 2}),
}  # fmt: skip

ARCHITECTURE: dict[str, Known] = {
    **fixed("pygpt runs no mixture of experts", expert_count=0, expert_used_count=0, expert_shared_count=0),
    **fixed("a position sees all before it", **{"attention.causal": True, "attention.sliding_window": 0}),
    **fixed(
        "pygpt's attention has no such step", **{
            "attention.clamp_kqv": 0, "attention.max_alibi_bias": 0, "attn_logit_softcapping": 0,
            "final_logit_softcapping": 0, "use_parallel_residual": False, "pooling_type": 0,
        },
    ),
    **fixed("pygpt has no such factor", logit_scale=(0, 1), residual_scale=(0, 1), embedding_scale=(0, 1)),
    **fixed("pygpt reads this order of the rows of q and k", tensor_data_layout="Meta AI original pth"),
}  # fmt: skip
"""Keys after "ARCHITECTURE."."""


class Metadata:
    """The metadata of one file, and which keys were asked for. Arrays of numbers are lists here: they compare as one
    value."""

    def __init__(self, values: Mapping[str, object], file: str) -> None:
        own = {k: v for k, v in values.items() if not k.startswith("tokenizer.")}  # those are the tokenizer's to read
        self._values = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in own.items()}
        self.file = file
        self._asked: set[str] = set()
        self.architecture = self.get("general.architecture")

    def name(self, key: str) -> str:
        """The name in the file of a key after "ARCHITECTURE."."""
        return f"{self.architecture}.{key}"

    def get(self, name: str) -> object:
        """The value under a name; None where there is none."""
        self._asked.add(name)
        return self._values.get(name)

    def own(self, key: str) -> object:
        """The value of a key after "ARCHITECTURE."; None where there is none."""
        return self.get(self.name(key))

    def error(self, key: str, allowed: str) -> ConfigError:
        """The error for a value that pygpt cannot run."""
        return ConfigError(f"{self.file}: {self.name(key)} is {shown(self.own(key))}, but must be {allowed}")

    def refuse_unknown(self) -> None:
        """ConfigError unless all that nobody asked for is known to change nothing."""
        known = KNOWN | {self.name(key): value for key, value in ARCHITECTURE.items()}
        refuse_unknown({k: v for k, v in self._values.items() if k not in self._asked}, known, self.file)
