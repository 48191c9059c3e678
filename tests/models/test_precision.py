"""ptb.models.precision: refused where it can't be, kept to its run, recorded, and resumed."""

import json

import pytest
import torch
from torture import results

from ptb.errors import RunError, SettingError
from ptb.models import matmul, precision
from ptb.models.precision import current_precision, use_precision
from ptb.runs.environment import environment
from ptb.runs.run import Run
from ptb.training.train import train

needs_units = pytest.mark.skipif(
    not precision.rounds_to_bfloat16(), reason="this CPU has neither AMX nor AVX512-BF16"
)


def rounded() -> set[str]:
    """The parts of torch that are told not to be exact, as they are told."""
    cuda, cudnn, onednn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    parts = {"cublas": cuda.matmul, "cudnn": cudnn.rnn, "matmul": onednn.matmul, "rnn": onednn.rnn}
    told = {name: part.fp32_precision for name, part in parts.items()}
    return {f"{name} {found}" for name, found in told.items() if found not in ("ieee", "none")}


@pytest.fixture
def units(monkeypatch):
    """A CPU that passes for one with AMX, whose products torch rounds: here they stay exact."""
    monkeypatch.setattr(precision, "rounds_to_bfloat16", lambda: True)
    monkeypatch.setattr(matmul, "torch_rounds_to_bfloat16", lambda: True)


# ---------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("name", "device", "said"),
    [
        ("tf32", "cpu", "'tf32' is for a GPU, not device = 'cpu': use 'float32'"),
        ("tf32", "cuda", "'tf32' needs a GPU of NVIDIA's Ampere or later: use 'float32'"),
        ("bfloat16", "cuda", "'bfloat16' is for a CPU, not device = 'cuda': use 'tf32'"),
        ("bfloat16", "cpu", "'bfloat16' needs a CPU with AMX or AVX512-BF16"),
    ],
)
def test_refused_where_the_hardware_lacks_it(name, device, said, monkeypatch):
    monkeypatch.setattr(precision, "rounds_to_bfloat16", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: False)
    before = rounded()
    with pytest.raises(SettingError, match=f"precision = {said}"), use_precision(name, device):
        pass
    assert rounded() == before


