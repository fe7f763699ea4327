"""The capacity model and the simulated fleet: that the simulation does what the scheduler does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt.generation.plan import Planner


@pytest.fixture
def bench(script: Callable[[str], ModuleType]) -> Any:
    return SimpleNamespace(**{name: script(f"capacity_{name}") for name in ("fleet", "load", "model")})


def test_the_fit_finds_what_steps_take(bench: Any) -> None:
    """A third of them are delayed, which moves nothing."""
    rng = np.random.default_rng(0)
    true = bench.model.StepModel(2e-3, 5e-7, 2e-4, 4e-5, 0.0)
    steps = []
    for _ in range(600):
        n = int(rng.integers(1, 64))
        positions, prompt = int(rng.integers(n, 400 * n)), int(rng.choice([0, 100, 192]))
        step = bench.model.Step(n + prompt, n, positions + prompt, positions + prompt * prompt // 2)
        seconds = true.seconds(step)
        steps.append((step, seconds * (rng.uniform(1.5, 3) if rng.random() < 0.3 else 1)))
    found = bench.model.fit(steps)
    for name in ("fixed", "position", "row", "output"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=0.02)
    assert 0 <= found.pair < 1e-9
    assert found.bandwidth(1000) == pytest.approx(1000 / found.position)


class Counting:
    """A model of steps of one second, which writes down what they are."""

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def seconds(self, step: Any) -> float:
        self.steps.append(step)
        return 1.0


def test_simulated_steps_are_the_schedulers(bench: Any, model: pygpt.Model) -> None:
    """The same requests give the same steps, one for one: rows, outputs, contexts, parts of prompts."""
    rng = np.random.default_rng(1)
    arrivals = [bench.fleet.Arrival(0.0, int(rng.integers(1, 50)), int(rng.integers(1, 12))) for _ in range(20)]
    arrived = threading.Event()
    with bench.load.Recorder() as recorder:
        plan = Planner.plan
        Planner.plan = lambda planner, entries: arrived.wait() and plan(planner, entries)  # type: ignore
        try:
            with pygpt.Scheduler(model, max_running=6, max_step_tokens=24, prefix_bytes=0) as scheduler:
                asker = bench.load.Asker(scheduler, 0)
                for arrival in arrivals:
                    asker.ask(arrival)
                    while arrival is arrivals[0] and scheduler.stats().waiting:
                        pass  # the first is alone in the first step
                arrived.set()
                for _ in arrivals:
                    asker.done.get()
        finally:
            Planner.plan = plan  # type: ignore[method-assign]
    counting = Counting()
    node = bench.fleet.Node(counting, max_running=6, max_step_tokens=24)
    node.add(bench.fleet.Served(arrivals[0]))
    node.run_until(1e-9)
    for arrival in arrivals[1:]:
        node.add(bench.fleet.Served(arrival))
    while node.n_unfinished:
        node.run_until(node.now + 1e-9)  # a step
    assert counting.steps == [step for _, step in recorder.steps]


def make(bench: Any, **options: Any) -> Any:
    return lambda: bench.fleet.Node(bench.model.StepModel(1e-3, 1e-7, 1e-4, 1e-5, 1e-8), **options)


def test_many_steps_at_once_take_as_long_as_one_by_one(bench: Any) -> None:
    rng = np.random.default_rng(2)
    arrivals = [
        bench.fleet.Arrival(float(t), int(rng.integers(1, 300)), 40) for t in np.cumsum(rng.exponential(0.05, 50))
    ]
    at_once = bench.fleet.simulate(arrivals, 1, make(bench), bench.fleet.by_load)
    node, requests = make(bench)(), [bench.fleet.Served(a) for a in arrivals]
    for request in requests:
        while node.n_unfinished and node.now < request.arrival.at:
            node.run_until(node.now + 1e-9)
        node.add(request)
    while node.n_unfinished:
        node.run_until(node.now + 1e-9)
    one_by_one = bench.fleet.figures(requests, 1)
    for name in ("tokens_per_second", "first_p50", "first_p99", "between_p99"):
        assert getattr(at_once, name) == pytest.approx(getattr(one_by_one, name), rel=1e-9)


def test_a_conversation_finds_its_prefix_on_its_node(bench: Any) -> None:
    arrivals, at = [], 0.0
    for turn in range(4):
        for c in range(12):
            arrivals.append(bench.fleet.Arrival(at, 100 + 120 * turn, 20, f"c{c}"))
            at += 0.01
    run = bench.fleet.simulate
    kept = run(arrivals, 3, make(bench, prefix_tokens=10_000), bench.fleet.by_conversation)
    known = [120 * turn - 1 for turn in range(1, 4)]  # all but the last token, which nothing came after
    assert kept.cached == pytest.approx(sum(known) / sum(100 + 120 * turn for turn in range(4)))
    assert run(arrivals, 3, make(bench, prefix_tokens=10_000), bench.fleet.by_load).cached < kept.cached
    assert run(arrivals, 3, make(bench), bench.fleet.by_conversation).cached == 0
    assert 0 < run(arrivals, 3, make(bench, prefix_tokens=900), bench.fleet.by_conversation).cached < kept.cached
    assert kept.first_p50 < run(arrivals, 3, make(bench), bench.fleet.by_conversation).first_p50


def test_the_fewest_nodes_that_keep_the_limits(bench: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [{"at": float(t), "prompt": 200, "answer": 50} for t in np.cumsum(rng.exponential(0.02, 80))]
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arrivals = bench.fleet.read_trace(path, times=3)
    assert len(arrivals) == 240
    assert arrivals == sorted(arrivals)

    def run(n: int) -> Any:
        return bench.fleet.simulate(arrivals, n, make(bench), bench.fleet.by_load)

    found = bench.fleet.nodes_for(run, 0.15, 0.02)
    assert found.n_nodes > 2
    assert found.first_p99 <= 0.15
    assert found.between_p99 <= 0.02
    before = run(found.n_nodes - 1)
    assert before.first_p99 > 0.15 or before.between_p99 > 0.02
    with pytest.raises(ValueError, match="4 nodes are not enough: to the first token p99"):
        bench.fleet.nodes_for(run, 0.0, 0.0, most=4)


@pytest.mark.parametrize("line", ["{", "[]", '{"at": 1}', '{"at": 1, "prompt": 0, "answer": 1}', '{"x": 1}'])
def test_a_wrong_trace_names_its_line(bench: Any, tmp_path: Path, line: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"at": 0, "prompt": 1, "answer": 1}\n' + line + "\n")
    with pytest.raises(ValueError, match="line 2"):
        bench.fleet.read_trace(path)
    path.write_text("")
    with pytest.raises(ValueError, match="no requests"):
        bench.fleet.read_trace(path)
