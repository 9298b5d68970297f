"""GRUB's commands, as far as they decide what boots (GRUB manual, "The list of available commands").

A command takes the run and the call, and returns its status: 0 for success, None where only the running machine would
know it. One that has no part in what boots is in `_QUIET`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from safeupdate.boot.grub_script import (
    DEPTH_LIMIT,
    Booted,
    Broke,
    Call,
    Command,
    Left,
    Loaded,
    MenuEntry,
    MenuShown,
    Returned,
    Run,
    Save,
    is_unknown,
    number_in,
    readable,
    signed_in,
    unknown_value,
)
from safeupdate.boot.plan import BootFile
from safeupdate.errors import FormatError, Missing, ProgramFailed
from safeupdate.formats import bls, grub_cfg, grubenv
from safeupdate.volumes import Volume

_UNWRITABLE = frozenset({"btrfs", "zfs", "zfs_member", "squashfs", "erofs", "iso9660", "udf"})
"""File systems whose files GRUB cannot overwrite ("sparse file not allowed", and those that are read-only)."""

_READ_ONLY = frozenset({"lvm", "md"})
"""What GRUB only reads through ("diskfilter writes are not supported")."""

_QUIET = frozenset(
    [
        *("insmod", "rmmod", "loadfont", "terminal", "terminal_input", "terminal_output", "serial", "echo", "clear"),
        *("play", "background_image", "background_color", "videoinfo", "cat", "ls", "lsmod", "list_env", "help"),
        *("password", "password_pbkdf2", "sleep", "cryptomount", "nativedisk", "drivemap", "parttool", "hexdump"),
        *("gettext", "lspci", "lsacpi", "acpi", "trust", "distrust", "list_trusted", "keymap", "net_add_addr", "date"),
        *("wrmsr", "true", "bli", "module_info", "usb_keyboard", "stall"),
    ]
)
"""Commands that succeed on a machine whose GRUB works, and change nothing of what boots."""

_IN_SECTORS = re.compile(r"(?:^|\))\d+\+\d+(?:,\d+\+\d+)*$")
"""A list of sectors of a device in place of a file's name."""

_KINDS = {"-u": "uuid", "--fs-uuid": "uuid", "-l": "label", "--label": "label", "-f": "file", "--file": "file"}
"""What `search` searches for."""


# -- variables -------------------------------------------------------------------------------


def _set(run: Run, call: Call) -> int:
    if not call.arguments:
        return 0
    if "=" not in call.arguments[0]:
        return 1
    name, value = call.arguments[0].split("=", 1)
    run.assign(name, value, call.statement.words[1:])
    return 0


def _unset(run: Run, call: Call) -> int:
    if not call.arguments:
        return 1
    run.scope.variables.pop(call.arguments[0], None)
    run.set_at.pop(call.arguments[0], None)
    return 0


def _export(run: Run, call: Call) -> int:
    run.scope.exported.update(call.arguments)
    return 0


def _step(run: Run, call: Call) -> int | None:
    if len(call.arguments) != 1 or call.arguments[0] not in run.scope.variables:
        return 1
    name = call.arguments[0]
    if is_unknown(run.value(name)):
        return None
    number, rest = signed_in(run.value(name))
    if rest is None:
        return 1
    step = 1 if call.name == "increment" else -1
    run.assign(name, str(number + step), ())
    return 0


def _load_env(run: Run, call: Call) -> int | None:
    options, names = _options(call.arguments, {"-f": True, "--file": True, "-s": False, "--skip-sig": False})
    file, _ = _block(run, options)
    if file.absent:
        return 1
    if file.path is None:
        # Sectors of the disk (`env_block`), for file systems that GRUB cannot write, or a disk that is not seen here.
        listed = _listed_block(run) if _IN_SECTORS.search(options.get("-f", options.get("--file", ""))) else None
        if listed is not None:
            for name, value in listed.items():
                run.scope.variables[name] = value
                run.set_at.pop(name, None)
            return 0
        for name in ("next_entry", "saved_entry"):
            run.assign(name, unknown_value(f"${name} in the environment block {file.spec}"), ())
        return None
    block = _read_block(run, file.path)
    if block is None:
        return 1
    for name, value in block.items():
        if not names or name in names:
            run.scope.variables[name] = value
            run.set_at.pop(name, None)
            run.from_block[name] = value, file.path
    return 0


