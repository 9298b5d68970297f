"""Does the initramfs hold what the way to the root file system needs?

The way is read from the command line, fstab, the mounts and sysfs (`storage/stack.py`); what each layer of it needs is
told by `storage/layers`. Where no sysfs is there, `--require-driver` names the drivers under root. That the image is
whole, and holds what starts first, is the business of `initramfs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from safeupdate.case import Case, Check
from safeupdate.checks import fips
from safeupdate.checks.without_initramfs import build_again, drivers_outside, needs_image, starts_without
from safeupdate.errors import Unreadable
from safeupdate.module_tree import IN_TREE
from safeupdate.remedies import install, make_initramfs
from safeupdate.report import Finding, NotApplicable, Remedy, blocker, note, unknown, warning
from safeupdate.storage import awaited, layers, platform
from safeupdate.storage.image import RULES, Contents, Image
from safeupdate.storage.layers import hardware, lvm
from safeupdate.storage.requirement import Requirement
from safeupdate.storage.stack import Layer, Stack
from safeupdate.storage.target import Target

_Key = tuple[str, tuple[str, ...]]
"""What is asked for: a kind of requirement, and the names that will do."""

_CHAIN = 8
"""Layers of a chain that a sentence names; the report draws all of them."""

_NO_ROOT = "The root file system is not found, and the boot stops in the initramfs."
_NO_RESUME = "What was saved by a hibernation cannot be read back; the machine then starts as after a power failure."


def check(case: Case) -> Iterator[Finding]:
    """Every layer finds what it needs built in or in the image."""
    if case.kernel is None or case.tree is None or case.entry is None:
        raise NotApplicable("it is not known which kernel boots next")
    target = Target(case.tree)
    image = _image(case, target)
    # What fstab has mounted early besides /usr, systemd alone mounts there.
    stacks = [one for one in case.stacks if image.systemd or one.purpose in ("/", "/usr", "resume")]
    lacking = _Lacking(case, image)
    yield from lacking.required()
    for one in stacks:
        yield from lacking.under(one)
    yield from lacking.awaited()
    yield from fips.findings(case, image, lacking.path)
    if case.required_drivers is None:
        for one in stacks:
            yield from _not_known(one)
    yield from _network(case, target)


def _image(case: Case, target: Target) -> Image:
    """What early user space has. Raises `NotApplicable` where the check `initramfs` has said what is wrong with it."""
    assert case.entry is not None
    entry, index = case.entry, case.index
    before = partial(_running, case)
    image = Image(index, target, entry_line=entry.cmdline, volumes=case.volumes, before=before)
    if index is None:
        if entry.initramfs or needs_image(case, entry.cmdline) is not None:
            raise NotApplicable("there is no initramfs, of which the checks before this one speak")
        return image
    if entry.without_initramfs_first and starts_without(case, entry.cmdline_without_initramfs):
        raise NotApplicable("the kernel is started without the initramfs first, and that is enough here")
    if index.problem is not None:
        raise NotApplicable("the initramfs is damaged, as the check of that name says")
    if any(nested.index is None for nested in index.nested):
        raise NotApplicable("it cannot be told what is in the initramfs, as the check of that name says")
    others = any(index.modules(other) for other in index.releases)
    if not image.modules and (others or drivers_outside(case)):
        raise NotApplicable("the initramfs holds no modules of this kernel, as the check of that name says")
    if image.modules and image.unlisted and image.generator in ("initramfs-tools", "dracut"):
        raise NotApplicable("modprobe finds no module in the initramfs, as the check of that name says")
    return image


def _running(case: Case) -> Contents | None:
    """The image of the kernel that is running, by the first entry that starts it; None where that is the one that is
    judged, or it cannot be read."""
    release = case.machine.running_kernel
    entry = next((one for one in case.plan.entries if one.release == release and release is not None), None)
    if entry is None or release is None or release == case.release:
        return None
    try:
        index = replace(case, entry=entry).index
    except Unreadable:
        return None
    return None if index is None or index.problem is not None else Contents(index, release)


class _Lacking:
    """What is missing, each thing told once."""

    def __init__(self, case: Case, image: Image) -> None:
        assert case.kernel is not None
        self._case = case
        self._image = image
        self._release = case.kernel.release
        self._told: set[_Key] = set()
        self.path = case.images[-1][0] if case.images else ""

    def required(self) -> Iterator[Finding]:
        """What `--require-driver` names."""
        for name in self._case.required_drivers or ():
            missing = self._image.lacking(name)
            self._told.add(("module", (name.replace("-", "_"),)))
            if missing is not None:
                yield blocker(
                    "root-storage.driver-missing",
                    name,
                    f"The driver {name} is neither built into the kernel {self._release} nor whole in the initramfs: "
                    f"{missing} is not there.",
                    _NO_ROOT,
                    remedy=make_initramfs(self._case.machine, self._release),
                )

    def under(self, one: Stack) -> Iterator[Finding]:
        """What the layers of a stack need and do not find."""
        found, decisive = self._missing(one)
        resume = one.purpose == "resume"
        helpers: dict[tuple[Layer, bool, str], list[Requirement]] = {}
        hidden: list[Requirement] = []
        for key, requirement in found.items():
            must = key in decisive
            if requirement.kind != "module":
                if not resume:  # many have a swap area that nobody resumes from, and that nothing opens that early
                    apart = "" if must else requirement.otherwise
                    helpers.setdefault((requirement.layer, must, apart), []).append(requirement)
            elif self._image.hidden and requirement.met is None:
                hidden.append(requirement)
            elif not self._is_told_by_dkms(requirement):
                yield self._driver(one, requirement, must)
        for (_, must, _), lost in helpers.items():
            yield self._helpers(one, lost, must)
        if hidden and not resume:
            yield self._hidden(one, hidden)
        if not resume:
            yield from self._incomplete(one)

    def _missing(self, one: Stack) -> tuple[dict[_Key, Requirement], frozenset[_Key]]:
        """What is needed, is not there and was not told yet, and which of it keeps the stack from coming up. Of what
        several layers need, the first of them is named."""
        found: dict[_Key, Requirement] = {}
        without: dict[_Key, set[Layer]] = {}
        for layer in one.walk():
            for requirement in layers.needs(layer, self._image):
                if self._image.holds(requirement):
                    continue
                key: _Key = (requirement.kind, requirement.names)
                if requirement.must:
                    without.setdefault(key, set()).add(layer)
                if key not in self._told and (key not in found or requirement.must > found[key].must):
                    found[key] = requirement
        self._told.update(found)
        if one.top is None or one.purpose == "resume":
            return found, frozenset()
        return found, layers.decisive(one.top, self._image, without)

    def awaited(self) -> Iterator[Finding]:
        """What is waited for and will not come."""
        for one in awaited.gone(self._image, self._case.volumes):
            yield blocker(
                "root-storage.waits-for-missing-device",
                one.device,
                f"The initramfs image {self.path} waits for {one.device}, and this machine has no such device.",
                "The boot waits for it without an end, or gives up and stops in a shell.",
                evidence=[f"{one.place} in the image"],
                remedy=build_again(self._case, self.path),
            )

    def _driver(self, one: Stack, requirement: Requirement, must: bool) -> Finding:
        name = requirement.names[0]
        return (blocker if must else warning)(
            "root-storage.driver-missing",
            name,
            f"{self._lacks_module(requirement)}: {requirement.why} ({_chain(one, requirement.layer)}).",
            _consequence(one, requirement, must),
            evidence=_evidence(one, [requirement]),
            remedy=self._rebuild(requirement),
        )

    def _helpers(self, one: Stack, lost: list[Requirement], must: bool) -> Finding:
        """What one layer needs besides modules, all of it at once: it is a package that was not there, or a hook."""
        files = [each for each in lost if each.kind != "configuration"]
        first = min(files or lost, key=lambda each: (each.kind != "program", "dmsetup" in each.names))
        chain = _chain(one, first.layer)
        if not files:
            return (blocker if must else warning)(
                "root-storage.not-configured",
                first.layer.name,
                f"Neither the initramfs image {self.path} nor the command line has {_any_of(first)}: "
                f"{first.why} ({chain}).",
                _consequence(one, first, must),
                evidence=_evidence(one, lost),
                remedy=self._rebuild(first),
            )
        more = f" and {len(files) - 1} more file{'s' * (len(files) > 2)} for it" if len(files) > 1 else ""
        return (blocker if must else warning)(
            "root-storage.helper-missing",
            first.names[0],
            f"The initramfs image {self.path} does not hold {first.names[0]}{more}: {first.why} ({chain}).",
            _consequence(one, first, must),
            evidence=_evidence(one, lost),
            remedy=self._rebuild(first),
        )

    def _incomplete(self, one: Stack) -> Iterator[Finding]:
        """Groups of LVM's that miss disks, even such as the volume does not lie on."""
        groups = {layer.facts["group"]: layer for layer in one.walk() if "group" in layer.facts}
        for group, layer in groups.items():
            lost = lvm.absent(layer, self._image)
            if lost and ("group", (group,)) not in self._told:
                self._told.add(("group", (group,)))
                yield blocker(
                    "root-storage.group-incomplete",
                    group,
                    f"The LVM group {group}, in which {layer.title} is, lacks {len(lost)} of its disks, and early user "
                    "space activates no group that is not complete.",
                    _consequence(one, None, must=True),
                    evidence=[*(f"missing: disk {number}" for number in lost), *one.lines({layer: "a disk"})],
                    remedy=Remedy(
                        "Attach the disk again, or take it out of the group if nothing of worth is on it.",
                        (("vgs", "-o", "+vg_missing_pv_count"), ("vgreduce", "--removemissing", group)),
                    ),
                )

    def _hidden(self, one: Stack, drivers: list[Requirement]) -> Finding:
        names = ", ".join(each.names[0] for each in drivers)
        return unknown(
            "root-storage.modules-not-visible",
            self.path,
            f"Whether the initramfs image {self.path} holds the drivers under {one.purpose} ({names}) cannot be told: "
            f"{self._image.hidden}.",
            "They are not built into the kernel.",
            evidence=_evidence(one, drivers),
        )

    def _lacks_module(self, requirement: Requirement) -> str:
        """A sentence without its full stop."""
        name = _any_of(requirement)
        kernel = f"the kernel {self._release}"
        if requirement.met is False:
            return f"There is no driver {name} in {kernel}"
        if self._image.index is None:
            return f"The driver {name} is not built into {kernel}, which is started without an initramfs"
        missing = self._image.lacking(requirement.names[0])
        whole = f" with {missing}, which it depends on" if missing not in (None, name) else ""
        return f"The driver {name} is neither built into {kernel} nor in the initramfs image {self.path}{whole}"

    def _is_told_by_dkms(self, requirement: Requirement) -> bool:
        """Whether the check `dkms` speaks of a module from outside the kernel's package: that it is not in the image,
        or that this kernel does not have what the running one has."""
        name, machine = requirement.names[0], self._case.machine
        need = self._case.needs.get(name)
        if need is None or need.kind != "root" or name in self._image.modules:
            return False
        if requirement.met is False:
            return _is_from_outside(self._case, name)
        tree = self._case.tree
        chosen = None if tree is None else tree.chosen(name)
        return (
            tree is not None
            and chosen is not None
            and not chosen.startswith(IN_TREE)
            and machine.is_file(tree.path(chosen))
        )

    def _rebuild(self, requirement: Requirement) -> Remedy:
        """The image made anew; before it, the package whose hook puts programs in, or what the image has its
        configuration from."""
        machine = self._case.machine
        again = build_again(self._case, self.path) if self.path else make_initramfs(machine, self._release)
        hooks = "/usr/share/initramfs-tools/hooks"
        if (
            self._image.generator == "initramfs-tools"
            and requirement.kind == "program"
            and requirement.layer.kind in _HOOKS
        ):
            hook, package = _HOOKS[requirement.layer.kind]
            if not machine.exists(f"{hooks}/{hook}"):
                before = install(machine, package)
                return Remedy(f"{before.text} {again.text}", before.commands + again.commands)
        if requirement.kind == "rule" and self._image.generator == "dracut":
            places = (f"{directory}/{name}" for directory in RULES for name in requirement.names)
            rule = next(filter(machine.exists, places), None)
            if rule is not None:
                left_out = (
                    f"If it lacks the rule then, too, dracut knows it by another name: add {rule} to install_items"
                )
                return Remedy(
                    f"{again.text} {left_out} in a file of /etc/dracut.conf.d, and build it again.", again.commands
                )
        if requirement.kind == "configuration":
            return Remedy(f"Correct this machine's own files where they say the same. {again.text}", again.commands)
        return again


