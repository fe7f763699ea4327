"""GPT-2 in PyTorch as `train_tiny_torch.py` trains it, with Hugging Face's parameter names and layouts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

SEED = 1729


@dataclass(frozen=True)
class Shape:
    """The model: a GPT-2 with a tied head."""

    n_vocab: int = 4096
    n_ctx: int = 256
    n_embd: int = 224
    n_layer: int = 4
    n_head: int = 7


class Conv1D(nn.Module):
    """A linear layer with its weight stored [in, out], as GPT-2's checkpoints have it."""

    def __init__(self, n_in: int, n_out: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out) * std)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.addmm(self.bias.to(x.dtype), x.flatten(0, 1), self.weight.to(x.dtype))
        return out.view(x.shape[0], x.shape[1], -1)


class Dropout(nn.Module):
    """Dropout with one mask for all positions of a sequence (Gal and Ghahramani 2016): random numbers are slow."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return x * nn.functional.dropout(torch.ones_like(x[:, :1]), self.p, self.training)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_head = shape.n_head
        self.c_attn = Conv1D(shape.n_embd, 3 * shape.n_embd, 0.02)
        self.c_proj = Conv1D(shape.n_embd, shape.n_embd, 0.02 / math.sqrt(2 * shape.n_layer))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C). Written out: on a CPU, at this size, faster than the fused attention."""
        q, k, v = self.c_attn(x).unflatten(-1, (3, self.n_head, -1)).permute(2, 0, 3, 1, 4)
        scores = (q * k.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        mask = torch.full(scores.shape[-2:], -torch.inf, dtype=x.dtype).triu(1)
        mixed = torch.softmax(scores + mask, -1) @ v
        out: Tensor = self.c_proj(mixed.transpose(1, 2).flatten(2))
        return out


class MLP(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.c_fc = Conv1D(shape.n_embd, 4 * shape.n_embd, 0.02)
        self.c_proj = Conv1D(4 * shape.n_embd, shape.n_embd, 0.02 / math.sqrt(2 * shape.n_layer))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(nn.functional.gelu(self.c_fc(x), approximate="tanh"))
        return out


class Block(nn.Module):
    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(shape.n_embd), nn.LayerNorm(shape.n_embd)
        self.attn, self.mlp, self.drop = Attention(shape), MLP(shape), Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attn(self.ln_1(x)))
        out: Tensor = x + self.drop(self.mlp(self.ln_2(x)))
        return out


class Transformer(nn.Module):
    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(shape.n_vocab, shape.n_embd), nn.Embedding(shape.n_ctx, shape.n_embd)
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.02)
        self.h = nn.Sequential(*(Block(shape, dropout) for _ in range(shape.n_layer)))
        self.ln_f, self.drop = nn.LayerNorm(shape.n_embd), Dropout(dropout)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        out: Tensor = self.ln_f(self.h(self.drop(x.bfloat16())))
        return out


class GPT2(nn.Module):
    """GPT-2 with Hugging Face's parameter names: float32 parameters, bfloat16 arithmetic, float32 loss."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.transformer = Transformer(shape, dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) -> logits (B, T, n_vocab) in float32."""
        return nn.functional.linear(self.transformer(ids), self.transformer.wte.weight.bfloat16()).float()

    def loss(self, ids: Tensor) -> Tensor:
        """Mean nats per token of predicting each of (B, T + 1) ids from those before it in its row."""
        return nn.functional.cross_entropy(self(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def evaluate(model: GPT2, ids: Tensor, n_ctx: int, windows: int | None = None) -> float:
    """Nats per token over consecutive windows of a held-out text (each token sees its own window only)."""
    rows = ids[: (len(ids) - 1) // n_ctx * n_ctx + 1].unfold(0, n_ctx + 1, n_ctx)[:windows]
    model.eval()
    total = sum((model.loss(part) * len(part) for part in torch.split(rows, 16)), torch.zeros(()))
    model.train()
    return float(total) / len(rows)


@torch.no_grad()
def sample(model: GPT2, tokenizer: Tokenizer, prompt: str, n_tokens: int, temperature: float, top_p: float) -> str:
    """Continue a prompt; the context must hold prompt and continuation."""
    generator = torch.Generator().manual_seed(SEED)
    ids: list[int] = tokenizer.encode(prompt).ids
    model.eval()
    for _ in range(n_tokens):
        probabilities, order = torch.softmax(model(torch.tensor([ids]))[0, -1] / temperature, -1).sort(descending=True)
        probabilities[probabilities.cumsum(-1) - probabilities > top_p] = 0.0
        ids.append(int(order[torch.multinomial(probabilities, 1, generator=generator)]))
    model.train()
    return str(tokenizer.decode(ids, skip_special_tokens=False))
