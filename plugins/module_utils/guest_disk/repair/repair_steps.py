# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans what is to be done to a Linux image so that it is fit for a cloud: steps in an order, each of edits to files.
Pure.

A step whose work is done has no edits, so that all of them again change nothing. What is not known to be safe is
left to its owner; the check says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Callable, Union

from ...dataclass import dataclass, replace
from ..checks import linux_files, linux_points
from ..checks.image_facts import FAIL, FILE, LINK, LINUX, Facts, Node


@dataclass(frozen=True)
class Write:
    """Writes a file. text: the whole file. mode: of a file that is not there yet."""

    path: str
    text: str
    mode: int = 0o644


@dataclass(frozen=True)
class Remove:
    """Removes a path with all that is below it.
    pattern: a path, in which stars and brackets stand for names only if `many`: a guest's own names may have them.
    but: files that stay."""

    pattern: str
    but: tuple[str, ...] = ()
    many: bool = False

    def spares(self, path: str) -> bool:
        """Return whether this path of the pattern stays, for what it is or holds."""
        return any(_is_or_holds(path, file) for file in self.but)


@dataclass(frozen=True)
class Empty:
    path: str


@dataclass(frozen=True)
class Link:
    path: str
    target: str


Edit = Union[Write, Remove, Empty, Link]


@dataclass(frozen=True)
class Step:
    """Describes a step.
    name: as the point that it mends, where there is one.
    before, after: as a diff shows them, without secrets."""

    name: str
    edits: tuple[Edit, ...]
    before: str
    after: str


# A mount's user%password too. A word is looked at from its beginning alone, and a user's name has an end: what an image
# says is as long as it likes.
_SECRET = re.compile(
    r"((?<![\w.-])[\w.-]*(?:pass(?:word|wd|phrase)?2?|secret|token|key)=|\buser(?:name)?=[^\s,;%]{0,256}%)[^\s,;]+",
    re.IGNORECASE,
)
# A unit of its own: keys are made before sshd starts, on the first boot only.
HOST_KEYS = "/etc/systemd/system/nebula-host-keys.service"
_HOST_KEYS_UNIT = """# Written by nebula_image_prepare: the image has no host keys, each machine makes its own.
[Unit]
Description=Make SSH host keys
Before=ssh.service sshd.service ssh.socket sshd.socket
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
"""
_HOST_KEYS_SCRIPT = """#!/bin/sh
### BEGIN INIT INFO
# Provides: nebula-host-keys
# Required-Start: $local_fs
# X-Start-Before: ssh sshd
# Required-Stop:
# Default-Start: 2 3 4 5
# Default-Stop:
# Short-Description: Make SSH host keys
### END INIT INFO
# Written by nebula_image_prepare: the image has no host keys, each machine makes its own.
case $1 in start | restart) [ -e /etc/ssh/ssh_host_ed25519_key ] || /usr/bin/ssh-keygen -A ;; esac
"""
_CONSOLES = "console=tty0 console=ttyS0,115200"


def plan(facts: Facts, steps: Sequence[str] = (), kept: Sequence[str] = ()) -> list[Step]:
    """Return the steps that have something to do, in their order.
    steps: names, all of them if there are none.
    kept: files that are as they are to be, and stay so."""
    planned = []
    for name, work in STEPS.items():
        if not steps or name in steps:
            step = work(facts)
            spared = paths_reached([step], kept) if step is not None else []
            if spared:
                step = _sparing_kept(work(_without_files(facts, spared)), kept)
            if step is not None and step.edits:
                planned.append(step)
    return planned


def paths_reached(steps: Sequence[Step], paths: Sequence[str]) -> list[str]:
    """Return the paths among these that the steps would change or remove."""
    edits = [edit for step in steps for edit in step.edits]
    return [path for path in paths if any(_reaches(edit, path) for edit in edits)]


def _reaches(edit: Edit, path: str) -> bool:
    if not isinstance(edit, Remove):
        return edit.path == path
    # As much of the path as the pattern tells: what lies below goes with it.
    above = "/".join(path.split("/")[: edit.pattern.count("/") + 1])
    if not edit.many:
        return above == edit.pattern
    return any(Facts(LINUX, tree={above: Node()}).matching(edit.pattern))


