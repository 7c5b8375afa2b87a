# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides the points that only a running guest can decide, by what its script reports on its serial console. Pure.

The machine was told a host name, a key, a larger root disk, a second disk, an injected file, and a script, which
says what became of each in lines `nebula-check: name=value`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from ...dataclass import dataclass
from ...model.whole_numbers import whole
from .image_facts import Answer, Facts, bad, not_applicable, not_tested, passed

BEGIN = "begin"
_LINE = re.compile(r"nebula-check: ([a-z_]+)(?:=([^\r\n]*))?")
_KERNEL = re.compile(r"Linux version \d|\[ *\d+\.\d{6}\] |Command line: ", re.IGNORECASE)
_SILENT = "the guest's script said nothing on its serial console"
_SPEAK = "See the points context and serial-console; the machine's console log shows how far it came"


@dataclass(frozen=True)
class GuestReport:
    """Holds what is known of the machine of one image after its live check.
    console: the whole text of its console log.
    values: what its script reported, by name.
    host_name: the name that its context gave it.
    root_mib, image_mib: the sizes in MiB of its root disk and of the image.
    injected: the content of the injected file, "" if no file was injected.
    snapshot: "ok", why the snapshot failed, or "" if none was made."""

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


def values_of(console: str) -> dict[str, str]:
    """Return the values that the guest's script reported, by name; the last value of a repeated name."""
    return {name: value.strip() for name, value in _LINE.findall(console)}


def console_log(facts: Facts, report: GuestReport) -> Answer:
    if _KERNEL.search(report.console):
        return passed(f"{len(report.console.splitlines())} lines, the kernel's among them")
    if report.console.strip():
        return bad(
            "the kernel's messages are not on it" if report.spoke else "it holds only what the firmware wrote",
            "Put console=ttyS0 on the kernel's command line, without quiet",
        )
    return bad("nothing came out of it", "Put console=ttyS0 on the kernel's command line")


def context_ran(facts: Facts, report: GuestReport) -> Answer:
    if not report.spoke:
        return bad(_SILENT, _SPEAK)
    return passed(f"its script ran, by {report.values.get('context') or 'an unknown program'}")


def host_name(facts: Facts, report: GuestReport) -> Answer:
    if not report.spoke:
        return not_tested(_SILENT, _SPEAK)
    found = report.values.get("hostname", "")
    if found.split(".")[0] == report.host_name.split(".")[0]:
        return passed(found)
    return bad(
        f"it is {found or 'not set'}, and {report.host_name} was told",
        "See what sets it at boot: /etc/hostname, preserve_hostname",
    )


def key_login(facts: Facts, report: GuestReport) -> Answer:
    if not report.spoke:
        return not_tested(_SILENT, _SPEAK)
    user, login = report.values.get("key_user", ""), report.values.get("login", "")
    if not user:
        return bad("nobody has got the key", "See the point context: what takes the context sets no keys")
    if login == "ok":
        return passed(f"as {user}")
    if login == "no_client":
        return not_tested(f"{user} has got the key, and the guest has no ssh to try it with", "Install openssh-client")
    return bad(
        f"{user} has got the key, and the login fails: {login or 'no answer'}", "See the points ssh-server and ssh-keys"
    )


def file_injection(facts: Facts, report: GuestReport) -> Answer:
    if not report.injected:
        return not_tested("no file was injected")
    if not report.spoke:
        return not_tested(_SILENT, _SPEAK)
    found = report.values.get("file", "")
    if found == report.injected:
        return passed("the injected file is there")
    return bad(f"the injected file is {'another' if found else 'not there'}", "See where its root file system is")


def root_grown(facts: Facts, report: GuestReport) -> Answer:
    if not report.root_mib or report.root_mib <= report.image_mib:
        return not_tested("the machine's disk was not larger than the image")
    if not report.spoke:
        return not_tested(_SILENT, _SPEAK)
    size = whole(report.values.get("root_kib", ""))
    if size is None:
        return not_tested("the guest did not say how large its root is")
    mib = size // 1024
    # What a file system takes for itself, and what is before the root partition, is less than what was added.
    wanted = report.image_mib + (report.root_mib - report.image_mib) // 2 - report.image_mib // 8
    if mib >= wanted:
        return passed(f"{mib} MiB of a disk of {report.root_mib} MiB; the image has {report.image_mib} MiB")
    return bad(f"it has {mib} MiB, on a disk of {report.root_mib} MiB", "See the points partitions and growth")


def attached_storage(facts: Facts, report: GuestReport) -> Answer:
    if not report.spoke:
        return not_tested(_SILENT, _SPEAK)
    found = report.values.get("storage", "")
    if found.startswith("ok"):
        return passed("written and read back" + (f" as {found[3:]}" if found[3:] else ""))
    return bad(found or "the guest does not see it", "See the point virtio")


def snapshot(facts: Facts, report: GuestReport) -> Answer:
    if not report.snapshot:
        return not_tested("none was made")
    if report.snapshot == "ok":
        return passed("made while it ran, and it went on")
    if report.snapshot.startswith("skipped: "):
        return not_applicable(report.snapshot[len("skipped: ") :])
    return bad(report.snapshot, "Install and start qemu-guest-agent in it")
