"""Checkpoints: files in, (configuration, canonical tensors, tokenizer) out. Nothing is copied before it is used."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from pygpt._json import read_table
from pygpt.checkpoint.folder import CONFIG, INDEX, PICKLED, PICKLED_INDEX, WEIGHTS, Extra, check_free
from pygpt.checkpoint.hugging_face import ADAPTER, read_folder, read_pickled, write
from pygpt.checkpoint.locate import locate
from pygpt.checkpoint.saved import POSITIONS, Weights, open_saved, save
from pygpt.checkpoint.tensor import Dtype, Tensor, file_of, forget
from pygpt.config import ModelConfig
from pygpt.errors import CheckpointError, ConfigError
from pygpt.families import families
from pygpt.tokenizer import Tokenizer

__all__ = [
    "Dtype",
    "Extra",
    "Tensor",
    "Weights",
    "check_free",
    "family_of",
    "file_of",
    "forget",
    "locate",
    "main_file",
    "open_saved",
    "read",
    "save",
    "write",
]

PICKLES = (b"PK\x03\x04", b"\x80")
"""How files of `torch.save` begin: a zip archive, or a pickle."""


def read(path: str | Path, n_ctx: int | None = None) -> tuple[ModelConfig, Mapping[str, Tensor], Tokenizer | None]:
    """Open a checkpoint: a folder in Hugging Face's layout, a file of its weights with config.json beside it, a GGUF
    file, nanoGPT's, minGPT's or llama2.c's own file, a folder that holds one of these, or what `save` wrote. A file is
    told by its first bytes, whatever its name. Of a GGUF model in several parts any one, or their folder, stands for
    all.

    The tensors are those of ``config.tensor_shapes()``, in its order and with its shapes, and stay in their files until
    they are asked for. The tokenizer is None where the checkpoint has none that pygpt knows to look for.

    n_ctx: the context in tokens, as `ModelConfig.with_context` takes it; None: the checkpoint's usual one.

    Raises CheckpointError for a missing or damaged file and for tensors that disagree with the configuration,
    ConfigError for a configuration that pygpt cannot run, and ValueError for an n_ctx that it does not reach.
    """
    config, tensors, tokenizer = _read(Path(path))
    if n_ctx is not None:
        config = config.with_context(n_ctx)
        if config.learned_positions:
            tensors = {**tensors, POSITIONS: tensors[POSITIONS].first_rows(n_ctx)}
    return config, tensors, tokenizer


def _read(path: Path) -> tuple[ModelConfig, Mapping[str, Tensor], Tokenizer | None]:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise CheckpointError(f"{path}: neither a file nor a folder")
        begin = _first_bytes(path) if stat.S_ISREG(mode) else b""
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file or folder") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{path}: cannot be read: {why}") from error
    if begin.startswith(b"GGUF") or (stat.S_ISREG(mode) and path.suffix.lower() == ".gguf"):
        from pygpt.checkpoint.gguf import read_gguf

        return read_gguf(path)
    if (saved := open_saved(path)) is not None:
        from pygpt.checkpoint.unpack import unpacked

        return saved.config, unpacked(saved), saved.tokenizer
    if stat.S_ISDIR(mode):
        return _read(main_file(path))
    if begin[8:] == b"{" or path.suffix.lower() == ".safetensors" or path.name.endswith((INDEX, PICKLED_INDEX)):
        return read_folder(path)
    if begin.startswith(PICKLES):
        return read_pickled(path)
    from pygpt.checkpoint.llama2c import is_llama2c, read_llama2c

    if is_llama2c(path):
        return read_llama2c(path)
    raise CheckpointError(
        f"{path}: expected a .safetensors, .gguf, .bin or .pt file, or a folder; this file begins with {begin[:4]!r}"
    )


def family_of(path: Path) -> str | None:
    """The name of the family that a checkpoint says it is of, for `write`; None where it does not: what `save` wrote,
    and files in the form of another program. Raises as `read` does."""
    file = main_file(path)
    if _first_bytes(file).startswith(b"GGUF"):
        from pygpt.checkpoint.gguf import family_of_gguf

        return family_of_gguf(file)
    beside = file.parent / CONFIG
    kind = read_table(beside, ConfigError).get("model_type") if beside.is_file() else None
    return next((family.name for family in families() if kind in family.model_types), None)


def _first_bytes(path: Path) -> bytes:
    """The 4 that mark a GGUF file, or the 8 of a safetensors header's length and the brace that opens it."""
    with path.open("rb") as file:
        return file.read(9)


def main_file(path: Path) -> Path:
    """The file that a model is opened by: `path` itself, or the one that stands for its folder."""
    if not path.is_dir():
        return path
    for name in (WEIGHTS, INDEX, PICKLED, PICKLED_INDEX):
        if (path / name).is_file():
            return path / name
    try:
        files = sorted(f for f in path.iterdir() if f.is_file())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be listed: {error.strerror or error}") from error
    ggufs = [f for f in files if f.suffix.lower() == ".gguf"]
    own = [f for f in files if f.suffix.lower() in (".bin", ".pt", ".pth") and _is_own(f)]
    for found in (ggufs, own):
        if len(found) == 1 or (found and _are_parts(found)):
            return found[0]
        if found:
            names = ", ".join(f.name for f in found)
            raise CheckpointError(f"{path}: holds several files of a model ({names}): give the path of one")
    hint = "; this is an adapter: merge it into the model that it was made for" if (path / ADAPTER).is_file() else ""
    looked = f"{WEIGHTS}, {INDEX}, {PICKLED}, {PICKLED_INDEX}, *.gguf, *.bin and *.pt"
    raise CheckpointError(f"{path}: no checkpoint here: looked for {looked}{hint}")


def _is_own(file: Path) -> bool:
    """Whether a file is in the form of a program that trains; a tokenizer may lie beside it and be called alike."""
    from pygpt.checkpoint.llama2c import is_llama2c

    return _first_bytes(file).startswith(PICKLES) or is_llama2c(file)


def _are_parts(files: list[Path]) -> bool:
    from pygpt.checkpoint.gguf_parts import are_parts_of_one

    return are_parts_of_one(files)