def _is_or_holds(path: str, file: str) -> bool:
    return path == file or file.startswith(f"{path}/")


def _without_files(facts: Facts, files: Sequence[str]) -> Facts:
    """Return the facts as if the files were not there: a step that counts them among its faults would never be done."""
    tree = {path: node for path, node in facts.tree.items() if not any(_is_or_holds(path, file) for file in files)}
    return replace(facts, tree=tree)


def _sparing_kept(step: Step | None, kept: Sequence[str]) -> Step | None:
    if step is None:
        return None
    edits: list[Edit] = []
    for edit in step.edits:
        held = tuple(path for path in kept if _reaches(edit, path))
        if isinstance(edit, Remove):
            edits.append(replace(edit, but=held))
        elif not held:
            edits.append(edit)
    return replace(step, edits=tuple(edits))


def _ssh_server(facts: Facts) -> Step | None:
    answer = linux_points.ssh_server(facts)
    unit = next((path for name in ("ssh", "sshd") for path in
                 (f"/usr/lib/systemd/system/{name}.service", f"/lib/systemd/system/{name}.service",
                  f"/etc/init.d/{name}") if facts.has(path)), "")  # fmt: skip
    if answer.result != FAIL or not unit:
        return None
    name = unit.rsplit("/", 1)[1].split(".")[0]
    obstacles = ("/etc/ssh/sshd_not_to_be_run", f"/etc/systemd/system/{name}.service")
    edits: list[Edit] = [Remove(path) for path in obstacles if facts.has(path)]
    if not linux_files.what_starts(facts, name):
        if unit.startswith("/etc/init.d"):
            edits += [Link(f"/etc/rc{level}.d/S01{name}", f"../init.d/{name}") for level in "2345"]
        else:
            edits.append(Link(f"/etc/systemd/system/multi-user.target.wants/{name}.service", unit))
    return Step("ssh-server", tuple(edits), answer.why, "started at boot")


def _ssh_keys(facts: Facts) -> Step | None:
    if linux_points.ssh_keys(facts).result != FAIL:
        return None
    edits: list[Edit] = []
    for path, node in facts.matching("/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/*.conf"):
        text = re.sub(r"(?im)^([ \t]*)(PubkeyAuthentication[ \t]+)no[ \t\r]*$", r"\1\2yes", node.text)
        text = re.sub(r"(?im)^([ \t]*)(AuthorizedKeysFile[ \t]+(?:none|/dev/null)[ \t\r]*)$", r"\1#\2", text)
        if text != node.text:
            edits.append(Write(path, text))
    return Step("ssh-keys", tuple(edits), "sshd refuses keys", "sshd takes keys")


def _mac_addresses(facts: Facts) -> Step | None:
    found = linux_files.hard_coded_macs(facts)
    edits: list[Edit] = []
    for path in dict.fromkeys(line.rsplit(": ", 1)[0] for line in found):
        text = facts.text(path)
        if path.startswith("/etc/udev/") or path.endswith(".link"):
            rest = _without_macs(path, text)
            # A link's file without its match would be for all of them.
            gone = path.endswith(".link") or not any(linux_files.lines(rest))
            edits.append(Remove(path) if gone else Write(path, rest))
        else:
            edits.append(Write(path, _without_macs(path, text)))
    return Step("mac-addresses", tuple(edits), "\n".join(found), "none")


def _without_macs(path: str, text: str) -> str:
    forms = {
        pattern: form
        for pattern, form in linux_files.MAC_LINES.items()
        if path.startswith(pattern.split("*", maxsplit=1)[0])
    }
    kept: list[str] = []
    for line in text.splitlines():
        names_a_card = any(form.search(line) for form in forms.values()) and linux_files.MAC.search(line)
        if not names_a_card or line.lstrip().startswith("#"):
            kept.append(line)
        elif path.endswith(".network"):
            # Without any match it would be for the loopback too.
            kept.append("Type=ether")
    if "/netplan/" in path:
        kept = _without_empty_matches(kept)
    return "\n".join(kept) + "\n"


