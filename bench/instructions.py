"""Counts the instructions that a token costs on 64-bit Arm, in QEMU's emulator: a measure where no such machine is.

    python bench/instructions.py

needs g++-aarch64-linux-gnu and qemu-user (Debian's packages). One block of GPT-2's shape, on one thread; a prompt's
tokens in one step, then tokens one by one. What loading costs is counted apart and taken off.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRIPLE = "aarch64-linux-gnu"
PROMPT, DECODED = 64, 4


def build(folder: Path) -> None:
    """The program for Arm, and the emulator's plugin for this machine."""
    cmake = ["cmake", "-S", ROOT, "-B", folder, "-DPYGPT_BENCH=ON", "-DCMAKE_SYSTEM_NAME=Linux"]
    cmake += ["-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_CXX_COMPILER={TRIPLE}-g++"]
    subprocess.run(cmake, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", "pygpt_instructions", "-j2"], check=True)
    source = ROOT / "bench" / "count_instructions.c"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", folder / "count_instructions.so", source], check=True)


def instructions(folder: Path, *arguments: object) -> int:
    emulator = ["qemu-aarch64", "-cpu", "max", "-L", f"/usr/{TRIPLE}", "-plugin", folder / "count_instructions.so"]
    done = subprocess.run(
        [*emulator, folder / "pygpt_instructions", *map(str, arguments)], check=True, capture_output=True, text=True
    )
    return int(done.stderr)


def main() -> None:
    folder = ROOT / "build" / "instructions"
    build(folder)
    print(f"million instructions a token: prompt of {PROMPT}, decode after it")
    for weights in ("int8", "bfloat16", "float32"):
        portable: list[float] = []
        for isa in ("scalar", "neon", *(("dotprod", "i8mm") if weights == "int8" else ())):
            loaded, read, all_done = (
                instructions(folder, isa, weights, *n) for n in ((0, 0), (PROMPT, 0), (PROMPT, DECODED))
            )
            found = [(read - loaded) / PROMPT / 1e6, (all_done - read) / DECODED / 1e6]
            portable = portable or found
            each = (f"{n:8.2f} ({p / n:5.1f} times fewer)" for n, p in zip(found, portable, strict=True))
            print(f"{weights:10} {isa:8}", *each, flush=True)


if __name__ == "__main__":
    main()
