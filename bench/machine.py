"""What figures depend on: the machine, and who else uses it."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """As far as the system says; `model` is the CPU's family, model and stepping."""
    cpu: dict[str, str] = {}
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
        cpu = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    about = {"cpu": cpu.get("model name") or platform.processor() or platform.machine(), "cores": os.cpu_count()}
    if "stepping" in cpu:
        about["model"] = f"{cpu['cpu family']}-{cpu['model']}-{cpu['stepping']}"
    about["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    return {**about, "system": platform.system(), "python": platform.python_version()}


class Others:
    """Counts, from now on, the CPU time that goes elsewhere than to one process."""

    def __init__(self, pid: int) -> None:
        self._pid, self._begin = pid, _cpu_seconds(pid)

    def shares(self) -> dict[str, float]:
        """Of the machine's CPU time: `foreign`, other processes'; `stolen`, what a hypervisor kept for others."""
        end = _cpu_seconds(self._pid)
        busy, own, stolen, total = (b - a for a, b in zip(self._begin, end, strict=True))
        return {"foreign": max(0.0, busy - own) / (total or 1), "stolen": stolen / (total or 1)}


def _cpu_seconds(pid: int) -> tuple[float, float, float, float]:
    """CPU time of all processes, of one, stolen, and in all (with idle time); zeros where there is no /proc."""
    try:
        user, nice, system, idle, iowait, irq, softirq, stolen = (
            int(x) / os.sysconf("SC_CLK_TCK") for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        )
        one = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0, 0.0, 0.0, 0.0
    busy = user + nice + system + irq + softirq
    own = (int(one[11]) + int(one[12])) / os.sysconf("SC_CLK_TCK")
    return busy, own, stolen, busy + stolen + idle + iowait
