"""`pygpt serve` beside other servers that speak OpenAI's API: the same GGUF file, the same load, in interleaved runs.

    python bench/serve.py model.gguf --threads 2 --server pygpt --server llamacpp=PATH/llama-server
    python bench/serve.py model.gguf --threads 2 --prefix 1000
    python bench/serve.py model.gguf --threads 2 --soak 20000

The load: 1, 8 and 32 clients (--clients), each of which asks for its next streamed completion when it has the last one.
Prompts are cut from a text (--text), 32 to 512 tokens, as many short ones as long ones on a scale of logarithms, none
asked twice; answers are 64 tokens, taken by temperature 0 with end-of-text forbidden by a bias, so that all servers
write as many. The clients are one process, which shares the cores with the server: `foreign` is their share.

What counts begins when each client has had one answer. For each number of clients every round asks each server in
turn, forwards and backwards by turns. With --bare, `scheduled` is a `pygpt.Scheduler` in this process, and
`bare` only its loop over a batch, with as many sequences as clients: what HTTP and the scheduler cost are the
differences. The result is the median of the rounds and of the ratios within a round.

Every figure is written to a file of --out before the next begins, as `peers.py` does.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import serve_load as load
from machine import Others, machine
from numpy.typing import NDArray
from peer_results import RunFile, file_name
from serve_servers import Server

import pygpt
from pygpt import checkpoint
from pygpt.generation import Batch, CancelToken, Request, SamplingParams

SHORTEST, LONGEST, ANSWER = 32, 512, 64
HERE = Path(__file__).resolve().parent


class Prompts:
    """Prompts that no one asked before, cut from a text at random."""

    def __init__(self, model: pygpt.Model, text: str, seed: int) -> None:
        self._model, self._ids = model, model.tokenizer.encode(text)
        self._rng = np.random.default_rng(seed)

    def __next__(self) -> str:
        """Of 32 to 512 tokens, or one or two more or less where the cut fell within a word."""
        return self.of(int(np.exp(self._rng.uniform(np.log(SHORTEST), np.log(LONGEST)))))

    def of(self, n_tokens: int) -> str:
        begin = int(self._rng.integers(len(self._ids) - n_tokens))
        return self._model.tokenizer.decode(self._ids[begin : begin + n_tokens])

    def requests(self, forbidden: dict[str, int]) -> Iterator[bytes]:
        while True:
            yield load.completion(next(self), ANSWER, logit_bias=forbidden)


def sampling(model: pygpt.Model) -> SamplingParams:
    """What the requests over HTTP ask for."""
    return SamplingParams(temperature=0, max_tokens=ANSWER, logit_bias=dict.fromkeys(model.config.eos_ids, -100))


def token_ids(model: pygpt.Model, prompts: Prompts) -> list[NDArray[np.int32]]:
    """Enough prompts for a round."""
    return [np.array(model.tokenizer.encode(next(prompts)), np.int32) for _ in range(512)]


class Inside:
    """The same load without HTTP; `bare` without a scheduler too."""

    def __init__(self, model: pygpt.Model, n_clients: int, prompts: Prompts) -> None:
        self.model, self.n_clients = model, n_clients
        self.ids, self.params = token_ids(model, prompts), sampling(model)
        self.times: list[list[tuple[float, float]]] = []
        self.sent: list[float] = []
        self.begin, self.warm = math.inf, 0
        self.asking = threading.Lock()  # the first requests come from one thread, those after them from another

    def next(self) -> tuple[int, NDArray[np.int32]]:
        """The next request, which is sent now: its number and its prompt."""
        with self.asking:
            number = len(self.sent)
            self.times.append([])
            self.sent.append(time.perf_counter())
        return number, self.ids[number % len(self.ids)]

    def take(self, number: int, piece: pygpt.Piece) -> None:
        """A piece of an answer has come. Measuring begins when each client has had an answer."""
        now = time.perf_counter()
        if piece.token is not None:  # the last piece of what is cancelled has none
            self.times[number].append((now, 1.0))
        if piece.finish_reason is not None and number < self.n_clients:
            self.warm += 1
            if self.warm == self.n_clients:
                self.begin = now

    def bare(self, seconds: float) -> dict[str, Any]:
        """Sequences that enter a batch as others leave it."""
        batch = Batch(*self.model._parts)
        while time.perf_counter() < self.begin + seconds:
            while len(batch) < self.n_clients:
                number, ids = self.next()
                batch.admit(Request(ids, self.params, 0, first_index=number, cancel=CancelToken()))
            for outcome in batch.step():
                for piece in outcome.pieces:
                    self.take(piece.index, piece)
        return load.figures(self.times, self.sent, self.begin, self.begin + seconds)

    def scheduled(self, seconds: float) -> dict[str, Any]:
        """Listeners that ask again when their request has ended."""
        with pygpt.Scheduler(self.model) as scheduler:
            for _ in range(self.n_clients):
                Asking(self, scheduler).ask()
            while time.perf_counter() < self.begin + seconds:
                time.sleep(0.05)
        return load.figures(self.times, self.sent, self.begin, self.begin + seconds)


class Asking:
    """A client in the process: a listener."""

    def __init__(self, inside: Inside, scheduler: pygpt.Scheduler) -> None:
        self.inside, self.scheduler = inside, scheduler

    def ask(self) -> None:
        self.number, ids = self.inside.next()
        self.scheduler.submit(ids, listener=self, params=self.inside.params)

    def on_pieces(self, pieces: Sequence[pygpt.Piece]) -> None:
        for piece in pieces:
            self.inside.take(self.number, piece)
        if pieces[-1].finish_reason == "length":
            self.ask()

    def on_error(self, error: Exception) -> None:
        raise error


def compare(args: argparse.Namespace, model: pygpt.Model, prompts: Prompts, file: RunFile) -> None:
    forbidden = {str(i): -100 for i in sorted(model.config.eos_ids)}
    servers = args.server or ["pygpt"]
    for n_clients in args.clients:
        seen: dict[str, list[dict[str, Any]]] = {}
        running = [Server(name, args.model, args.threads, n_clients) for name in servers]
        try:
            for number in range(args.rounds):
                order: list[Server | str] = [*running, *(("scheduled", "bare") if args.bare else ())]
                for one in order if number % 2 == 0 else reversed(order):
                    others = Others(one.pid if isinstance(one, Server) else os.getpid())
                    if isinstance(one, Server):
                        result = load.measure(one.port, n_clients, args.seconds, prompts.requests(forbidden))
                    else:
                        inside = Inside(model, n_clients, prompts)
                        result = inside.bare(args.seconds) if one == "bare" else inside.scheduled(args.seconds)
                    name = one.name if isinstance(one, Server) else one
                    sample = {"server": name, "clients": n_clients, **result, **others.shares()}
                    if isinstance(one, Server):
                        one.settle()
                    file.add("sample", sample)
                    seen.setdefault(name, []).append(sample)
                    print(sample, flush=True)
        finally:
            for server in running:
                server.close()
        show(seen, n_clients)


def show(seen: dict[str, list[dict[str, Any]]], n_clients: int) -> None:
    """Medians over the rounds, and of the ratios to the first server's tokens a second."""
    first = next(iter(seen))
    print(
        f"\n{n_clients} clients: tokens/s, ms to the first token p50 and p99, between tokens p50 and p99, {first} / it"
    )
    for name, samples in seen.items():
        values = [statistics.median(s["tokens_per_second"] for s in samples)]
        for key in ("first_ms", "between_ms"):
            values += [statistics.median(s[key][p] for s in samples) for p in ("p50", "p99")]
        pairs = zip(seen[first], samples, strict=True)
        ratio = statistics.median(a["tokens_per_second"] / b["tokens_per_second"] for a, b in pairs)
        print(f"{name:10}" + "".join(f"{value:10.1f}" for value in values) + f"{ratio:10.3f}")