def test_a_run_that_is_refused_leaves_no_folder(tiny_setting, tiny_corpus, tmp_path):
    with pytest.raises(SettingError, match="precision = 'tf32' is for a GPU"):
        train(tiny_setting(precision="tf32"), tiny_corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- chosen
def test_each_choice_is_what_torch_is_told_and_only_inside(units, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: True)
    seen, before = {}, rounded()
    for name, device in (("float32", "cpu"), ("tf32", "cuda"), ("bfloat16", "cpu")):
        with pytest.raises(ZeroDivisionError), use_precision(name, device):
            seen[name] = rounded()
            assert environment()["precision"] == name
            raise ZeroDivisionError
        assert current_precision() == "float32"
    assert seen["float32"] == set() and rounded() == before
    assert {"cublas tf32", "cudnn tf32"} <= seen["tf32"] and "rnn bf16" not in seen["tf32"]
    assert {"matmul bf16", "rnn bf16"} <= seen["bfloat16"] and "cudnn tf32" not in seen["bfloat16"]


def test_what_torch_was_told_before_is_told_again(units):
    cudnn, rnn = torch.backends.cudnn, torch.backends.mkldnn.rnn
    found = cudnn.allow_tf32, rnn.fp32_precision, torch.get_float32_matmul_precision()
    for asked in (True, False):
        cudnn.allow_tf32 = asked
        with use_precision("float32", "cpu"), use_precision("bfloat16", "cpu"):
            assert not cudnn.allow_tf32
        assert cudnn.allow_tf32 == asked
        assert (rnn.fp32_precision, torch.get_float32_matmul_precision()) == found[1:]
    cudnn.allow_tf32 = found[0]


def test_products_are_left_to_torch_where_it_rounds_them(units, monkeypatch):
    """oneDNN's own, which is faster than MKL on an AMD processor, ignores torch's flag."""
    monkeypatch.setattr(matmul, "ONEDNN", True)
    a, b = torch.randn(2, 64, 64)
    calls = []
    monkeypatch.setattr(torch, "mm", lambda a, b, out=None: calls.append(a) or a @ b)
    matmul.product(a, b)
    assert not calls
    with use_precision("bfloat16", "cpu"):
        matmul.product(a, b)
    assert len(calls) == 1


def test_training_is_in_the_runs_precision_and_the_last_measuring_exact(
    units, tiny_setting, tiny_corpus, tmp_path
):
    seen = {"steps": set(), "measures": set()}
    setting = tiny_setting(precision="bfloat16")
    watch = {"on_step": lambda *_: seen["steps"].add(current_precision())}
    watch |= {"on_measure": lambda _: seen["measures"].add(current_precision())}
    train(setting, tiny_corpus, tmp_path, **watch)
    assert seen == {"steps": {"bfloat16"}, "measures": {"float32"}}
    assert current_precision() == "float32"
    record = json.loads((tmp_path / "setting.json").read_text())
    assert record["environment"]["precision"] == record["setting"]["precision"] == "bfloat16"


# ---------------------------------------------------------------- where the CPU has the units
@pytest.fixture
def wide(tiny_setting):
    """A setting whose products are large enough for torch to round: more than 16³ multiplications.

    Of both precisions, by their names.
    """
    sizes = {"hidden": 64, "embedding": 64, "bptt": 10, "dropout": 0.2, "init": 0.3, "lr": 2.0}
    return {name: tiny_setting(**sizes, precision=name) for name in ("float32", "bfloat16")}


def test_where_torch_rounds_nothing_each_kind_of_product_is_of_rounded_entries(monkeypatch):
    """As with AVX512-BF16 alone: the result too is rounded once, to 8 significant bits."""
    monkeypatch.setattr(precision, "rounds_to_bfloat16", lambda: True)
    monkeypatch.setattr(matmul, "torch_rounds_to_bfloat16", lambda: False)
    a, b, bias = torch.randn(70, 200), torch.randn(200, 90), torch.randn(90)
    exact = (a.bfloat16().double() @ b.bfloat16().double()).bfloat16().float()
    near = {"rtol": 2**-7, "atol": 1e-4}  # a tie, or nearly one, may go the other way
    close = {"rtol": 1e-5, "atol": 1e-4}
    with use_precision("bfloat16", "cpu"):
        torch.testing.assert_close(matmul.product(a, b), exact, **near)
        torch.testing.assert_close(matmul.product(a, b, bias) - bias, exact, **near)
        ones, unrounded = torch.ones(70, 90), (a.double() @ b.double()).float()
        torch.testing.assert_close(matmul.recurrent_product(a, b), unrounded, **close)
        torch.testing.assert_close(
            matmul.add_recurrent_product_(ones, a, b) - 1, unrounded, **close
        )
        passing, biased = matmul.passing_product(a, b, bias)
        assert not biased
        torch.testing.assert_close(passing, exact, **near)
        assert matmul.product(a, b).dtype == passing.dtype == torch.float32
        double = matmul.product(a.double(), b.double())
    torch.testing.assert_close(double, a.double() @ b.double())


@needs_units
def test_products_of_rounded_entries_are_summed_in_float32():
    ones = torch.ones(70, 1000)  # in bfloat16 the sums would stay at 256
    with use_precision("bfloat16", "cpu"):
        assert (matmul.product(ones, ones.T) == 1000).all()
        ones += 2**-10
        assert (matmul.product(ones, ones.T) == 1000).all()


@needs_units
def test_losses_are_near_float32s_but_not_the_same(wide, tiny_corpus, tmp_path):
    for name, setting in wide.items():
        train(setting, tiny_corpus, tmp_path / name)
    exact, rounded = (Run(tmp_path / name).history["train_running"] for name in wide)
    assert (exact != rounded).all()
    assert rounded.tolist() == pytest.approx(exact.tolist(), rel=0.05)


@needs_units
def test_stopped_and_started_again_it_ends_to_the_bit_as_if_never_stopped(
    wide, tiny_corpus, tmp_path
):
    def stop(rows):
        if len(rows) == 1:
            raise KeyboardInterrupt

    train(wide["bfloat16"], tiny_corpus, tmp_path / "whole")
    with pytest.raises(RunError, match="stopped after epoch 1"):
        train(wide["bfloat16"], tiny_corpus, tmp_path / "stopped", on_epoch=stop)
    train(wide["bfloat16"], tiny_corpus, tmp_path / "stopped")
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")
