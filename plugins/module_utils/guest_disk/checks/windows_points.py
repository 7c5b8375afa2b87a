# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides each point of a Windows image by its registry and its files. Pure, of Facts.

Paths of the registry are in lower case and begin with the hive: system, software. The control set is the current
one."""

from __future__ import annotations

import re

from .image_facts import Answer, Facts, bad, first_items, not_applicable, not_tested, passed
from .linux_files import MAC

# Start of a service: 0 by the boot loader, 1 by the kernel, 2 at boot, 3 by hand, 4 never.
_AT_BOOT = 2
_INTERFACES = "system/services/tcpip/parameters/interfaces"
_ADAPTERS = "system/control/class/{4d36e972-e325-11ce-bfc1-08002be10318}"
_POLICY = "system/services/sharedaccess/parameters/firewallpolicy"
_STATE = "/windows/setup/state/state.ini"
_GENERALIZED = "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"
_VIRTIO = "Install virtio-win in it (the driver ISO of the Fedora project), with the disk on bus virtio once"


def virtio_disk(facts: Facts) -> Answer:
    found = [name for name in ("viostor", "vioscsi") if _start(facts, name) == 0]
    if found:
        return passed(f"{', '.join(found)} starts with the boot loader")
    there = [name for name in ("viostor", "vioscsi") if _start(facts, name) is not None]
    if there:
        return bad(f"{first_items(there)} is installed, and not started with the boot loader", _VIRTIO)
    return bad(
        "neither viostor nor vioscsi is installed: on bus virtio it stops with INACCESSIBLE_BOOT_DEVICE", _VIRTIO
    )


def virtio_net(facts: Facts) -> Answer:
    start = _start(facts, "netkvm")
    if start is None:
        return bad("netkvm is not installed", _VIRTIO)
    return bad("netkvm is switched off", _VIRTIO) if start == 4 else passed("netkvm is installed")


def remote_desktop(facts: Facts) -> Answer:
    denied = _number(facts, "system/control/terminal server/fdenytsconnections")
    if denied == 0:
        return passed("connections are allowed")
    return bad("connections are denied", "Allow them: System > Remote desktop, or fDenyTSConnections = 0")


def ssh_server(facts: Facts) -> Answer:
    start = _start(facts, "sshd")
    if start is None:
        return bad("none is installed", "Add-WindowsCapability -Online -Name OpenSSH.Server~~~~0.0.1.0")
    if start > _AT_BOOT:
        return bad("it is installed, and not started at boot", "Set-Service sshd -StartupType Automatic")
    return passed("sshd is started at boot")


def context(facts: Facts) -> Answer:
    found = []
    programs = {"cloudbase-init": "cloudbase-init", "onecontext": "one-context", "one-context": "one-context"}
    for service, name in programs.items():
        start = _start(facts, service)
        if start is not None and start <= _AT_BOOT:
            found.append(name)
    if facts.has("/windows/context.ps1", "/context.ps1"):
        found.append("context.ps1")
    if found:
        return passed(", ".join(dict.fromkeys(found)))
    return bad("nothing in it takes a context", "Install cloudbase-init, with the service started at boot")


def firewall(facts: Facts) -> Answer:
    profiles = ("standardprofile", "publicprofile")
    if all(_number(facts, f"{_POLICY}/{profile}/enablefirewall") == 0 for profile in profiles):
        return passed("it is switched off")
    rules = [str(value) for path, value in facts.registry.items() if path.startswith(f"{_POLICY}/firewallrules/")]
    for rule in rules:
        lets_in = all(part in rule for part in ("Action=Allow", "Active=TRUE", "Dir=In"))
        if lets_in and re.search(r"LPort=(22|3389)\|", rule):
            return passed("a rule lets " + ("SSH" if "LPort=22|" in rule else "remote desktop") + " in")
    return bad("it is on, and no rule lets port 22 or 3389 in", "Enable-NetFirewallRule -DisplayGroup 'Remote Desktop'")


def addresses(facts: Facts) -> Answer:
    inner = [path[len(_INTERFACES) + 1 :] for path in facts.registry if path.startswith(_INTERFACES + "/")]
    static = []
    for name in sorted({path.split("/")[0] for path in inner}):
        address = str(facts.registry.get(f"{_INTERFACES}/{name}/ipaddress") or "").strip("\0 ")
        if _number(facts, f"{_INTERFACES}/{name}/enabledhcp") == 0 and address not in ("", "0.0.0.0"):
            static.append(address)
    if static:
        return bad(f"its address is written down: {first_items(static)}", "Set its interfaces to DHCP")
    return passed("no interface has an address written down")


def mac_addresses(facts: Facts) -> Answer:
    found = []
    for path, value in facts.registry.items():
        if path.startswith(_ADAPTERS + "/") and path.endswith("/networkaddress") and value:
            text = str(value)
            found.append(text if MAC.search(text) else ":".join(re.findall("..", text)))
    if found:
        return bad(
            f"an adapter has the address {first_items(found)}", "Remove Locally Administered Address in its properties"
        )
    return passed("no adapter has an address of its own choice")


def network_prompt(facts: Facts) -> Answer:
    if "system/control/network/newnetworkwindowoff" in facts.registry:
        return passed("it is switched off")
    return bad(
        "each machine would ask its first user, and be closed until then",
        r"reg add HKLM\SYSTEM\CurrentControlSet\Control\Network\NewNetworkWindowOff",
    )


def serial_console(facts: Facts) -> Answer:
    found = {path: value for path, value in facts.registry.items() if path.startswith("bcd/")}
    if not found:
        return not_tested("its boot configuration (BCD) was not found")
    switches = [value for path, value in found.items() if path.endswith(("/16000020/element", "/260000b0/element"))]
    if any(value not in (None, "", "00", 0) for value in switches):
        return passed("EMS is on")
    return bad("EMS is off", "bcdedit /ems on, bcdedit /emssettings EMSPORT:1 EMSBAUDRATE:115200")


def sysprep(facts: Facts) -> Answer:
    match = re.search(r"ImageState[ \t]*=[ \t]*(\S+)", facts.text(_STATE))
    registered = facts.registry.get("software/microsoft/windows/currentversion/setup/state/imagestate")
    state = match[1] if match else str(registered or "")
    if state == _GENERALIZED:
        return passed(state)
    return bad(
        f"its state is {state or 'not told'}: machines of it have one SID and one name",
        "Run sysprep /generalize /oobe /shutdown in it, with cloudbase-init's Unattend.xml",
    )


def disk_cleanup(facts: Facts) -> Answer:
    if not facts.has("/windows/temp"):
        return not_applicable("it has no Windows\\Temp")
    found = [path for path, _node in facts.matching("/windows/temp/*", "/windows/softwaredistribution/download/*")]
    found += [path for path in ("/hiberfil.sys", "/windows.old", "/windows/memory.dmp") if facts.has(path)]
    if found:
        return bad(first_items(found), "Run cleanmgr, powercfg /h off, and sdelete -z c: in it")
    return passed("no temporary files, downloads or hibernation")


def _start(facts: Facts, service: str) -> int | None:
    return _number(facts, f"system/services/{service}/start")


def _number(facts: Facts, path: str) -> int | None:
    value = facts.registry.get(path)
    return value if isinstance(value, int) else None
