"""A text's way to the model: text → ids → rows → windows."""

import codecs
import hashlib
import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from ptb.errors import CorpusError

SPLITS = ("train", "valid", "test")
HELD_OUT = SPLITS[1:]  # no model is trained on these
EOS, UNK = "<eos>", "<unk>"
BLOCK = 2**14  # characters read at a time, so that a line may have any length


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
        """A SHA-256 of the vocabulary and of all splits' ids in a row.

        So it does not tell where one split ends and the next begins.
        """
        digest = hashlib.sha256("\n".join(self.words).encode())
        for ids in self.splits.values():
            digest.update(ids.numpy())
        return digest.hexdigest()

    @cached_property
    def index(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def text(self, ids) -> str:
        return " ".join(self.words[i] for i in ids)


# ---------------------------------------------------------------- text → ids
WITH_UNK = (  # in the place of words that occur once
    "awk 'NR==FNR {for (i=1; i<=NF; i++) n[$i]++; next} "
    '{for (i=1; i<=NF; i++) if (n[$i]==1) $i="<unk>"} 1\' train.txt train.txt > new.txt'
    " && mv new.txt train.txt"
)


class _Vocabulary(dict):
    """Words' ids; a word unseen in training has that of `<unk>`."""

    def __missing__(self, word: str) -> int:
        if UNK not in self:
            shown = word if len(word) <= 40 else f"{word[:40]}…"
            raise CorpusError(
                f"{shown!r} is not in the training text, which has no {UNK} for unseen words: "
                f"put {UNK} in a line of train.txt or, better, in the place of its rare "
                f"words, with {WITH_UNK}"
            )
        return self[UNK]


def from_words(name: str, texts: dict[str, Iterable[list[str]]]) -> Corpus:
    """The corpus of each split's words, which come in blocks: no text is held as a whole."""
    seen: defaultdict[str, int] = defaultdict()
    seen.default_factory = seen.__len__  # a new word's id is the number of words before it
    train = _ids(texts["train"], seen.__getitem__)
    counts = torch.bincount(train, minlength=len(seen)).tolist()
    words = tuple(sorted(seen, key=lambda word: (-counts[seen[word]], word)))
    index = _Vocabulary({word: i for i, word in enumerate(words)})
    by_frequency = torch.tensor([index[word] for word in seen], dtype=torch.int32)
    for part in train.split(BLOCK):  # in place: a copy of a long text would double its memory
        part.copy_(by_frequency[part])
    rest = {split: _ids(texts[split], index.__getitem__) for split in HELD_OUT}
    return Corpus(name, words, {"train": train} | rest)


def _ids(blocks: Iterable[list[str]], lookup: Callable[[str], int]) -> Tensor:
    ids = array("i")
    for words in blocks:
        ids.extend(map(lookup, words))
    return torch.frombuffer(ids, dtype=torch.int32)


def read_words(file: Path) -> Iterator[list[str]]:
    """A text's words in blocks, one `<eos>` at the end of each line, the last one too.

    Raises CorpusError for a file that is empty, that is not UTF-8 or that can't be read.
    """
    begun, end, empty = [], "", True  # begun: the pieces of a word that goes on in the next block
    for block in _blocks(file):
        words = block.replace("\n", f" {EOS} ").split()
        end, empty = block[-1], empty and block.isspace()
        if begun and not block[0].isspace():
            begun.append(words.pop(0))
            if not words and not end.isspace():
                continue
        if begun:
            words.insert(0, "".join(begun))
        begun = [] if end.isspace() else [words.pop()]
        yield words
    if empty:
        raise CorpusError(f"{file} is empty: it needs a line of words at least")
    if end != "\n":
        yield [*(["".join(begun)] if begun else []), EOS]


def _blocks(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig") as text:
            for block in iter(partial(text.read, BLOCK), ""):
                if "\0" in block:
                    raise CorpusError(f"{file} is {_instead_of_utf8(file)}")
                yield block
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file} is {_instead_of_utf8(file, error.reason)}") from None
    except OSError as error:
        raise CorpusError(f"{file} can't be read: {error.strerror or error}") from None


def _instead_of_utf8(file: Path, reason: str | None = None) -> str:
    """What a file is that has NUL characters, or can't be decoded for that reason; what to do."""
    with file.open("rb") as content:
        start = content.read(BLOCK)
    encoding, found = _wide_encoding(start), f"not UTF-8 ({reason})"
    if encoding:
        found = f"{encoding}, not UTF-8"
    elif reason is None or b"\0" in start:
        return "not text: it contains NUL characters"
    return (
        f"{found}: convert it, with iconv -f {encoding or 'LATIN1'} -t UTF-8 {file.name} > new.txt "
        f"&& mv new.txt {file.name}"
    )


def _wide_encoding(start: bytes) -> str | None:
    """UTF-16 or UTF-32, by its byte order mark or by the zeros in every other byte."""
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"  # first: its mark begins with UTF-16's
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    # no mark: Latin letters, and the spaces and line ends of any script, have a high byte of 0
    even, odd = (start[offset::2].count(0) for offset in (0, 1))
    if max(even, odd) > 10 * min(even, odd) and 100 * max(even, odd) > len(start):
        return "UTF-16LE" if odd > even else "UTF-16BE"
    return None


# ---------------------------------------------------------------- ids → rows → windows
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

        a b c d e f g h i j k l m      B = 3, T = 2: L = 4
        row 1  a b | c d               window 1: a b, e f, i j   targets: b c, f g, j k
        row 2  e f | g h               window 2: c d, g h, k l   targets: d e, h i, l m
        row 3  i j | k l
    """
    targets = len(ids) - 1 - offset
    length = targets // batch_size  # L
    if length < 1:
        raise CorpusError(
            f"{len(ids)} tokens from offset {offset} do not fill batch_size = {batch_size} rows: "
            f"it can be {max(targets, 0)} at most"
        )
    inputs, following = (
        ids[start : start + batch_size * length].view(batch_size, length)
        for start in (offset, offset + 1)
    )
    return Windows((inputs, following), bptt)
