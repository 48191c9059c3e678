"""ptb.errors: which errors are of memory."""

import pytest

from ptb.errors import out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError("Cannot allocate memory"),
    ],
)
def test_too_little_memory_is_known_in_all_its_words(error):
    assert out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("some elements of the tensor refer to a single memory location"),
        ValueError("out of memory"),
    ],
)
def test_a_fault_of_the_program_is_none(error):
    assert not out_of_memory(error)
