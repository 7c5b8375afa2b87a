# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What decides each point that only a living guest can answer: what it said on its serial console. Pure.

The machine was told a host name, a key, a larger root disk, a second disk, an injected file, and a script, which says
what became of each in lines `nebula-check: name=value`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .facts import Answer, Facts, bad, ok, skipped, unasked

BEGIN = "begin"
_LINE = re.compile(r"nebula-check: ([a-z_]+)(?:=([^\r\n]*))?")
_KERNEL = re.compile(r"Linux version \d|\[ *\d+\.\d{6}\] |Command line: ", re.IGNORECASE)
_SILENT = "the guest's script said nothing on its serial console"
_SPEAK = "See the points context and serial-console; the machine's console log shows how far it came"


@dataclass(frozen=True)
class Said:
    """console: all of it. values: what its script said. host_name: as it was told. root_mib: size of its root disk,
    image_mib: of the image. injected: what is in the injected file, "" if none was. snapshot: what came of one, "" if
    none was asked for, else ok or why not."""

    console: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    host_name: str = ""
    root_mib: int = 0
    image_mib: int = 0
    injected: str = ""
    snapshot: str = ""

    @property
    def spoke(self) -> bool:
        return BEGIN in self.values


def heard(console: str) -> dict[str, str]:
    """What the script said; of each name the last."""
    return {name: value.strip() for name, value in _LINE.findall(console)}


def console_log(facts: Facts, said: Said) -> Answer:
    if _KERNEL.search(said.console):
        return ok(f"{len(said.console.splitlines())} lines, the kernel's among them")
    if said.console.strip():
        return bad(
            "the kernel's messages are not on it" if said.spoke else "it holds only what the firmware wrote",
            "Put console=ttyS0 on the kernel's command line, without quiet",
        )
    return bad("nothing came out of it", "Put console=ttyS0 on the kernel's command line")


def context_ran(facts: Facts, said: Said) -> Answer:
    if not said.spoke:
        return bad(_SILENT, _SPEAK)
    return ok(f"its script ran, by {said.values.get('context') or 'an unknown program'}")


def host_name(facts: Facts, said: Said) -> Answer:
    if not said.spoke:
        return unasked(_SILENT, _SPEAK)
    found = said.values.get("hostname", "")
    if found.split(".")[0] == said.host_name.split(".")[0]:
        return ok(found)
    return bad(
        f"it is {found or 'not set'}, and {said.host_name} was told",
        "See what sets it at boot: /etc/hostname, preserve_hostname",
    )


def key_login(facts: Facts, said: Said) -> Answer:
    if not said.spoke:
        return unasked(_SILENT, _SPEAK)
    user, login = said.values.get("key_user", ""), said.values.get("login", "")
    if not user:
        return bad("nobody has got the key", "See the point context: what takes the context sets no keys")
    if login == "ok":
        return ok(f"as {user}")
    if login == "no_client":
        return unasked(f"{user} has got the key, and the guest has no ssh to try it with", "Install openssh-client")
    return bad(
        f"{user} has got the key, and the login fails: {login or 'no answer'}", "See the points ssh-server and ssh-keys"
    )


def file_injection(facts: Facts, said: Said) -> Answer:
    if not said.injected:
        return unasked("no file was injected")
    if not said.spoke:
        return unasked(_SILENT, _SPEAK)
    found = said.values.get("file", "")
    if found == said.injected:
        return ok("the injected file is there")
    return bad(f"the injected file is {'another' if found else 'not there'}", "See where its root file system is")


def root_grown(facts: Facts, said: Said) -> Answer:
    if not said.root_mib or said.root_mib <= said.image_mib:
        return unasked("the machine's disk was not larger than the image")
    if not said.spoke:
        return unasked(_SILENT, _SPEAK)
    size = said.values.get("root_kib", "")
    if not size.isdigit():
        return unasked("the guest did not say how large its root is")
    mib = int(size) // 1024
    # What a file system takes for itself, and what is before the root partition, is less than what was added.
    wanted = said.image_mib + (said.root_mib - said.image_mib) // 2 - said.image_mib // 8
    if mib >= wanted:
        return ok(f"{mib} MiB of a disk of {said.root_mib} MiB; the image has {said.image_mib} MiB")
    return bad(f"it has {mib} MiB, on a disk of {said.root_mib} MiB", "See the points partitions and growth")


def attached_storage(facts: Facts, said: Said) -> Answer:
    if not said.spoke:
        return unasked(_SILENT, _SPEAK)
    found = said.values.get("storage", "")
    if found.startswith("ok"):
        return ok("written and read back" + (f" as {found[3:]}" if found[3:] else ""))
    return bad(found or "the guest does not see it", "See the point virtio")


def snapshot(facts: Facts, said: Said) -> Answer:
    if not said.snapshot:
        return unasked("none was made")
    if said.snapshot == "ok":
        return ok("made while it ran, and it went on")
    if said.snapshot.startswith("skipped: "):
        return skipped(said.snapshot[len("skipped: ") :])
    return bad(said.snapshot, "Install and start qemu-guest-agent in it")