def _listed_block(run: Run) -> dict[str, str] | None:
    """What GRUB's own program reads from those sectors; None on a tree, or where it cannot tell."""
    machine = run.sight.machine
    program = next((name for name in ("grub2-editenv", "grub-editenv") if machine.exists(f"/usr/bin/{name}")), None)
    if not machine.live or program is None:
        return None
    try:
        done = machine.run((program, "-", "list"), timeout=10)
    except ProgramFailed:
        return None
    if done.code:
        return None
    lines = done.stdout.decode("utf-8", "surrogateescape").splitlines()
    return {name: value for name, equals, value in (line.partition("=") for line in lines) if equals}


def _save_env(run: Run, call: Call) -> int | None:
    options, names = _options(call.arguments, {"-f": True, "--file": True})
    if not names:
        return 1
    file, volume = _block(run, options)
    writable = volume is not None and volume.fstype not in _UNWRITABLE and volume.abstraction not in _READ_ONLY
    writable = writable and file.path is not None and not file.absent
    run.saves.append(Save(file.path, volume, writable, tuple(names), run.here()))
    if file.path is None:
        return 1 if file.absent else None
    block = _read_block(run, file.path)
    if block is None or not writable:
        return 1
    for name in names:
        if name in run.scope.variables:
            block[name] = run.scope.variables[name]
        else:
            block.pop(name, None)
    return 0


def _block(run: Run, options: Mapping[str, str]) -> tuple[BootFile, Volume | None]:
    spec = options.get("-f", options.get("--file")) or f"{run.value('prefix')}/grubenv"
    volume = run.sight.volume(spec[1:].split(")", 1)[0] if spec.startswith("(") else run.value("root"))
    if volume is not None and _IN_SECTORS.search(spec):
        return BootFile(readable(spec), None, why="it is in sectors of the disk"), volume
    return run.sight.file(spec, run.value("root"))


def _read_block(run: Run, path: str) -> dict[str, str] | None:
    if path not in run.blocks:
        try:
            data = run.sight.machine.read(path)
            run.blocks[path] = grubenv.parse(data).as_dict()
        except Missing:
            return None
        except FormatError as error:
            run.bad_blocks[path] = str(error)
            return None
    return run.blocks[path]


# -- questions -------------------------------------------------------------------------------


def _test(run: Run, call: Call) -> int:
    words = call.arguments[:-1] if call.arguments[-1:] == ["]"] else call.arguments
    holds, _ = _expression(run, words, 0, 0)
    return 0 if holds else 1


def _expression(run: Run, words: list[str], at: int, depth: int) -> tuple[bool, int]:
    """GRUB's reading of an expression: left to right, with the longest operator that fits."""
    either, both, inverted = False, True, False
    while at < len(words):
        left = len(words) - at
        holds: bool | None = None
        if left >= 3 and words[at + 1] in _COMPARISONS:
            holds = _compare(run, words[at], words[at + 1], words[at + 2])
            at += 3
        elif left >= 3 and words[at + 1][:3] in ("-nt", "-ot"):
            question = f"whether `{readable(' '.join(words[at : at + 3]))}` is true"
            holds = run.answers.ask(question, run.here(), False)
            at += 3
        elif left >= 2 and words[at] in ("-d", "-e", "-f", "-s"):
            holds = _file_test(run, words[at], words[at + 1])
            at += 2
        elif left >= 2 and words[at] in ("-n", "-z"):
            holds = _empty(run, words[at + 1]) == (words[at] == "-z")
            at += 2
        elif words[at] == ")":
            return either or both, at + 1
        elif words[at] == "(":
            if depth >= DEPTH_LIMIT:
                raise FormatError("an expression is nested too deeply", run.here())
            holds, at = _expression(run, words, at + 1, depth + 1)
        elif words[at] == "!":
            inverted = not inverted
            at += 1
        elif words[at] == "-a":
            at += 1
        elif words[at] == "-o":
            either, both = either or both, True
            at += 1
        else:
            holds = not _empty(run, words[at])
            at += 1
        if holds is not None:
            both = both and holds != inverted
            inverted = False
    return either or both, at


