"""Are the modules from outside the kernel there for the kernel that boots next, and will it load them?

DKMS, akmods and packages of prebuilt modules (`builders/`) make them for each kernel anew, and fail in silence. What is
wrong with a module weighs as much as this machine needs it (`needs.py`). Signatures are `module_signatures`' question.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import suppress

from safeupdate.builders import Brought, World, akmods, dkms, packaged, weak_updates
from safeupdate.case import Case, Check
from safeupdate.checks.dkms_early import early
from safeupdate.checks.module_weight import Weight, stand_in, weigh
from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable
from safeupdate.formats import elf, modules
from safeupdate.module_interface import Interface
from safeupdate.module_tree import IN_TREE, ModuleTree
from safeupdate.remedies import build_module
from safeupdate.report import Finding, NotApplicable, Remedy, blocker, note, unknown, warning

BUILDERS = (dkms.look, akmods.look, weak_updates.look, packaged.look)
"""Of two that name a module the first one's word counts."""

_NAMES = 5
_CAP = 8

_WITHOUT = Remedy(
    "Install a version of it that is made for this kernel, or stay with a kernel that it is made for. What this "
    "machine can do without belongs to `optional` in [modules] of /etc/safeupdate/safeupdate.toml."
)


def check(case: Case) -> Iterator[Finding]:
    """What was not made for this kernel, what was and will not be loaded, and what of it the initramfs has."""
    tree, interface = case.tree, case.interface
    if tree is None or interface is None:
        raise NotApplicable("it is not known which kernel boots next")
    if not tree.files:
        raise NotApplicable(f"the kernel {tree.kernel.release} has no modules at all, as the check of its files says")
    running = case.running_tree if case.machine.running_kernel != case.release else None
    world = World(case.machine, case.databases, tree, interface, running)
    brought = _brought(world)
    if not brought and not _outside(tree):
        raise NotApplicable("every module here came with its kernel")
    useless = list(_not_loaded(case, tree, interface, brought))
    told = {finding.subject for finding in useless}
    yield from useless
    yield from _not_made(case, tree, [one for one in brought if _is_lacking(tree, one, told)])
    yield from early(case)
    if case.is_target:
        yield from _elsewhere(world)


def _brought(world: World) -> list[Brought]:
    found: dict[str, Brought] = {}
    for look in BUILDERS:
        for one in look(world):
            found.setdefault(one.module or one.provider, one)
    return list(found.values())


def _is_lacking(tree: ModuleTree, one: Brought, told: Container[str]) -> bool:
    """Whether a module was not made, or another file is there in its place, of which nothing worse was told."""
    if one.state != "installed":
        return True
    return one.fault != "" and (one.path is None or tree.path(one.path) not in told)


