"""`ModelConfig.summary()`: a line for each layer, and all parameters in them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pygpt import Model, ModelConfig
from pygpt.config import Experts
from pygpt.training.architecture import architecture

GPT = architecture("gpt2", n_vocab=1000, n_ctx=16, n_layer=3, n_head=2, n_embd=8)
LLAMA = architecture("llama", n_vocab=11, n_ctx=16, n_layer=1, n_head=4, n_kv_head=2, n_embd=16)
ROUTED = Experts(n_expert=4, n_used=2, n_inner=8, shared_inner=8)


@pytest.mark.parametrize(
    "config",
    [
        GPT,
        LLAMA,
        replace(GPT, tied_head=False, head_bias=True),
        replace(GPT, learned_positions=False, sinusoidal_positions=True),
        replace(GPT, embed_dim=4),
        replace(LLAMA.with_layers(experts=ROUTED, sinks=True), qk_norm="head"),
        replace(GPT, layers=(GPT.layers[0], replace(GPT.layers[0], sinks=True), GPT.layers[0])),
    ],
)
def test_the_lines_have_all_parameters(config: ModelConfig) -> None:
    title, *lines, last = config.summary().splitlines()
    assert title.split() == ["layer", "output", "parameters"]
    assert len({len(line) for line in (title, *lines, last)}) == 1
    n = 0
    for line in lines:
        found = re.fullmatch(r"\S.*  \(T, [\d,]+\) +(?:(\d+) x )?([\d,]+)", line)
        assert found is not None, line
        n += int(found[1] or 1) * int(found[2].replace(",", ""))
    assert n == config.n_params() == int(last.split()[-1].replace(",", ""))


def test_layers_that_are_alike_share_a_line() -> None:
    lines = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in GPT.summary().splitlines()}
    assert lines["embed"].split() == ["(T,", "8)", "8,000"]
    assert lines["blocks.0-2.attn.q"].split() == ["(T,", "8)", "3", "x", "72"]
    assert lines["head, which is embed"].split() == ["(T,", "1,000)", "0"]
    routed = LLAMA.with_layers(experts=ROUTED).summary()
    assert "blocks.0.mlp.experts.0-3.up " in routed
    every_other = replace(GPT, layers=(*GPT.layers, replace(GPT.layers[0], experts=ROUTED), *GPT.layers))
    assert "blocks.0,1,2,4,5,6.mlp.up " in every_other.summary()


def test_positions_without_parameters_are_named() -> None:
    config = replace(GPT, learned_positions=False, sinusoidal_positions=True)
    assert [line.split("  ")[0] for line in config.summary().splitlines()][1:3] == ["embed", "sinusoidal positions"]


def test_of_a_loaded_model(model: Model) -> None:
    assert model.config.summary().splitlines()[-1].split() == ["in", "all", f"{model.config.n_params():,}"]