def _empty(run: Run, text: str) -> bool:
    if is_unknown(text) and not re.sub("\0[^\0]*\0", "", text):
        return run.answers.ask(f"whether {readable(text)} is empty", run.here(), True)
    return not text


def _compare(run: Run, left: str, operator: str, right: str) -> bool:
    if is_unknown(left) or is_unknown(right):
        return run.answers.ask(
            f"whether `{readable(left)} {operator} {readable(right)}` is true", run.here(), operator == "!="
        )
    if not operator.startswith("-"):
        return _COMPARISONS[operator]((left > right) - (left < right))
    if operator in ("-pgt", "-plt"):
        left, right = _without_prefix(left, right)
    one, two = signed_in(left)[0], signed_in(right)[0]
    return _COMPARISONS[operator]((one > two) - (one < two))


def _file_test(run: Run, operator: str, spec: str) -> bool:
    spec = spec.rstrip("/") or "/" if operator != "-s" else spec
    if spec.endswith(")"):
        spec += "/"
    file = run.file(spec)
    if file.absent:
        return False
    if file.path is None:
        question = f"whether the file {readable(spec)} is there (`{operator}`)"
        return run.answers.ask(question, run.here(), False)
    machine = run.sight.machine
    if operator == "-d":
        return machine.is_dir(file.path)
    if operator == "-f":
        return not machine.is_dir(file.path)
    return operator == "-e" or machine.size(file.path) > 0


# -- flow ------------------------------------------------------------------------------------


def _return(run: Run, call: Call) -> int:
    if run.positional[-1] is None or len(call.arguments) > 1:
        return 1
    status = call.arguments[0] if call.arguments else run.value("?")
    raise Returned(number_in(status)[0])


def _break(run: Run, call: Call) -> int:
    levels = number_in(call.arguments[0])[0] if call.arguments else 1
    if levels < 1:
        return 1
    if not run.loops:
        return 0
    raise Broke(min(levels, run.loops), call.name == "continue")


def _setparams(run: Run, call: Call) -> int:
    if run.positional[-1] is None:
        return 1
    run.positional[-1] = tuple(call.arguments)
    return 0


def _shift(run: Run, call: Call) -> int:
    positional = run.positional[-1]
    count = number_in(call.arguments[0])[0] if call.arguments else 1
    if positional is None:
        return 0
    if count > len(positional):
        return 1
    run.positional[-1] = positional[count:]
    return 0


def _eval(run: Run, call: Call) -> int | None:
    return run.run_text(" ".join(call.arguments))


def _source(run: Run, call: Call) -> int | None:
    return run.open(call.arguments)


def _configfile(run: Run, call: Call) -> int | None:
    outer = run.scope
    run.scope = outer.inner()
    try:
        _look_for(run, call.arguments)
        status = run.open(call.arguments)
        if run.scope.menu:
            _note_opened(run, call.arguments[0])
            raise MenuShown(run.scope)
    finally:
        run.scope = outer
    return status


def _look_for(run: Run, arguments: list[str]) -> None:
    file = run.file(arguments[0]) if arguments else None
    if file is not None and file.path is None and not file.absent:
        run.unseen = f"{run.here()}: {readable(arguments[0])} ({file.why})"
        raise MenuShown(run.scope.inner())


def _normal(run: Run, call: Call) -> int | None:
    config = call.arguments[0] if call.arguments else f"{run.value('prefix')}/grub.cfg"
    _look_for(run, [config])
    run.open([config])
    _note_opened(run, config)
    raise MenuShown(run.scope)


def _note_opened(run: Run, config: str) -> None:
    path = run.file(config).path
    if path is not None:
        run.opened.append(path)


def _boot(run: Run, _call: Call) -> int:
    if run.loaded.kernel is None and not run.loaded.other:
        return 1
    raise Booted


