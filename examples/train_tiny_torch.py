"""Train the small English model that ships with pygpt, with PyTorch, on public-domain prose.

    OMP_WAIT_POLICY=passive nice -n 19 python examples/train_tiny_torch.py --data shared/data/text --run run

The data folder holds austen/*.txt, moby_dick.txt, alice.txt and world_english_bible.txt. The recipe:

1. Clean the text and hold out the last 5% of each file (tiny_corpus.py).
2. Train a byte-level BPE of 4096 tokens on the rest; `<|endoftext|>` is its last id.
3. Train a GPT-2 (tiny_gpt2.py) with AdamW, linear warm-up and cosine decay to zero. Each row of a batch is a random
   window of one source, drawn by the weights in `SOURCES`. 10000 steps take about 40 minutes on two cores with AMX.
4. Export config.json, model.safetensors (bfloat16), vocab.json, merges.txt and MODEL_CARD.md to RUN/export.

A checkpoint and an export are written about once a minute; a killed run, started again, goes on where it stopped.
Once a file RUN/finish appears, the learning rate falls linearly to zero within as many steps as the file says (300 if
empty) and the run ends early.
Needs torch, tokenizers, safetensors and a C++ compiler (for torch.compile).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tiny_corpus import HELD_OUT, SOURCES, read_sources, train_tokenizer
from tiny_gpt2 import GPT2, SEED, Shape, evaluate, sample
from tokenizers import Tokenizer
from torch import Tensor, nn

CHECKPOINT_SECONDS = 60.0
FINISH_STEPS = 300
PROMPTS = ("Once upon a time", "The captain")


@dataclass(frozen=True)
class Recipe:
    """The optimisation, as printed in the model card."""

    steps: int
    batch: int = 8
    dropout: float = 0.0
    lr: float = 1.5e-3
    warmup: int = 200
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0


# ------------------------------------------------------------------------------------------------------ training state


@dataclass
class Run:
    """A training run and its folder; `save` and `load` are all that resuming needs."""

    folder: Path
    recipe: Recipe
    tokenizer: Tokenizer
    model: GPT2
    optimizer: torch.optim.Optimizer
    step: int = 0
    finish_at: int | None = None  # the step at which the file RUN/finish was first seen ...
    finish_steps: int = FINISH_STEPS  # ... and how many steps it allowed from there

    @property
    def last_step(self) -> int:
        early = self.recipe.steps if self.finish_at is None else self.finish_at + self.finish_steps
        return min(self.recipe.steps, early)

    def look_for_finish(self) -> None:
        if self.finish_at is None and (self.folder / "finish").exists():
            self.finish_at = self.step
            self.finish_steps = int((self.folder / "finish").read_text().strip() or FINISH_STEPS)

    def learning_rate(self) -> float:
        recipe, step = self.recipe, self.step
        start = step if self.finish_at is None else self.finish_at
        done = (start - recipe.warmup) / (recipe.steps - recipe.warmup)
        rate = recipe.lr * min((start + 1) / recipe.warmup, 0.5 + 0.5 * math.cos(math.pi * max(done, 0.0)))
        return rate * (1 - (step - start) / max(self.last_step - start, 1))

    def save(self) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        state |= {"finish_at": self.finish_at, "finish_steps": self.finish_steps, "recipe": asdict(self.recipe)}
        torch.save(state, self.folder / "checkpoint.tmp")
        (self.folder / "checkpoint.tmp").replace(self.folder / "checkpoint.pt")

    def load(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise ValueError(f"{path} was made with {state['recipe']}, not {asdict(self.recipe)}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.finish_at, self.finish_steps = state["step"], state["finish_at"], state["finish_steps"]


def make_optimizer(model: GPT2, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; only matrices decay."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


def draw_batch(sources: list[Tensor], recipe: Recipe, n_ctx: int, step: int) -> Tensor:
    """(batch, n_ctx + 1) ids: random windows, a function of the step alone so that a resumed run sees the same data."""
    random = np.random.default_rng([SEED, step])
    rows = []
    for source in random.choice(len(sources), recipe.batch, p=list(SOURCES.values())):
        start = random.integers(len(sources[source]) - n_ctx)
        rows.append(sources[source][start : start + n_ctx + 1])
    return torch.stack(rows)


# -------------------------------------------------------------------------------------------------------------- export

CARD = """# tiny

A GPT-2 of {parameters:,} parameters that writes something like nineteenth-century English prose. It exists so that
pygpt can be tried offline, right after installation; it knows nothing and should be asked nothing.

- Architecture: GPT-2 (Hugging Face layout, tied head), {shape.n_layer} layers, {shape.n_head} heads, width
  {shape.n_embd}, context {shape.n_ctx}.
- Vocabulary: {shape.n_vocab} byte-level BPE tokens trained on the same text; `<|endoftext|>` is the last id.
- Weights: bfloat16.
- Made by: `examples/train_tiny_torch.py` in pygpt's repository, with PyTorch {torch}, on two CPU cores.
- Licence: the weights MIT, as pygpt; the training text is in the public domain.

## Data

| text | share of the training windows |
| --- | --- |
{shares}

Six novels by Jane Austen, Herman Melville's Moby Dick, Lewis Carroll's Alice and the World English Bible. Chapters are
documents; line wraps, headings, footnotes and emphasis marks were removed and quotes made ASCII. The
last {held_out:.0%} of each file were held out.

## Recipe

AdamW, {recipe}.
{steps} steps, {tokens:.1f} million tokens seen. Linear warm-up, then cosine decay to zero at step {schedule}{finish}.
Parameters and optimiser in float32, arithmetic in bfloat16.

## Held-out loss

