"""Machines that do not come back, and machines of which nobody could tell."""

from __future__ import annotations

import os
import struct

from tests.verdicts import images, layouts
from tests.verdicts.entry import broken
from tests.verdicts.tree import MENU, Tree

# -- the initramfs image -----------------------------------------------------------------------------------------


@broken("initrd-missing", "debian12", "initramfs deleted", "boot-entry.initramfs-missing", row="1", boot="bios")
def _initrd_missing(tree: Tree) -> None:
    tree.remove(tree.initrd())


@broken("initrd-empty", "debian13", "initramfs of 0 bytes", "initramfs.empty", row="1", boot="bios")
def _initrd_empty(tree: Tree) -> None:
    tree.write(tree.initrd(), b"")


@broken(
    "initrd-half", "debian12", "initramfs cut to 50 %, as by a full /boot", "initramfs.truncated", row="2", boot="bios"
)
def _initrd_half(tree: Tree) -> None:
    tree.cut(tree.initrd(), len(tree.read(tree.initrd())) // 2)


@broken("initrd-tail", "debian13", "last 200 bytes of the initramfs cut", "initramfs.truncated", row="2", boot="bios")
def _initrd_tail(tree: Tree) -> None:
    tree.cut(tree.initrd(), -200)


@broken("initrd-cut-plain", "debian13", "initramfs cut inside its uncompressed part", "initramfs.truncated", row="2")
def _initrd_cut_plain(tree: Tree) -> None:
    parts = images.split(tree.read(tree.initrd()))
    tree.cut(tree.initrd(), len(parts[0]) + len(parts[1]) + len(parts[2]) // 2)


@broken(
    "initrd-flipped", "debian12-dracut", "one bit of the initramfs flipped", "initramfs.corrupt", row="3", boot="bios"
)
def _initrd_flipped(tree: Tree) -> None:
    tree.flip(tree.initrd(), 0.5)


@broken("initrd-flipped-zstd", "debian13-dracut", "one bit of the initramfs flipped", "initramfs.corrupt", row="3")
def _initrd_flipped_zstd(tree: Tree) -> None:
    tree.flip(tree.initrd(), 0.7)


@broken(
    "initrd-boundary",
    "debian13",
    "initramfs cut exactly between two segments",
    "initramfs.no-init",
    row="2",
    boot="bios",
)
def _initrd_boundary(tree: Tree) -> None:
    tree.cut(tree.initrd(), -len(images.split(tree.read(tree.initrd()))[-1]))


@broken(
    "initrd-microcode-only",
    "debian12",
    "only the microcode in front of the initramfs is left",
    "initramfs.only-microcode",
    row="2",
    note="a microcode archive as early_initrd builders prepend it",
)
def _initrd_microcode_only(tree: Tree) -> None:
    tree.write(tree.initrd(), microcode())


def microcode() -> bytes:
    """An archive with one microcode file, as iucode-tool makes it."""
    folders = ("kernel", "kernel/x86", "kernel/x86/microcode")
    members = [images.File(folder, 0o40755, b"") for folder in folders]
    data = images.archive([*members, images.File("kernel/x86/microcode/AuthenticAMD.bin", 0o100644, bytes(8192))])
    return data + bytes(-len(data) % 512)


@broken(
    "initrd-lz4-frame",
    "debian12",
    "initramfs as an lz4 frame (lz4 without -l)",
    "initramfs.kernel-cannot-decode",
    row="4",
    boot="bios",
)
def _initrd_lz4_frame(tree: Tree) -> None:
    tree.write(tree.initrd(), images.recompressed(tree.read(tree.initrd()), "lz4 frame"))


@broken(
    "initrd-compressor",
    "debian12",
    "zstd initramfs, kernel configured without CONFIG_RD_ZSTD",
    "initramfs.compressor-not-in-kernel",
    row="4",
    note="the option is taken out of the kernel's configuration file; Debian's kernels read every compressor",
)
def _initrd_compressor(tree: Tree) -> None:
    tree.edit(f"/boot/config-{tree.newest}", "^CONFIG_RD_ZSTD=y$", "# CONFIG_RD_ZSTD is not set")


@broken(
    "initrd-other-release",
    "debian12",
    "the older kernel's initramfs under the newest one's name",
    "initramfs.other-release",
    row="7",
    boot="bios",
)
def _initrd_other_release(tree: Tree) -> None:
    tree.write(tree.initrd(), tree.read(tree.initrd(tree.older)))


@broken(
    "initrd-other-release-dracut",
    "debian13-dracut",
    "the older kernel's initramfs under the newest one's name",
    "initramfs.other-release",
    row="7",
)
def _initrd_other_release_dracut(tree: Tree) -> None:
    tree.write(tree.initrd(), tree.read(tree.initrd(tree.older)))


@broken(
    "initrd-no-modprobe", "debian13", "kmod is not in the initramfs", "initramfs.no-modprobe", row="15", boot="bios"
)
def _initrd_no_modprobe(tree: Tree) -> None:
    tree.write(tree.initrd(), images.without(tree.read(tree.initrd()), r"usr/bin/kmod"))


@broken(
    "initrd-no-libc",
    "debian13-dracut",
    "libc is not in the initramfs",
    "initramfs.init-cannot-start",
    row="33",
    boot="bios",
)
def _initrd_no_libc(tree: Tree) -> None:
    tree.write(tree.initrd(), images.without(tree.read(tree.initrd()), r".*/libc\.so\.6"))


@broken(
    "initrd-no-shell",
    "debian12",
    "/init is a script, and no shell is in the initramfs",
    "initramfs.init-cannot-start",
    row="33",
)
def _initrd_no_shell(tree: Tree) -> None:
    tree.write(tree.initrd(), images.without(tree.read(tree.initrd()), r"usr/bin/(busybox|sh)"))


@broken(
    "initrd-init-mode",
    "debian13",
    "/init of the initramfs is not executable",
    "initramfs.init-not-executable",
    boot="bios",
)
def _initrd_init_mode(tree: Tree) -> None:
    tree.write(tree.initrd(), images.with_mode(tree.read(tree.initrd()), "init", 0o644))


@broken(
    "initrd-nested",
    "debian13-dracut",
    "the initramfs holds its content as an erofs image",
    "initramfs.nested-image",
    verdict="unknown",
    note="dracut's 99squash layout: a small archive around erofs-root.img (no content of a real one)",
)
def _initrd_nested(tree: Tree) -> None:
    data = tree.read(tree.initrd())

    def make() -> bytes:
        members = images.files(images.unpack(images.split(data)[-1]))
        kept = [member for member in members if member.name in (".", "bin", "usr", "usr/bin", "usr/lib")]
        kept += [member for member in members if member.name in ("init", "usr/bin/sh", "usr/bin/bash")]
        superblock = bytes(1024) + struct.pack("<I", 0xE0F5E1E2) + bytes(7164)
        kept += [images.File("erofs-root.img", 0o100644, superblock)]
        return images.pack(images.archive(kept), "zstd")

    tree.write(tree.initrd(), images.kept(data, "nested erofs", make))


@broken(
    "initrd-memory",
    "debian12",
    "the unpacked initramfs does not fit into 128 MB of memory",
    "initramfs.larger-than-memory",
    row="5",
    verdict="unknown",
)
def _initrd_memory(tree: Tree) -> None:
    tree.write(
        "/proc/meminfo", "MemTotal:         119808 kB\nMemFree:           20480 kB\nMemAvailable:      40960 kB\n"
    )


# -- the kernel and its modules ----------------------------------------------------------------------------------


@broken("kernel-cut", "debian12", "kernel image cut to 60 %", "kernel-files.image-truncated", row="2", boot="bios")
def _kernel_cut(tree: Tree) -> None:
    tree.cut(tree.vmlinuz(), int(len(tree.read(tree.vmlinuz())) * 0.6))


@broken("kernel-flipped", "debian13", "one bit of the kernel image flipped", "kernel-files.image-corrupt", boot="bios")
def _kernel_flipped(tree: Tree) -> None:
    tree.flip(tree.vmlinuz(), 0.5)


@broken("kernel-empty", "debian13-dracut", "kernel image of 0 bytes", "kernel-files.image-empty")
def _kernel_empty(tree: Tree) -> None:
    tree.write(tree.vmlinuz(), b"")


@broken(
    "kernel-removed",
    "debian13",
    "kernel deleted, the menu still names it",
    "boot-entry.kernel-missing",
    row="21",
    boot="bios",
)
def _kernel_removed(tree: Tree) -> None:
    tree.remove(tree.vmlinuz())


@broken(
    "kernel-other-architecture",
    "debian12",
    "kernel image for arm64",
    "kernel-files.other-architecture",
    note="an arm64 header (Documentation/arch/arm64/booting.rst) on the bytes of the real image",
)
def _kernel_other_architecture(tree: Tree) -> None:
    data = tree.read(tree.vmlinuz())
    header = struct.pack("<IIQQQQQQ4sI", 0x14000010, 0, 0, len(data), 0xA, 0, 0, 0, b"ARM\x64", 0)
    tree.write(tree.vmlinuz(), header.ljust(4096, b"\0") + data[4096:])


@broken("modules-removed", "debian12-dracut", "/lib/modules of the kernel deleted", "kernel-files.no-modules", row="28")
def _modules_removed(tree: Tree) -> None:
    tree.remove(tree.modules())


@broken(
    "modules-other-release",
    "debian12",
    "modules built for another release",
    "kernel-files.modules-of-another-release",
    row="7",
)
def _modules_other_release(tree: Tree) -> None:
    tree.remove(tree.modules())
    tree.copy(tree.modules(tree.older), tree.modules())


@broken("modules-dep-cut", "debian13", "modules.dep.bin cut", "kernel-files.modules-index")
def _modules_dep_cut(tree: Tree) -> None:
    tree.cut(f"{tree.modules()}/modules.dep.bin", 20_000)


@broken("modules-index", "debian13-dracut", "depmod's indexes deleted", "kernel-files.modules-index")
def _modules_index(tree: Tree) -> None:
    tree.remove(f"{tree.modules()}/modules.dep.bin", f"{tree.modules()}/modules.alias.bin")


@broken("modules-emptied", "debian12", "every module is 0 bytes, as after a full disk", "kernel-files.modules-lost")
def _modules_emptied(tree: Tree) -> None:
    for directory, _, names in os.walk(tree.host(f"{tree.modules()}/kernel")):
        for name in names:
            # A new file: opening the old one would copy it up first.
            os.unlink(f"{directory}/{name}")
            open(f"{directory}/{name}", "wb").close()


# -- packages ----------------------------------------------------------------------------------------------------


@broken(
    "package-unpacked",
    "debian12",
    "the kernel's package is unpacked and not configured, and its network drivers are gone",
    "kernel-files.module-in-use-lost",
)
def _package_unpacked(tree: Tree) -> None:
    tree.package_state("unpacked")
    _without_network(tree)


def _without_network(tree: Tree) -> None:
    tree.in_use("virtio_net")
    tree.remove(f"{tree.modules()}/kernel/drivers/net")


@broken(
    "package-removal",
    "debian13",
    "the removal of the kernel's package was killed: its network drivers are gone, the rest is still there",
    "packages.files-missing",
)
def _package_removal(tree: Tree) -> None:
    tree.package_state("half-installed", want="deinstall")
    _without_network(tree)


@broken(
    "package-database",
    "debian13",
    "dpkg's database ends in the middle of a line",
    "packages.database-unreadable",
    verdict="unknown",
)
def _package_database(tree: Tree) -> None:
    text = tree.text("/var/lib/dpkg/status")
    tree.write("/var/lib/dpkg/status", text[: text.index("Status: ", len(text) // 2) + 4])


@broken(
    "module-empty",
    "debian12",
    "a module of the firewall, which is in use, has 0 bytes; it is in no initramfs",
    "kernel-files.module-in-use-lost",
)
def _module_empty(tree: Tree) -> None:
    tree.in_use("nf_tables")
    tree.write(f"{tree.modules()}/kernel/net/netfilter/nf_tables.ko", b"")


@broken(
    "module-hollow",
    "debian12",
    "a module of the firewall, which is in use, has its length and nothing but zeros in it",
    "packages.module-in-use-lost",
)
def _module_hollow(tree: Tree) -> None:
    path = f"{tree.modules()}/kernel/net/netfilter/nf_tables.ko"
    tree.in_use("nf_tables")
    tree.write(path, bytes(len(tree.read(path))))


@broken(
    "leftover-beside-cut",
    "debian12",
    "an initrd.img-RELEASE.new beside an initramfs that is cut",
    "initramfs.truncated",
    row="2",
)
def _leftover_beside_cut(tree: Tree) -> None:
    tree.cut(tree.initrd(), 9_000_000)
    tree.write(f"{tree.initrd()}.new", tree.read(tree.initrd(tree.older))[:4_000_000])


# -- GRUB --------------------------------------------------------------------------------------------------------


@broken(
    "menu-empty",
    "debian12-dracut",
    "a menu without entries (update-grub found no kernel)",
    "boot-entry.empty-menu",
    row="23",
    boot="bios",
)
def _menu_empty(tree: Tree) -> None:
    tree.menu("")


@broken("menu-cut", "debian13", "grub.cfg cut inside its header", "boot-entry.syntax-error", boot="bios")
def _menu_cut(tree: Tree) -> None:
    text = tree.text(MENU)
    tree.write(MENU, text[: text.index("function load_video") + 40])


@broken("menu-cut-entry", "debian12", "grub.cfg cut inside the first entry", "boot-entry.syntax-error", boot="bios")
def _menu_cut_entry(tree: Tree) -> None:
    text = tree.text(MENU)
    tree.write(MENU, text[: text.index("echo\t'Loading initial ramdisk")])


@broken("menu-missing", "debian13-dracut", "grub.cfg deleted", "boot-entry.no-loader", boot="bios")
def _menu_missing(tree: Tree) -> None:
    tree.remove(MENU)


@broken(
    "grub-modules",
    "debian12",
    "GRUB's modules in /boot/grub deleted",
    "boot-entry.loader-files-missing",
    row="20",
    boot="bios",
)
def _grub_modules(tree: Tree) -> None:
    tree.remove("/boot/grub/i386-pc")


@broken(
    "saved-broken",
    "debian12",
    "saved_entry is the older kernel, whose initramfs is cut",
    "initramfs.truncated",
    row="24",
    boot="bios",
)
def _saved_broken(tree: Tree) -> None:
    tree.default("${saved_entry}")
    tree.environment(saved_entry=tree.submenu_path(tree.older))
    tree.cut(tree.initrd(tree.older), 9_000_000)


@broken(
    "once-broken",
    "debian13-dracut",
    "next_entry (one shot) is a kernel without its initramfs",
    "boot-entry.initramfs-missing",
    boot="bios",
)
def _once_broken(tree: Tree) -> None:
    tree.environment(next_entry=f"1>{2}")
    tree.remove(tree.initrd(tree.older))


@broken(
    "fallback-unused",
    "debian12",
    "initramfs deleted; fallback= names a good entry, which GRUB never tries",
    "boot-entry.initramfs-missing",
    row="22",
    boot="bios",
)
def _fallback_unused(tree: Tree) -> None:
    tree.edit(MENU, r"^\s+set timeout=5$", r'\g<0>\nset fallback="1>2"', count=1)
    tree.remove(tree.initrd())


@broken(
    "entry-without-initrd",
    "debian13",
    "an entry with root=UUID= and no initrd line",
    "boot-entry.root-needs-initramfs",
    row="1",
    boot="bios",
)
def _entry_without_initrd(tree: Tree) -> None:
    tree.edit(MENU, r"^\tinitrd\t.*$", "", count=1)


@broken(
    "entry-without-initrd-partuuid",
    "debian12",
    "no initramfs when update-grub ran: root=PARTUUID=, ext4 is a module",
    "initramfs.none-loaded",
    row="1",
    boot="bios",
)
def _entry_without_initrd_partuuid(tree: Tree) -> None:
    tree.remove(tree.initrd())
    tree.edit(MENU, rf"^(\s+linux\t/boot/vmlinuz-{tree.newest}) root=UUID=\S+", r"\1 root=PARTUUID=5afe0bda-01")
    tree.edit(MENU, rf"^\s+initrd\t/boot/initrd.img-{tree.newest}$", "")


@broken(
    "root-other-uuid-bare",
    "debian13",
    "root=UUID= other than fstab's, in a bare root tree",
    "boot-entry.root-differs-from-fstab",
    row="29",
    facts=False,
)
@broken(
    "root-other-uuid",
    "debian12",
    "root=UUID= of no file system here",
    "boot-entry.root-missing",
    row="29",
    boot="bios",
)
def _root_other_uuid(tree: Tree) -> None:
    tree.edit(MENU, r"root=UUID=\S+", "root=UUID=deadbeef-0000-4000-8000-000000000001")


@broken(
    "root-twice-wrong",
    "debian12",
    "root= twice, the last of them of no file system here",
    "boot-entry.root-missing",
    row="29",
)
def _root_twice_wrong(tree: Tree) -> None:
    tree.parameter("root=UUID=deadbeef-0000-4000-8000-000000000006")


@broken(
    "root-other-device",
    "debian13",
    "root= names a disk that the machine does not have",
    "boot-entry.root-missing",
    row="29",
    boot="bios",
)
def _root_other_device(tree: Tree) -> None:
    tree.edit(MENU, r"root=UUID=\S+", "root=/dev/vda1")


@broken("root-none", "debian12", "no root= on the command line", "boot-entry.no-root", row="29", boot="bios")
def _root_none(tree: Tree) -> None:
    tree.edit(MENU, r"root=UUID=\S+ ", "")


@broken(
    "init-parameter",
    "debian13-dracut",
    "init= names a program that is not there; dracut insists on it",
    "mounts.init-parameter",
    boot="bios",
)
def _init_parameter(tree: Tree) -> None:
    tree.parameter("init=/sbin/missing")


@broken(
    "variable",
    "debian13",
    "the kernel's name is made of what GRUB reads from the firmware",
    "boot-entry.unresolved",
    verdict="unknown",
    note="hand-written entry; `smbios` is a command of GRUB's",
)
def _variable(tree: Tree) -> None:
    body = f"""smbios --type 1 --get-string 5 --set product
menuentry 'By product' --id by-product {{
	search --no-floppy --fs-uuid --set=root {tree.uuid}
	linux /boot/vmlinuz-$product root=UUID={tree.uuid} ro quiet
	initrd /boot/initrd.img-$product
}}
"""
    tree.menu(body)


@broken(
    "counter-rescue",
    "debian12-dracut",
    "boot_counter ran out: GRUB takes the second entry, whose kernel is gone",
    "boot-entry.kernel-missing",
    row="26",
    note="header as grub2-common of Fedora writes it (08_fallback_counting.in)",
)
def _counter_rescue(tree: Tree) -> None:
    counting = """if [ -n "${boot_counter}" -a "${boot_success}" = "0" ]; then
  if [ "${boot_counter}" = "0" -o "${boot_counter}" = "-1" ]; then
    set default=1
    set boot_counter=-1
  else
    decrement boot_counter
  fi
  save_env boot_counter
fi
"""
    entry = tree.text(MENU)
    entry = entry[entry.index("menuentry 'Debian GNU/Linux'") : entry.index("submenu 'Advanced")]
    rescue = entry.replace("'Debian GNU/Linux'", "'Rescue'").replace("gnulinux-simple", "rescue")
    tree.menu(counting + entry + rescue.replace(f"vmlinuz-{tree.newest}", "vmlinuz-0-rescue"))
    tree.environment(boot_counter="0", boot_success="0")


@broken(
    "shell-recovery",
    "debian12",
    "saved_entry is the recovery entry of the newest kernel",
    "boot-entry.stops-in-shell",
    boot="bios",
)
def _shell_recovery(tree: Tree) -> None:
    tree.default("${saved_entry}")
    entry = f"gnulinux-{tree.newest}-recovery-{tree.uuid}"
    tree.environment(saved_entry=f"gnulinux-advanced-{tree.uuid}>{entry}")


@broken("shell-init", "debian13", "init=/bin/sh left on the command line", "boot-entry.stops-in-shell", boot="bios")
def _shell_init(tree: Tree) -> None:
    tree.parameter("init=/bin/sh")


@broken("shell-emergency", "debian12-dracut", "systemd.unit=emergency.target", "boot-entry.stops-in-shell", boot="bios")
def _shell_emergency(tree: Tree) -> None:
    tree.parameter("systemd.unit=emergency.target")


@broken(
    "shell-break", "debian12", "break=premount, which initramfs-tools obeys", "boot-entry.stops-in-shell", boot="bios"
)
def _shell_break(tree: Tree) -> None:
    tree.parameter("break=premount")


@broken("shell-rd-break", "debian13-dracut", "rd.break, which dracut obeys", "boot-entry.stops-in-shell", boot="bios")
def _shell_rd_break(tree: Tree) -> None:
    tree.parameter("rd.break")


# -- the root file system ----------------------------------------------------------------------------------------


@broken("init-missing", "debian12", "/sbin/init deleted (systemd-sysv removed)", "mounts.init", row="33", boot="bios")
def _init_missing(tree: Tree) -> None:
    tree.remove("/usr/sbin/init")


@broken("systemd-library", "debian13", "libsystemd-shared deleted", "mounts.init", row="33", boot="bios")
def _systemd_library(tree: Tree) -> None:
    for directory in ("/usr/lib/x86_64-linux-gnu/systemd", "/usr/lib/systemd"):
        for name in os.listdir(tree.host(directory)) if os.path.isdir(tree.host(directory)) else ():
            if name.startswith("libsystemd-shared"):
                tree.remove(f"{directory}/{name}")


@broken("libc", "debian12-dracut", "libc of the root deleted", "mounts.init", row="33")
def _libc(tree: Tree) -> None:
    tree.remove("/usr/lib/x86_64-linux-gnu/libc.so.6")


@broken("usr-merge", "debian13", "half merged /usr: /lib64 is an empty directory", "mounts.init", row="35", boot="bios")
def _usr_merge(tree: Tree) -> None:
    tree.remove("/lib64")
    tree.mkdir("/lib64")


@broken(
    "fstab-device",
    "debian12",
    "fstab names a file system that is gone, without nofail",
    "mounts.device-missing",
    row="31",
    boot="bios",
)
def _fstab_device(tree: Tree) -> None:
    tree.mount_line("UUID=deadbeef-0000-4000-8000-000000000002 /srv ext4 defaults 0 2")


@broken(
    "fstab-esp",
    "debian13-dracut",
    "fstab names an ESP that was formatted anew, without nofail",
    "mounts.device-missing",
    row="31",
    boot="bios",
)
def _fstab_esp(tree: Tree) -> None:
    tree.mount_line("UUID=DEAD-BEEF /boot/efi vfat umask=0077 0 1")


@broken("default-target", "debian12", "default.target is masked", "mounts.default-target")
def _default_target(tree: Tree) -> None:
    tree.link("/dev/null", "/etc/systemd/system/default.target")


@broken(
    "boot-shadowed",
    "debian12",
    "/boot is not mounted, an update wrote into the directory below",
    "mounts.boot-shadowed",
    row="28",
)
def _boot_shadowed(tree: Tree) -> None:
    layouts.separate_boot(tree, mounted=False)


@broken(
    "boot-not-mounted",
    "debian13",
    "/boot is not mounted, and the directory is empty",
    "mounts.boot-not-mounted",
    row="28",
    verdict="unknown",
)
def _boot_not_mounted(tree: Tree) -> None:
    layouts.separate_boot(tree, mounted=False)
    tree.remove("/boot")
    tree.mkdir("/boot")


# -- other loaders -----------------------------------------------------------------------------------------------


@broken(
    "tries-used-up",
    "debian13",
    "systemd-boot: the only good entry has 0 tries left, an older plain twin without its initramfs is chosen",
    "boot-entry.initramfs-missing",
    row="27",
    boot="uefi",
)
def _tries_used_up(tree: Tree) -> None:
    layouts.systemd_boot(tree, counters={tree.newest: "+0-3"})
    tree.remove(layouts.on_esp(tree.older, "initrd.img"))


@broken(
    "sd-boot-initrd",
    "debian12",
    "systemd-boot: the entry's initramfs is gone",
    "boot-entry.initramfs-missing",
    row="1",
    boot="uefi",
)
def _sd_boot_initrd(tree: Tree) -> None:
    layouts.systemd_boot(tree)
    tree.remove(layouts.on_esp(tree.newest, "initrd.img"))


@broken(
    "two-loaders",
    "debian13",
    "GRUB and systemd-boot, each with another kernel first, and no EFI variables to tell",
    "boot-entry.ambiguous-loader",
    verdict="unknown",
    facts=False,
)
def _two_loaders(tree: Tree) -> None:
    layouts.systemd_boot(tree, only=[tree.older], keep_grub=True)


@broken(
    "ostree",
    "debian13",
    "an ostree deployment",
    "boot-entry.unsupported-loader",
    verdict="unknown",
    note="the repository's directory and the parameter as ostree-prepare-root(1) has them",
)
def _ostree(tree: Tree) -> None:
    tree.mkdir("/ostree/repo/objects")
    tree.write("/ostree/repo/config", "[core]\nrepo_version=1\nmode=bare\n")
    tree.edit(MENU, r"^(\s+linux\t.*)$", rf"\1 ostree=/ostree/boot.1/debian/{'0' * 64}/0")


# -- what root lies on -----------------------------------------------------------------------------------------


@broken(
    "bare-debian12",
    "debian12",
    "Debian 12 as a bare root tree: no facts of hardware or mounts",
    "root-storage.hardware-not-known",
    verdict="unknown",
    facts=False,
)
@broken(
    "bare-debian13-dracut",
    "debian13-dracut",
    "Debian 13 with dracut as a bare root tree",
    "root-storage.hardware-not-known",
    verdict="unknown",
    facts=False,
)
def _bare(tree: Tree) -> None:
    """Nothing is changed."""


@broken(
    "lvm-not-in-image",
    "debian12-dracut",
    "RHEL's layout, root on LVM, and images without LVM",
    "root-storage.helper-missing",
    row="8",
    note="RHEL's files on Debian's",
)
def _lvm_not_in_image(tree: Tree) -> None:
    layouts.rhel_lvm(tree)


@broken(
    "luks-not-in-image",
    "debian13",
    "LUKS root, and images that were made without cryptsetup-initramfs",
    "root-storage.helper-missing",
    row="8",
    note="the installer's layout",
)
def _luks_not_in_image(tree: Tree) -> None:
    layouts.luks(tree)
