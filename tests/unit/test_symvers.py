from __future__ import annotations

import pytest

from safeupdate.errors import FormatError
from safeupdate.formats import symvers
from safeupdate.formats.symvers import Exported

TEXT = (
    b"0x4c9d28b0\tphys_base\tvmlinux\tEXPORT_SYMBOL\t\n"
    b"0x5fc72f0e\talloc_workqueue\tvmlinux\tEXPORT_SYMBOL_GPL\n"
    b"0x00000000\tcrc32c\tlib/libcrc32c\tEXPORT_SYMBOL\tCRYPTO\n"
)


def test_a_file() -> None:
    assert symvers.parse(TEXT) == {
        "phys_base": Exported(0x4C9D28B0, symvers.KERNEL),
        "alloc_workqueue": Exported(0x5FC72F0E, symvers.KERNEL),
        "crc32c": Exported(0, "lib/libcrc32c"),
    }


@pytest.mark.parametrize("cut", [0, 1, 10, 40, len(TEXT) - 1])
def test_one_that_was_cut(cut: int) -> None:
    with pytest.raises(FormatError):
        symvers.parse(TEXT[:cut])


@pytest.mark.parametrize("line", [b"\n", b"0x1\ta\n", b"x\ta\tb\n", b"0x\ta\tb\n"])
def test_other_lines(line: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        symvers.parse(TEXT + line)
    assert caught.value.place == "line 4"
