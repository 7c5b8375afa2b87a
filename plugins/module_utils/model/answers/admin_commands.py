# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which commands about a domain a node hands on to an administrator: those that drivers make, and none else.

They are typed by root. So each has to be of a program that a driver names, about the very domain that it is told with,
and made of words that no shell takes for more than words."""

from __future__ import annotations

import re

from ..audit import Domain
from ..object_ids import FIRST_CONTAINER

INSTEAD = "look at it on the host itself"
_TEXT = re.compile(r"[\w./:@%+=; -]*", re.ASCII)
_OPTIONS = {
    "destroy": frozenset[str](),
    "undefine": frozenset(
        ("--managed-save", "--snapshots-metadata", "--checkpoints-metadata", "--nvram", "--keep-nvram", "--keep-tpm")
    ),
    "autostart": frozenset(("--disable",)),
    "metadata": frozenset(("--remove", "--config", "--live")),
}
_HERE = re.compile(r"[a-z]+:///(?:system)?", re.ASCII)
_ID = re.compile(r"one-(?:0|[1-9]\d{0,9})", re.ASCII)
# The directory of the names of containers, which users choose.
_NAMES = "/etc/vz/names/"


def is_ours(command: str, domain: Domain) -> bool:
    """Return whether a driver makes such a command for this domain."""
    if not command:
        return True
    if not _TEXT.fullmatch(command):
        return False
    return all(_is_allowed(part.split(" "), domain) for part in command.split("; "))


def _is_allowed(words: list[str], domain: Domain) -> bool:
    program, arguments = words[0], words[1:]
    if program == "virsh":
        return _is_virsh_command(arguments, domain)
    if program in ("xl", "xm"):
        return arguments == ["destroy", domain.name] and bool(_ID.fullmatch(domain.name))
    if program == "vzctl":
        return _is_vzctl_command(arguments, domain)
    if program == "rm":
        paths = arguments[1:] if arguments[:1] == ["-f"] else arguments
        return bool(paths) and all(_is_own_path(path, domain) for path in paths)
    return program == "ln" and len(arguments) == 3 and arguments[0] == "-s" and _are_own_paths(arguments[1:], domain)


def _is_virsh_command(arguments: list[str], domain: Domain) -> bool:
    if arguments[:1] == ["-c"]:
        # Another host's libvirt is none of a node's commands.
        if not _HERE.fullmatch(" ".join(arguments[1:2])):
            return False
        arguments = arguments[2:]
    if not arguments or arguments[0] not in _OPTIONS:
        return False
    verb, rest = arguments[0], arguments[1:]
    words = [word for word in rest if word not in _OPTIONS[verb]]
    # By a name of another form virsh could find another domain, or take it for an option.
    named = [domain.uuid] if domain.uuid else []
    named += [domain.name] if _ID.fullmatch(domain.name) else []
    own = words[:1] and words[0] in named
    return bool(own) and (len(words) == 1 or (verb == "metadata" and words[1:] == ["urn:nebula:provision:vm:1"]))


def _is_vzctl_command(arguments: list[str], domain: Domain) -> bool:
    verb, rest = arguments[:1], arguments[2:]
    if arguments[1:2] not in [[ctid] for ctid in _container_ids(domain)]:
        return False
    known = {"stop": (["--fast"],), "destroy": ([],), "set": tuple(["--onboot", on, "--save"] for on in ("yes", "no"))}
    return bool(verb) and rest in known.get(verb[0], ())


def _container_ids(domain: Domain) -> list[str]:
    own = [domain.name] if domain.name.isascii() and domain.name.isdigit() else []
    return [*own, str(domain.vm_id + FIRST_CONTAINER)]


def _is_own_path(path: str, domain: Domain) -> bool:
    if not path.startswith("/") or "/../" in path or path.endswith(("/", "/..")):
        return False
    base = path.rpartition("/")[2]
    ids = [re.escape(each) for each in (domain.name, domain.uuid, *_container_ids(domain)) if each]
    return path.startswith(_NAMES) or bool(re.fullmatch(rf"(?:[A-Za-z]+-)?(?:{'|'.join(ids)})(?:\.[a-z.]+)?", base))


def _are_own_paths(paths: list[str], domain: Domain) -> bool:
    return all(_is_own_path(path, domain) for path in paths)