def _not_made(case: Case, tree: ModuleTree, lacking: list[Brought]) -> Iterator[Finding]:
    """What the builders have not made, or have not put where it is found; one finding for all of a provider."""
    groups: dict[tuple[str, str, str, bool], list[Brought]] = {}
    for one in sorted(lacking, key=lambda one: one.module):
        groups.setdefault((one.provider, one.state, one.fault, stand_in(tree, one.module)), []).append(one)
    for (provider, state, fault, replaced), several in groups.items():
        first, release = several[0], tree.kernel.release
        these = _what(case, several)
        subject, why = first.module or provider, first.why
        evidence, remedy = first.evidence[:_CAP], first.remedy
        weight = weigh(case, (one.module for one in several if one.module))
        level, consequence = weight.level, weight.consequence
        if replaced:
            level, consequence = "warning", "The kernel's own driver of that name is loaded instead."
        if not case.is_target and level == "warning":
            continue
        report = blocker if level == "blocker" else unknown if level == "unknown" else warning
        if state == "unwanted" and level != "blocker":
            problem = f"There is no build of {these} for the kernel {release}, on purpose. {why}"
            yield note("dkms.not-wanted", subject, problem, consequence, evidence=evidence)
        elif state == "unwanted":
            problem = f"There is no build of {these} for the kernel {release}, on purpose. {why}"
            remedy = remedy if remedy.text else _WITHOUT
            yield blocker("dkms.module-lost", subject, problem, consequence, evidence=evidence, remedy=remedy)
        elif state == "installed":
            # Somebody may have put a newer one there on purpose, and the kernel takes it.
            if case.is_target:
                problem = f"The kernel {release} does not have {these} as it was built. {why}"
                used = "The file that is there is used."
                yield warning("dkms.not-as-built", subject, problem, used, evidence=evidence, remedy=remedy)
        elif state in ("waiting", "building") and not weight.for_root:
            problem = f"There is no build of {these} for the kernel {release} yet. {why}"
            late = "It comes into use once it is built: at the next boot what it drives may come up late."
            yield warning("dkms.built-later", subject, problem, late, evidence=evidence, remedy=remedy)
        elif fault == "headers":
            problem = (
                f"There is no build of {these} for the kernel {release}: what modules are built against, the kernel's "
                f"headers, is not installed. {why}"
            )
            yield report("dkms.headers-missing", subject, problem, consequence, evidence=evidence, remedy=remedy)
        elif fault == "compiler":
            problem = f"The compiler here could not build {these} for the kernel {release}. {why}"
            yield report("dkms.compiler-mismatch", subject, problem, consequence, evidence=evidence, remedy=remedy)
        elif fault == "source":
            problem = f"There can be no build of {these} for the kernel {release}: its source is missing. {why}"
            yield report("dkms.source-missing", subject, problem, consequence, evidence=evidence, remedy=remedy)
        elif fault == "link":
            problem = f"The kernel {release} has of {these} a link that leads nowhere. {why}"
            yield report("dkms.dangling-link", subject, problem, consequence, evidence=evidence, remedy=remedy)
        elif state == "failed":
            problem = f"The build of {these} for the kernel {release} failed. {why}"
            yield report("dkms.build-failed", subject, problem, consequence, evidence=evidence, remedy=remedy)
        elif state == "built":
            problem = f"There is a build of {these} for the kernel {release}, and it is not in {tree.directory}. {why}"
            yield report("dkms.not-installed", subject, problem, consequence, evidence=evidence, remedy=remedy)
        elif state == "lost":
            problem = f"The running kernel has {these}, and the kernel {release} has not. {why}"
            yield report("dkms.module-lost", subject, problem, consequence, evidence=evidence, remedy=remedy)
        else:
            problem = f"There is no build of {these} for the kernel {release}. {why}"
            yield report("dkms.not-built", subject, problem, consequence, evidence=evidence, remedy=remedy)


