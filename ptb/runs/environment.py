"""Where a run was made: versions, machine, threads, precision of products and commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ptb.models.precision import current_precision
from ptb.paths import CODE


def environment() -> dict:
    """Versions, machine and how it computed: what a figure's reader needs to reproduce it."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "numpy", "pandas", "papermill")},
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "precision": current_precision(),
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    """None where it is not installed, as papermill need not be where no notebook is executed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """Its name and the widest units that torch uses: one name may be on several kinds of chips."""
    name, units = _model_name(), torch.backends.cpu.get_cpu_capability()
    return name if units == "DEFAULT" else f"{name}, {units}"


def _model_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str | None:
    """The commit at HEAD, "+" behind it where the code differs from it.

    None where this folder is no repository of its own, as a copy inside another's is not.
    """
    try:
        if _git("rev-parse", "--show-cdup"):  # the way up to the repository's top folder
            return None
        changed = _git("diff", "--name-only", "HEAD", "--", "ptb", "ptb_utils.py")
        return _git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    # a hook of another repository, say, names that one by GIT_DIR
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(CODE), *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=own)
    return done.stdout.strip()
