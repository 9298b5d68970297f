from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import kconfig


def test_options() -> None:
    text = (
        b"#\n# Linux/x86 6.1.0 Kernel Configuration\n#\n"
        b'CONFIG_CC_VERSION_TEXT="gcc-12 (Debian) \xff"\nCONFIG_MODULES=y\nCONFIG_EXT4_FS=m\n'
        b"# CONFIG_DEVTMPFS is not set\nCONFIG_HZ=250\n CONFIG_NOT_AT_THE_START=y\n"
    )
    assert kconfig.parse(text) == {
        "CONFIG_CC_VERSION_TEXT": "gcc-12 (Debian) \udcff",
        "CONFIG_MODULES": "y",
        "CONFIG_EXT4_FS": "m",
        "CONFIG_HZ": "250",
    }


@pytest.mark.parametrize("data", [b"", b"CONFIG_A=y\nCONFIG_B", b"CONFIG_A=y\n" + bytes(100) + b"\n"])
def test_a_cut_configuration_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        kconfig.parse(data)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_anything(data: bytes) -> None:
    try:
        options = kconfig.parse(data)
    except FormatError:
        return
    assert all(name.startswith("CONFIG_") for name in options)
