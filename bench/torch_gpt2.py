"""GPT-2 and its training in PyTorch, as `train.py` compares pygpt with: float32, fused attention, fused AdamW."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Batch = NDArray[np.int32]


class Block(nn.Module):
    def __init__(self, n_embd: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.attn_norm, self.mlp_norm = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.qkv, self.out = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
        self.up, self.down = nn.Linear(n_embd, 4 * n_embd), nn.Linear(4 * n_embd, n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        q, k, v = self.qkv(self.attn_norm(x)).unflatten(-1, (3, self.n_head, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        out: Tensor = x + self.down(functional.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))
        return out


class GPT2(nn.Module):
    """With a tied head and without dropout. Sizes are those of a pygpt.ModelConfig, as a table."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        n_embd = sizes["n_embd"]
        self.embed = nn.Embedding(sizes["n_vocab"], n_embd)
        self.pos = nn.Embedding(sizes["n_ctx"], n_embd)
        self.blocks = nn.ModuleList(Block(n_embd, sizes["n_head"]) for _ in range(sizes["n_layer"]))
        self.norm = nn.LayerNorm(n_embd)

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean nats of predicting targets (B, T) from ids (B, T)."""
        x = self.embed(ids) + self.pos.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm(x), self.embed.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def fill(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Take pygpt's tensors, by their names there."""
        parts = {"qkv": ("attn.q", "attn.k", "attn.v"), "out": ("attn.out",), "up": ("mlp.up",), "down": ("mlp.down",)}
        for name, parameter in self.named_parameters():
            *owner, module, kind = name.split(".")
            if module in parts:
                values = np.concatenate([tensors[".".join([*owner, part, kind])] for part in parts[module]])
            else:
                values = tensors[name]
            parameter.copy_(torch.from_numpy(values))


class Trainer:
    """A model and its optimiser; `recipe` is a table with the fields of pygpt.training.recipe.Recipe."""

    def __init__(self, sizes: Mapping[str, int], recipe: Mapping[str, Any], threads: int) -> None:
        torch.set_num_threads(threads)
        self.recipe = recipe
        self.model = GPT2(sizes)
        self.restart(None)

    def restart(self, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
        """A fresh optimiser, and these values if given."""
        if tensors is not None:
            self.model.fill(tensors)
        matrices = [p for p in self.model.parameters() if p.ndim == 2]
        vectors = [p for p in self.model.parameters() if p.ndim == 1]
        decay = self.recipe["weight_decay"]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
        betas = self.recipe["beta1"], self.recipe["beta2"]
        self.optimizer = torch.optim.AdamW(groups, betas=betas, eps=self.recipe["eps"], fused=True)
        self.steps = 0

    def step(self, ids: Batch, targets: Batch) -> float:
        """One update; the loss before it."""
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.steps)
        self.optimizer.zero_grad()
        loss = self.model.loss(torch.from_numpy(ids).long(), torch.from_numpy(targets).long())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe["clip"])
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def evaluate(self, batches: Iterator[tuple[Batch, Batch]]) -> float:
        """Mean nats over batches of windows."""
        total, n = 0.0, 0
        for ids, targets in batches:
            loss = self.model.loss(torch.from_numpy(ids).long(), torch.from_numpy(targets).long())
            total, n = total + loss.item() * ids.size, n + ids.size
        return total / n

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to the floor; steps count from 1."""
        r = self.recipe
        if step <= r["warmup"]:
            return float(r["learning_rate"] * step / r["warmup"])
        left = 0.5 + 0.5 * math.cos(math.pi * (step - r["warmup"]) / (r["steps"] - r["warmup"]))
        return float(r["min_learning_rate"] + left * (r["learning_rate"] - r["min_learning_rate"]))

    def run(self, text: Path, data: Path, seed: int, folder: Path) -> dict[str, float]:
        """All steps of the recipe with its evaluations; the best state so far goes to a file, as nanoGPT's does."""
        del text  # its tokens are in `data`
        r, n_ctx, begin, best = self.recipe, len(self.model.pos.weight), time.perf_counter(), math.inf
        folder.mkdir()
        torch.manual_seed(seed)
        self._initialise()
        random = np.random.default_rng(seed)
        tokens = {part: np.fromfile(data / f"{part}.tokens", "<u2") for part in ("train", "validation")}
        loss = math.nan
        for step in range(r["steps"] + 1):
            if step:
                at = random.integers(0, len(tokens["train"]) - n_ctx, r["batch"])
                self.step(*windows(tokens["train"], at, n_ctx))
            if step % r["eval_interval"] == 0:
                loss = self.evaluate(spread(tokens["validation"], n_ctx, r["eval_windows"], r["batch"]))
                if loss < best:
                    best = loss
                    state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
                    torch.save(state, folder / "best.pt")
        seconds = time.perf_counter() - begin
        everything = self.evaluate(spread(tokens["validation"], n_ctx, len(tokens["validation"]), r["batch"]))
        return {"seconds": seconds, "loss": loss, "best_loss": best, "loss_of_all": everything}

    @torch.no_grad()
    def _initialise(self) -> None:
        """N(0, 0.02), residual projections divided by sqrt(2 n_layer), biases 0 (Radford et al. 2019)."""
        residual = 1 / math.sqrt(2 * len(self.model.blocks))
        for name, parameter in self.model.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.02 * (residual if ".out." in name or ".down." in name else 1.0))
            else:
                parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        self.restart(None)


def windows(tokens: NDArray[Any], at: NDArray[np.int64], n_ctx: int) -> tuple[Batch, Batch]:
    """The windows that begin at `at`, as ids and targets."""
    both = tokens[at[:, None] + np.arange(n_ctx + 1)].astype(np.int32)
    return both[:, :-1].copy(), both[:, 1:].copy()


def spread(tokens: NDArray[Any], n_ctx: int, n: int, batch: int) -> Iterator[tuple[Batch, Batch]]:
    """At most n windows from the first token to the last, evenly spread without overlap, in batches."""
    n = min(n, (len(tokens) - 1) // n_ctx)
    at = np.arange(n) * (len(tokens) - n_ctx - 1) // max(n - 1, 1)
    for begin in range(0, n, batch):
        yield windows(tokens, at[begin : begin + batch], n_ctx)
