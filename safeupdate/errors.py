"""The one family of errors, raised at the program's borders and caught once, in `cli.py` or around a check."""

from __future__ import annotations


class SafeupdateError(Exception):
    """Something that a person should read: what went wrong and, where one exists, what helps."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(SafeupdateError):
    """The command line asks for something that cannot be done (exit code 2)."""


class Missing(SafeupdateError):
    """A file that was asked for is not there."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} does not exist")
        self.path = path


class Unreadable(SafeupdateError):
    """A file is there but cannot be read: permissions, an I/O error, a device node, a size beyond every bound."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} cannot be read: {reason}")
        self.path = path
        self.reason = reason


class FormatError(SafeupdateError):
    """Bytes that break the rules of their format. `place` is the line or the byte offset where."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(f"{message} ({place})" if place else message)
        self.message = message
        self.place = place


class NoDecoder(SafeupdateError):
    """The data is in a format that this machine has no decoder for. `package` names what brings one."""

    def __init__(self, format_name: str, package: str) -> None:
        super().__init__(f"nothing on this machine decodes {format_name}", f"install the package {package}")
        self.format_name = format_name
        self.package = package


class ProgramFailed(SafeupdateError):
    """A program was not there, ran out of time, or ended with an error."""
