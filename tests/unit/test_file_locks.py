from __future__ import annotations

from safeupdate.formats.file_locks import FileLock, parse


def test_who_writes() -> None:
    text = b"""1: POSIX  ADVISORY  WRITE 712 fe:00:2179841 0 EOF
1: -> POSIX  ADVISORY  WRITE 800 fe:00:2179841 0 EOF
2: FLOCK  ADVISORY  WRITE 9 00:1f:131 0 EOF
3: POSIX  ADVISORY  READ  10 00:1f:132 1073741826 1073742335
4: OFDLCK ADVISORY  WRITE -1 00:06:12 0 EOF
nonsense
"""
    assert parse(text) == (FileLock(712, (0xFE, 0), 2179841), FileLock(9, (0, 0x1F), 131))
