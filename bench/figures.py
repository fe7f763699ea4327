"""Write the figures of README.md and docs/performance.md that are those of files in bench/results, between their marks.

    python bench/figures.py

`tests/bench/test_figures.py` fails where a page shows others. After a new measurement, add its runs to the file and
call this; a table is of all runs in the file that are alike (`peer_report.py`).
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import finetune
import peer_report
from peer_results import read

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
EPYC = "amd-epyc-2-cores-2-threads.jsonl"
MARK = "<!-- made by bench/figures.py: {} -->"
TASKS = {
    "prefill 512": "prefill 512",
    "decode at 16": "decode at 16",
    "decode at 900": "decode at 900",
    "8 together": "8 together",
    "32 together": "32 together",
}


class Table(NamedTuple):
    """Engines beside one another on one model: the first engine's speed, and that of the others with how many times as
    fast the first one was."""

    checkpoint: str
    engines: dict[str, str]  # what they are called, with {version} or {short}, its first two parts
    isa: str = ""
    file: str = EPYC  # in results/peers
    tasks: dict[str, str] = TASKS  # what they are called
    decimals: int = 2  # of how many times
    loading: tuple[str, ...] = ()  # what else there is: "of roof", "load", "peak"
    unit: bool = False  # whether those have theirs


LLAMACPP = {"llamacpp:q8_0": "llama.cpp Q8_0", "llamacpp:q8_0-fa": "llama.cpp Q8_0 `-fa`"}
TABLES = {
    "engines": Table(
        "gpt2-124M",
        {
            "pygpt:int8": "pygpt",
            "openvino:int8-paged": "OpenVINO {short}, paged",
            "ort:int8": "ONNX Runtime {short}",
            "llamacpp:q8_0": "llama.cpp, Q8_0",
        },
        tasks=TASKS | {"decode at 16": "decode, 16 before", "decode at 900": "decode, 900 before"},
        decimals=1,
        loading=("load", "peak memory"),
        unit=True,
    ),
    "avx512vnni": Table(
        "gpt2-124M",
        {
            "pygpt:int8": "**pygpt int8**",
            "openvino:int8-paged": "OpenVINO {version} int8, paged",
            "openvino:bf16": "OpenVINO bfloat16",
            "openvino:int8": "OpenVINO int8, float32 hint",
            "ort:int8": "ONNX Runtime {version} int8, fused graph",
            "ctranslate2:int8": "CTranslate2 {version} int8",
            "llamacpp:q8_0": "llama.cpp {version} Q8_0",
            "llamacpp:q8_0-fa": LLAMACPP["llamacpp:q8_0-fa"],
        },
        loading=("load s", "peak MiB"),
    ),
    "avx2": Table(
        "gpt2-124M",
        {
            "pygpt:int8": "**pygpt int8**",
            "pygpt:float32": "pygpt float32",
            "ctranslate2:int8": "CTranslate2 int8",
            **LLAMACPP,
        },
        isa="avx2",
    ),
    "zen3": Table(
        "gpt2-124M",
        {
            "pygpt:int8": "**pygpt int8**",
            "pygpt:float32": "pygpt float32",
            "ort:int8": "ONNX Runtime {version} int8",
            "ctranslate2:int8": "CTranslate2 {version} int8",
            "openvino:int8-paged": "OpenVINO {version} int8, paged",
            "openvino:int8": "OpenVINO int8, float32 hint",
            "llamacpp:q8_0": "llama.cpp {version} Q8_0",
        },
        file="amd-epyc-zen-3-2-cores-2-threads.jsonl",
        loading=("of roof", "load s"),
    ),
    "file": Table(
        "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
        {
            "pygpt:int8": "**pygpt int8**",
            "pygpt:int8-saved": "pygpt int8, saved and mapped",
            "llamacpp:file": "llama.cpp, the file",
            "llamacpp:q8_0": "llama.cpp, Q8_0",
        },
        tasks={task: name for task, name in TASKS.items() if task != "32 together"},
        loading=("of roof", "peak MiB"),
    ),
}
FINETUNED = {  # kinds of bench/finetune.py: what they are called
    "whole": "all parameters",
    "whole, gradient checkpointing": "all parameters, gradient checkpointing",
    "lora 8": "adapters",
    "lora 8, gradient checkpointing": "adapters, gradient checkpointing",
}
PAGES = {"README.md": ("engines", "served"), "docs/performance.md": ("avx512vnni", "avx2", "zen3", "file", "finetuned")}


def table(wanted: Table) -> str:
    """In Markdown."""
    runs = [
        run
        for run in read(RESULTS / "peers" / wanted.file)
        if run["checkpoint"] == wanted.checkpoint and run["isa"] == wanted.isa and not run["note"]
    ]
    first = next(iter(wanted.engines))
    head = ["engine", *wanted.tasks.values(), *wanted.loading]
    rows = [head, ["---"] * len(head)]
    for engine, name in wanted.engines.items():
        versions = [run["engines"][engine]["version"].split()[1] for run in runs if engine in run["engines"]]
        title = name.format(version=versions[-1], short=".".join(versions[-1].split(".")[:2]))
        speeds = [peer_report.cell(runs, first, engine, task, wanted.decimals) for task in wanted.tasks]
        rows.append([title, *speeds, *(loading(runs, engine, what, wanted.unit) for what in wanted.loading)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def loading(runs: list[dict[str, Any]], engine: str, what: str, unit: bool) -> str:
    """An engine's median: "load" or "peak", with its unit, or the share "of roof"."""
    if what == "of roof":
        share = peer_report.roof_shares(runs, engine)
        return f"{statistics.median(share):.0%}" if share else "-"
    key, form, its = ("load", ".2f", " s") if what.startswith("load") else ("peak_mib", ".0f", " MiB")
    median = statistics.median(s[key] for run in runs for s in run["loading"] if s["engine"] == engine)
    return f"{median:{form}}{its if unit else ''}"


