"""What a command prints to a terminal, for the pictures of the documentation and for the tests of its sessions."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path


def printed(command: str, folder: Path, **environment: str) -> tuple[str, int]:
    """What a shell command prints in a terminal, and the status with which it ends; `pygpt` is the one of this Python.
    The variables are set besides those of this process."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    out = bytearray()
    with contextlib.suppress(OSError):  # EIO: nobody has the other end any longer
        while chunk := os.read(master, 65536):
            out += chunk
    os.close(master)
    return out.decode(), process.wait()