def _not_loaded(case: Case, tree: ModuleTree, interface: Interface, brought: list[Brought]) -> Iterator[Finding]:
    """Of the modules that are there: which file modprobe takes, and whether the kernel takes that."""
    if tree.index.problem is not None:
        return  # the check of the kernel's files speaks of it
    release = tree.kernel.release
    depmod = Remedy(f"Write the lists of the modules of {release} anew.", (("depmod", "-a", release),))
    # A file may have another name than the module in it: Debian's nvidia-current.ko.
    meant = {modules.module_name(one.path): one for one in brought if one.path is not None}
    lacking = {one.module for one in brought if one.state != "installed"}
    for name in sorted(_outside(tree) - lacking):
        module = meant[name].module if name in meant else name
        if not case.is_target and weigh(case, [module]).need is None:
            continue
        chosen, preferred = tree.chosen(name), tree.preferred(name)
        if chosen not in tree.named(name):
            weight = _weight(case, tree, module, preferred)
            report = blocker if weight.level == "blocker" else unknown if weight.level == "unknown" else warning
            if preferred is None and chosen is not None:
                path = tree.path(chosen)
                yield report(
                    "dkms.file-missing",
                    path,
                    f"The module {path}, which modules.dep lists, does not exist.",
                    weight.consequence,
                    remedy=Remedy("Build the module anew.", build_module(case.machine, release, module)),
                )
            if preferred is not None:
                path = tree.path(preferred)
                yield report(
                    "dkms.not-listed",
                    path,
                    f"The module {path} is not in the index {tree.directory}/modules.dep.bin.",
                    f"modprobe and udev do not find it. {weight.consequence}",
                    remedy=depmod,
                )
            continue
        assert chosen is not None
        path = tree.path(chosen)
        own = meant[name].path if name in meant else None
        instead = f" It is taken instead of {tree.path(own)}." if own is not None and tree.path(own) != path else ""
        misfit = interface.misfit(chosen)
        if misfit is None:
            if instead and own is not None:
                yield warning(
                    "dkms.overridden",
                    path,
                    f"The kernel {release} loads {path}, although {meant[name].provider} has put {tree.path(own)} "
                    "there.",
                    "An older or another driver is used than the one that was built for this kernel.",
                    evidence=["depmod.d(5) and the order of the directories decide which one is taken"],
                    remedy=depmod if preferred is not None and preferred != chosen else Remedy(),
                )
            continue
        weight = _weight(case, tree, module, chosen)
        report = blocker if weight.level == "blocker" else unknown if weight.level == "unknown" else warning
        mend = Remedy("Build the module anew.", build_module(case.machine, release, module))
        if preferred not in (None, chosen):
            mend = depmod
        elif instead:
            text = f"Move {path} out of {tree.directory}, or take the line out of depmod.d that prefers it."
            mend = Remedy(text, depmod.commands)
        if misfit.kind == "unknown":
            yield (unknown if weight.level in ("blocker", "unknown") else note)(
                "dkms.undecided",
                path,
                f"Whether the module {path} fits the kernel {release} cannot be told: {misfit.why}.",
                f"If the kernel refuses it: {weight.consequence[0].lower()}{weight.consequence[1:]}",
            )
        elif misfit.kind == "broken":
            yield report(
                "dkms.broken",
                path,
                f"The kernel {release} cannot load the module {path}: {misfit.why}.{instead}",
                weight.consequence,
                remedy=mend,
            )
        else:
            yield report(
                "dkms.misfit",
                path,
                f"The module {path} does not fit the kernel {release}: {misfit.why}.{instead}",
                f"The kernel refuses to load it. {weight.consequence}",
                remedy=mend,
            )


def _weight(case: Case, tree: ModuleTree, module: str, path: str | None) -> Weight:
    """The weight of a module that something is wrong with, by the name that it has in itself if no other is needed."""
    weight = weigh(case, [module])
    if weight.need is None and path is not None:
        with suppress(FormatError, Missing, NoDecoder, Unreadable), tree.open(path) as file:
            return weigh(case, [elf.module(file).one("name") or module])
    return weight


def _outside(tree: ModuleTree) -> set[str]:
    """The modules from outside the kernel, by name: those that are there, and those that depmod has seen."""
    listed = (path for path in tree.dependencies if not path.startswith(IN_TREE))
    return set(map(modules.module_name, (*tree.out_of_tree, *listed)))


def _elsewhere(world: World) -> Iterator[Finding]:
    """Kernels that are neither started next nor judged as the fallback, and would have no such module."""
    for provider, releases in dkms.elsewhere(world).items():
        yield note(
            "dkms.other-kernels",
            provider,
            f"{provider[0].upper()}{provider[1:]} has no module for other kernels that are installed: "
            f"{', '.join(releases[:_NAMES])}{', …' if len(releases) > _NAMES else ''}.",
            "Started from the boot menu, they come up without it.",
        )


def _what(case: Case, several: list[Brought]) -> str:
    """Who brings which modules, the needed ones first, within a sentence."""
    names = sorted((one.module for one in several if one.module), key=lambda name: (name not in case.needs, name))
    if not names:
        return f"what {several[0].provider} brings"
    listed = ", ".join(names[:_NAMES]) + (", …" if len(names) > _NAMES else "")
    return f"the module{'s' if len(names) > 1 else ''} {listed} of {several[0].provider}"


CHECK = Check("dkms", "Modules from outside the kernel are there for it", essential=True, run=check)