def _without_empty_matches(lines: list[str]) -> list[str]:
    """Return Netplan's lines without a match of nothing, and without the name that it gave."""
    kept: list[str] = []
    followings: list[str] = []
    following = ""
    for line in reversed(lines):
        followings.append(following)
        following = line if line.strip() else following
    for line, following in zip(lines, reversed(followings)):
        indent = len(line) - len(line.lstrip())
        if line.strip() == "match:" and len(following) - len(following.lstrip()) <= indent:
            continue
        if re.match(r"\s+set-name\s*:", line):
            continue
        kept.append(line)
    return kept


def _fstab(facts: Facts) -> Step | None:
    wrong = dict(linux_points.wrong_lines(facts))
    lines: list[str] = []
    before: list[str] = []
    after: list[str] = []
    for given in facts.text("/etc/fstab").splitlines():
        line = given
        source = line.split()[0] if line.split() and not line.lstrip().startswith("#") else ""
        if source in wrong:
            device = linux_files.device_of(source, facts.systems)
            system = facts.system_of(device) if device is not None else None
            if system is not None and system.uuid:
                line = line.replace(source, f"UUID={system.uuid}", 1)
            elif system is None:
                line = f"# not in the image: {line}"
        if line != given:
            before.append(_without_secrets(given))
            after.append(_without_secrets(line))
        lines.append(line)
    edits = (Write("/etc/fstab", "\n".join(lines) + "\n"),) if before else ()
    return Step("fstab", edits, "\n".join(before), "\n".join(after))


def _without_secrets(text: str) -> str:
    """Return a text without the secrets that options of mounts and kernels may hold."""
    return _SECRET.sub(r"\1********", text)


def _serial_console(facts: Facts) -> Step | None:
    if linux_points.serial_console(facts).result != FAIL:
        return None
    edits: list[Edit] = []
    for path, node in facts.matching(*linux_files.BOOT_FILES):
        text = re.sub(linux_files.COMMAND_LINE, _with_console, node.text)
        if text != node.text:
            edits.append(Write(path, text))
    # For the next update-grub.
    defaults = facts.text("/etc/default/grub")
    match = re.search(r"^(GRUB_CMDLINE_LINUX=)(.*)$", defaults, re.MULTILINE)
    given = _unquoted(match[2].strip()) if match else ""
    if match and not linux_files.has_serial_console(given):
        words = f"{given} {_CONSOLES}".strip()
        edits.append(
            Write("/etc/default/grub", f'{defaults[: match.start()]}{match[1]}"{words}"{defaults[match.end() :]}')
        )
    kernel = facts.text("/etc/kernel/cmdline")
    if kernel and not linux_files.has_serial_console(kernel):
        edits.append(Write("/etc/kernel/cmdline", f"{kernel.rstrip()} {_CONSOLES}\n"))
    before = _without_secrets("; ".join(line.strip() for line in linux_files.command_lines(facts)))
    return Step("serial-console", tuple(edits), before, f"{before} {_CONSOLES}")


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _with_console(match: re.Match[str]) -> str:
    return match[0] if linux_files.has_serial_console(match[0]) else f"{match[0].rstrip()} {_CONSOLES}"


def _timezone(facts: Facts) -> Step | None:
    if linux_points.timezone(facts).result != FAIL:
        return None
    edits: list[Edit] = [Link("/etc/localtime", f"/usr/share/zoneinfo/{facts.zone}")]
    if facts.has("/etc/timezone"):
        edits.append(Write("/etc/timezone", f"{facts.zone}\n"))
    return Step("timezone", tuple(edits), linux_points.zone_of(facts), facts.zone)


def _passwords(facts: Facts) -> Step | None:
    lines, users = [], []
    text = facts.text("/etc/shadow")
    for given in text.splitlines():
        line = given
        user, colon, rest = line.partition(":")
        field, more, others = rest.partition(":")
        if colon and more and (not field or not field.startswith(("!", "*"))):
            line = f"{user}:*:{others}"
            users.append(user)
        lines.append(line)
    edits = (Write("/etc/shadow", "\n".join(lines) + "\n", 0o640),) if users else ()
    return Step("passwords", edits, f"not locked: {', '.join(users)}", f"locked: {', '.join(users)}")


def _personal(facts: Facts) -> Step | None:
    return _removal("personal", (path for path, node in facts.matching(*linux_points.PERSONAL) if node.size))


def _leases(facts: Facts) -> Step | None:
    return _removal("leases", (path for path, node in facts.matching(*linux_points.LEASES) if node.size))


