"""ptb.corpus: windows leave out nothing they should not; Penn Treebank is found and verified."""

import hashlib
import io
import socket
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

from ptb import corpus
from ptb.corpus import CorpusError, find_penn_treebank, penn_treebank, windows
from ptb.setting import SettingError

SIZES = [  # tokens, B, T, offset
    (50, 1, 7, 0),
    (50, 4, 5, 0),
    (50, 4, 5, 3),
    (49, 4, 12, 0),
    (53, 4, 100, 11),
    (53, 7, 1, 2),
    (9, 8, 3, 0),
]


@pytest.mark.parametrize(("tokens", "batch_size", "bptt", "offset"), SIZES)
def test_every_target_is_used_once_but_offset_and_remainder(tokens, batch_size, bptt, offset):
    cut = list(windows(torch.arange(tokens), batch_size, bptt, offset))
    used = sorted(torch.cat([y.flatten() for _, y in cut]).tolist())
    left_over = (tokens - 1 - offset) % batch_size
    assert used == list(range(offset + 1, tokens - left_over))


@pytest.mark.parametrize(("tokens", "batch_size", "bptt", "offset"), SIZES)
def test_rows_are_contiguous_over_windows(tokens, batch_size, bptt, offset):
    cut = list(windows(torch.arange(tokens), batch_size, bptt, offset))
    x = torch.cat([x for x, _ in cut])  # (L, B)
    assert (x[1:] - x[:-1] == 1).all()
    assert x[0].tolist() == [offset + row * len(x) for row in range(batch_size)]


@pytest.mark.parametrize(("tokens", "batch_size", "bptt", "offset"), SIZES)
def test_targets_are_the_inputs_one_further_on(tokens, batch_size, bptt, offset):
    for x, y in windows(torch.arange(tokens), batch_size, bptt, offset):
        assert x.shape == y.shape
        assert (y == x + 1).all()


def test_windows_have_t_steps_and_the_last_the_rest():
    cut = list(windows(torch.arange(4 * 12 + 1), 4, 5))
    assert [tuple(x.shape) for x, _ in cut] == [(5, 4), (5, 4), (2, 4)]


@pytest.mark.parametrize(("tokens", "offset"), [(4, 0), (10, 6), (10, 30), (1, 0), (0, 0)])
def test_text_too_short_for_the_rows_is_refused(tokens, offset):
    allowed = max(tokens - 1 - offset, 0)
    said = f"^{tokens} tokens from offset {offset} .* = 4 rows: it can be {allowed} at most$"
    with pytest.raises(CorpusError, match=said):
        list(windows(torch.arange(tokens), 4, 5, offset))


def test_shortest_text_that_fills_the_rows():
    ((x, y),) = windows(torch.arange(5), 4, 5)
    assert (x.tolist(), y.tolist()) == ([[0, 1, 2, 3]], [[1, 2, 3, 4]])


def test_unknown_corpus_is_refused_with_a_suggestion():
    with pytest.raises(
        SettingError, match="'ptbb' is none of ptb, embedded and no folder: did you mean 'ptb'"
    ):
        corpus.load("ptbb")


# ---------------------------------------------------------------- Penn Treebank itself
@pytest.fixture
def penn(ptb_folder, monkeypatch):
    monkeypatch.setenv("PTB_DATA", str(ptb_folder))
    return penn_treebank()


def test_penn_treebank_has_its_counts_and_vocabulary(penn):
    counts = {split: len(ids) for split, ids in penn.splits.items()}
    assert counts == {"train": 929_589, "valid": 73_760, "test": 82_430}
    assert len(set(penn.words)) == len(penn.words) == 10_000
    assert {"<eos>", "<unk>", "N"} <= set(penn.words[:10])


def test_penn_treebank_has_a_sentence_end_for_each_line(penn, ptb_folder):
    for split, ids in penn.splits.items():
        lines = (ptb_folder / f"ptb.{split}.txt").read_text().splitlines()
        assert int((ids == penn.index["<eos>"]).sum()) == len(lines)
        assert penn.text(ids[: len(lines[0].split()) + 1].tolist()) == lines[0].strip() + " <eos>"


def test_vocabulary_is_ordered_by_frequency_in_training(penn):
    counts = torch.bincount(penn["train"], minlength=10_000)
    assert (counts[1:] <= counts[:-1]).all()
    assert counts[-1] > 0


