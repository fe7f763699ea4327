"""llama2.c (github.com/karpathy/llama2.c): Llama's shape in one file of numbers, under the names of Meta's code.

The settings are the file's header (Config of run.c); what it does not say is fixed in run.c: the norm's epsilon, the
rotary base, and rotary pairs of neighbouring values, so that the rows of q and k change places.
"""

from __future__ import annotations

from pygpt.config import ModelConfig
from pygpt.families import llama
from pygpt.families.base import Family, Settings, Source, token_settings

_NAMES = {  # of config.json of transformers' Llama -> of the header
    "hidden_size": "dim",
    "intermediate_size": "hidden_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "seq_len",
    "tie_word_embeddings": "shared_classifier",
    "bos_token_id": "bos_token_id",
    "eos_token_id": "eos_token_id",
}


def config(s: Settings) -> ModelConfig:
    """The header. A text begins with the token 1 and ends where it or the token 2 comes, as in run.c's two modes."""
    values = {"bos_token_id": 1, "eos_token_id": [1, 2], "rms_norm_eps": 1e-5, "rope_theta": 10000.0}
    values |= {key: s.get(name) for key, name in _NAMES.items() if s.has(name)}
    return llama.config(Settings(values, s.file, _NAMES))


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    values = llama.settings(c) | token_settings(c)
    return {"model_type": "llama2.c", **{name: values[key] for key, name in _NAMES.items()}}


FAMILY = Family(
    name="llama2.c",
    model_types=("llama2.c",),
    config=config,
    settings=settings,
    new=None,
    prefix="",
    sources={
        "embed": Source("tok_embeddings"),
        "blocks.{i}.attn_norm": Source("layers.{i}.attention_norm"),
        "blocks.{i}.attn.q": Source("layers.{i}.attention.wq", interleaved=True),
        "blocks.{i}.attn.k": Source("layers.{i}.attention.wk", interleaved=True),
        "blocks.{i}.attn.v": Source("layers.{i}.attention.wv"),
        "blocks.{i}.attn.out": Source("layers.{i}.attention.wo"),
        "blocks.{i}.mlp_norm": Source("layers.{i}.ffn_norm"),
        "blocks.{i}.mlp.gate": Source("layers.{i}.feed_forward.w1"),
        "blocks.{i}.mlp.up": Source("layers.{i}.feed_forward.w3"),
        "blocks.{i}.mlp.down": Source("layers.{i}.feed_forward.w2"),
        "norm": Source("norm"),
        "head": Source("output"),
    },
    ignored=(),
    harmless={},
    gguf=None,
)
