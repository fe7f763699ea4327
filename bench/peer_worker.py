"""One engine in its own process, for peers.py: it loads, then answers commands, one JSON object a line.

    python peer_worker.py ENGINE CHECKPOINT CACHE THREADS

The module peer_ENGINE gives `VERSION`, `prepare(checkpoint, cache)`, which converts once, and
`load(cache, threads)`, whose result has `start(tokens (B, T)) -> logits (B, V)`, which forgets everything
before, and `step(tokens (B,)) -> logits (B, V)`, which reads one more token of each sequence.

Commands: {"batch", "context", "steps", "seed"} reads `context` random tokens and decodes `steps` greedily. The answer
has the seconds of the steps, or of the reading if there are no steps, and the tokens.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """What each peer's module loads."""

    def start(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]: ...
    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]: ...


def measure(engine: Engine, n_vocab: int, batch: int, context: int, steps: int, seed: int) -> dict[str, Any]:
    """One command. A short untimed call first wakes the threads and makes what the engine makes once a shape."""
    prompt = np.random.default_rng(seed).integers(0, n_vocab, (batch, context))
    engine.step(engine.start(prompt[:, :16]).argmax(1))
    begin = time.perf_counter()
    logits = engine.start(prompt)
    seconds = time.perf_counter() - begin
    tokens = [logits.argmax(1)]
    begin = time.perf_counter()
    for _ in range(steps):
        tokens.append(engine.step(tokens[-1]).argmax(1))
    if steps:
        seconds = time.perf_counter() - begin
    return {"seconds": seconds, "tokens": np.stack(tokens, 1).tolist()}


def prepare(module: Any, checkpoint: Path, cache: Path) -> None:
    """Convert the checkpoint, unless the folder already holds this one's conversion by this version."""
    stat = (checkpoint / "model.safetensors").stat()
    stamp = json.dumps([str(checkpoint.resolve()), stat.st_size, stat.st_mtime_ns, module.VERSION])
    done = cache / "done.json"
    if done.is_file() and done.read_text() == stamp:
        return
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    module.prepare(checkpoint, cache)
    done.write_text(stamp)


def main() -> None:
    name, checkpoint, cache, threads = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) / sys.argv[1], int(sys.argv[4])
    answers = os.fdopen(os.dup(1), "w")  # whatever an engine prints goes to standard error
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        module = importlib.import_module(f"peer_{name}")
    except ImportError as error:
        return answer({"missing": str(error)})
    if sys.argv[5:] == ["prepare"]:
        prepare(module, checkpoint, cache)
        return answer({"version": module.VERSION})
    begin = time.perf_counter()
    engine = module.load(cache, threads)
    n_vocab = engine.start(np.array([[0]])).shape[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer({"load": time.perf_counter() - begin, "peak_mib": peak})
    for line in sys.stdin:
        answer(measure(engine, n_vocab, **json.loads(line)))
    return None


if __name__ == "__main__":
    main()
