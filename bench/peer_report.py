"""The tables of peers.py, from the runs in its files.

python bench/peer_report.py bench/results/peers/*.jsonl
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from peer_results import read

GROUP = ("machine", "checkpoint", "threads", "isa", "note")  # runs that belong in one table


def show(runs: list[dict[str, Any]], like: dict[str, Any]) -> None:
    """Tokens per second, each with the first engine's speed as a multiple of it, of the runs that are like one."""
    runs = [run for run in runs if all(run[key] == like[key] for key in GROUP) and run["samples"]]
    tasks = list(dict.fromkeys(sample["task"] for run in runs for sample in run["samples"]))
    engines = {name: about for run in runs for name, about in run["engines"].items()}
    if not tasks:
        print("nothing was measured")
        return
    first = next(iter(engines))
    print("\n" + ", ".join(f"{key} {value}" for key, value in like["machine"].items()))
    title = [like["checkpoint"], f"{like['threads']} threads", *filter(None, (like["isa"], like["note"]))]
    roofs = [gbytes for run in runs for gbytes in run["read_roof"]]
    print(", ".join(title) + (f"; reads {statistics.median(roofs):.1f} GB/s" if roofs else ""))
    print(f"{'tokens/s, ' + first + ' / it':<40}" + "".join(f"{task:>19}" for task in tasks), end="")
    print("   of roof   load s  process s   peak MiB  distance  foreign  stolen")
    for name in engines:
        print(f"{name:<40}" + "".join(f"{cell(runs, first, name, task):>19}" for task in tasks) + rest(runs, name))
    print("; ".join(sorted({about["version"] for about in engines.values()})))
    for run in runs:
        for message in run["failed"].values():
            print(message)


def rest(runs: list[dict[str, Any]], name: str) -> str:
    """What stands right of an engine's speeds."""
    distances = [run["distance"][name] for run in runs if name in run["distance"]]

    def median(form: str, width: int, values: list[float]) -> str:
        return f"{statistics.median(values):{width}{form}}" if values else " " * (width - 1) + "-"

    loading = [sample for run in runs for sample in run["loading"] if sample["engine"] == name]
    samples = [sample for run in runs for sample in run["samples"] if sample["engine"] == name]
    columns = [median(".0%", 10, roof_shares(runs, name))]
    for key, form, width in (("load", ".2f", 9), ("process", ".2f", 11), ("peak_mib", ".0f", 11)):
        columns.append(median(form, width, [sample[key] for sample in loading]))
    columns.append(median(".3f", 10, distances[-1:]))
    for key, width in (("foreign", 9), ("stolen", 8)):
        met = [sample[key] for sample in samples]
        columns.append(f"{statistics.fmean(met):{width}.1%}" if met else " " * (width - 1) + "-")
    return "".join(columns)


def roof_shares(runs: list[dict[str, Any]], name: str) -> list[float]:
    """The share of the read bandwidth that the weights of a decode step take, of each run that tells."""
    shares = []
    for run in runs:
        decoded = rate(run, name, "decode at 16").values()
        if decoded and run["read_roof"] and run["engines"][name]["bits"]:
            bytes_read = run["matrix_weights"] * run["engines"][name]["bits"] / 8
            shares.append(statistics.median(decoded) * bytes_read / 1e9 / statistics.median(run["read_roof"]))
    return shares


def rate(run: dict[str, Any], engine: str, task: str) -> dict[int, float]:
    """Tokens per second by round."""
    samples = (s for s in run["samples"] if s["engine"] == engine and s["task"] == task)
    return {s["round"]: s["tokens_per_s"] for s in samples}


def cell(runs: list[dict[str, Any]], first: str, name: str, task: str, decimals: int = 2) -> str:
    """The median rate, and the median over all rounds of the first engine's rate divided by it."""
    rates, ratios = [], []
    for run in runs:
        base, own = rate(run, first, task), rate(run, name, task)
        rates += own.values()
        ratios += [base[number] / own[number] for number in own if number in base]
    if not rates:
        return "-"
    ratio = f" ({statistics.median(ratios):.{decimals}f})" if ratios and name != first else ""
    return f"{statistics.median(rates):.0f}{ratio}"


def main() -> None:
    for path in sys.argv[1:]:
        runs, seen = read(Path(path)), []
        for run in runs:
            group = [run[key] for key in GROUP]
            if group not in seen:
                seen.append(group)
                show(runs, run)


if __name__ == "__main__":
    main()
