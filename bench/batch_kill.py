"""`pygpt batch` killed with kill -9 at random moments: every answer once, none lost, equal to an undisturbed run's.

    python bench/batch_kill.py --kills 50 --model MODEL

A job is killed again and again, from its start on, until it ends; then it is begun anew until there were as many kills.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def write(path: Path, n: int) -> None:
    """Completions of several lengths, greedy and drawn."""
    with path.open("w") as file:
        for i in range(n):
            body = {"model": "m", "prompt": f"Number {i} of them:", "max_tokens": 5 + i % 40, "temperature": i % 2}
            row = {"custom_id": f"r{i}", "method": "POST", "url": "/v1/completions", "body": body}
            file.write(json.dumps(row) + "\n")


def answers(path: Path) -> dict[str, Any]:
    """What was said, by request; AssertionError for an answer that is there twice or half."""
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    found = {record["custom_id"]: record["response"]["body"]["choices"] for record in records}
    assert len(found) == len(records), f"{len(records) - len(found)} answers are there twice"
    return found


def killed(command: list[str], seconds: float) -> bool:
    """Whether a process had to be killed after so long; it is an error if it fails by itself."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _, message = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0, message
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        source, alone, target = (Path(folder) / name for name in ("in.jsonl", "alone.jsonl", "out.jsonl"))
        write(source, args.requests)
        start = [sys.executable, "-m", "pygpt", "batch", str(source)]
        begun = time.perf_counter()
        assert not killed([*start, str(alone), "-m", f"m={args.model}"], 3600)
        alone_seconds = time.perf_counter() - begun
        expected = answers(alone)
        assert len(expected) == args.requests
        n_kills = n_jobs = n_within = 0
        while n_kills < args.kills:
            n_jobs += 1
            target.unlink(missing_ok=True)
            while killed([*start, str(target), "-m", f"m={args.model}"], rng.uniform(0.3, 1.2) * alone_seconds):
                n_kills += 1
                n_within += target.exists() and 0 < target.read_bytes().count(b"\n") < args.requests
            assert answers(target) == expected
    print(f"{n_kills} kills, {n_within} of them amid the answers, of {n_jobs} jobs: every answer once, all equal")


if __name__ == "__main__":
    main()
