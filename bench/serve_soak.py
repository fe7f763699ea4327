"""The soak test of serve.py: many requests, of which a tenth is cut off by the client and a tenth is malformed."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from typing import Any

import numpy as np
import serve_load as load
from peer_results import RunFile
from serve_load import Answer, Connection
from serve_servers import Server

import pygpt

KINDS = 200  # different requests, each asked again and again; so their answers are computed here once
CLIENTS, WARM = 32, 2000  # requests before the memory is looked at for the first time
MALFORMED = [  # and the status that each deserves
    (load.post("/v1/completions", b'{"model": "m", "prompt": '), 400),
    (load.post("/v1/completions", b"\xff\xfe\x00"), 400),
    (load.post("/v1/completions", b"[]"), 400),
    (load.post("/v1/completions", b'{"prompt": "a", "max_tokens": -1}'), 400),
    (load.post("/v1/completions", b'{"prompt": "a", "temperature": "hot"}'), 400),
    (load.post("/v1/completions", b'{"prompt": "a", "no_such_option": 1}'), 400),
    (load.post("/v1/completions", b'{"prompt": [1, 2, 99999999]}'), 400),
    (load.post("/v1/chat/completions", b'{"messages": "hello"}'), 400),
    (load.post("/v1/no/such/path", b"{}"), 404),
]


class Soak:
    """Asks one server, and counts what came."""

    def __init__(self, server: Server, asked: list[tuple[bytes, str]], n_requests: int, seed: int) -> None:
        self.server, self.asked, self.n_requests = server, asked, n_requests
        self.rng = np.random.default_rng(seed)
        self.counts = {"whole": 0, "cut off": 0, "malformed": 0}
        self.faults: list[str] = []
        self.memory: dict[int, int] = {}  # bytes, by the number of requests before
        self.n_begun = 0

    async def run(self) -> None:
        await asyncio.gather(*(self.client() for _ in range(CLIENTS)))
        self.memory[self.n_begun] = self.server.memory()

    async def client(self) -> None:
        connection = await Connection.open(self.server.port)
        while self.n_begun < self.n_requests:
            self.n_begun += 1
            if self.n_begun % 1000 == 0:
                self.memory[self.n_begun] = self.server.memory()
            if not connection.is_open:
                connection = await Connection.open(self.server.port)
            kind = self.rng.random()
            try:
                if kind < 0.1:
                    cut = await connection.ask(self.choose()[0], cut_off=float(self.rng.uniform(0, 0.1)))
                    self.counts["cut off"] += cut.closed  # not where the answer was quicker
                elif kind < 0.2:
                    request, status = MALFORMED[self.rng.integers(len(MALFORMED))]
                    answer = await asyncio.wait_for(connection.ask(request), 60)
                    self.counts["malformed"] += 1
                    if answer.status != status or "error" not in json.loads(answer.body):
                        self.faults.append(f"{request[-80:]!r} was answered {answer.raw[:300]!r}")
                else:
                    request, text = self.choose()
                    self.judge(await asyncio.wait_for(connection.ask(request), 120), text)
            except asyncio.TimeoutError:
                self.faults.append("a request was not answered within its time")
                connection.close()
        connection.close()

    def choose(self) -> tuple[bytes, str]:
        return self.asked[self.rng.integers(len(self.asked))]

    def judge(self, answer: Answer, text: str) -> None:
        self.counts["whole"] += 1
        if answer.status != 200 or not answer.is_whole():
            self.faults.append(f"answered {answer.raw[:300]!r}")
        elif answer.text() != text:
            self.faults.append(f"the text is {answer.text()!r}, in the process it is {text!r}")


def soak(args: argparse.Namespace, model: pygpt.Model, prompts: Any, file: RunFile) -> None:
    """SystemExit where a request was not answered, or otherwise than the model alone does."""
    rng = np.random.default_rng(args.seed)
    asked: list[tuple[bytes, str]] = []
    for number in range(KINDS):
        prompt = prompts.of(int(rng.integers(4, 64)))
        options: dict[str, Any] = {"temperature": 0.8, "top_p": 0.95, "seed": number}
        n = int(rng.integers(1, 24))
        text = model.generate(prompt, max_tokens=n, **options).text
        asked.append((load.completion(prompt, n, **options), text))
    with Server((args.server or ["pygpt"])[0], args.model, args.threads, CLIENTS) as server:
        begin = time.perf_counter()
        test = Soak(server, asked, args.soak, args.seed)
        asyncio.run(test.run())
        seconds = time.perf_counter() - begin
        rss = {n: round(size / 2**20, 1) for n, size in sorted(test.memory.items())}
        warm = test.memory.get(WARM, 0)
        result = {**test.counts, "faults": len(test.faults), "seconds": round(seconds, 1), "memory_mib": rss,
                  "growth_mib": round((test.memory[test.n_begun] - warm) / 2**20, 1) if warm else None,
                  "clients": CLIENTS, "cpus": os.cpu_count()}  # fmt: skip
    file.add("soak", result)
    print(result)
    for fault in test.faults[:20]:
        print(fault)
    if test.faults:
        raise SystemExit(f"{len(test.faults)} faults")
