"""Each kernel's speed beside the machine's own limits: reading memory, and fused multiply-adds in registers.

    python bench/kernels.py --threads 2 --json bench/results/kernels.json

Builds bench/kernels.cpp with CMake into build/bench and runs it. `of read` and `of peak` are shares of the read
bandwidth over a buffer of GPT-2's size and of the multiply-add peak (for int8 on x86-64, that of the instruction set's
integer products), both measured before and after every sample with the same threads. Weights, keys and
values are never in a cache; what works row by row is, so it may exceed the read bandwidth.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from machine import machine

ROOT = Path(__file__).resolve().parents[1]


def build(folder: Path) -> Path:
    """The executable, up to date."""
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-DPYGPT_BENCH=ON", "-DCMAKE_BUILD_TYPE=Release"]
    for command in (configure, ["cmake", "--build", str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return folder / "pygpt_bench"


def row(result: dict[str, Any]) -> str:
    """One line of the table."""
    flops = f"{result['gflops']:9.1f} {result['fma_share']:7.0%}" if result["gflops"] else " " * 17
    return (
        f"{result['kernel']:<12} {result['dtype']:<9} {result['shape']:<36} {result['gbytes_per_s']:8.1f} "
        f"{result['read_share']:8.0%} {flops} {result['read_roof']:10.1f} {result['fma_roof']:9.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Each kernel's speed beside the machine's limits.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", default="", help="an instruction set by name; default: the machine's best")
    parser.add_argument("--runs", type=int, default=9, help="samples whose median counts")
    parser.add_argument(
        "--only",
        default="",
        help='measure cases whose "name dtype shape" has these words, such as "linear int8 up rows 8"',
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results here")
    args = parser.parse_args()

    command = [str(build(ROOT / "build" / "bench")), str(args.threads), args.isa, str(args.runs), args.only]
    print(
        f"{'kernel':<12} {'dtype':<9} {'shape':<36} {'GB/s':>8} {'of read':>8} {'GFLOP/s':>9} {'of peak':>7} "
        f"{'read roof':>10} {'peak':>9}"
    )
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(json.loads(line))
            if "kernel" in lines[-1]:
                print(row(lines[-1]), flush=True)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed; its message stands above")
    if args.json:
        about = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), **lines[0]}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({**about, "results": lines[1:]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