_HOOKS = {
    "crypt": ("cryptroot", "cryptsetup-initramfs"),
    "lvm": ("lvm2", "lvm2"),
    "lvm-thin": ("lvm2", "lvm2"),
    "md": ("mdadm", "mdadm"),
    "btrfs": ("btrfs", "btrfs-progs"),
    "multipath": ("multipath", "multipath-tools-boot"),
}
"""By the kind of layer: the hook of initramfs-tools that copies its programs, and the package which has that."""


def _consequence(one: Stack, requirement: Requirement | None, must: bool) -> str:
    if one.purpose == "resume":
        return _NO_RESUME
    if must or requirement is None:
        return (
            _NO_ROOT
            if one.purpose == "/"
            else f"The file system at {one.purpose} is not found, and the boot stops in the initramfs."
        )
    if not requirement.must:
        return requirement.otherwise or "The boot does not stop there."
    if one.top is not None and any("one-of" in layer.facts for layer in _way(one.top, requirement.layer)):
        return f"The boot stops if {one.purpose} is reached through this one of several network adapters."
    return "What lies on several things comes up without this one, degraded, perhaps after a long wait."


def _evidence(one: Stack, lost: list[Requirement]) -> list[str]:
    missing: dict[Layer, str] = {}
    for each in lost:
        missing.setdefault(each.layer, each.names[0])
    return [*one.lines(missing), *(f"missing: {_any_of(each)} ({each.why})" for each in lost)]


