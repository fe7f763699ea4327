"""nanoGPT and minGPT (github.com/karpathy), GPT-2's shape in files of their own, which ``torch.save`` wrote.

nanoGPT's ckpt.pt holds the tensors beside the arguments of its model. minGPT's model.pt holds the tensors alone: sizes
are those of their shapes, and the number of heads is in the config.json that minGPT writes beside it. Names are those
of model.py in both; minGPT's head is not the embedding, and its GELU is the tanh form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pygpt.config import LayerConfig, ModelConfig
from pygpt.errors import ConfigError
from pygpt.families.base import ACTIVATION_NAMES, Family, Own, Settings, Source, fused_qkv, token_settings
from pygpt.families.keys import harmless

_EMBED, _POSITIONS = "transformer.wte.weight", "transformer.wpe.weight"
_MINGPT_HEADS = {  # of the model_type in minGPT's configuration
    "openai-gpt": 12, "gpt2": 12, "gpt2-medium": 16, "gpt2-large": 20, "gpt2-xl": 25, "gopher-44m": 16,
    "gpt-mini": 6, "gpt-micro": 4, "gpt-nano": 3,
}  # fmt: skip


def own(table: Mapping[str, object], beside: Mapping[str, object]) -> Own | None:
    """What either program saved: the table of the file, and config.json beside it."""
    model, arguments = table.get("model"), table.get("model_args")
    if isinstance(model, dict) and isinstance(arguments, dict):
        names = {str(name).removeprefix("_orig_mod."): tensor for name, tensor in model.items()}  # of torch.compile
        return Own({"tie_word_embeddings": True, **arguments}, names)
    shapes: list[tuple[int, ...]] = [getattr(table.get(name), "shape", ()) for name in (_EMBED, _POSITIONS)]
    if any(len(shape) != 2 for shape in shapes):
        return None
    layers = {match[1] for name in table if (match := re.match(r"transformer\.h\.(\d+)\.", name))}
    given = beside.get("model")
    given = given if isinstance(given, dict) else beside
    kind, n_head = given.get("model_type"), given.get("n_head")
    if n_head is None and isinstance(kind, str):
        n_head = _MINGPT_HEADS.get(kind)
    if n_head is None:
        raise ConfigError(
            'the tensors do not say how many heads there are: config.json must, as {"model": {"n_head": 6}}'
        )
    values = {"n_layer": len(layers), "n_head": n_head, "tie_word_embeddings": False, "activation_function": "gelu_new"}
    (n_vocab, n_embd), (n_ctx, _) = shapes
    return Own({**values, "vocab_size": n_vocab, "n_embd": n_embd, "block_size": n_ctx}, table)


def config(s: Settings) -> ModelConfig:
    """nanoGPT's model_args. Its GELU is exact since June 2023; before `bias` was among them (January 2023) it was the
    tanh form, and a checkpoint from between them is read as nanoGPT itself would read it today."""
    n_embd, n_head = s.integer("n_embd"), s.integer("n_head")
    if n_embd % n_head:
        raise s.error("n_embd", f"a multiple of {s.name('n_head')} ({n_head})")
    head_dim = n_embd // n_head
    gelu, bias = "gelu" if s.has("bias") else "gelu_new", s.flag("bias", True)
    n_vocab = s.integer("vocab_size")
    bos = s.token_ids("bos_token_id", n_vocab)
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=s.integer("block_size"),
        n_embd=n_embd,
        n_head=n_head,
        n_kv_head=n_head,
        head_dim=head_dim,
        n_inner=4 * n_embd,
        norm="layer_norm",
        norm_eps=1e-5,
        activation=s.activation("activation_function", gelu),
        gated_mlp=False,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=bias,
        learned_positions=True,
        layers=LayerConfig(attn_scale=head_dim**-0.5).repeated(s.integer("n_layer")),
        tied_head=s.flag("tie_word_embeddings", True),
        bos_id=bos[0] if bos else None,
        eos_ids=s.token_ids("eos_token_id", n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return {
        "model_type": "nanogpt",
        "vocab_size": c.n_vocab,
        "block_size": c.n_ctx,
        "n_embd": c.n_embd,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "bias": c.mlp_bias,
        "activation_function": ACTIVATION_NAMES.get(c.activation),
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }


FAMILY = Family(
    name="nanogpt",
    model_types=("nanogpt",),
    config=config,
    settings=settings,
    new=None,
    prefix="transformer.",
    sources={
        "embed": Source("wte"),
        "pos": Source("wpe"),
        "blocks.{i}.attn_norm": Source("h.{i}.ln_1", zero_bias=True),
        **fused_qkv("h.{i}.attn.c_attn"),
        "blocks.{i}.attn.out": Source("h.{i}.attn.c_proj"),
        "blocks.{i}.mlp_norm": Source("h.{i}.ln_2", zero_bias=True),
        "blocks.{i}.mlp.up": Source("h.{i}.mlp.c_fc"),
        "blocks.{i}.mlp.down": Source("h.{i}.mlp.c_proj"),
        "norm": Source("ln_f", zero_bias=True),
        "head": Source("lm_head"),
    },
    ignored=(r"h\.\d+\.attn\.bias",),
    harmless=harmless("of training alone", "dropout"),
    gguf=None,
    own=own,
)
