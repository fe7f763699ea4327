"""The file that peers.py writes: one JSON object a line, added as it is measured.

A line has one key. `run` begins a run and says what it is; the lines after it belong to it: `engine`, `loading`,
`distance`, `roof`, `sample`, `failed`, and `end` when nothing is missing. A file holds the runs of one kind of machine
with one number of threads.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


class RunFile:
    """Adds lines to a file; each is on the disk before the next is measured."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        whole = path.read_bytes() if path.is_file() else b""
        kept = whole[: whole.rfind(b"\n") + 1]  # a line that was cut short is measured again
        if kept != whole:
            path.write_bytes(kept)

    def add(self, key: str, value: Any) -> None:
        """One line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({key: value}) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The runs of a file: what `run` says, and lists of what the other lines say."""
    runs: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        ((key, value),) = json.loads(line).items()
        if key == "run":
            empty = {"engines": {}, "loading": [], "distance": {}, "read_roof": [], "samples": [], "failed": {}}
            runs.append({**value, **empty, "end": None})
            continue
        run = runs[-1]
        if key == "engine":
            run["engines"][value.pop("name")] = value
        elif key == "distance":
            run["distance"] |= value
        elif key == "failed":
            run["failed"][value["engine"]] = value["message"]
        elif key == "end":
            run["end"] = value
        else:
            run[{"loading": "loading", "roof": "read_roof", "sample": "samples"}[key]].append(value)
    return runs


def file_name(machine: dict[str, Any], threads: int) -> str:
    """Of the file for a machine and a number of threads, such as intel-xeon-processor-2-cores-2-threads.jsonl."""
    cpu = re.sub(r"\((r|tm|c)\)|@.*", " ", machine["cpu"].lower())
    words = [*re.findall(r"[a-z0-9]+", cpu), str(machine["cores"]), "cores", str(threads), "threads"]
    return "-".join(words) + ".jsonl"