Of the exported weights, in bfloat16 arithmetic, over consecutive windows of {shape.n_ctx} tokens.

| text | nats per token | perplexity | bits per byte |
| --- | --- | --- | --- |
{losses}

## Samples

Temperature 0.8, top-p 0.95.
{samples}"""


@dataclass(frozen=True)
class HeldOut:
    """A held-out text, its ids and its size."""

    name: str
    ids: Tensor
    n_bytes: int


def write_card(run: Run, shape: Shape, held_out: list[HeldOut]) -> str:
    rows, total_nats, total_tokens, total_bytes = [], 0.0, 0, 0
    for text in held_out:
        nats, n_tokens = evaluate(run.model, text.ids, shape.n_ctx), len(text.ids)
        rows.append((text.name, nats, nats * n_tokens / math.log(2) / text.n_bytes))
        total_nats, total_tokens, total_bytes = (
            total_nats + nats * n_tokens,
            total_tokens + n_tokens,
            total_bytes + text.n_bytes,
        )
    rows.append(("all of it", total_nats / total_tokens, total_nats / math.log(2) / total_bytes))
    samples = (sample(run.model, run.tokenizer, prompt, 150, temperature=0.8, top_p=0.95) for prompt in PROMPTS)
    return CARD.format(
        parameters=sum(p.numel() for p in run.model.parameters()),
        shape=shape,
        torch=torch.__version__,
        shares="\n".join(f"| {name} | {share:.0%} |" for name, share in SOURCES.items()),
        held_out=HELD_OUT,
        recipe=", ".join(f"{name} {value}" for name, value in asdict(run.recipe).items() if name != "steps"),
        steps=run.step,
        schedule=run.recipe.steps,
        finish=f", cut short by a linear one from step {run.finish_at} on" if run.finish_at else "",
        tokens=run.step * run.recipe.batch * shape.n_ctx / 1e6,
        losses="\n".join(f"| {name} | {nats:.3f} | {math.exp(nats):.1f} | {bits:.3f} |" for name, nats, bits in rows),
        samples="".join("\n" + "\n".join("> " + line for line in text.splitlines()) + "\n" for text in samples),
    )


def export(run: Run, shape: Shape, folder: Path) -> None:
    """Write the checkpoint folder in Hugging Face's layout, each file atomically."""
    folder.mkdir(exist_ok=True)
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": shape.n_vocab,
        "n_positions": shape.n_ctx,
        "n_ctx": shape.n_ctx,
        "n_embd": shape.n_embd,
        "n_layer": shape.n_layer,
        "n_head": shape.n_head,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": shape.n_vocab - 1,
        "eos_token_id": shape.n_vocab - 1,
        "torch_dtype": "bfloat16",
    }
    temporary = folder / "writing"
    temporary.mkdir(exist_ok=True)
    (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {name: tensor.bfloat16() for name, tensor in run.model.state_dict().items()}
    save_file(tensors, temporary / "model.safetensors", metadata={"format": "pt"})
    run.tokenizer.model.save(str(temporary))
    vocab = dict(sorted(run.tokenizer.get_vocab().items(), key=lambda item: item[1]))
    (temporary / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    for file in temporary.iterdir():
        file.replace(folder / file.name)
    temporary.rmdir()


# ---------------------------------------------------------------------------------------------------------------- loop


def train(run: Run, shape: Shape, sources: list[Tensor], held_out: list[HeldOut]) -> None:
    loss_of = torch.compile(run.model.loss)  # needs a C++ compiler; a third faster
    mean_loss, saved = 0.0, time.monotonic()
    while run.step < run.last_step:
        for group in run.optimizer.param_groups:
            group["lr"] = run.learning_rate()
        torch.manual_seed(SEED + run.step)  # dropout, too, depends on the step alone
        loss = loss_of(draw_batch(sources, run.recipe, shape.n_ctx, run.step))
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(run.model.parameters(), run.recipe.clip)
        run.optimizer.step()
        run.optimizer.zero_grad()
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss became {loss.item()} at step {run.step}")
        mean_loss += 0.02 * (loss.item() - mean_loss) if mean_loss else loss.item()
        run.step += 1
        run.look_for_finish()
        if time.monotonic() - saved > CHECKPOINT_SECONDS or run.step == run.last_step:
            quick = evaluate(run.model, held_out[0].ids, shape.n_ctx, windows=32)
            run.save()
            export(run, shape, run.folder / "export")
            progress = f"{time.strftime('%H:%M:%S')} step {run.step}/{run.last_step}"
            print(f"{progress} train {mean_loss:.3f} held out {quick:.3f}", flush=True)
            saved = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the texts")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoint, export and pid")
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.run.mkdir(parents=True, exist_ok=True)
    (options.run / "pid").write_text(str(os.getpid()))
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)

    shape, recipe = Shape(), Recipe(steps=options.steps)
    texts = read_sources(options.data)
    tokenizer = train_tokenizer(texts, shape.n_vocab)
    sources = [torch.tensor(tokenizer.encode(train_text).ids) for train_text, _ in texts.values()]
    held_out = [
        HeldOut(n, torch.tensor(tokenizer.encode(text).ids), len(text.encode())) for n, (_, text) in texts.items()
    ]

    model = GPT2(shape, recipe.dropout)
    run = Run(options.run, recipe, tokenizer, model, make_optimizer(model, recipe))
    run.load()
    train(run, shape, sources, held_out)
    with torch.no_grad():  # the card describes the weights as they ship
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    (options.run / "export" / "MODEL_CARD.md").write_text(write_card(run, shape, held_out), encoding="utf-8")


if __name__ == "__main__":
    main()