def _leave(run: Run, call: Call) -> int:
    name = call.name
    if name == "fwsetup" and call.arguments[:1] == ["--is-supported"]:
        return 0
    run.left = {
        "fwsetup": "the firmware's set-up",
        "exit": "the firmware's next choice",
        "halt": "nothing: the machine is switched off",
        "reboot": "a reboot",
    }.get(name, f"the command `{name}`")
    raise Left


# -- the disks -------------------------------------------------------------------------------


def _search(run: Run, call: Call) -> int | None:
    kind, variable, wanted = "", "", ""
    pending = iter(call.arguments)
    for word in pending:
        option, equals, value = word.partition("=")
        if word == "--":
            wanted = next(pending, "")
            break
        if option in _KINDS:
            kind = _KINDS[option]
        elif option in ("-s", "--set"):
            variable = value if equals else "root"
        elif option.startswith("--hint") or option == "-h":
            if not equals:
                next(pending, "")
        elif not word.startswith("-") and not wanted:
            wanted = word
    return _find(run, kind, wanted, variable)


def _search_direct(run: Run, call: Call) -> int | None:
    kind = call.name.partition(".")[2]
    return _find(run, kind.replace("fs_", ""), *[*call.arguments, "", ""][:2])


def _find(run: Run, kind: str, wanted: str, variable: str) -> int | None:
    volumes = run.sight.volumes
    volume: Volume | None = None
    known = not is_unknown(wanted)
    if known and kind in ("uuid", "label"):
        volume = volumes.tagged("UUID" if kind == "uuid" else "LABEL", wanted)
    elif known:
        holders = [
            candidate
            for candidate in volumes.seen
            if (place := volumes.locate(candidate, wanted)) and run.sight.machine.exists(place)
        ]
        known = len(holders) == 1
        volume = holders[0] if known else None
    if not known:
        if variable:
            run.assign(variable, unknown_value(f"the disk that holds {readable(wanted)}"), ())
        return None
    if volume is None:
        return 1
    device = run.sight.device(volume)
    if kind != "file":
        run.sight.tags.setdefault(device, f"{'UUID' if kind == 'uuid' else 'LABEL'}={wanted}")
    if variable:
        run.assign(variable, device, ())
    return 0


def _probe(run: Run, call: Call) -> int | None:
    options, names = _options(call.arguments, {"-s": True, "--set": True, "-u": False, "--fs-uuid": False})
    variable = options.get("-s", options.get("--set"))
    tag = run.sight.tags.get(names[0].strip("()")) if names else None
    if variable and tag and tag.startswith("UUID=") and options.keys() & {"-u", "--fs-uuid"}:
        run.assign(variable, tag[len("UUID=") :], ())
        return 0
    return _ask_machine(run, call)


def _ask_machine(run: Run, call: Call) -> int | None:
    """A command that sets variables from what only the running machine knows."""
    for position, word in enumerate(call.arguments):
        option, equals, value = word.partition("=")
        if option in ("--set", "-s"):
            value = value if equals else "".join(call.arguments[position + 1 : position + 2])
            name = value.rpartition(":")[2]
            if name:
                run.assign(name, unknown_value(f"${name} from {call.name}"), ())
    return None


def _read(run: Run, call: Call) -> int:
    if call.arguments:
        run.assign(call.arguments[-1], unknown_value("what a person types"), ())
    return 0


# -- the menu --------------------------------------------------------------------------------


def _menuentry(run: Run, call: Call) -> int:
    title: list[str] = []
    identity: str | None = None
    users: str | None = ""
    text: str | None = None
    pending = iter(call.arguments)
    for word in pending:
        option, equals, value = word.partition("=")
        if word == "--":
            title += pending
            break
        if option == "--unrestricted":
            users = users or None
        elif option in ("--class", "--users", "--hotkey", "--id", "--source"):
            if not equals:
                following = next(pending, None)
                if following is None:
                    return 1
                value = following
            identity = value if option == "--id" else identity
            users = value if option == "--users" else users
            text = value if option == "--source" else text
        else:
            title.append(word)
    if not title or (text is None) == (call.statement.block is None):
        return 1
    body = call.statement.block
    if body is None:
        body = grub_cfg.parse((text or "").encode("utf-8", "surrogateescape")).statements
    submenu = call.name == "submenu"
    run.scope.menu.append(
        MenuEntry(
            title[0] if identity is None else identity,
            title[0],
            body,
            submenu,
            run.place,
            call.statement.line,
            tuple(title),
            users,
        )
    )
    return 0