def prefix(args: argparse.Namespace, prompts: Prompts, file: RunFile) -> None:
    """How much sooner the second of two requests with the same beginning has its first token."""
    for name in args.server or ["pygpt"]:
        ratios = []
        with Server(name, args.model, args.threads, 4, n_ctx=2048) as server:
            for _ in range(args.rounds):
                shared = prompts.of(args.prefix)
                cold, _ = load.alone(server.port, load.completion(f"{shared} First, {prompts.of(8)}", 4))
                time.sleep(0.2)
                again, _ = load.alone(server.port, load.completion(f"{shared} Then, {prompts.of(8)}", 4))
                sample = {"server": server.name, "prefix": args.prefix, "first_s": cold, "second_s": again}
                file.add("prefix", sample)
                ratios.append(cold / again)
        print(f"{server.name}: the second answer begins {statistics.median(ratios):.1f}x as soon ({ratios})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file, or what else every server loads")
    parser.add_argument(
        "--server", action="append", help="pygpt[=PROGRAM] or llamacpp=PROGRAM, and =MODEL for another file; several"
    )
    parser.add_argument("--threads", type=int, default=2, help="of each server")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10, help="a server is measured in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", action="store_true", help="measure scheduler and loop in this process as well")
    parser.add_argument("--text", type=Path, default=HERE.parent / "docs", help="a file, or a folder of Markdown")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--prefix", type=int, help="instead: two requests with the same beginning of so many tokens")
    parser.add_argument("--soak", type=int, help="instead: so many requests, a tenth cut off, a tenth malformed")
    parser.add_argument("--out", type=Path, default=Path("serve-results"))
    args = parser.parse_args()
    files = sorted(args.text.glob("*.md")) if args.text.is_dir() else [args.text]
    args.model = checkpoint.locate(args.model)
    model = pygpt.Model.load(args.model, threads=args.threads)
    prompts = Prompts(model, "\n".join(f.read_text(encoding="utf-8") for f in files), args.seed)
    about = machine()
    file = RunFile(args.out / file_name(about, args.threads))
    file.add("run", {"machine": about, "threads": args.threads, "model": args.model.name, "seed": args.seed})
    if args.prefix:
        prefix(args, prompts, file)
    elif args.soak:
        from serve_soak import soak

        soak(args, model, prompts, file)
    else:
        compare(args, model, prompts, file)


if __name__ == "__main__":
    main()
