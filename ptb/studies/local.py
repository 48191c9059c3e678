"""Runs side by side on this machine, in processes that end with the study that they serve."""

import multiprocessing
import os
import signal
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from threading import Thread

import psutil

SPAWN = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork


class LocalPool(ThreadPoolExecutor):
    """A process per run, so that one that is killed takes no other run along.

    Each holds the end of a pipe whose other end is here: when that closes, because the study was
    stopped or because this process is no more, however it ended, the run's process ends and takes
    its kernel along. That works on every system.
    """

    def __init__(self, workers: int):
        super().__init__(workers)
        self._lifelines, self._stopped = set(), False

    def submit(self, function, *arguments) -> Future:
        return super().submit(self._in_a_process, function, *arguments)

    def _in_a_process(self, function, *arguments):
        theirs, ours = SPAWN.Pipe(duplex=False)
        self._lifelines.add(ours)
        pool = ProcessPoolExecutor(1, SPAWN, initializer=_end_with, initargs=(theirs,))
        with theirs, ours, pool:
            if self._stopped:
                raise KeyboardInterrupt
            return pool.submit(function, *arguments).result()

    def __exit__(self, kind, error, traceback):
        """Waits for the runs; where an error ends the study, or Ctrl-C, ends them."""
        if kind:
            self._stopped = True
            self.shutdown(wait=False, cancel_futures=True)
            for lifeline in list(self._lifelines):
                lifeline.close()
        return super().__exit__(kind, error, traceback)


def _end_with(lifeline) -> None:
    """Has this process end, and all that it started, when the pipe's other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the study alone answers it
    Thread(target=_wait_and_end, args=(lifeline,), daemon=True).start()


def _wait_and_end(lifeline) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()  # nothing is ever sent
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            process.kill()
    os._exit(1)
