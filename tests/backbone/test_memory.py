"""Freed memory that the C library keeps goes back to the system."""

import platform

import psutil
import pytest

from peftrec.backbone.memory import give_back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other C library can be told to")
def test_freed_memory_goes_back():
    def held() -> int:
        return psutil.Process().memory_info().rss

    freed, kept = [bytearray(64_000) for _ in range(4000)], bytearray(64_000)  # the last one keeps the heap's end
    full = held()
    del freed
    give_back()
    assert full - held() > 200_000_000
    assert len(kept) == 64_000
