"""Machines that come back, however odd they look."""

from __future__ import annotations

import glob
import subprocess

from tests.unit import signed_efi
from tests.unit.layouts import esp
from tests.verdicts import images, layouts
from tests.verdicts.broken import microcode
from tests.verdicts.entry import healthy
from tests.verdicts.tree import MENU, Tree


@healthy("stock-debian12", "debian12", "Debian 12 as installed, initramfs-tools", boot="bios")
@healthy("stock-debian13", "debian13", "Debian 13 as installed, initramfs-tools, microcode in front", boot="bios")
@healthy("stock-debian12-dracut", "debian12-dracut", "Debian 12 as installed, dracut", boot="bios")
@healthy("stock-debian13-dracut", "debian13-dracut", "Debian 13 as installed, dracut", boot="bios")
def _stock(tree: Tree) -> None:
    """Nothing is changed."""


@healthy("one-kernel", "debian12", "one kernel only, by policy", "fallback.none", boot="bios")
def _one_kernel(tree: Tree) -> None:
    release = tree.older
    tree.remove(tree.vmlinuz(release), tree.initrd(release), tree.modules(release))
    text = tree.text(MENU)
    start = text.index(f"\tmenuentry 'Debian GNU/Linux, with Linux {release}'")
    tree.write(MENU, text[:start] + text[text.index("}\n\n### END /etc/grub.d/10_linux ###", start) :])


@healthy(
    "fallback-cut",
    "debian13",
    "the fallback's initramfs is cut, the newest kernel is whole",
    "fallback.broken",
    row="2",
    boot="bios",
)
def _fallback_cut(tree: Tree) -> None:
    tree.cut(tree.initrd(tree.older), 20_000_000)


# -- initramfs images --------------------------------------------------------------------------------------------


@healthy("image-xz", "debian12", "xz initramfs", boot="bios")
def _image_xz(tree: Tree) -> None:
    tree.write(tree.initrd(), images.recompressed(tree.read(tree.initrd()), "xz"))


@healthy("image-gzip", "debian12", "gzip initramfs")
def _image_gzip(tree: Tree) -> None:
    tree.write(tree.initrd(), images.recompressed(tree.read(tree.initrd()), "gzip"))


@healthy("image-bzip2", "debian13", "uncompressed segments, then a bzip2 one")
def _image_bzip2(tree: Tree) -> None:
    tree.write(tree.initrd(), images.recompressed(tree.read(tree.initrd()), "bzip2"))


@healthy("image-lzma", "debian13", "uncompressed segments, then an lzma one")
def _image_lzma(tree: Tree) -> None:
    tree.write(tree.initrd(), images.recompressed(tree.read(tree.initrd()), "lzma"))


@healthy("image-lz4", "debian12", "lz4 initramfs in the kernel's legacy format", boot="bios")
def _image_lz4(tree: Tree) -> None:
    tree.write(tree.initrd(), images.recompressed(tree.read(tree.initrd()), "lz4"))


@healthy("image-plain", "debian13-dracut", "uncompressed initramfs")
def _image_plain(tree: Tree) -> None:
    data = tree.read(tree.initrd())
    tree.write(tree.initrd(), images.kept(data, "plain", lambda: images.unpack(images.split(data)[-1])))


@healthy(
    "image-segments",
    "debian12",
    "microcode in front, two compressed segments, an archive and zeros behind",
    boot="bios",
)
def _image_segments(tree: Tree) -> None:
    data = tree.read(tree.initrd())

    def make() -> bytes:
        members = images.files(images.unpack(data))
        half = len(members) // 2
        one, two = images.archive(members[:half]), images.archive(members[half:])
        extra = images.archive([images.File("extra", 0o100644, b"appended by hand\n")])
        first = images.pack(one, "gzip")
        parts = [microcode(), first + bytes(-len(first) % 4)]
        second = images.pack(two, "zstd")
        parts += [second + bytes(-len(second) % 512), extra, bytes(4096)]
        return b"".join(parts)

    tree.write(tree.initrd(), images.kept(data, "segments", make))


@healthy(
    "image-junk",
    "debian12",
    "junk behind a whole initramfs: the kernel complains and goes on",
    "initramfs.junk",
    boot="bios",
)
def _image_junk(tree: Tree) -> None:
    data = tree.read(tree.initrd())
    tree.write(tree.initrd(), data + bytes(-len(data) % 4) + b"left over from an older, larger file\n" * 8)


