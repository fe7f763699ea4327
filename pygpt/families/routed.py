"""What the families with routed experts have alike: where their tensors lie, and keys that change nothing."""

from __future__ import annotations

from pygpt.config import Experts, ModelConfig
from pygpt.families.base import Settings, Source
from pygpt.families.keys import harmless

PARTS = ("gate", "up", "down")

HARMLESS = harmless("of training alone", "output_router_logits", "router_aux_loss_coef", "router_jitter_noise")


def experts_of(c: ModelConfig) -> Experts | None:
    """Those of the first layer that has some."""
    return next((layer.experts for layer in c.layers if layer.experts is not None), None)


def expert_count(s: Settings, default: int) -> int:
    """Their number, of which transformers has written both names."""
    n_expert = s.integer("num_experts") if s.has("num_experts") else s.integer("num_local_experts", default)
    s.require("num_local_experts", n_expert, f"{n_expert}, as {s.name('num_experts')} is")
    return n_expert


def expert_sources(gate: str, up: str, down: str) -> dict[str, Source]:
    """Experts' modules by their stored names."""
    return {
        f"blocks.{{i}}.mlp.experts.{{e}}.{part}": Source(name)
        for part, name in zip(PARTS, (gate, up, down), strict=True)
    }


def fused_sources(module: str) -> dict[str, Source]:
    """All experts' tensors in two, as transformers v5 has them in memory: (E, 2 inner, C), the gates first, and
    (E, C, inner)."""
    both = Source(f"{module}.gate_up_proj", ends={"weight": ""})
    names = ("gate", "up")
    sources = {f"blocks.{{i}}.mlp.experts.{{e}}.{part}": both for part in names}
    return sources | {"blocks.{i}.mlp.experts.{e}.down": Source(f"{module}.down_proj", ends={"weight": ""})}


GGUF_EXPERTS = {
    "blocks.{i}.mlp.router": Source("blk.{i}.ffn_gate_inp"),
    **expert_sources(*(f"blk.{{i}}.ffn_{part}_exps" for part in PARTS)),
}

GGUF_SHARED = {
    **{f"blocks.{{i}}.mlp.shared.{part}": Source(f"blk.{{i}}.ffn_{part}_shexp") for part in PARTS},
    "blocks.{i}.mlp.shared_gate": Source("blk.{i}.ffn_gate_inp_shexp"),
}
