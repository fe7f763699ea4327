"""What routing costs: a step of a mixture of experts beside one of a dense model that reads the same bytes.

    python bench/experts.py --threads 2 --json bench/results/experts.json

The dense model's MLP is as wide as the chosen experts together, so that both steps read as many bytes of weights; that
of the experts in MXFP4 is int8 and as much narrower. Both hold far more than a cache, and the experts of a text change
with every token. That holds for one token: those of a batch choose different experts, and so read more, up to all; a
prompt shows what sorting its rows by expert costs, and in MXFP4 products of floats beside int8's. Weights are random:
speed does not depend on them. Steps of the two alternate; the median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import Others, machine
from numpy.typing import NDArray

from pygpt import _core
from pygpt.config import Experts, LayerConfig, ModelConfig, Rope

Ids = NDArray[np.int32]
WIDTH, INNER, LAYERS = 1024, 768, 12
EXPERTS = Experts(n_expert=32, n_used=4, n_inner=INNER)
DENSE = ModelConfig(
    n_vocab=4096, n_ctx=1024, n_embd=WIDTH, n_head=16, n_kv_head=4, head_dim=64, n_inner=INNER * EXPERTS.n_used,
    norm="rms_norm", norm_eps=1e-5, activation="silu", gated_mlp=True, qkv_bias=False, attn_out_bias=False,
    mlp_bias=False, learned_positions=False, layers=LayerConfig(attn_scale=0.125, rope=Rope(theta=1e4, dim=64))
    .repeated(LAYERS),
)  # fmt: skip
ROUTED = DENSE.with_layers(experts=EXPERTS)
TASKS = {"decode": (1, 1), "batch of 8": (8, 1), "prompt of 256": (1, 256)}  # sequences, tokens of each step
ROUNDS = {"decode": 40, "batch of 8": 20, "prompt of 256": 5}


def build(config: ModelConfig, weights: str, threads: int, *, mxfp4: bool = False) -> _core.Engine:
    """An engine of random weights: one array for each shape. `mxfp4`: the experts' are blocks."""
    rng = np.random.default_rng(0)
    made: dict[tuple[int, ...], tuple[NDArray[Any], str]] = {}
    builder = _core.EngineBuilder(config, weights=weights, kv="float16", threads=threads, isa=None)  # type: ignore[arg-type]
    for name, shape in config.tensor_shapes().items():
        blocks = mxfp4 and ".experts." in name
        key = (*shape, int(blocks))
        if ".router." in name:
            key = (*key, len(made))  # each layer chooses by itself
        if key not in made:
            values: NDArray[Any] = (rng.standard_normal(shape) * shape[-1] ** -0.5).astype(np.float32)
            if len(shape) == 1:
                values = 1 + values
            if blocks:
                values = rng.integers(0, 256, (shape[0], shape[1] // 32, 17)).astype(np.uint8)
                values[:, :, 0] = 121
                values = values.reshape(shape[0], -1)
            made[key] = (values, "MXFP4" if blocks else "float32")
        builder.add(name, *made[key])  # type: ignore[arg-type]
    return builder.build()


def read_bytes(engine: _core.Engine, config: ModelConfig) -> float:
    """Bytes of weights that a step of one token reads: of the experts those that are chosen."""
    experts = config.layers[0].experts
    sizes = {name: array.nbytes for name, (_, array) in engine.tensors().items()}
    chosen = sum(size for name, size in sizes.items() if ".experts." in name)
    share = 1.0 if experts is None else experts.n_used / experts.n_expert
    return sum(sizes.values()) - chosen * (1.0 - share)


def narrowed(mxfp4: int, dense: _core.Engine) -> ModelConfig:
    """The dense model whose MLP takes as many bytes in int8 as the chosen experts do in MXFP4."""
    mlp = sum(array.nbytes for name, (_, array) in dense.tensors().items() if ".mlp." in name)
    return replace(DENSE, n_inner=round(DENSE.n_inner * mxfp4 / mlp / 128) * 128)


def step_time(engine: _core.Engine, sequences: int, tokens: int, rng: np.random.Generator) -> float:
    """Seconds of one step on texts of 64 tokens."""
    sessions = [engine.session() for _ in range(sequences)]
    ids = rng.integers(0, DENSE.n_vocab, (sequences, 64 + tokens), np.int32)
    engine.forward([(s, row[:64]) for s, row in zip(sessions, ids, strict=True)])
    begin = time.perf_counter()
    engine.forward([(s, row[64:]) for s, row in zip(sessions, ids, strict=True)])
    return time.perf_counter() - begin


def compare(routed: _core.Engine, dense: _core.Engine) -> dict[str, dict[str, float]]:
    """Milliseconds of both, and the ratio, by task."""
    rng, out = np.random.default_rng(1), {}
    for task, (sequences, tokens) in TASKS.items():
        times: dict[str, list[float]] = {"routed": [], "dense": []}
        for engine in (routed, dense):
            step_time(engine, sequences, tokens, rng)
        for _ in range(ROUNDS[task]):
            for name, engine in (("routed", routed), ("dense", dense)):
                times[name].append(step_time(engine, sequences, tokens, rng))
        medians = {name: statistics.median(seconds) * 1e3 for name, seconds in times.items()}
        out[task] = {**medians, "ratio": medians["routed"] / medians["dense"]}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=_core.usable_cores()[0])
    parser.add_argument("--formats", nargs="+", default=["int8", "bfloat16", "MXFP4"], metavar="FORMAT")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    figures: dict[str, Any] = {"machine": machine(), "threads": args.threads}
    others = Others(os.getpid())
    for name in args.formats:
        weights = "int8" if name == "MXFP4" else name
        routed = build(ROUTED, weights, args.threads, mxfp4=name == "MXFP4")
        dense = build(DENSE, weights, args.threads)
        if name == "MXFP4":
            chosen = sum(a.nbytes for n, (_, a) in routed.tensors().items() if ".experts." in n)
            dense = build(narrowed(chosen * EXPERTS.n_used // EXPERTS.n_expert, dense), weights, args.threads)
        read = {"routed": read_bytes(routed, ROUTED) / 1e6, "dense": read_bytes(dense, DENSE) / 1e6}
        figures[name] = {"MB of a step": read, **compare(routed, dense)}
        print(f"{name}: {read['routed']:.0f} MB of weights a step, dense {read['dense']:.0f} MB")
        for task in TASKS:
            t = figures[name][task]
            print(f"  {task:14} {t['routed']:8.2f} ms, dense {t['dense']:8.2f} ms: {t['ratio']:.2f}")
    figures["others"] = others.shares()
    print(f"other processes took {figures['others']['foreign']:.0%} of the CPU")
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