def _blscfg(run: Run, call: Call) -> int | None:
    run.bls_asked = True
    only = call.arguments[0] if len(call.arguments) == 1 else ""
    device, directory = run.value("root"), run.value("blsdir") or "/loader/entries/"
    places = [directory, "/boot/loader/entries/"]
    if only.startswith("("):
        device, _, path = only[1:].partition(")")
        places = [path]
    for place in places:
        file, _ = run.sight.file(place, device)
        if file.path is None and not file.absent:
            question = f"which entries {readable(place)} on ({readable(device)}) holds"
            if run.answers.ask(question, run.here(), True):
                run.assign("default", unknown_value(f"$default among the entries of {readable(place)}"), ())
            return None
        if file.path is not None and run.sight.machine.is_dir(file.path):
            _load_entries(run, file.path)
            break
    _show_entries(run, only)
    return 0


def _load_entries(run: Run, directory: str) -> None:
    for name in run.sight.machine.listdir(directory):
        if name.startswith(".") or not name.endswith(".conf") or len(name) <= len(".conf"):
            continue
        path = f"{directory.rstrip('/')}/{name}"
        try:
            entry = bls.parse(run.sight.machine.read(path), name=name)
        except Missing:
            continue
        except FormatError as error:
            raise FormatError(f"{path}: {error.message}", error.place) from None
        run.bls.setdefault(entry.name, (entry, path))


def _show_entries(run: Run, only: str) -> None:
    default = run.value("default")
    for index, name in enumerate(bls.in_grub_order(run.bls)):
        entry, path = run.bls[name]
        number, rest = signed_in(default)
        is_default = default in (name, entry.grub.first("title")) or (rest is not None and number == index)
        wanted = {"default": is_default, "non-default": not is_default}.get(only, only in ("", name) or only[0] == "(")
        if wanted and name not in run.bls_shown and entry.grub.first("linux"):
            run.bls_shown.add(name)
            run.scope.menu.append(_bls_entry(run, entry, path))


def _bls_entry(run: Run, entry: bls.BlsEntry, path: str) -> MenuEntry:
    """The menu entry that blscfg writes: the text of a script, so `$variables` in it have their usual meaning."""
    fields = entry.grub
    kernel = fields.first("linux") or ""
    options = _in_options(run, fields.first("options")) or _in_options(run, run.value("default_kernelopts"))
    images = fields.all("initrd")
    beside = (images[0] if images else kernel).rpartition("/")
    early = [beside[0] + beside[1] + name for name in run.value("early_initrd").split(" ") if name]
    tree = _in_options(run, fields.first("devicetree"))
    if not tree and run.value("devicetree"):
        tree = "".join(kernel.rpartition("/")[:2]) + _in_options(run, run.value("devicetree"))
    lines = ["savedefault"] if run.value("save_default") == "true" else []
    lines += ["load_video", "set gfxpayload=keep", "insmod gzio", f"linux ($root){kernel} {options}".rstrip()]
    if early or images:
        lines.append("initrd" + "".join(f" ($root){image}" for image in [*early, *images]))
    if tree:
        lines.append(f"devicetree ($root){tree}")
    text = "\n".join(lines).replace("\0", "")
    body = grub_cfg.parse(text.encode("utf-8", "surrogateescape")).statements
    title = fields.first("title") or kernel
    users = fields.first("grub_users")
    return MenuEntry(
        entry.name,
        title,
        body,
        False,
        path,
        None,
        (title, *fields.all("grub_arg")),
        _in_options(run, users) or None,
        entry,
    )