@healthy(
    "image-no-liblzma",
    "debian13-dracut",
    ".ko.xz modules, no liblzma in the initramfs: the kernel unpacks them",
    boot="bios",
)
def _image_no_liblzma(tree: Tree) -> None:
    tree.write(tree.initrd(), images.without(tree.read(tree.initrd()), r".*/liblzma\.so\..*"))


@healthy("image-two", "debian12", "initrd line with two images: microcode, then the initramfs", boot="bios")
def _image_two(tree: Tree) -> None:
    tree.write("/boot/amd-ucode.img", microcode())
    tree.edit(MENU, r"^(\s+initrd\t)", r"\1/boot/amd-ucode.img ")


# -- GRUB's choice -----------------------------------------------------------------------------------------------


@healthy(
    "saved-older",
    "debian13",
    "saved_entry chooses the older kernel",
    "boot-entry.not-the-newest",
    row="24",
    boot="bios",
)
def _saved_older(tree: Tree) -> None:
    tree.default("${saved_entry}")
    tree.environment(saved_entry=tree.submenu_path(tree.older))


@healthy("default-id", "debian12", "GRUB_DEFAULT is a submenu path of ids", "boot-entry.not-the-newest", boot="bios")
def _default_id(tree: Tree) -> None:
    tree.default(tree.submenu_path(tree.older))
    tree.cut(tree.initrd(), 1_000_000)  # what is not chosen does not matter


@healthy("default-title", "debian13-dracut", "GRUB_DEFAULT is a submenu path of titles", "boot-entry.not-the-newest")
def _default_title(tree: Tree) -> None:
    tree.default(f"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux {tree.older}")
    tree.remove(tree.initrd())


@healthy("default-index", "debian12-dracut", "GRUB_DEFAULT=1>2", "boot-entry.not-the-newest")
def _default_index(tree: Tree) -> None:
    tree.default("1>2")
    tree.remove(tree.initrd())


@healthy(
    "default-nothing",
    "debian12",
    "GRUB_DEFAULT names no entry: GRUB takes the first",
    "boot-entry.default-names-nothing",
    boot="bios",
)
def _default_nothing(tree: Tree) -> None:
    tree.default("Windows Boot Manager")


