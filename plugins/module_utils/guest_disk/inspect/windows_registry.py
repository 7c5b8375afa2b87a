# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what the points of a Windows image need of its registry and files; libguestfs reads the hives."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...dataclass import replace
from ..checks import image_facts
from ..checks.image_facts import Facts, Node
from ..open.guestfish import Session

_CONFIG = "/windows/system32/config"
# Keys of the current control set whose values are read, below them as deep as the stars say.
_SYSTEM = (
    *(
        f"services/{name}"
        for name in ("viostor", "vioscsi", "netkvm", "sshd", "cloudbase-init", "one-context", "onecontext")
    ),
    "services/tcpip/parameters/interfaces/*",
    "services/sharedaccess/parameters/firewallpolicy/standardprofile",
    "services/sharedaccess/parameters/firewallpolicy/publicprofile",
    "services/sharedaccess/parameters/firewallpolicy/firewallrules",
    "control/terminal server",
    "control/network/newnetworkwindowoff",
    "control/class/{4d36e972-e325-11ce-bfc1-08002be10318}/*",
)
_VALUES = re.compile(
    "^(start|enabledhcp|ipaddress|enablefirewall|fdenytsconnections|networkaddress|imagestate|productname|element"
    "|.*(remotedesktop|ssh|22|3389).*)$"
)
_EMS = ("16000020", "260000b0")
_SOFTWARE = ("microsoft/windows nt/currentversion", "microsoft/windows/currentversion/setup/state")
_FILES = (
    "/windows/temp", "/windows/context.ps1", "/context.ps1", "/hiberfil.sys", "/windows.old", "/windows/memory.dmp",
)  # fmt: skip
_FULL = ("/windows/temp", "/windows/softwaredistribution/download")
_STATE = "/windows/setup/state/state.ini"
# Types of values: text, text with variables, bytes, a number, several texts.
_NUMBER, _TEXTS = 4, (1, 2, 7)
_LARGEST_HIVE = 256 << 20
# Keys below one, and values of one: of rules of a firewall there are some hundreds.
_MOST, _MOST_VALUES = 200, 5000


def facts(talk: Session, found: Facts) -> Facts:
    """Return the facts with what is in the root that is mounted, and then in the other partitions."""
    tree: dict[str, Node] = {}
    for path in _FILES:
        if _real_path(talk, path):
            tree[path] = Node(image_facts.DIRECTORY if path in _FULL else image_facts.FILE)
    for path in _FULL:
        real = _real_path(talk, path)
        for name in talk.lines("ls", real)[:_MOST] if real else ():
            tree[f"{path}/{name.lower()}"] = Node()
    state = _real_path(talk, _STATE)
    if state:
        tree[_STATE] = Node(text=_text(talk.content(state, 1 << 20) or b""))
    values = _hive(talk, f"{_CONFIG}/system", "system", _SYSTEM)
    values.update(_hive(talk, f"{_CONFIG}/software", "software", _SOFTWARE))
    values.update(_boot_configuration(talk))
    values.update(_from_small_partitions(talk, found, tree))
    name = str(values.get("software/microsoft/windows nt/currentversion/productname") or "Windows")
    return replace(found, name=name, tree=tree, registry=values)


def _from_small_partitions(talk: Session, found: Facts, tree: dict[str, Node]) -> dict[str, object]:
    """Return the values of the small partitions that Windows boots from, and add their files to the tree."""
    values: dict[str, object] = {}
    for part in found.partitions:
        system = found.system_of(part.device)
        if part.device == found.root or system is None or system.type not in ("ntfs", "vfat"):
            continue
        talk.ask("umount-all")
        if talk.found("mount-ro", part.device, "/") is None:
            continue
        for path in talk.paths("/{EFI,efi}/*/*") if system.type == "vfat" else ():
            tree[f"/boot/efi{path}"] = Node()
        values.update(_boot_configuration(talk))
    return values


