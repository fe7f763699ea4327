"""Progress of a download that another program or library carries out: the bytes on the disk, looked up now and then."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_INTERVAL = 0.2  # seconds


@contextlib.contextmanager
def watched(n_bytes: Callable[[], int], total: int, progress: Callable[[int, int], object] | None) -> Iterator[None]:
    """Call `progress` from another thread with (bytes so far, bytes in all) until the work is done. What it raises
    comes after the work."""
    if progress is None:
        yield
        return
    done = threading.Event()
    raised: list[Exception] = []

    def watch() -> None:
        try:
            while not done.wait(_INTERVAL):
                progress(min(n_bytes(), total), total)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=watch, name="pygpt-download", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if raised:
        raise raised[0]
    progress(total, total)