# ---------------------------------------------------------------- three small files in its place
TEXTS = {
    "ptb.train.txt": b" a b c \n a b \n",
    "ptb.valid.txt": b" a c \n",
    "ptb.test.txt": b" b b a \n",
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A world where Penn Treebank is three tiny files, not here yet, and no network is."""
    monkeypatch.delenv("PTB_DATA", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(corpus, "SHA256", {name: sha256(text) for name, text in TEXTS.items()})
    monkeypatch.setattr(corpus, "TOKENS", {"train": 7, "valid": 3, "test": 4})
    monkeypatch.setattr(corpus, "TYPES", 4)
    nowhere = f"http://127.0.0.1:{closed_port()}/"
    monkeypatch.setattr(corpus, "MIRRORS", (nowhere + "one/", nowhere + "two/"))
    monkeypatch.setattr(corpus, "ARCHIVE", nowhere + "simple-examples.tgz")
    monkeypatch.setattr(corpus, "DATA", tmp_path / "data" / "ptb")
    return tmp_path / "data" / "ptb"


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def put_files(folder, **altered):
    folder.mkdir(parents=True)
    for name, text in TEXTS.items():
        (folder / name).write_bytes(altered.get(name.split(".")[1], text))
    return folder


def assert_whole(folder):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == TEXTS


def load_fresh():
    return penn_treebank.__wrapped__()


def test_files_in_the_data_folder_are_read(data):
    put_files(data)
    loaded = load_fresh()
    assert loaded.words == ("<eos>", "a", "b", "c")  # by frequency, then by the alphabet
    assert loaded["test"].tolist() == [2, 2, 1, 0]
    assert loaded.index["c"] == 3


def test_folder_named_in_the_environment_comes_first(data, tmp_path, monkeypatch):
    put_files(data, train=b"something else")
    monkeypatch.setenv("PTB_DATA", str(put_files(tmp_path / "mine")))
    assert find_penn_treebank() == tmp_path / "mine"


def test_altered_file_is_named(data):
    put_files(data, valid=b" a b \n")
    with pytest.raises(CorpusError, match="ptb.valid.txt is not Penn Treebank's") as error:
        find_penn_treebank()
    assert "\n" not in str(error.value)


def test_wrong_counts_are_refused(data, monkeypatch):
    put_files(data)
    monkeypatch.setattr(corpus, "TYPES", 10_000)
    with pytest.raises(CorpusError, match="4 types"):
        load_fresh()


def test_named_folder_without_the_files_is_said_in_one_line(data, tmp_path, monkeypatch):
    (put_files(tmp_path / "mine") / "ptb.test.txt").unlink()
    monkeypatch.setenv("PTB_DATA", str(tmp_path / "mine"))
    with pytest.raises(
        CorpusError, match="PTB_DATA names .*mine, but ptb.test.txt is not"
    ) as error:
        find_penn_treebank()
    assert "\n" not in str(error.value)


def test_no_network_and_no_files_says_what_to_put_where(data):
    with pytest.raises(CorpusError) as error:
        find_penn_treebank()
    line = str(error.value)
    assert "\n" not in line
    assert [part for part in (*TEXTS, str(data), "PTB_DATA") if part not in line] == []
    assert not data.exists() or list(data.iterdir()) == []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def server(data, monkeypatch):
    """A web server on this machine that the mirrors one/ and two/ and the archive point at."""
    served = HTTPServer(("127.0.0.1", 0), Handler)
    served.files, served.asked = {}, []
    threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}).start()
    base = f"http://127.0.0.1:{served.server_port}"
    monkeypatch.setattr(corpus, "MIRRORS", (f"{base}/one/", f"{base}/two/"))
    monkeypatch.setattr(corpus, "ARCHIVE", f"{base}/simple-examples.tgz")
    yield served
    served.shutdown()
    served.server_close()


def on_mirror(mirror: str, **altered) -> dict[str, bytes]:
    return {f"/{mirror}/{name}": altered.get(name.split(".")[1], t) for name, t in TEXTS.items()}


def archive(**altered) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in {**TEXTS, "README": b"not wanted"}.items():
            content = altered.get(name.split(".")[-2], text) if "." in name else text
            member = tarfile.TarInfo(f"./simple-examples/data/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_files_are_fetched_from_the_first_mirror_alone(server, data):
    server.files = on_mirror("one") | on_mirror("two")
    assert find_penn_treebank() == data
    assert_whole(data)
    assert server.asked == list(on_mirror("one"))


def test_files_fetched_once_are_not_fetched_again(server, data):
    server.files = on_mirror("one")
    find_penn_treebank()
    server.asked.clear()
    find_penn_treebank()
    assert server.asked == []


def test_second_mirror_serves_where_the_first_has_nothing(server, data):
    server.files = on_mirror("two")
    assert len(load_fresh()["train"]) == 7
    assert_whole(data)


def test_second_mirror_serves_where_the_first_has_something_else(server, data):
    server.files = on_mirror("one", valid=b"<html>not found</html>") | on_mirror("two")
    find_penn_treebank()
    assert_whole(data)


def test_missing_file_alone_is_fetched(server, data):
    (put_files(data) / "ptb.valid.txt").unlink()
    server.files = on_mirror("one")
    find_penn_treebank()
    assert_whole(data)
    assert server.asked == ["/one/ptb.valid.txt"]


def test_archive_serves_where_no_mirror_does(server, data):
    server.files = {"/simple-examples.tgz": archive()}
    find_penn_treebank()
    assert_whole(data)


def test_wrong_files_everywhere_leave_none_of_them_behind(server, data):
    wrong = {"test": b"something else"}
    server.files = on_mirror("one", **wrong) | {"/simple-examples.tgz": archive(**wrong)}
    with pytest.raises(CorpusError, match="could not be fetched"):
        find_penn_treebank()
    assert {path.name for path in data.iterdir()} <= {"ptb.train.txt", "ptb.valid.txt"}


def test_broken_archive_is_not_kept_for_the_next_time(server, data):
    server.files = {"/simple-examples.tgz": b"<html>sign in first</html>"}
    with pytest.raises(CorpusError):
        find_penn_treebank()
    server.files = {"/simple-examples.tgz": archive()}
    find_penn_treebank()
    assert_whole(data)