def _in_options(run: Run, value: str | None) -> str:
    """`$name` replaced by the variable and a blank, as blscfg does it in options; others wait for the script."""

    def replaced(found: re.Match[str]) -> str:
        text = run.value(found.group(1))
        return text + " " if text else ""

    return re.sub(r"(?<!\\)\$([A-Za-z0-9_]+) ?", replaced, value or "")


# -- what is loaded --------------------------------------------------------------------------


def _linux(run: Run, call: Call) -> int | None:
    if not call.arguments:
        return 1
    run.loaded = _kernel(run, call, call.arguments)
    return _status(run.loaded.kernel)


def _kernel(run: Run, call: Call, arguments: list[str]) -> Loaded:
    """A kernel and its command line, and what of them hangs on a variable that has no value."""
    file = run.file(arguments[0])
    words = [word for word in call.statement.words[1:] if not word.plain.startswith("--")]
    unresolved = _without_value(run, [word for word in words if word.plain.startswith("root=")])
    if file.absent or file.path is None:
        unresolved += _without_value(run, words[:1])
    unresolved += [
        f"{readable(argument)} is not known before the boot ({run.here()})"
        for argument in arguments
        if is_unknown(argument) and (argument is arguments[0] or argument.startswith("root="))
    ]
    if unresolved and file.absent:
        file = BootFile(words[0].plain, None, why="a variable in its name has no value")
    return Loaded(file, tuple(arguments[1:]), unresolved=tuple(unresolved))


def _without_value(run: Run, words: Iterable[grub_cfg.Word]) -> list[str]:
    return [
        f"nothing sets ${{{name}}} in `{word.plain}` ({run.here()})" for word in words for name in run.unset_in([word])
    ]


def _status(file: BootFile | None) -> int | None:
    if file is None or file.absent:
        return 1
    return None if file.path is None else 0


def _initrd(run: Run, call: Call) -> int | None:
    if run.loaded.kernel is None:
        return 1
    files = []
    for word in call.arguments:
        if word.startswith("newc:"):
            word = word.split(":", 2)[-1]
        if not word.startswith("--"):
            files.append(run.file(word))
    if any(file.absent for file in files):
        # A name with text around the variable; a variable alone that is unset leaves no argument.
        named = [word for word in call.statement.words[1:] if any(piece.kind == "text" for piece in word.pieces)]
        unresolved = _without_value(run, named)
        if unresolved:
            why = "a variable in its name has no value"
            files = [BootFile(file.spec, None, why=why) if file.absent else file for file in files]
            run.loaded = replace(run.loaded, unresolved=(*run.loaded.unresolved, *unresolved))
    run.loaded = replace(run.loaded, initramfs=tuple(files))
    return max((_status(file) or 0 for file in files), default=1)


def _devicetree(run: Run, call: Call) -> int | None:
    if len(call.arguments) != 1:
        return 1
    file = run.file(call.arguments[0])
    run.loaded = replace(run.loaded, devicetree=file)
    return _status(file)


def _multiboot(run: Run, call: Call) -> int | None:
    files = [word for word in call.arguments if not word.startswith("--")]
    if not files:
        return 1
    file = run.file(files[0])
    run.loaded = Loaded(other=f"the multiboot kernel {file.spec}")
    return _status(file)


def _module(run: Run, call: Call) -> int | None:
    """A hypervisor's modules: the first is the kernel of the machine's own system, the next its initramfs."""
    words = [word for word in call.arguments if not word.startswith("--")]
    if not words or not (run.loaded.other or run.loaded.kernel):
        return 1
    file = run.file(words[0])
    if run.loaded.kernel is None:
        kernel = _kernel(run, call, words)
        rest = kernel.arguments[1:] if words[1:2] == ["placeholder"] else kernel.arguments
        run.loaded = replace(kernel, arguments=rest, other=run.loaded.other)
    else:
        run.loaded = replace(run.loaded, initramfs=(*run.loaded.initramfs, file))
    return _status(file)


