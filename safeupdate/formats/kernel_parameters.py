"""What is known of kernel parameters: names, and the options of a kernel's configuration that they need.

Documentation/admin-guide/kernel-parameters.txt, and the `Kconfig` of each option. Of the thousands of parameters,
those that administrators set by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from safeupdate.formats.cmdline import CommandLine

_NAMES = """
    amd_iommu apparmor cgroup_disable cgroup_enable clocksource console consoleblank crashkernel default_hugepagesz
    earlyprintk enforcing hugepages hugepagesz hung_task_panic init_on_alloc init_on_free intel_iommu intel_pstate
    isolcpus lockdown loglevel maxcpus mitigations module_blacklist netconsole nmi_watchdog noinitrd nokaslr nomodeset
    noresume nospectre_v1 nospectre_v2 nowatchdog panic_on_warn pcie_aspm randomize_kstack_offset resume_offset
    rootdelay rootflags rootfstype rootwait security selinux slab_debug slab_nomerge slub_debug slub_nomerge
    softlockup_panic spectre_v2 split_lock_detect swapaccount threadirqs transparent_hugepage
"""
KNOWN = frozenset(_NAMES.split())
"""Parameters whose loss matters, and those that differ from one of them by a single letter."""

SINGLE = ("root", "rootfstype", "init", "rdinit", "panic", "selinux", "enforcing", "apparmor", "security", "lockdown")
"""Parameters of which only the last one counts (kernel, initramfs-tools and dracut alike)."""

_MODULES: Mapping[str, tuple[str, ...]] = {
    "apparmor": ("SECURITY_APPARMOR",),
    "bpf": ("BPF_LSM",),
    "landlock": ("SECURITY_LANDLOCK",),
    "lockdown": ("SECURITY_LOCKDOWN_LSM",),
    "selinux": ("SECURITY_SELINUX",),
    "smack": ("SECURITY_SMACK",),
    "tomoyo": ("SECURITY_TOMOYO",),
    "yama": ("SECURITY_YAMA",),
}
"""Linux security modules (Documentation/admin-guide/LSM)."""


@dataclass(frozen=True)
class Need:
    """What a parameter needs: one of these options, for values that match, else `effect` is what is missed."""

    name: str
    values: str
    options: tuple[str, ...]
    effect: str


_TTYS = (
    "SERIAL_8250_CONSOLE",
    *("TN3215_CONSOLE", "SCLP_CONSOLE", "SCLP_VT220_CONSOLE"),  # s390
    *("SERIAL_PMACZILOG_CONSOLE", "SERIAL_SUNZILOG_CONSOLE", "SERIAL_SUNSU_CONSOLE", "SERIAL_SUNHV"),
)
"""Every architecture's drivers of ttyS."""

_ON = r"1|[yY].*|on"

NEEDS = (
    Need("apparmor", "1", _MODULES["apparmor"], "AppArmor confines nothing"),
    Need("selinux", "1", _MODULES["selinux"], "SELinux is not active"),
    Need("enforcing", "1", _MODULES["selinux"], "SELinux is not active"),
    Need("lockdown", "integrity|confidentiality", _MODULES["lockdown"], "the kernel is not locked down"),
    Need("module.sig_enforce", f"|{_ON}", ("MODULE_SIG",), "unsigned modules are loaded"),
    Need("ima_policy", ".+", ("IMA",), "nothing is measured or appraised"),
    Need("ima_appraise", ".+", ("IMA_APPRAISE",), "no file is appraised"),
    Need("evm", ".+", ("EVM",), "no attribute of a file is verified"),
    Need("audit", _ON, ("AUDIT",), "nothing is audited"),
    Need("fips", "1", ("CRYPTO_FIPS",), "the kernel's cryptography is not in FIPS mode"),
    Need("crashkernel", ".+", ("CRASH_CORE", "CRASH_RESERVE", "KEXEC_CORE", "KEXEC"), "no crash dump is taken"),
    Need("psi", _ON, ("PSI",), "there is no /proc/pressure"),
    Need("zswap.enabled", _ON, ("ZSWAP",), "pages are swapped without being compressed"),
    Need("hugepages", ".+", ("HUGETLBFS", "HUGETLB_PAGE"), "no huge pages are reserved"),
    Need("transparent_hugepage", "always|madvise", ("TRANSPARENT_HUGEPAGE",), "no huge pages are used"),
    Need("isolcpus", ".+", ("CPU_ISOLATION",), "no processor is isolated"),
    Need("nohz_full", ".+", ("NO_HZ_FULL",), "every processor keeps its tick"),
    Need("rcu_nocbs", ".*", ("RCU_NOCB_CPU",), "no processor is relieved of RCU's work"),
    Need("intel_iommu", "on.*", ("INTEL_IOMMU",), "devices are not isolated from memory"),
    Need("netconsole", ".+", ("NETCONSOLE",), "no messages are sent over the network"),
    Need("page_poison", _ON, ("PAGE_POISONING",), "freed pages keep their content"),
    Need("console", r"ttyS\d.*", _TTYS, "nothing appears on the serial console"),
    Need("console", r"ttyAMA\d.*", ("SERIAL_AMBA_PL011_CONSOLE",), "nothing appears on the serial console"),
    Need("console", r"hvc\d.*", ("HVC_DRIVER",), "nothing appears on the hypervisor's console"),
    *(Need("security", name, options, f"{name} is not active") for name, options in _MODULES.items()),
    *(Need("lsm", rf"(?:.*,)?{name}(?:,.*)?", options, f"{name} is not active") for name, options in _MODULES.items()),
)


def unmet(line: CommandLine, config: Mapping[str, str]) -> Iterator[tuple[str, Need]]:
    """The parameters that a kernel of this configuration cannot honour, as they are written, and what each needs."""
    for name, value in dict.fromkeys(line.parameters):
        for need in NEEDS:
            met = any(config.get(f"CONFIG_{option}") in ("y", "m") for option in need.options)
            if need.name == name and not met and re.fullmatch(need.values, value or ""):
                yield name if value is None else f"{name}={value}", need


def meant(name: str) -> str | None:
    """The well-known parameter from which `name` differs by one letter, or by two that changed places."""
    name = name.replace("-", "_")  # the kernel takes both for the same (parameq, kernel/params.c)
    return None if name in KNOWN else next((known for known in sorted(KNOWN) if _near(name, known)), None)


def _near(one: str, other: str) -> bool:
    at = next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    head, tail = one[at:], other[at:]
    swapped = head[1:2] + head[:1] == tail[:2] and head[2:] == tail[2:]
    return swapped or head[1:] == tail[1:] or head[1:] == tail or head == tail[1:]
