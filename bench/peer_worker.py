"""One engine in its own process, for peers.py: it loads, then answers commands, one JSON object a line.

    python peer_worker.py ENGINE:FORMAT CHECKPOINT CACHE THREADS

The module peer_ENGINE gives `VERSION`, `FORMATS` (name -> bits of memory a weight takes, 0: as the file has them),
`prepare(checkpoint, cache, format)`, which converts once, and `load(cache, threads, format)`, whose result has
`start(tokens (B, T)) -> logits (B, V)`, which forgets everything before, and `step(tokens (B,)) -> logits (B, V)`,
which reads one more token of each sequence; or, instead of `step`, its own `generate` in the form of `greedy`.
Conversion has a process of its own (a fifth argument, `prepare`), so that what it imports is no part of the engine's
memory. `CODE` lists the files, beside the module, that it depends on.

Commands: {"batch", "context", "steps", "seed"} reads `context` random tokens and decodes `steps` greedily. The answer
has the seconds of the steps, or of the reading if there are no steps, and the tokens. Without "steps", the answer has
the logits after the reading.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import peer_common
from numpy.typing import NDArray
from peer_common import UnsuitableError


def greedy(engine: Any, prompt: NDArray[np.int64], steps: int) -> tuple[float, float, NDArray[np.int64]]:
    """Seconds of reading (B, T) tokens, seconds of `steps` steps after them, and the tokens chosen (B, steps + 1)."""
    begin = time.perf_counter()
    logits = engine.start(prompt)
    reading = time.perf_counter() - begin
    tokens = [logits.argmax(1)]
    begin = time.perf_counter()
    for _ in range(steps):
        tokens.append(engine.step(tokens[-1]).argmax(1))
    return reading, time.perf_counter() - begin, np.stack(tokens, 1)


def measure(
    engine: Any, n_vocab: int, batch: int, context: int, seed: int | list[int], steps: int | None = None
) -> dict[str, Any]:
    """One command. A short untimed call first wakes the threads and makes what the engine makes once a shape."""
    prompt = np.random.default_rng(seed).integers(0, n_vocab, (batch, context))
    if steps is None:
        return {"logits": np.round(engine.start(prompt), 5).tolist()}
    generate = engine.generate if hasattr(engine, "generate") else lambda *args: greedy(engine, *args)
    generate(prompt[:, :16], 1)
    reading, stepping, tokens = generate(prompt, steps)
    return {"seconds": stepping if steps else reading, "tokens": tokens.tolist()}


def stamp(module: Any, checkpoint: Path, weights: str) -> str:
    """What a conversion depends on: the checkpoint, the format, the engine's version, and the code that converts."""
    folder = checkpoint.is_dir()
    stat = (checkpoint / "model.safetensors" if folder else checkpoint).stat()
    about = [str(checkpoint.resolve()), stat.st_size, stat.st_mtime_ns, module.VERSION, weights]
    code = hashlib.sha256((checkpoint / "config.json").read_bytes() if folder else b"")
    for path in (module.__file__, peer_common.__file__, *getattr(module, "CODE", ())):
        code.update(Path(path).read_bytes())
    return json.dumps([*about, code.hexdigest()])


def prepare(module: Any, checkpoint: Path, cache: Path, weights: str) -> None:
    """Convert the checkpoint, unless the folder already holds what this code made of it."""
    expected, done = stamp(module, checkpoint, weights), cache / "done.json"
    if done.is_file() and done.read_text() == expected:
        return
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    module.prepare(checkpoint, cache, weights)
    done.write_text(expected)


def main() -> None:
    (name, weights), checkpoint, threads = sys.argv[1].split(":"), Path(sys.argv[2]), int(sys.argv[4])
    cache = Path(sys.argv[3]) / checkpoint.resolve().name / f"{name}-{weights}"
    answers = os.fdopen(os.dup(1), "w")  # whatever an engine prints goes to standard error
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        module = importlib.import_module(f"peer_{name}")
    except (ImportError, OSError) as error:  # OSError: a library that the package needs is not there
        return answer({"missing": str(error)})
    if weights not in module.FORMATS:
        return answer({"missing": f"its formats are {', '.join(module.FORMATS)}"})
    if sys.argv[5:] == ["prepare"]:
        try:
            prepare(module, checkpoint, cache, weights)
        except UnsuitableError as error:
            return answer({"missing": str(error)})
        return answer({"version": module.VERSION, "bits": module.FORMATS[weights]})
    begin = time.perf_counter()
    engine = module.load(cache, threads, weights)
    n_vocab = engine.start(np.array([[0]])).shape[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer({"load": time.perf_counter() - begin, "peak_mib": peak})
    for line in sys.stdin:
        answer(measure(engine, n_vocab, **json.loads(line)))
    return None


if __name__ == "__main__":
    main()