def _chainloader(run: Run, call: Call) -> int | None:
    words = [word for word in call.arguments if not word.startswith("--")]
    if not words:
        return 1
    if words[0].endswith("+1"):
        run.loaded = Loaded(other=f"the boot sector {readable(words[0])}")
        return 0
    file = run.file(words[0])
    if re.search(r"/efi/linux/[^/]+\.efi$", file.spec, re.IGNORECASE):
        run.loaded = Loaded(file, tuple(words[1:]), embedded=True)
    else:
        run.loaded = Loaded(other=file.spec)
    return _status(file)


def _other_kernel(run: Run, call: Call) -> int | None:
    run.loaded = Loaded(other=f"`{readable(' '.join([call.name, *call.arguments[:1]]))}`")
    return None


def _succeed(_run: Run, _call: Call) -> int:
    return 0


def _fail(_run: Run, _call: Call) -> int:
    return 1


def _without_prefix(left: str, right: str) -> tuple[str, str]:
    at = 0
    while at < min(len(left), len(right)) and left[at] == right[at]:
        at += 1
    at -= 1
    while at > 0 and left[at].isdigit():
        at -= 1
    return left[at + 1 :], right[at + 1 :]


def _options(arguments: Iterable[str], known: Mapping[str, bool]) -> tuple[dict[str, str], list[str]]:
    """Options (those that are True take a value) and the other words."""
    options: dict[str, str] = {}
    others = []
    pending: Iterator[str] = iter(arguments)
    for word in pending:
        option, equals, value = word.partition("=")
        if option not in known:
            others.append(word)
        elif known[option] and not equals:
            options[option] = next(pending, "")
        else:
            options[option] = value
    return options, others


_COMPARISONS: dict[str, Callable[[int], bool]] = {
    "=": lambda order: order == 0,
    "==": lambda order: order == 0,
    "!=": lambda order: order != 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
    "-eq": lambda order: order == 0,
    "-ne": lambda order: order != 0,
    "-lt": lambda order: order < 0,
    "-le": lambda order: order <= 0,
    "-gt": lambda order: order > 0,
    "-ge": lambda order: order >= 0,
    "-plt": lambda order: order < 0,
    "-pgt": lambda order: order > 0,
}


COMMANDS: dict[str, Command] = {
    **dict.fromkeys(_QUIET, _succeed),
    # Nobody holds a key down.
    **dict.fromkeys(("false", "keystatus"), _fail),
    "set": _set,
    "unset": _unset,
    "export": _export,
    **dict.fromkeys(("increment", "decrement"), _step),
    "load_env": _load_env,
    "save_env": _save_env,
    **dict.fromkeys(("[", "test"), _test),
    "return": _return,
    **dict.fromkeys(("break", "continue"), _break),
    "setparams": _setparams,
    "shift": _shift,
    "eval": _eval,
    **dict.fromkeys(("source", "."), _source),
    "configfile": _configfile,
    "normal": _normal,
    "boot": _boot,
    **dict.fromkeys(("fwsetup", "exit", "halt", "reboot", "normal_exit"), _leave),
    "search": _search,
    **dict.fromkeys(("search.fs_uuid", "search.fs_label", "search.file"), _search_direct),
    **dict.fromkeys(("regexp", "smbios", "pcidump", "setpci", "rdmsr", "gptprio.next"), _ask_machine),
    "probe": _probe,
    "read": _read,
    **dict.fromkeys(("menuentry", "submenu"), _menuentry),
    **dict.fromkeys(("blscfg", "bls_import"), _blscfg),
    **dict.fromkeys(("linux", "linux16", "linuxefi"), _linux),
    **dict.fromkeys(("initrd", "initrd16", "initrdefi"), _initrd),
    "devicetree": _devicetree,
    **dict.fromkeys(("multiboot", "multiboot2", "xen_hypervisor"), _multiboot),
    **dict.fromkeys(("module", "module2", "xen_module"), _module),
    "chainloader": _chainloader,
    **dict.fromkeys(("ntldr", "freedos", "kfreebsd", "knetbsd", "kopenbsd", "xnu_kernel64"), _other_kernel),
}
"""Every command that GRUB has and that is known here; any other name is a function, an assignment, or unknown."""
