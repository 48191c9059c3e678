"""MKL's and oneDNN's products are both a @ b + bias, in the memory they promise."""

import platform
import subprocess
import sys
import threading

import pytest
import torch

from ptb.models import matmul as products

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


@pytest.fixture(params=[False, pytest.param(True, marks=needs_onednn)], ids=["torch", "onednn"])
def library(request, monkeypatch):
    monkeypatch.setattr(products, "ONEDNN", request.param)


def case(dtype=torch.float32):
    torch.manual_seed(1)
    return [torch.randn(shape, dtype=dtype) for shape in [(7, 5), (5, 11), (11,), (7, 11)]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_those_of_torch(library, dtype, transposed):
    a, b, bias, total = case(dtype)
    if transposed:
        a, b = a.T.contiguous().T, b.T.contiguous().T
    close = torch.testing.assert_close
    close(products.product(a, b), a @ b)
    close(products.product(a, b, bias), a @ b + bias)
    found, biased = products.passing_product(a, b, bias)
    close(found, a @ b + bias if biased else a @ b)
    assert biased == (products.ONEDNN and dtype == torch.float32)
    close(products.add_recurrent_product_(total.clone(), a, b), total + a @ b)


def test_a_product_is_added_in_place(library):
    a, b, _, total = case()
    assert products.add_recurrent_product_(total, a, b) is total


def test_room_is_taken_again_but_never_by_another_thread(monkeypatch):
    monkeypatch.setattr(products, "ONEDNN", False)
    a, b, bias, _ = case()

    def passing(a):
        return products.passing_product(a, b, bias)[0]

    first, found = passing(a), []
    other = threading.Thread(target=lambda: found.append(passing(a + 1)))
    other.start()
    other.join()
    torch.testing.assert_close(first, a @ b)
    assert passing(a).data_ptr() == first.data_ptr() != found[0].data_ptr()


@pytest.mark.parametrize(
    ("vendor", "units", "held_back"),
    [
        ("GenuineIntel", "AVX512", False),
        ("GenuineIntel", "AVX2", False),
        ("AuthenticAMD", "AVX512", True),
        ("AuthenticAMD", "AVX2", False),
    ],
)
def test_mkl_is_held_back_where_it_leaves_avx512_idle(
    monkeypatch, tmp_path, vendor, units, held_back
):
    monkeypatch.setattr(products, "CPUINFO", tmp_path / "cpuinfo")
    products.CPUINFO.write_text(f"processor : 0\nvendor_id : {vendor}\n")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: units)
    assert products.mkl_is_held_back() == held_back


@pytest.mark.parametrize(("most", "set_to"), [(2**40, 2**30), (2**25, 2**25), (0, None)])
def test_memory_is_kept_as_far_as_the_c_library_lets_one(monkeypatch, most, set_to):
    """An older glibc refuses a large threshold; the other one alone would do harm."""
    done = {}

    class Library:
        def __init__(self, name):
            pass

        def mallopt(self, name, value):
            if name == products.M_MMAP_THRESHOLD and value > most:
                return 0
            done[name] = value
            return 1

    monkeypatch.setattr(products.ctypes, "CDLL", Library)
    monkeypatch.setattr(products.platform, "libc_ver", lambda: ("glibc", "2.31"))
    products.keep_memory()
    assert done == (
        {products.M_MMAP_THRESHOLD: set_to, products.M_TRIM_THRESHOLD: 2**30} if set_to else {}
    )


def fresh_bytes(prepare: str, measure: str) -> int:
    """Bytes of fresh pages that a process takes in measure."""
    script = (
        "import ctypes, resource, torch\n"
        "ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)\n"  # no huge pages, of which few are counted
        "from ptb.models.matmul import keep_memory, take_spare_memory\n"
        "keep_memory()\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        f"{prepare}\n"
        "before = faults()\n"
        f"{measure}\n"
        "print((faults() - before) * resource.getpagesize())\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.stdout, found.stderr
    return int(found.stdout)


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")


@glibc
def test_a_process_that_keeps_memory_takes_no_fresh_pages():
    # thirty times: malloc's bins of alignment gaps fill up
    again = "for _ in range({}): torch.zeros(12_000_000)".format
    assert fresh_bytes(again(30), again(9)) < 48e6  # less than one of nine blocks


@glibc
def test_spare_memory_is_taken_once_and_for_what_comes_later():
    block = "torch.zeros(12_000_000)"
    assert fresh_bytes("", "take_spare_memory(64_000_000)") > 60e6
    assert fresh_bytes("take_spare_memory(64_000_000)", block) < 1e6
    assert fresh_bytes("", f"take_spare_memory({2**30})") < 60e6  # what would be given back
    held = f"take_spare_memory(64_000_000); held = {block}"
    assert fresh_bytes(held, "take_spare_memory(64_000_000)") < 1e6
