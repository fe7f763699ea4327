"""Write what stands in docs/families.md between its two marks: the table of families, and the example's file.

python tests/make_families_table.py
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from pathlib import Path

from pygpt.families import families

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "families.md"
EXAMPLE = ROOT / "pygpt" / "families" / "qwen3.py"
MARK = "<!-- made by tests/make_families_table.py: {} -->"


def table() -> str:
    """A row a family: what its module says it is, its names, and how many of the original's models it is tested on."""
    configs = (ROOT / "tests" / "data" / "parity").glob("*/config.json")
    goldens = Counter(json.loads(path.read_text(encoding="utf-8"))["model_type"] for path in configs)
    rows = ["| what it is | `model_type` | GGUF | tested on |", "| --- | --- | --- | --- |"]
    for module in sorted(path.stem for path in EXAMPLE.parent.glob("*.py")):
        found = importlib.import_module(f"pygpt.families.{module}")
        if (family := getattr(found, "FAMILY", None)) not in families():
            continue
        what = " ".join((found.__doc__ or "").split("\n\n")[0].split())
        types = ", ".join(f"`{name}`" for name in family.model_types)
        gguf = "" if family.gguf is None else f"`{family.gguf.architecture}`"
        tested = sum(goldens[name] for name in family.model_types) or ""
        rows.append(f"| {what} | {types} | {gguf} | {tested} |")
    return "\n".join(rows)


def page(old: str) -> str:
    """The page with both parts as they are now."""
    for name, text in (("table", table()), ("example", f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```")):
        before, _, rest = old.partition(MARK.format(name))
        _, _, after = rest.partition(MARK.format("end of the " + name))
        old = f"{before}{MARK.format(name)}\n\n{text}\n\n{MARK.format('end of the ' + name)}{after}"
    return old


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
