"""The edges of the trainer's compiled primitives: other threads, a forked child, ids that change under its hands,
arrays that do not fit."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import _core
from pygpt.training.kernels import Kernels
from pygpt.training.primitives import Heads, Update


def ones(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


FORK_WHILE_BUSY = """
import os, sys, threading, time, warnings
import numpy as np
from pygpt import _core
warnings.simplefilter("ignore")  # Python 3.12 and later warn of a fork with threads: that is what is tested
kernels = _core.TrainingKernels(threads={threads}, isa=None, precision="float32")
x, w, y = (np.ones(shape, np.float32) for shape in ((64, 1500), (1500, 1500), (64, 1500)))
stop = False
def work():
    while not stop:
        kernels.linear(x, w, None, y)
busy = threading.Thread(target=work)
busy.start()
children = []
for _ in range(8):
    time.sleep(0.02)
    pid = os.fork()
    if pid == 0:
        mine = np.zeros((64, 1500), np.float32)
        kernels.linear(x, w, None, mine)
        os._exit(0 if (mine == 1500).all() else 1)
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
stop = True
busy.join()
sys.exit(max(map(abs, codes)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_child_forked_in_the_middle_of_a_call_works(tmp_path: Path, threads: int) -> None:
    program = FORK_WHILE_BUSY.format(threads=threads)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=tmp_path)  # away from the source


def test_ids_are_those_that_were_checked() -> None:
    """Another thread may write to the array while the computation runs without Python's lock."""
    kernels = _core.TrainingKernels(threads=1, isa=None, precision="float32")
    n_vocab, rows = 8, 20_000
    ids = np.zeros(rows, np.int32)
    dx, dweight = np.ones((rows, 16), np.float32), np.zeros((n_vocab, 16), np.float32)
    done = threading.Event()

    def disturb() -> None:
        while not done.is_set():
            ids[-1] = 2**31 - 1
            ids[-1] = 0

    other = threading.Thread(target=disturb)
    other.start()
    for _ in range(100):
        with contextlib.suppress(ValueError):  # what was checked may have been the wrong id
            kernels.embedding_backward(dx, ids, dweight)
    done.set()
    other.join()
    assert not dweight[1:].any()


def test_arrays_that_do_not_fit_are_named() -> None:
    kernels = Kernels(threads=2)
    x, weight = ones(4, 8), ones(8)
    with pytest.raises(ValueError, match=r"weight must be a C-contiguous array of float32 of shape \(8, \)"):
        kernels.rms_norm(x, ones(9), 1e-5)
    with pytest.raises(ValueError, match=r"x must be .* not of float64"):
        kernels.rms_norm(x.astype(np.float64), weight, 1e-5)
    with pytest.raises(ValueError, match="x must be a C-contiguous"):
        kernels.activation("relu", x.T)
    frozen = np.zeros(8, np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="dweight must be a C-contiguous, writeable"):
        kernels.rms_norm_backward(x, x, weight, ones(4, 1), frozen)
    with pytest.raises(ValueError, match="name='tanh' is not one of 'gelu'"):
        kernels.activation("tanh", x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ids holds 8, outside the vocabulary of 8"):
        kernels.embedding_backward(x, np.array([0, 1, 8, 2], np.int32), ones(8, 8))
    with pytest.raises(ValueError, match="targets holds 8, outside the vocabulary of 8"):
        kernels.cross_entropy(x, ones(8, 8), np.array([0, 1, 8, 2], np.int32), 1.0, None)
    with pytest.raises(ValueError, match="do not fit into rows of 8"):
        kernels.rope(x, 3, 4, ones(4, 2), ones(4, 2), False, False)
    with pytest.raises(ValueError, match="n_batch=3 does not divide the 4 rows"):
        kernels.attention(x, Heads(3, 2, 1, 1.0))
    with pytest.raises(ValueError, match="n_head=3 must be a multiple of n_kv_head=2"):
        kernels.attention(x, Heads(2, 3, 2, 1.0))
    with pytest.raises(ValueError, match="rows of 8 are not 5 heads of one size"):
        kernels.attention(x, Heads(2, 3, 1, 1.0))
    with pytest.raises(ValueError, match="window and cap must not be negative"):
        kernels.attention(x, Heads(2, 2, 1, 1.0, window=-1))
    with pytest.raises(ValueError, match=r"slopes must be .* float32 of shape \(2, \)"):
        kernels.attention(x, Heads(2, 2, 1, 1.0, slopes=ones(3)))
    with pytest.raises(ValueError, match="step must be at least 1"):
        kernels.adamw(weight, weight, weight, weight, Update(0.1, 0.9, 0.9, 1e-8, 0.0, 0, 1.0))
    step = Update(0.1, 0.9, 0.9, 1e-8, 0.0, 1, 1.0)
    with pytest.raises(ValueError, match=r"m must be .* uint16 of shape \(4, \), not of uint16 \(5,\)"):
        kernels.adamw(ones(4), ones(4), np.zeros(5, np.uint16), ones(4), step)
    with pytest.raises(ValueError, match=r"m must be .* float32 of shape \(4, \), not of int16 \(4,\)"):
        kernels.adamw(ones(4), ones(4), np.zeros(4, np.int16), ones(4), step)
    with pytest.raises(ValueError, match="threads must be at least 1"):
        Kernels(threads=0)


def test_tables_are_chosen_by_name() -> None:
    for name in _core.isa_names():
        assert _core.TrainingKernels(threads=1, isa=name, precision="float32").isa == name
    with pytest.raises(ValueError, match="isa='mmx'"):
        _core.TrainingKernels(threads=1, isa="mmx", precision="float32")
    with pytest.raises(ValueError, match="precision must be 'float32' or 'bfloat16', not 'int8'"):
        _core.TrainingKernels(threads=1, isa=None, precision="int8")  # type: ignore[arg-type]


ASKED_FOR_AMX = """
import ctypes, sys
from pygpt import _core
mask = ctypes.c_uint64()
_core.select_isa(sys.argv[1])
get_permission, tile_data = 0x1022, 18
assert ctypes.CDLL(None).syscall(158, get_permission, ctypes.byref(mask)) == 0
sys.exit(mask.value >> tile_data & 1)
"""


@pytest.mark.skipif("amx" not in _core.isa_names(), reason="this machine has no AMX")
def test_a_forced_instruction_set_does_not_ask_for_another_ones_registers(tmp_path: Path) -> None:
    for isa, asked in (("avx2", 0), ("scalar", 0), ("amx", 1)):
        done = subprocess.run([sys.executable, "-c", ASKED_FOR_AMX, isa], check=False, cwd=tmp_path)
        assert done.returncode == asked, isa
