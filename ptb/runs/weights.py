"""The file of a run's weights: float16, with the vocabulary they belong to."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ptb.errors import WeightsError, out_of_memory
from ptb.runs.files import unreadable


def pack(weights: dict[str, torch.Tensor], words: tuple[str, ...]) -> bytes:
    """The file's content; values beyond float16 become its largest."""
    limit = torch.finfo(torch.float16).max
    half = {
        name: w.detach().cpu().clamp(-limit, limit).to(torch.float16).contiguous()
        for name, w in weights.items()
    }
    return save(half, {"words": json.dumps(words)})


def read(path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The weights as float32, and the vocabulary; raises WeightsError for a bad file."""
    try:
        with safe_open(path, "pt") as file:
            words = tuple(json.loads(file.metadata()["words"]))
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (
        OSError,
        SafetensorError,
        RuntimeError,
        MemoryError,
        ValueError,
        LookupError,
        TypeError,
    ) as error:
        if isinstance(error, OSError) or out_of_memory(error):
            raise WeightsError(str(unreadable(path, error))) from None
        raise WeightsError(f"{path} is truncated, or not the weights of a run ({error})") from None
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise WeightsError(f"{path} is damaged: {name} has values that are not finite")
    return weights, words
