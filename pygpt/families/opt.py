"""OPT (Zhang et al. 2022, arXiv:2205.01068): GPT-2's block with ReLU, whose positions begin at the third row of their
table. The model of 350 million parameters alone has the norms after the sums, and embeddings narrower than the rest.

Names and keys are those of Hugging Face transformers' OPTForCausalLM. GGUF has no such architecture.
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import (
    ACTIVATION_NAMES,
    Family,
    Settings,
    Source,
    divided_width,
    special_tokens,
    token_settings,
)
from pygpt.families.keys import fixed, harmless


def config(s: Settings) -> ModelConfig:
    """config.json of OPTForCausalLM, whose norms have PyTorch's own epsilon."""
    n_embd, n_head, n_vocab = s.integer("hidden_size"), s.integer("num_attention_heads"), s.integer("vocab_size")
    head_dim, n_ctx = divided_width(s, "hidden_size", "num_attention_heads"), s.integer("max_position_embeddings")
    embed_dim, bias = s.integer("word_embed_proj_dim", n_embd), s.flag("enable_bias", True)
    before = s.flag("do_layer_norm_before", True)
    if before and s.flag("_remove_final_layer_norm", False):
        raise s.error("_remove_final_layer_norm", "false: pygpt has a norm before the head")
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=n_ctx,
        n_embd=n_embd,
        n_head=n_head,
        n_kv_head=n_head,
        head_dim=head_dim,
        n_inner=s.integer("ffn_dim"),
        norm="layer_norm",
        norm_eps=1e-5,
        activation=s.activation("activation_function", "relu"),
        gated_mlp=False,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=bias,
        learned_positions=True,
        layers=LayerConfig(attn_scale=head_dim**-0.5).repeated(s.integer("num_hidden_layers")),
        tied_head=s.flag("tie_word_embeddings", True),
        norm_placement="before_branch" if before else "after_sum",
        embed_dim=None if embed_dim == n_embd else embed_dim,
        **special_tokens(s, n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return {
        "model_type": "opt",
        "architectures": ["OPTForCausalLM"],
        "vocab_size": c.n_vocab,
        "max_position_embeddings": c.n_ctx,
        "hidden_size": c.n_embd,
        "word_embed_proj_dim": c.embed_width,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "ffn_dim": c.n_inner,
        "activation_function": ACTIVATION_NAMES.get(c.activation),
        "do_layer_norm_before": c.norm_placement != "after_sum",
        "enable_bias": c.qkv_bias,
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }


FAMILY = Family(
    name="opt",
    model_types=("opt",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources={
        "embed": Source("decoder.embed_tokens"),
        "embed_proj": Source("decoder.project_in"),
        "pos": Source("decoder.embed_positions", skip=2),
        "blocks.{i}.attn_norm": Source("decoder.layers.{i}.self_attn_layer_norm"),
        "blocks.{i}.attn.q": Source("decoder.layers.{i}.self_attn.q_proj"),
        "blocks.{i}.attn.k": Source("decoder.layers.{i}.self_attn.k_proj"),
        "blocks.{i}.attn.v": Source("decoder.layers.{i}.self_attn.v_proj"),
        "blocks.{i}.attn.out": Source("decoder.layers.{i}.self_attn.out_proj"),
        "blocks.{i}.mlp_norm": Source("decoder.layers.{i}.final_layer_norm"),
        "blocks.{i}.mlp.up": Source("decoder.layers.{i}.fc1"),
        "blocks.{i}.mlp.down": Source("decoder.layers.{i}.fc2"),
        "norm": Source("decoder.final_layer_norm"),
        "head_proj": Source("decoder.project_out"),
        "head": Source("lm_head"),
    },
    ignored=(),
    harmless={
        **harmless("of training alone", "dropout", "activation_dropout", "layerdrop", "init_std"),
        **harmless("what the tokenizer puts before a text", "prefix"),
        **harmless("of a file before version 4.20, which had this norm in any case", "_remove_final_layer_norm"),
        **fixed("pygpt's norms have a weight", layer_norm_elementwise_affine=True),
    },
    gguf=None,
)
