"""The table of peers.py, from the runs in a file of results.

python bench/peer_report.py bench/results/peers.json
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

GROUP = ("checkpoint", "threads", "isa")  # runs that belong in one table


def show(runs: list[dict[str, Any]], like: dict[str, Any], tasks: Iterable[str]) -> None:
    """Tokens per second, each with the first engine's speed as a multiple of it, of the runs that are like one."""
    runs = [run for run in runs if all(run[key] == like[key] for key in GROUP)]
    engines = {name: about for run in runs for name, about in run["engines"].items()}
    first = next(iter(engines))
    roof = statistics.median(gbytes for run in runs for gbytes in run["read_roof"])
    isa = f", {like['isa']}" if like["isa"] else ""
    print(f"\n{like['checkpoint']}, {like['threads']} threads{isa}; reads {roof:.1f} GB/s")
    print(f"{'tokens/s, ' + first + ' / it':<40}" + "".join(f"{task:>19}" for task in tasks), end="")
    print("   of roof   load s  process s   peak MiB  distance  foreign  stolen")
    for name, about in engines.items():
        print(f"{name:<40}" + "".join(f"{cell(runs, first, name, task):>19}" for task in tasks), end="")
        shares, loading, load = [], [], {}
        for run in (run for run in runs if name in run["engines"]):
            bytes_read = run["matrix_weights"] * about["bits"] / 8
            median = statistics.median(rate(run, name, "decode at 16").values())
            shares.append(median * bytes_read / 1e9 / statistics.median(run["read_roof"]))
            loading += [sample for sample in run["loading"] if sample["engine"] == name]
        for key in ("load", "process", "peak_mib"):
            load[key] = statistics.median(sample[key] for sample in loading)
        met = {
            key: statistics.fmean(s[key] for run in runs for s in run["samples"] if s["engine"] == name)
            for key in ("foreign", "stolen")
        }
        print(f"{statistics.median(shares):10.0%} {load['load']:8.2f} {load['process']:10.2f}", end="")
        print(f"{load['peak_mib']:11.0f} {about['distance']:9.3f} {met['foreign']:8.1%} {met['stolen']:7.1%}")
    print("; ".join(sorted({about["version"] for about in engines.values()})))


def rate(run: dict[str, Any], engine: str, task: str) -> dict[int, float]:
    """Tokens per second by round."""
    samples = (s for s in run["samples"] if s["engine"] == engine and s["task"] == task)
    return {s["round"]: s["tokens_per_s"] for s in samples}


def cell(runs: list[dict[str, Any]], first: str, name: str, task: str) -> str:
    """The median rate, and the median over all rounds of the first engine's rate divided by it."""
    rates, ratios = [], []
    for run in runs:
        base, own = rate(run, first, task), rate(run, name, task)
        rates += own.values()
        ratios += [base[number] / own[number] for number in own if number in base]
    ratio = f" ({statistics.median(ratios):.2f})" if ratios and name != first else ""
    return f"{statistics.median(rates):.0f}{ratio}"


def main() -> None:
    runs = json.loads(Path(sys.argv[1]).read_text())
    seen = []
    for run in runs:
        group = [run[key] for key in GROUP]
        if group not in seen:
            seen.append(group)
            show(runs, run, list(dict.fromkeys(sample["task"] for sample in run["samples"])))


if __name__ == "__main__":
    main()