def _real_path(talk: Session, path: str) -> str:
    """Return the path as the disk spells it; "" if it is not there."""
    real = (talk.found("case-sensitive-path", path) or "").strip()
    # The last part need not be there for it to answer.
    return real if real and talk.ask("exists", real).strip() == "true" else ""


def _text(data: bytes) -> str:
    if data.startswith(b"\xff\xfe"):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8", "replace")


# --- hives -----------------------------------------------------------------------------------------------------------


def _open_hive(talk: Session, path: str) -> bool:
    """Open the hive. Return whether it is there: a file that is not regular would be waited for."""
    real = _real_path(talk, path)
    size = talk.file_size(real) if real else None
    return size is not None and size <= _LARGEST_HIVE and talk.found("hivex-open", real) is not None


def _hive(talk: Session, path: str, name: str, keys: tuple[str, ...]) -> dict[str, object]:
    if not _open_hive(talk, path):
        return {}
    values: dict[str, object] = {}
    try:
        root = talk.ask("hivex-root").strip()
        start = root
        if name == "system":
            current = dict(_values(talk, _child(talk, root, "Select"), "", every=True)).get("current", 1)
            number = current if isinstance(current, int) else 1
            start = _child(talk, root, f"ControlSet{number:03d}")
        for key in keys:
            for place, node in _nodes(talk, start, key.split("/"), name):
                values[place] = None
                values.update(_values(talk, node, place + "/"))
    finally:
        talk.ask("hivex-close")
    return values


def _boot_configuration(talk: Session) -> dict[str, object]:
    values: dict[str, object] = {}
    for path in ("/boot/bcd", "/efi/microsoft/boot/bcd"):
        if not _open_hive(talk, path):
            continue
        try:
            objects = _child(talk, talk.ask("hivex-root").strip(), "Objects")
            values["bcd/"] = None
            for node in _children(talk, objects):
                elements = _child(talk, node, "Elements")
                for name in _EMS:
                    values.update(_values(talk, _child(talk, elements, name), f"bcd/{node}/{name}/"))
        finally:
            talk.ask("hivex-close")
    return values


def _nodes(talk: Session, node: str, parts: list[str], place: str) -> Iterator[tuple[str, str]]:
    if not parts:
        yield place, node
    elif parts[0] == "*":
        for child in _children(talk, node):
            name = talk.ask("hivex-node-name", child).strip().lower()
            yield from _nodes(talk, child, parts[1:], f"{place}/{name}")
    else:
        child = _child(talk, node, parts[0])
        if child:
            yield from _nodes(talk, child, parts[1:], f"{place}/{parts[0]}")


def _child(talk: Session, node: str, name: str) -> str:
    """Return the handle of a registry key; "" if there is none."""
    if not node:
        return ""
    found = (talk.found("hivex-node-get-child", node, name) or "").strip()
    return "" if found == "0" else found


def _children(talk: Session, node: str) -> list[str]:
    if not node:
        return []
    return re.findall(r"hivex_node_h: (\d+)", talk.found("hivex-node-children", node) or "")[:_MOST]


def _values(talk: Session, node: str, place: str, every: bool = False) -> Iterator[tuple[str, object]]:
    if not node:
        return
    for value in re.findall(r"hivex_value_h: (\d+)", talk.found("hivex-node-values", node) or "")[:_MOST_VALUES]:
        key = talk.ask("hivex-value-key", value).rstrip("\n").lower()
        if not every and not _VALUES.match(key):
            continue
        kind = int(talk.ask("hivex-value-type", value))
        if kind == _NUMBER:
            data = talk.read("hivex-value-value", value)
            yield place + key, int.from_bytes(data[:4], "little")
        elif kind in _TEXTS:
            data = talk.read("hivex-value-value", value)
            yield place + key, data.decode("utf-16-le", "replace").strip("\0\n")
        else:
            yield place + key, talk.read("hivex-value-value", value).rstrip(b"\n").hex()
