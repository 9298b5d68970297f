"""Boot Loader Specification entries, as the specification and as GRUB read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import bls

FEDORA = b"""title Fedora Linux (6.8.5-301.fc40.x86_64) 40 (Workstation Edition)
version 6.8.5-301.fc40.x86_64
linux /vmlinuz-6.8.5-301.fc40.x86_64
initrd /initramfs-6.8.5-301.fc40.x86_64.img $tuned_initrd
options root=UUID=5f3c0b7e-6d1c-4c1a-9b57-2f6f0c8e4a11 ro rootflags=subvol=root rhgb quiet $tuned_params
grub_users $grub_users
grub_arg --unrestricted
grub_class fedora
"""


def test_a_real_entry() -> None:
    entry = bls.parse(FEDORA, name="0a1b2c-6.8.5-301.fc40.x86_64.conf")
    assert entry.name == "0a1b2c-6.8.5-301.fc40.x86_64"
    assert entry.first("linux") == "/vmlinuz-6.8.5-301.fc40.x86_64"
    assert [key for key, _ in entry.fields.pairs][:3] == ["title", "version", "linux"]
    assert entry.grub.pairs == entry.fields.pairs
    assert entry.grub_stops_at is None


def test_several_values_of_one_key() -> None:
    entry = bls.parse(b"linux /l\ninitrd /a\ninitrd /b\noptions x\noptions y  z \n", name="e.conf")
    assert entry.all("initrd") == ("/a", "/b")
    assert entry.all("options") == ("x", "y  z")
    assert entry.all("devicetree") == ()
    assert entry.first("devicetree") is None


def test_grub_stops_at_a_line_without_a_value() -> None:
    entry = bls.parse(b"# comment\ntitle  T\n\nlinux /vmlinuz\n", name="e")
    assert entry.first("linux") == "/vmlinuz"
    assert entry.grub.pairs == (("title", "T"),)
    assert entry.grub_stops_at == 3
    assert bls.parse(b"title T\noptions\nlinux /v\n", name="e").grub_stops_at == 2


def test_blank_lines_at_the_end_hide_nothing() -> None:
    entry = bls.parse(b"title T\nlinux /v\n\n  \n# end\n", name="e")
    assert entry.grub.first("linux") == "/v"
    assert entry.grub_stops_at is None


def test_blanks_and_tabs() -> None:
    assert bls.parse(b"\ttitle\tA b\r\n", name="e").first("title") == "A b"
    assert bls.parse(b"\ttitle\tAb\r\n", name="e").grub.first("title") == "Ab"
    # GRUB takes the first blank of the line for the separator, whatever tabs stand before it.
    assert bls.parse(b"title\tA b\n", name="e").grub.pairs == (("title\tA", "b"),)


def test_quotes_are_the_specification_s_only() -> None:
    entry = bls.parse(b'title "Quoted name"\n', name="e")
    assert (entry.first("title"), entry.grub.first("title")) == ("Quoted name", '"Quoted name"')


def test_too_large() -> None:
    with pytest.raises(FormatError):
        bls.parse(b"#" * ((1 << 20) + 1), name="e")


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ("6.10.0", "6.9.9"),
        ("6.8.5-301", "6.8.5-300"),
        ("5.14.0-427.el9", "5.14.0-70.el9"),
        ("6.1", "6"),
        ("6.1.1", "6.1a"),
        ("6.9", "6.9~rc1"),
        ("6.9+x", "6.9"),
        ("6.9.1", "6.9+x"),
        ("b", "a"),
        ("10", "9"),
        ("1", "a"),
    ],
)
def test_newer_versions(newer: str, older: str) -> None:
    assert bls.compare_versions(newer, older) == 1
    assert bls.compare_versions(older, newer) == -1


def test_equal_versions() -> None:
    assert bls.compare_versions("6.01", "6.1") == 0
    assert bls.compare_versions("6-1", "6.1") == 0
    assert bls.compare_versions("", "") == 0


def test_the_order_of_grub_s_menu() -> None:
    machine = "0a1b2c"
    names = [f"{machine}-0-rescue", f"{machine}-6.8.5-301.fc40.x86_64", f"{machine}-6.10.1-100.fc40.x86_64"]
    assert bls.in_grub_order(names) == (names[2], names[1], names[0])


def test_a_stale_machine_id_sorts_by_its_own_name() -> None:
    old, new = "2222-5.14.0-70.el9.x86_64", "1111-5.14.0-427.el9.x86_64"
    assert bls.in_grub_order([new, old]) == (old, new)


def test_of_two_equal_names_the_first_stays() -> None:
    assert bls.in_grub_order(["a-6.1-1", "a-6.01-1"]) == ("a-6.1-1",)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    entry = bls.parse(data, name="e.conf")
    assert all(key and value for key, value in entry.fields.pairs)


NAMES = st.text("ab01.~+-_\N{GREEK SMALL LETTER ALPHA}", max_size=8)


@given(NAMES, NAMES)
def test_the_comparison_has_two_sides(one: str, two: str) -> None:
    assert bls.compare_versions(one, two) in (-1, 0, 1)
    assert bls.compare_versions(one, one) == 0


@given(st.lists(NAMES, max_size=8))
def test_sorting_loses_no_name_that_differs(names: list[str]) -> None:
    order = bls.in_grub_order(names)
    assert set(order) <= set(names)
    assert len(set(order)) == len(order)
