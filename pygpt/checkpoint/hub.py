"""Models of the Hugging Face hub: what a reference names, the local cache, and downloads by `huggingface_hub`.

The layout of the cache is the client's (https://huggingface.co/docs/huggingface_hub/guides/manage-cache); reading it
needs no client.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple, TypeAlias

from pygpt.checkpoint.folder import CONFIG, INDEX, PICKLED, PICKLED_INDEX, WEIGHTS
from pygpt.checkpoint.names import nearest, of_repository
from pygpt.checkpoint.safetensors import shards
from pygpt.errors import CheckpointError
from pygpt.tokenizer import EXTRA_FILES, FILES

Progress: TypeAlias = Callable[[int, int], object]
"""Called with (bytes so far, bytes in all)."""

MAIN = "main"
_REFERENCE = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)"
    r"(?:/(?P<file>[^:@]+\.gguf)|:(?P<quant>\w[\w.-]*))?(?:@(?P<revision>\w[\w./-]*))?",
    re.ASCII | re.IGNORECASE,
)
_SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")
_PART = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)", re.IGNORECASE)
_USUAL_QUANTS = ("Q4_K_M", "Q8_0")  # what is taken of several GGUF files where none is asked for, as llama.cpp does
_BESIDE = (CONFIG, "generation_config.json", "adapter_config.json", *FILES, *EXTRA_FILES)
_WEIGHTS = (WEIGHTS, INDEX, PICKLED, PICKLED_INDEX)


class Reference(NamedTuple):
    """What of the hub is meant: ORG/NAME, ORG/NAME:QUANT or ORG/NAME/FILE.gguf, and @REVISION after each."""

    repository: str
    file: str | None = None
    quant: str | None = None
    revision: str = MAIN


def reference(text: str) -> Reference | None:
    """A text as a reference; None for what cannot be one."""
    match = _REFERENCE.fullmatch(text)
    if match is None or ".." in text or text.lower().endswith(".safetensors"):
        return None
    if match["file"] is None and match["repository"].lower().endswith(".gguf"):
        return None  # a file's name
    return Reference(match["repository"], match["file"], match["quant"], match["revision"] or MAIN)


def cache_folder() -> Path:
    """Where the hub's client keeps its files, by the same environment variables and default."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def folder_of(repository: str) -> Path:
    """The cache's folder of one repository, there or not."""
    return cache_folder() / f"models--{repository.replace('/', '--')}"


class Cached(NamedTuple):
    """What the cache has of a reference."""

    path: Path | None  # of the checkpoint's folder or file; None: it cannot be loaded
    lacks: str  # what must still be downloaded, in words; nothing where all is there


def cached(ref: Reference) -> Cached:
    """Look a reference up in the cache. A download that broke has left the files that were whole."""
    folder = snapshot(ref)
    if folder is None:
        return Cached(None, "has no weights of it")
    names = files_of(folder)
    try:
        weights = weights_among(names, ref)
    except CheckpointError as error:
        return Cached(None, str(error))
    if not weights:
        return Cached(None, "has no weights of it")
    if weights[0].lower().endswith(".gguf"):
        return Cached(folder / weights[0], "")
    wanted = [CONFIG, *weights]
    if weights[0].endswith(".index.json"):
        try:
            wanted = [CONFIG, *shards(folder / weights[0])]
        except CheckpointError:
            return Cached(folder, "")  # whoever reads it says what is wrong
    missing = sorted(set(wanted) - names)
    if missing:
        return Cached(None, f"lacks its {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}")
    return Cached(folder, "" if names & set(FILES) else "lacks its tokenizer")


def weights_among(names: Collection[str], ref: Reference) -> list[str]:
    """The files of weights that a reference means, among those of its repository: first the one that is opened.

    Nothing where there are none. CheckpointError, for the middle of a sentence, where the reference names a file or a
    quantisation that is not there, or leaves open which.
    """
    parts = _ggufs(names)
    if ref.file is None and ref.quant is None:
        for name in _WEIGHTS:
            if name in names:
                suffix = ".bin" if ".bin" in name else ".safetensors"
                more = sorted(n for n in names if _SHARD.fullmatch(n) and n.endswith(suffix))
                return [name, *more] if name.endswith(".index.json") else [name]
        for quant in _USUAL_QUANTS if len(parts) > 1 else ():
            if len(found := [whole for whole in parts if _is_quant(whole, quant)]) == 1:
                return parts[found[0]]
        found = list(parts)
    elif ref.file is not None:
        found = [whole for whole, files in parts.items() if ref.file == whole or ref.file in files]
    else:
        found = [whole for whole in parts if _is_quant(whole, ref.quant or "")]
    if len(found) == 1:
        return parts[found[0]]
    if not found and ref.file is None and ref.quant is None:
        return []
    said = f"has {'several files' if found else 'no file'} of {ref.file or ref.quant or 'weights'}"
    raise CheckpointError(f"{said}; there are {', '.join(found or parts) or 'no GGUF files'}")