def _any_of(requirement: Requirement) -> str:
    return " or ".join(requirement.names)


def _chain(one: Stack, through: Layer) -> str:
    """`/ on ext4 on …`: the way down to the layer that lacks something, the first of several where it forks. What lies
    below it is for the tree."""
    titles = [layer.title for layer in (_way(one.top, through) if one.top is not None else ())]
    if len(titles) > _CHAIN:
        titles[_CHAIN - 2 : -1] = ["…"]
    return " on ".join([one.purpose, *titles])


def _way(top: Layer, through: Layer) -> tuple[Layer, ...]:
    """The layers from the top down to one of them."""
    pending: list[tuple[Layer, ...]] = [(top,)]
    seen: set[Layer] = set()
    while pending:
        way = pending.pop()
        if way[-1] is through:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            pending += [(*way, below) for below in reversed(way[-1].below)]
    return (through,)


def _not_known(one: Stack) -> Iterator[Finding]:
    """What keeps the question open: devices that are not to be seen, and layers of which nothing is known."""
    if one.purpose == "resume":
        return  # the boot does not hang on it; that no such device is there, boot-entry says
    if one.problem is not None:
        yield unknown(
            "root-storage.hardware-not-known",
            one.purpose,
            f"What {one.purpose} lies on is not known: {one.problem}.",
            "Whether the initramfs holds the drivers for it cannot be told.",
            evidence=one.lines(),
            remedy=Remedy("Name the drivers that it needs with --require-driver, or “none” where it needs none."),
        )
    for layer in one.walk():
        if layer.kind not in layers.KNOWN and layer.kind != "unknown":
            yield unknown(
                "root-storage.layer-not-known",
                layer.name,
                f"{one.purpose} lies on {layer.title}, and what that needs is not known.",
                "Whether the initramfs holds it cannot be told.",
                evidence=one.lines(),
            )