def _context_state(facts: Facts) -> Step | None:
    found = [path for path, _node in facts.matching(*linux_points.STATES)]
    edits: list[Edit] = []
    if any(path.startswith("/var/lib/cloud") for path in found):
        edits += [Remove(f"/var/lib/cloud/{name}") for name in ("instance", "instances", "data", "sem")]
    if any(path.startswith("/var/lib/nebula-context") for path in found):
        edits.append(Remove("/var/lib/nebula-context/*.sum", many=True))
    networks = linux_files.former_networks(facts)
    edits += [Remove(path) for path in networks]
    return Step("context-state", tuple(edits), "\n".join([*found, *networks]), "none")


def _machine_id(facts: Facts) -> Step | None:
    if linux_points.machine_id(facts).result != FAIL:
        return None
    edits: list[Edit] = []
    if facts.text("/etc/machine-id").strip() not in ("", "uninitialized"):
        edits.append(Empty("/etc/machine-id"))
    node = facts.tree.get("/var/lib/dbus/machine-id")
    if node is not None and node.kind != LINK:
        edits += [Remove("/var/lib/dbus/machine-id"), Link("/var/lib/dbus/machine-id", "/etc/machine-id")]
    return Step("machine-id", tuple(edits), "one for all machines", "made at the first boot")


def _host_keys(facts: Facts) -> Step | None:
    if linux_points.host_keys(facts).result != FAIL:
        return None
    found = [path for path, _node in facts.matching("/etc/ssh/ssh_host_*", "/etc/dropbear/dropbear_*_host_key")]
    edits: list[Edit] = [Remove(path) for path in found]
    after = linux_points.key_maker(facts)
    if not after and linux_files.has_systemd(facts):
        edits.append(Write(HOST_KEYS, _HOST_KEYS_UNIT))
        edits.append(Link("/etc/systemd/system/multi-user.target.wants/nebula-host-keys.service", HOST_KEYS))
        after = HOST_KEYS
    elif not after:
        edits.append(Write("/etc/init.d/nebula-host-keys", _HOST_KEYS_SCRIPT, 0o755))
        edits += [Link(f"/etc/rc{level}.d/S01nebula-host-keys", "../init.d/nebula-host-keys") for level in "2345"]
        after = "/etc/init.d/nebula-host-keys"
    return Step("host-keys", tuple(edits), "\n".join(found) or "none", f"none; {after} makes them at the first boot")


def _random_seed(facts: Facts) -> Step | None:
    return _removal("random-seed", (path for path in linux_points.SEEDS if facts.has(path)))


def _tmp(facts: Facts) -> Step | None:
    found = linux_points.left_in_tmp(facts)
    patterns = [f"{head}/{tail}" for head in ("/tmp", "/var/tmp") for tail in ("*", ".[!.]*")]
    edits = tuple(Remove(pattern, many=True) for pattern in patterns) if found else ()
    return Step("tmp", edits, "\n".join(found), "empty")


def _logs(facts: Facts) -> Step | None:
    edits: list[Edit] = []
    found = [(path, node) for path, node in facts.matching(*linux_points.LOGS) if node.size]
    for path, node in found:
        # A file that is there is written to by whom its owner and mode allow; old ones and journals go.
        keep = node.kind == FILE and not path.startswith("/var/log/journal/") and not re.search(r"\.(\d+|gz|xz)$", path)
        edits.append(Empty(path) if keep else Remove(path))
    return Step("logs", tuple(edits), "\n".join(path for path, _node in found), "empty")


def _removal(name: str, paths: Iterator[str]) -> Step:
    found = list(paths)
    return Step(name, tuple(Remove(path) for path in found), "\n".join(found), "none")


STEPS: dict[str, Callable[[Facts], Step | None]] = {
    "ssh-server": _ssh_server,
    "ssh-keys": _ssh_keys,
    "mac-addresses": _mac_addresses,
    "fstab": _fstab,
    "serial-console": _serial_console,
    "timezone": _timezone,
    "passwords": _passwords,
    "personal": _personal,
    "leases": _leases,
    "context-state": _context_state,
    "machine-id": _machine_id,
    "host-keys": _host_keys,
    "random-seed": _random_seed,
    "tmp": _tmp,
    "logs": _logs,
}
