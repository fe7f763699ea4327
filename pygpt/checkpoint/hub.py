"""Finding a checkpoint by name: a path, a built-in model, or the local cache of the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pygpt.checkpoint.folder import CONFIG, INDEX, WEIGHTS
from pygpt.checkpoint.safetensors import shards
from pygpt.errors import CheckpointError
from pygpt.tokenizer import FILES

BUILT_IN = ("tiny",)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_WANTED = ["*.safetensors", "*.json", "merges.txt"]


def locate(name: str | os.PathLike[str]) -> Path:
    """The file or folder of a checkpoint.

    `name` is an existing path; or a built-in model ("tiny"); or a Hugging Face hub id ("HuggingFaceTB/SmolLM2-135M"),
    looked up in the local cache and, where the package huggingface_hub (extra `hub`) is installed, downloaded.
    Raises CheckpointError saying what was looked for and where, ValueError for an empty name.
    """
    text = os.fspath(name)
    if not text:
        raise ValueError("the name of a checkpoint must not be empty")
    try:
        path = Path(text).expanduser()
        if path.exists():
            return path
    except (OSError, RuntimeError) as error:  # no permission, too long a name, no such user's home
        raise CheckpointError(f"{text}: cannot be looked up: {error}") from error
    if text in BUILT_IN:
        path = Path(__file__).resolve().parent.parent / "models" / text
        if not path.is_dir():
            raise CheckpointError(f"the built-in model {text!r} is not part of this installation ({path} is missing)")
        return path
    if not _HUB_ID.fullmatch(text) or ".." in text or path.suffix.lower() in (".safetensors", ".gguf"):
        raise CheckpointError(f"{text}: no such file or folder")
    snapshot = _snapshot(text)
    lacks = "has no weights of it" if snapshot is None else _lacks(snapshot)
    if snapshot is not None and not lacks and _has_tokenizer(snapshot):
        return snapshot
    try:
        return _download(text, lacks)
    except CheckpointError:
        if snapshot is None or lacks:
            raise
        return snapshot  # a model without a tokenizer, or a download that broke before it: the hub alone would know


def cache_folder() -> Path:
    """Where the hub's client keeps its files, by the same environment variables and default."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def _snapshots(hub_id: str) -> Path:
    return cache_folder() / f"models--{hub_id.replace('/', '--')}" / "snapshots"


def _snapshot(hub_id: str) -> Path | None:
    """The cached snapshot that the branch main names, or the only one; None where there is none, or it is empty."""
    snapshots = _snapshots(hub_id)
    main = snapshots.parent / "refs" / "main"
    try:
        revisions = (
            [main.read_text(encoding="utf-8").strip()] if main.is_file() else [p.name for p in snapshots.iterdir()]
        )
        if len(revisions) != 1 or not re.fullmatch(r"\w+", revisions[0]):
            return None
        snapshot = snapshots / revisions[0]
        return snapshot if any(snapshot.iterdir()) else None
    except (OSError, ValueError):
        return None


def _lacks(snapshot: Path) -> str:
    """What a snapshot lacks to be loaded, because its download broke; nothing where it is whole.

    The client gives a file its name when it is whole, but it fetches them one by one.
    """
    files = {f.name for f in snapshot.iterdir() if f.is_file()}  # not a link whose file is missing
    if any(f.lower().endswith(".gguf") for f in files):
        return ""
    wanted = [CONFIG, WEIGHTS]
    if WEIGHTS not in files and INDEX in files:
        try:
            wanted = [CONFIG, *shards(snapshot / INDEX)]
        except CheckpointError:
            return ""  # whoever reads it says what is wrong
    missing = sorted(set(wanted) - files)
    if files.isdisjoint(wanted[1:]):
        return "has no weights of it"
    return f"lacks its {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}" if missing else ""


def _has_tokenizer(snapshot: Path) -> bool:
    return any((snapshot / name).is_file() for name in FILES) or any(snapshot.glob("*.[gG][gG][uU][fF]"))


def _download(hub_id: str, lacks: str) -> Path:
    looked = f"{hub_id!r} is neither a file or folder nor a built-in model ({', '.join(BUILT_IN)}), and the cache of "
    looked += f"the Hugging Face hub {lacks or 'lacks its tokenizer'} ({_snapshots(hub_id)})"
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(f"{looked}; to download it: pip install 'pygpt-cpu[hub]'") from error
    try:
        folder = snapshot_download(hub_id, allow_patterns=_WANTED, ignore_patterns=["*/*"])
    except Exception as error:  # the client raises errors of several libraries, and which ones has changed
        raise CheckpointError(f"{looked}; downloading it failed: {error}") from error
    return Path(folder)
