"""Progress of a download that another program or library carries out: the bytes on the disk, looked up now and then."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_INTERVAL = 0.2  # seconds


@contextlib.contextmanager
def watched(n_bytes: Callable[[], int], total: int, progress: Callable[[int, int], object] | None) -> Iterator[None]:
    """Call `progress` from another thread with (bytes so far, bytes in all) until the work is done."""
    if progress is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_INTERVAL):
            with contextlib.suppress(OSError):  # a file that was renamed meanwhile
                progress(min(n_bytes(), total), total)

    thread = threading.Thread(target=watch, name="pygpt-download", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    progress(total, total)