def _network(case: Case, target: Target) -> Iterator[Finding]:
    """The adapters that are in use, and for which this kernel has no driver at all; and in words what a cloud's machine
    goes through. Whether the image has their drivers is of no account, unless root goes through them."""
    found = platform.adapters(case.machine)
    lost = [one for one in found if any(hardware.is_lost(target, layer) for layer in one.walk())]
    told = {layer.name for one in case.stacks for layer in one.walk() if layer.kind == "network"}
    where = platform.of(case.machine)
    for one in lost:
        driver = next(layer.facts["driver"] for layer in one.walk() if hardware.is_lost(target, layer))
        if one.name in told or _is_from_outside(case, driver):
            continue
        # Before any other machine somebody may sit, or a management controller shows its screen.
        alone = where is not None and where.cloud and len(lost) == len(found)
        must = alone and not case.config.modules.can_miss(driver)
        way = f"this {where.title} is reached" if where is not None else "the machine is reached"
        yield (blocker if must else warning)(
            "root-storage.network-driver-missing",
            driver,
            f"The kernel {case.release} has no driver {driver}, with which {one.title} is in use now, nor another one "
            "for it.",
            f"The machine comes up without it, and there is no other way by which {way}."
            if alone
            else f"The machine comes up without it; if {way} through it alone, only its console is left.",
            evidence=[f"{one.facts['sysfs']}: {one.facts.get('modalias', driver)}"],
            remedy=_kernel_with_drivers(case),
        )
    root = platform.words(layer for layer in case.stacks[0].walk() if layer.kind in ("disk", "controller"))
    if where is not None and root:
        network = f", the network through {platform.words(found)}" if found else ""
        yield note(
            "root-storage.platform",
            where.title,
            f"This is {'an' if where.title[0] in 'AEIOU' else 'a'} {where.title}: its root file system comes through "
            f"{root}{network}.",
        )


def _is_from_outside(case: Case, driver: str) -> bool:
    """Whether the running kernel has a module from elsewhere: the check `dkms` speaks of it then."""
    chosen = None if case.running_tree is None else case.running_tree.chosen(driver)
    return chosen is not None and not chosen.startswith(IN_TREE)


def _kernel_with_drivers(case: Case) -> Remedy:
    """Where Ubuntu keeps the drivers that not every guest needs; elsewhere another kernel is all that helps."""
    release = case.release or ""
    if case.kernel is not None and (case.machine.distribution or "").startswith("ubuntu "):
        package = f"linux-modules-extra-{release}"
        if not case.machine.exists(f"/var/lib/dpkg/info/{package}.list"):
            return install(case.machine, package)
    return Remedy("Start another kernel, or install one that has the driver.")


CHECK = Check(
    "root-storage",
    "The initramfs holds what the root lies on",
    essential=True,
    run=check,
)
