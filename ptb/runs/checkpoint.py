"""The checkpoint of an unfinished run: its integrity and its identity, before it is used."""

import hashlib
import io
import math
import zipfile
from pathlib import Path

import torch

from ptb.errors import RunError, counted, out_of_memory
from ptb.runs.files import HISTORY, unreadable
from ptb.setting import Setting

ANEW = "delete it, and the run starts again from its first epoch"


SEAL = b"sha256:"  # and the digest of all before it, at the end of the file


def pack(state: dict) -> bytes:
    content = io.BytesIO()
    torch.save(state, content)
    archive = content.getvalue()
    return archive + SEAL + hashlib.sha256(archive).digest()


def read(path: Path) -> dict:
    """What the file holds, on the CPU; raises RunError for a damaged one, and for a pickle's code.

    torch writes a zip archive, with a checksum for each tensor but none for what says where they
    are, and compares none: hence the seal. Older checkpoints have the archive's checksums alone.
    """
    try:
        content = path.read_bytes()
        archive, seal, digest = content.rpartition(SEAL)
        if not seal or len(digest) != 32:
            archive = content
        elif hashlib.sha256(archive).digest() != digest:
            raise RunError(f"{path} is damaged, its content differs from its checksum: {ANEW}")
        content = io.BytesIO(archive)
        with zipfile.ZipFile(content) as archive:
            # torch takes an entry that is marked as a folder for an empty tensor, without a word
            marked = [entry.filename for entry in archive.infolist() if entry.external_attr]
            damaged = archive.testzip() or next(iter(marked), None)
        if damaged:
            raise RunError(f"{path} is damaged, {damaged} differs from its checksum: {ANEW}")
        content.seek(0)
        state = torch.load(content, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"{type(state).__name__} where a dictionary belongs")
        return state
    except RunError:
        raise
    except Exception as error:  # torch's own advice is to load it without the protection
        if isinstance(error, OSError) or out_of_memory(error):
            raise unreadable(path, error) from None
        kind = type(error).__name__
        raise RunError(
            f"{path} is truncated, or not a checkpoint of a run ({kind}): {ANEW}"
        ) from None


def misfit(saved: dict, own: dict, parameters: list[torch.Tensor]) -> str | None:
    """Why a checkpoint can't be gone on from; None where it can.

    own is the state of the run before its first step, parameters are those of its optimiser.
    """
    older = {"setting": own["setting"], "text": own["text"], "weights": None}  # were not written
    saved = older | saved
    if missing := sorted(own.keys() - saved.keys()):
        return f"lacks {', '.join(missing)}"
    return (
        _other_run(saved, own)
        or _bad_history(saved, own["setting"]["epochs"])
        or _other_model(saved, own)
        or _other_optimiser(saved["optimiser"], own["optimiser"], parameters)
    )


def _other_run(saved: dict, own: dict) -> str | None:
    defaults = {name: getattr(Setting, name) for name in own["setting"]}
    if not isinstance(saved["setting"], dict) or defaults | saved["setting"] != own["setting"]:
        return "is of another setting"
    return "is of another text" if saved["text"] != own["text"] else None


def _bad_history(saved: dict, epochs: int) -> str | None:
    rows = saved["history"]
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        return "has a history with wrong columns or values"
    if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)) or len(rows) > epochs:
        found, whole = counted(len(rows), "row"), counted(epochs, "epoch")
        return f"has {found} of history for the {whole} of its run"
    counts = saved["cuts"], saved["steps"]
    if not all(type(count) is int and count >= 0 for count in counts) or counts[0] > len(rows):
        return f"has counted {counts[0]} cuts of the rate and {counts[1]} steps"
    return None


def _is_row(row) -> bool:
    return (
        isinstance(row, dict)
        and row.keys() == {*HISTORY}
        and all(type(value) in (int, float) and math.isfinite(value) for value in row.values())
    )


def _other_model(saved: dict, own: dict) -> str | None:
    """What differs in names, shapes or kinds of number, or is not finite."""
    for part in ("model", "average"):
        mine, theirs = _tensors(own[part]), _tensors(saved[part])
        shapes, found = ({n: (t.shape, t.dtype) for n, t in d.items()} for d in (mine, theirs))
        if shapes != found:
            names = sorted(n for n in {*shapes, *found} if shapes.get(n) != found.get(n))
            return f"is of another model: {', '.join(map(str, names))} of its {part} differ"
        for name, tensor in theirs.items():
            if not tensor.isfinite().all():
                return f"is damaged: {name} of its {part} has values that are not finite"
    return None


def _tensors(part) -> dict:
    """A model's tensors by name, an average's by place; of anything else none."""
    pairs = part.items() if isinstance(part, dict) else enumerate(part if part else ())
    return {name: tensor for name, tensor in pairs if isinstance(tensor, torch.Tensor)}


def _other_optimiser(saved, own: dict, parameters: list[torch.Tensor]) -> str | None:
    differs = "is of another optimiser"
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        return differs
    groups, states = saved["param_groups"], saved["state"]
    if not isinstance(groups, list) or len(groups) != len(own["param_groups"]):
        return differs
    for theirs, ours in zip(groups, own["param_groups"], strict=True):
        # the rate is set anew at each step; what a later torch adds has no say
        if any(theirs[key] != ours[key] for key in theirs.keys() & ours.keys() - {"lr"}):
            return differs
    if not isinstance(states, dict) or not states.keys() <= set(range(len(parameters))):
        return differs
    for place, state in states.items():
        for value in state.values():  # a moment, or the number of steps
            if isinstance(value, torch.Tensor) and value.shape not in ((), parameters[place].shape):
                return differs
    return None