@healthy(
    "modules-dep-text",
    "debian13",
    "modules.dep cut; kmod reads its binary twin, which is whole",
    "kernel-files.modules-dep",
)
def _modules_dep_text(tree: Tree) -> None:
    path = f"{tree.modules()}/modules.dep"
    data = tree.read(path)
    tree.cut(path, data.index(b":", len(data) // 2) - 5)


@healthy("stale-entry", "debian13", "the menu still names a removed older kernel", "boot-entry.stale")
def _stale_entry(tree: Tree) -> None:
    tree.remove(tree.vmlinuz(tree.older), tree.initrd(tree.older), tree.modules(tree.older))


@healthy("ten-kernels", "debian12", "ten kernels in the menu, eight of them stale copies of the older one")
def _ten_kernels(tree: Tree) -> None:
    text = tree.text(MENU)
    start = text.index(f"\tmenuentry 'Debian GNU/Linux, with Linux {tree.older}'")
    end = text.index("}\n\n### END /etc/grub.d/10_linux ###", start)
    block = text[start:end]
    more = ""
    for number in range(10, 18):
        release = f"6.1.0-{number}-amd64"
        tree.write(tree.vmlinuz(release), tree.read(tree.vmlinuz(tree.older)))
        tree.write(tree.initrd(release), tree.read(tree.initrd(tree.older)))
        more = block.replace(tree.older, release) + more
    tree.write(MENU, text[:end] + more + text[end:])


@healthy("hand-written", "debian12", "hand-written entry: /vmlinuz and /initrd.img, root=/dev/vda1", boot="bios")
def _hand_written(tree: Tree) -> None:
    body = f"""menuentry "Linux" {{
	search --set=root --fs-uuid {tree.uuid}
	linux /vmlinuz root=/dev/vda1 ro quiet
	initrd /initrd.img
}}
"""
    tree.menu(body)


@healthy("custom-cfg", "debian13", "the default entry is in custom.cfg, which grub.cfg sources", boot="bios")
def _custom_cfg(tree: Tree) -> None:
    tree.default("mine")
    body = f"""menuentry "Mine" --id mine {{
	search --no-floppy --fs-uuid --set=where {tree.uuid}
	linux ($where)/boot/vmlinuz-{tree.newest} root=UUID={tree.uuid} ro quiet
	initrd ($where)/boot/initrd.img-{tree.newest}
}}
"""
    tree.write("/boot/grub/custom.cfg", body)


@healthy(
    "device-name", "debian12", "the entry names GRUB's device (hd0,msdos1), on a machine with one disk", boot="bios"
)
def _device_name(tree: Tree) -> None:
    body = f"""menuentry "By device" {{
	set root='hd0,msdos1'
	linux /boot/vmlinuz-{tree.newest} root=UUID={tree.uuid} ro quiet
	initrd /boot/initrd.img-{tree.newest}
}}
"""
    tree.menu(body)


@healthy(
    "force-partuuid",
    "debian12",
    "GRUB_FORCE_PARTUUID: first without an initramfs, which panics; GRUB then retries with it",
    note="Ubuntu's 00_header and 10_linux; on Ubuntu's own kernels the first try succeeds",
    boot="bios, which reboots",
)
def _force_partuuid(tree: Tree) -> None:
    failed = """if [ "${initrdfail}" = 2 ]; then
   set initrdfail=
elif [ "${initrdfail}" = 1 ]; then
   set next_entry="${prev_entry}"
   set prev_entry=
   save_env prev_entry
   if [ "${next_entry}" ]; then
      set initrdfail=2
   fi
fi
"""
    function = """function initrdfail {
    if [ -n "${have_grubenv}" ]; then if [ -n "${partuuid}" ]; then
      if [ -z "${initrdfail}" ]; then
        set initrdfail=1
        if [ -n "${boot_once}" ]; then
          set prev_entry="${default}"
          save_env prev_entry
        fi
      fi
      save_env initrdfail
    fi; fi
}
"""
    tree.edit(MENU, r'^if \[ "\$\{next_entry\}" \] ; then$', lambda found: failed + found.group(0))
    tree.edit(MENU, r"^function load_video \{$", lambda found: function + found.group(0))
    partuuid = "5afe0bda-01"
    tree.edit(MENU, r"^export linux_gfx_mode$", rf"\g<0>\nset partuuid={partuuid}")
    lines = r"^(\t+)linux\t(/boot/vmlinuz\S+) root=UUID=\S+ (.*)\n\t+echo.*\n\t+initrd\t(\S+)$"
    entry = rf"""\1if [ "${{initrdfail}}" = 1 ]; then
\1  echo	'GRUB_FORCE_PARTUUID set, initrdless boot failed. Attempting with initrd.'
\1  linux	\2 root=PARTUUID={partuuid} \3
\1  initrd	\4
\1else
\1  echo	'GRUB_FORCE_PARTUUID set, attempting initrdless boot.'
\1  linux	\2 root=PARTUUID={partuuid} \3 panic=-1
\1fi
\1initrdfail"""
    tree.edit(MENU, lines, entry)


@healthy(
    "fedora-bls",
    "debian12-dracut",
    "Fedora's layout: BLS entries, hidden menu, blscfg",
    note="Fedora's grub.cfg and grubenv on Debian's files; Debian's GRUB has no blscfg",
)
def _fedora_bls(tree: Tree) -> None:
    layouts.grub_bls(tree, f"root=UUID={tree.uuid} ro quiet", menu_auto_hide="1", boot_success="1")


@healthy(
    "rhel-lvm-bls",
    "debian12-dracut",
    "RHEL's layout: root on LVM, BLS entries with $kernelopts, saved_entry",
    note="RHEL's files on Debian's; what dracut puts into the image for LVM was added to it",
)
def _rhel_lvm_bls(tree: Tree) -> None:
    layouts.rhel_lvm(tree)
    layouts.opened_early(tree, "dm_mod")


@healthy("rd-break-elsewhere", "debian12", "rd.break, which initramfs-tools does not know", boot="bios")
def _rd_break_elsewhere(tree: Tree) -> None:
    tree.parameter("rd.break")


@healthy("search-file", "debian13", "GRUB finds its device by a file: search --file", boot="bios")
def _search_file(tree: Tree) -> None:
    tree.edit(MENU, r"^\s+search --no-floppy --fs-uuid.*$", f"search --no-floppy --file --set=root {tree.vmlinuz()}")


@healthy("console-waits", "debian12", "GRUB_TIMEOUT=-1: the menu waits for a person", "boot-entry.waits-for-person")
def _console_waits(tree: Tree) -> None:
    tree.edit(MENU, r"^(\s+)set timeout=5$", r"\1set timeout=-1")


@healthy(
    "parameter-misspelt",
    "debian13",
    "mitigatons=off on the command line: the kernel does not know it",
    "boot-settings.mistake",
)
def _parameter_misspelt(tree: Tree) -> None:
    tree.parameter("mitigatons=off")


@healthy(
    "root-twice",
    "debian12",
    "root= twice; the last one counts, and is right",
    "boot-settings.given-twice",
    boot="bios",
)
def _root_twice(tree: Tree) -> None:
    tree.edit(MENU, r"root=UUID=\S+", lambda found: f"root=/dev/sdz9 {found.group(0)}")


@healthy(
    "panic-serial",
    "debian13",
    "panic=0 on a machine with a serial console only: comes back, and would stay down after a panic",
    "boot-settings.panic-waits",
)
def _panic_serial(tree: Tree) -> None:
    tree.headless()
    tree.parameter("console=ttyS0,115200 panic=0")


# -- packages ----------------------------------------------------------------------------------------------------


@healthy(
    "package-half-configured",
    "debian12",
    "the kernel's package is half-configured, all its files are whole",
    "packages.kernel-not-configured",
)
def _package_half_configured(tree: Tree) -> None:
    tree.package_state("half-configured")


@healthy(
    "package-unpacked-whole",
    "debian13",
    "the kernel's package is unpacked and not configured, all its files are whole",
    "packages.kernel-not-configured",
)
def _package_unpacked_whole(tree: Tree) -> None:
    tree.package_state("unpacked")


@healthy(
    "trigger-pending",
    "debian13",
    "update-initramfs waits in dpkg's triggers: the image of before is whole",
    "packages.triggers-pending",
)
def _trigger_pending(tree: Tree) -> None:
    tree.write("/var/lib/dpkg/triggers/Unincorp", "update-initramfs -\n")


@healthy(
    "package-elsewhere",
    "debian12",
    "a package that the boot does not hang on is half-installed",
)
def _package_elsewhere(tree: Tree) -> None:
    tree.package_state("half-installed", "tzdata")


@healthy(
    "kernel-resigned",
    "debian12",
    "the kernel image has one more signature, by the owner's key",
    "packages.files-changed",
    boot="bios",
)
def _kernel_resigned(tree: Tree) -> None:
    tree.write(tree.vmlinuz(), signed_efi.sign(tree.read(tree.vmlinuz()), signed_efi.key("the machine's owner")))


@healthy(
    "module-stripped",
    "debian12",
    "modules that nothing uses were taken out, and depmod ran: 6lowpan is gone",
    "packages.files-left-out",
)
def _module_stripped(tree: Tree) -> None:
    path = "kernel/net/6lowpan/6lowpan.ko"
    tree.remove(f"{tree.modules()}/{path}")
    _depmod(tree)


def _depmod(tree: Tree) -> None:
    subprocess.run(["depmod", "--basedir", tree.root, tree.newest], timeout=120, check=True)


@healthy(
    "module-empty-unused",
    "debian13",
    "a module that nothing here uses has 0 bytes",
    "kernel-files.module-missing",
)
def _module_empty_unused(tree: Tree) -> None:
    (path,) = glob.glob(tree.host(f"{tree.modules()}/kernel/net/6lowpan/6lowpan.ko*"))
    tree.write(path[len(tree.root) :], b"")


@healthy("no-packages", "debian12", "a machine without a package database")
def _no_packages(tree: Tree) -> None:
    tree.remove("/var/lib/dpkg")


@healthy(
    "leftover-beside-whole",
    "debian12",
    "an initrd.img-RELEASE.new, cut, beside an initramfs that is whole",
    "boot-space.not-replaced",
    boot="bios",
)
def _leftover_beside_whole(tree: Tree) -> None:
    tree.write(f"{tree.initrd()}.new", tree.read(tree.initrd())[:4_000_000])


# -- configuration -----------------------------------------------------------------------------------------------


@healthy(
    "configured",
    "debian12",
    "fstab names a disk that is plugged in for restarts: the blocker is lowered, the check of a fallback skipped",
    "mounts.device-missing",
    note="what safeupdate.toml says is taken for true: nobody plugged it in",
)
def _configured(tree: Tree) -> None:
    tree.mount_line("UUID=deadbeef-0000-4000-8000-000000000007 /srv/archive ext4 defaults 0 2")
    text = """[findings."mounts.device-missing"]
level = "warning"
subjects = ["/srv/*"]
reason = "The archive is plugged in before each restart."

[checks.fallback]
skip = true
reason = "This machine is installed anew where a kernel fails."
"""
    tree.write("/etc/safeupdate/safeupdate.toml", text)


# -- disks and mounts --------------------------------------------------------------------------------------------


@healthy("boot-partition", "debian12", "/boot on a partition of its own")
def _boot_partition(tree: Tree) -> None:
    layouts.separate_boot(tree)


@healthy(
    "luks",
    "debian13",
    "LUKS root, small /boot",
    note="the installer's layout; what cryptsetup-initramfs puts into the image was added to it",
)
def _luks(tree: Tree) -> None:
    layouts.luks(tree)
    layouts.opened_early(tree, "dm_crypt", "xts", "aesni_intel")


@healthy("btrfs", "debian12", "btrfs, root in the subvolume @, GRUB's paths with it", note="Ubuntu's layout")
def _btrfs(tree: Tree) -> None:
    layouts.btrfs(tree)


@healthy(
    "btrfs-one-shot",
    "debian13",
    "next_entry on btrfs, where GRUB cannot clear it",
    "boot-entry.grubenv-not-writable",
    row="25",
)
def _btrfs_one_shot(tree: Tree) -> None:
    layouts.btrfs(tree)
    tree.environment(next_entry=tree.submenu_path(tree.older))


@healthy("root-device", "debian12", "root= by kernel name, and an fstab with the UUID", boot="bios")
def _root_device(tree: Tree) -> None:
    tree.edit(MENU, r"root=UUID=\S+", f"root=/dev/{tree.disk}1")


@healthy("root-partuuid", "debian13-dracut", "root=PARTUUID= with an initramfs", boot="bios")
def _root_partuuid(tree: Tree) -> None:
    tree.edit(MENU, r"root=UUID=\S+", "root=PARTUUID=5afe0bda-01")


@healthy(
    "overlay-volatile",
    "debian13-dracut",
    "root below an overlay in memory, by systemd.volatile=overlay; what lies below is not to be seen",
    note="mounts as systemd-volatile-root.service(8) leaves them",
)
def _overlay_volatile(tree: Tree) -> None:
    options = (
        "rw,lowerdir=/sysroot,upperdir=/run/systemd/overlay-sysroot/upper,workdir=/run/systemd/overlay-sysroot/work"
    )
    _overlay(tree, options, [])
    tree.parameter("systemd.volatile=overlay")


@healthy(
    "overlayroot",
    "debian12",
    "root below an overlay in memory, by overlayroot=tmpfs",
    note="mounts as Debian's and Ubuntu's package overlayroot leaves them",
)
def _overlayroot(tree: Tree) -> None:
    options = "rw,lowerdir=/media/root-ro,upperdir=/media/root-rw/overlay,workdir=/media/root-rw/overlay-workdir/_"
    lower = "254:1 / /media/root-ro ext4 /dev/vda1 ro"
    _overlay(tree, options, [lower, "0:32 / /media/root-rw tmpfs tmpfs-root"])
    tree.mkdir("/media/root-rw")
    for directory in ("boot", "etc"):
        tree.copy(f"/{directory}", f"/media/root-ro/{directory}")
    tree.parameter("overlayroot=tmpfs")


def _overlay(tree: Tree, options: str, mounts: list[str]) -> None:
    mounts = [*mounts, f"0:30 / / overlay overlay {options}"]
    cmdline = f"BOOT_IMAGE=/boot/vmlinuz-{tree.older} root=UUID={tree.uuid}"
    layouts.facts(tree, [layouts.DISK, layouts.root(tree)], mounts, cmdline=cmdline)


@healthy("read-only-root", "debian12", "root stays read-only: ro in fstab and on the command line", boot="bios")
def _read_only_root(tree: Tree) -> None:
    tree.write("/etc/fstab", f"UUID={tree.uuid} / ext4 ro 0 1\ntmpfs /var/log tmpfs defaults 0 0\n")


@healthy(
    "init-parameter-ignored",
    "debian12",
    "init= names nothing; initramfs-tools starts /sbin/init",
    "mounts.init-parameter",
    boot="bios",
)
def _init_parameter_ignored(tree: Tree) -> None:
    tree.parameter("init=/sbin/missing")


@healthy("fstab-none", "debian13-dracut", "no /etc/fstab: root by the command line alone", boot="bios")
def _fstab_none(tree: Tree) -> None:
    tree.remove("/etc/fstab")


@healthy("fstab-optional", "debian12", "fstab with missing devices that are nofail or noauto, NFS, tmpfs", boot="bios")
def _fstab_optional(tree: Tree) -> None:
    tree.mount_line(
        "UUID=deadbeef-0000-4000-8000-000000000003 /backup ext4 defaults,nofail,x-systemd.device-timeout=5 0 2"
    )
    tree.mount_line("/dev/sdz1 /media/stick vfat noauto,user 0 0")
    tree.mount_line("LABEL=archive /archive xfs x-systemd.automount,nofail 0 0")
    tree.mount_line("nas.example.org:/export /nas nfs nofail,_netdev 0 0")
    tree.mount_line("tmpfs /tmp tmpfs size=50%,mode=1777 0 0")
    tree.mount_line("# UUID=gone /old ext4 defaults 0 2")


@healthy(
    "swap-missing",
    "debian13",
    "swap partition that is gone: 90 seconds longer, and up",
    "mounts.swap-missing",
    boot="bios",
)
def _swap_missing(tree: Tree) -> None:
    tree.mount_line("UUID=deadbeef-0000-4000-8000-000000000004 none swap sw 0 0")


@healthy(
    "resume-missing",
    "debian12",
    "resume= names a device that is gone",
    "boot-entry.resume-missing",
    row="30",
    boot="bios",
)
def _resume_missing(tree: Tree) -> None:
    tree.parameter("resume=UUID=deadbeef-0000-4000-8000-000000000005")


# -- ESP and systemd-boot ----------------------------------------------------------------------------------------


@healthy("esp-autofs", "debian13", "ESP on autofs, not mounted now")
def _esp_autofs(tree: Tree) -> None:
    tree.mount_line(
        f"UUID={layouts.ESP_UUID} /boot/efi vfat umask=0077,x-systemd.automount,x-systemd.idle-timeout=60 0 1"
    )
    second = esp("vda2", "254:2", layouts.ESP_UUID)
    mounts = [layouts.ROOT_MOUNT, "0:31 / /boot/efi autofs systemd-1"]
    layouts.facts(tree, [layouts.DISK, layouts.root(tree), second], mounts)
    tree.mkdir("/boot/efi")


@healthy("esp-noauto", "debian12", "ESP noauto in fstab, not mounted")
def _esp_noauto(tree: Tree) -> None:
    tree.mount_line(f"UUID={layouts.ESP_UUID} /boot/efi vfat umask=0077,noauto 0 1")
    second = esp("vda2", "254:2", layouts.ESP_UUID)
    layouts.facts(tree, [layouts.DISK, layouts.root(tree), second], [layouts.ROOT_MOUNT])
    tree.mkdir("/boot/efi")


@healthy(
    "sd-boot", "debian12", "systemd-boot with BLS entries", boot="uefi", note="kernel-install(8)'s layout on the ESP"
)
def _sd_boot(tree: Tree) -> None:
    layouts.systemd_boot(tree)


@healthy(
    "sd-boot-counted-out",
    "debian13",
    "systemd-boot: the newest entry has 0 tries left, so the plain older twin starts",
    "boot-entry.not-the-newest",
    row="27",
    boot="uefi",
)
def _sd_boot_counted_out(tree: Tree) -> None:
    layouts.systemd_boot(tree, counters={tree.newest: "+0-3"})
    tree.cut(layouts.on_esp(tree.newest, "initrd.img"), 1_000_000)


@healthy("sd-boot-counting", "debian12", "systemd-boot: the newest entry has 3 tries left", boot="uefi")
def _sd_boot_counting(tree: Tree) -> None:
    layouts.systemd_boot(tree, counters={tree.newest: "+3"})


@healthy(
    "sd-boot-kernel-gone",
    "debian13-dracut",
    "systemd-boot: the newest entry's kernel is gone, so the entry leaves the menu",
    "boot-entry.left-out",
    boot="uefi",
)
def _sd_boot_kernel_gone(tree: Tree) -> None:
    layouts.systemd_boot(tree)
    tree.remove(layouts.on_esp(tree.newest, "linux"))


@healthy(
    "uki",
    "debian13",
    "systemd-boot with unified kernel images",
    boot="uefi",
    note="sections added to systemd's stub as ukify(1) does",
)
def _uki(tree: Tree) -> None:
    layouts.unified(tree)
