"""Runs on a Dask cluster, whose workers may or may not share this machine's folders."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path

from ptb.errors import StudyError
from ptb.paths import ROOT, relative
from ptb.runs.run import Run
from ptb.setting import Setting

DEADLINE = 10  # seconds in which a scheduler must have said that it is one


@contextmanager
def dask_executor(address: str) -> Iterator["Cluster"]:
    """The executor of the Dask cluster whose scheduler is there; raises StudyError for none.

    A run whose worker dies is started once more; after a second death it has failed.
    """
    try:
        from distributed import Client  # a second to import, and few need it
    except ModuleNotFoundError:
        raise StudyError("a Dask cluster needs distributed: pip install distributed") from None

    check_scheduler(address)
    with Client(address, timeout=DEADLINE) as client, client.get_executor() as executor:
        # a task's `retries` are for its errors; deaths are counted by the scheduler, for all tasks
        client.run_on_scheduler(
            lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 1)
        )
        print("A run's files and its checkpoint are in its worker's copy of the repository.")
        print("Where that is another folder than here, the files come back when the run is done.")
        try:
            yield Cluster(executor)
        except StudyError as error:  # stopped: what waits is cancelled, but a thread can't be
            raise StudyError(
                f"{error}; one that a worker has begun is trained to its end"
            ) from None


def check_scheduler(address: str) -> None:
    """Raises StudyError unless a Dask scheduler with a worker answers there in time.

    A `Client` waits for ever for what listens but says nothing, and for workers.
    """
    if not re.fullmatch(r"(\w+://)?[^/]+:\d+", address):
        raise StudyError(f"scheduler = {address!r} must be an address such as tcp://HOST:8786")
    answers = []
    try:
        asyncio.run(asyncio.wait_for(_ask(address, answers), DEADLINE))
    except Exception as error:  # whatever listens there, or a transport that is not installed
        if not answers:
            reason = (str(error) or f"it said nothing for {DEADLINE} seconds").splitlines()[0]
            raise StudyError(f"no Dask scheduler answers at {address!r}: {reason}") from None
    last = answers[-1]
    if last["type"] != "Scheduler":
        raise StudyError(f"{address!r} is a Dask {last['type']}, not its scheduler")
    if not last["workers"]:
        raise StudyError(
            f"the Dask scheduler at {address!r} has no workers: start some with "
            f"dask worker {address}"
        )


async def _ask(address: str, answers: list[dict]) -> None:
    """Adds what a server says of itself, until it is a scheduler with workers or something else."""
    from distributed.core import rpc

    async with rpc(address) as server:
        while not answers or answers[-1].get("workers") == {}:
            answers.append(await server.identity())
            await asyncio.sleep(0 if answers[-1].get("workers") else 0.5)


class Cluster:
    """Submits runs to the cluster; a run's result is its files, by name."""

    def __init__(self, executor: Executor):
        self.executor = executor

    def submit(self, function, setting: Setting, folder: Path, device: str) -> Future:
        return self.executor.submit(_on_a_worker, function, setting, relative(folder), device)


def _on_a_worker(function, setting: Setting, folder: str, device: str) -> dict[str, bytes]:
    """Executes a run in the worker's own repository; the names and contents of its files."""
    run = Run(ROOT / folder)
    function(setting, run.folder, device)
    return {file.name: file.read_bytes() for file in run.files}