def served(clients: int = 32, peer: str = "llamacpp SmolLM2-135M.Q8_0.gguf") -> str:
    """Tokens a second of the two servers, of the runs in which both were asked."""
    runs: list[dict[str, float]] = []
    for line in (RESULTS / "serve" / EPYC).read_text(encoding="utf-8").splitlines():
        ((key, value),) = json.loads(line).items()
        if key == "run":
            runs.append({})
        elif key == "sample" and value["clients"] == clients:
            runs[-1][value["server"]] = value["tokens_per_second"]
    both = [run for run in runs if {"pygpt", peer} <= run.keys()]
    own, other = (statistics.median(run[server] for run in both) for server in ("pygpt", peer))
    how = "a single run of each" if len(both) == 1 else f"medians of {len(both)} runs"
    return (
        f"Served to {clients} clients at a time (SmolLM2-135M, `pygpt serve`, the same two cores): {own:.0f} tokens/s; "
        f"llama.cpp's server, Q8_0: {other:.0f}\n({how}; [more of it](docs/performance.md#serving))."
    )


def finetuned() -> str:
    """In Markdown: a step of each kind, times beside transformers' of the same kind, in the same rounds; memory also
    beside what transformers takes without gradient checkpointing."""
    results = json.loads((RESULTS / "finetune.json").read_text(encoding="utf-8"))
    rows = [["", "transformers and peft", "pygpt", "time", "memory", "`kernels-bf16`", "time", "memory"], ["---"] * 8]
    for kind, name in FINETUNED.items():
        plain = finetune.figures(results[kind.partition(",")[0]], "torch", "torch").peak
        row = [name]
        for engine in finetune.ENGINES:
            found = finetune.figures(results[kind], engine, "torch")
            row.append(f"{found.milliseconds:.0f} ms, {found.peak / 2**20:.0f} MiB")
            if engine == "torch":
                row[0] += f" ({found.n_rounds} round{'s' * (found.n_rounds > 1)})"
            else:
                of_plain = "" if kind == kind.partition(",")[0] else f", {found.peak / plain:.2f} of that without"
                row += [f"**{found.ratio:.2f}**", f"{found.share:.2f}{of_plain}"]
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def page(text: str, names: tuple[str, ...]) -> str:
    """A page with its figures as they are now. ValueError: it lacks a mark."""
    for name in names:
        begin, end = MARK.format(name), MARK.format(f"end of {name}")
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{begin} and {end} must stand in the page once each")
        figures = MADE[name]() if name in MADE else table(TABLES[name])
        text = f"{text[: text.index(begin)]}{begin}\n\n{figures}\n\n{text[text.index(end) :]}"
    return text


MADE = {"served": served, "finetuned": finetuned}


def main() -> None:
    for name, figures in PAGES.items():
        path = ROOT / name
        path.write_text(page(path.read_text(encoding="utf-8"), figures), encoding="utf-8")


if __name__ == "__main__":
    main()