def _ggufs(names: Collection[str]) -> dict[str, list[str]]:
    """Whole GGUF models: their files by their name without the number of a part."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        if name.lower().endswith(".gguf") and not name.rpartition("/")[2].lower().startswith("mmproj"):
            found.setdefault(_PART.sub("", name), []).append(name)
    counts = {whole: _PART.search(files[0]) for whole, files in found.items()}
    return {w: files for w, files in found.items() if (part := counts[w]) is None or len(files) == int(part[2])}


def _is_quant(name: str, quant: str) -> bool:
    stem = name.lower().removesuffix(".gguf")
    return stem == quant.lower() or stem.endswith(tuple(f"{c}{quant.lower()}" for c in "-._/"))


def snapshot(ref: Reference) -> Path | None:
    """The cached snapshot of a revision: a commit, or what a branch or tag stood for at the last download. The branch
    main is the only snapshot where the cache does not say. None where there is none, or it is empty."""
    snapshots = folder_of(ref.repository) / "snapshots"
    branch = snapshots.parent / "refs" / ref.revision
    try:
        if (snapshots / ref.revision).is_dir():
            revisions = [ref.revision]
        elif branch.is_file():
            revisions = [branch.read_text(encoding="utf-8").strip()]
        else:
            revisions = [p.name for p in snapshots.iterdir()] if ref.revision == MAIN else []
        if len(revisions) != 1 or not re.fullmatch(r"\w+", revisions[0]):
            return None
        found = snapshots / revisions[0]
        return found if any(found.iterdir()) else None
    except (OSError, ValueError):
        return None


def files_of(folder: Path) -> set[str]:
    """The files of a snapshot by their path in the repository; not links whose file is missing."""
    return {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}


class Model(NamedTuple):
    """A whole model in the cache."""

    name: str  # ORG/NAME or ORG/NAME/FILE.gguf
    path: Path
    files: tuple[Path, ...]


def models_in(ref: Reference) -> list[Model]:
    """The models of a cached snapshot: what its folder holds in safetensors or pickles, and each GGUF model."""
    folder = snapshot(ref)
    if folder is None:
        return []
    names, ggufs = files_of(folder), _ggufs(files_of(folder))
    of_gguf = {name for files in ggufs.values() for name in files}
    found = []
    if not names.isdisjoint(_WEIGHTS) and cached(ref).path == folder:
        found = [Model(ref.repository, folder, tuple(folder / name for name in names - of_gguf))]
    for files in ggufs.values():
        found.append(Model(f"{ref.repository}/{files[0]}", folder / files[0], tuple(folder / name for name in files)))
    return found


def download(ref: Reference, progress: Progress | None = None) -> Path:
    """Download what a reference needs and the cache lacks; the checkpoint's folder or file in the cache.

    Files that are whole stay, whatever happens to the others: the same call then goes on. `progress` stands beside the
    client's own bars, which HF_HUB_DISABLE_PROGRESS_BARS turns off. Raises CheckpointError.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise CheckpointError("to download it: pip install 'pygpt-cpu[hub]'") from error
    from pygpt.checkpoint.watch import watched

    try:
        info = huggingface_hub.HfApi().model_info(ref.repository, revision=ref.revision, files_metadata=True)
    except Exception as error:  # the client raises errors of several libraries, and which ones has changed
        raise CheckpointError(f"downloading it failed: {_explained(error, ref)}") from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    try:
        weights = weights_among(sizes, ref)
    except CheckpointError as error:
        raise CheckpointError(f"the hub's repository {error}") from None
    if not weights:
        raise CheckpointError(f"the hub's repository has none of {', '.join(_WEIGHTS)}, and no GGUF file")
    gguf = weights[0].lower().endswith(".gguf")
    beside = [] if gguf else [name for name in sizes if any(fnmatch.fnmatchcase(name, p) for p in _BESIDE)]
    wanted, folder = beside + weights, folder_of(ref.repository) / "snapshots" / str(info.sha)

    def n_bytes() -> int:
        """How much of it is on the disk, begun files included."""
        total = 0
        for path in [*(folder / name for name in wanted), *folder_of(ref.repository).glob("blobs/*.incomplete")]:
            with contextlib.suppress(OSError):  # not there yet, or renamed meanwhile
                total += path.stat().st_size
        return total

    with watched(n_bytes, sum(sizes[name] for name in wanted), progress):
        for name in wanted:  # one by one, in this thread: Ctrl-C would wait for the threads that download a snapshot
            get = functools.partial(huggingface_hub.hf_hub_download, ref.repository, name, revision=ref.revision)
            if Path(_repeated(get, n_bytes, ref)).parent.resolve() != (folder / name).parent.resolve():
                raise CheckpointError("the hub's repository has changed during the download: try again")
    return folder / weights[0] if gguf else folder


def _repeated(get: Callable[[], str], n_bytes: Callable[[], int], ref: Reference) -> str:
    """Download as long as each attempt brings something: a client before version 2 gives up where a connection breaks,
    and goes on with the file at the next attempt."""
    while True:
        before = n_bytes()
        try:
            return get()
        except Exception as error:  # as above
            if n_bytes() <= before:
                raise CheckpointError(f"downloading it failed: {_explained(error, ref)}") from error


def _explained(error: Exception, ref: Reference) -> str:
    """An error of the client in one sentence with what can be done about it."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    page = f"{os.environ.get('HF_ENDPOINT') or 'https://huggingface.co'}/{ref.repository}"
    if "OfflineModeIsEnabled" in kinds:
        return "HF_HUB_OFFLINE is set"
    if "GatedRepoError" in kinds:
        return f"its licence must be accepted at {page}, and you must be logged in (`hf auth login`, or HF_TOKEN)"
    if "RevisionNotFoundError" in kinds:
        return f"there is no revision {ref.revision!r} of it"
    if "RepositoryNotFoundError" in kinds:
        near = [name for name in nearest(ref.repository) if name != ref.repository]
        entry = of_repository(ref.repository)
        login = "log in (`hf auth login`, or HF_TOKEN)" + ("" if entry is None else f" and accept the {entry.licence}")
        return (
            f"the hub has no repository {ref.repository!r}"
            + (f" (similar: {', '.join(near)})" if near else "")
            + f", or it is not public: then {login} licence at {page}"
        )
    return " ".join(str(error).split()) or type(error).__name__
