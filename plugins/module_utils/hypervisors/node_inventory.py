# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists all of this collection that is on a node, for an audit. Read-only, and of what a guest may have written
nothing but the header is read, by ourselves: no program opens what it names."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import TypeVar

from ..context import files_on_node
from ..dataclass import replace
from ..errors import NebulaError
from ..host.files import reader
from ..model.answers.observed import MOST_BYTES
from ..model.audit import Bridge, Domain, Inventory, SwitchBridge, UplinkDevice, VmDirectory, VmFile
from ..model.datastore import SHARED_MARK
from ..model.plan import Observed
from ..network import links, nat, nic_filter, openvswitch_state, router_advertisements, uplinks
from ..storage import qcow2_header
from ..storage.datastore_layout import SYSTEM, UNPACKED, image_directory
from .base import Driver
from .machine_record import is_left_behind, read_record
from .poll import poll

T = TypeVar("T")


def observe_all(driver: Driver, root: str, host: str, catalog: str = "") -> Observed:
    """Return what poll() tells, with the inventory; what can't be looked at is named in it. catalog: whose nftables
    table and machines are looked for; "" for the catalog that this node follows."""
    unseen: list[str] = []
    no_domains: tuple[tuple[Domain, ...], tuple[str, ...]] = ((), ())
    no_links: dict[str, links.Link] = {}
    no_directories: tuple[VmDirectory, ...] = ()
    observed = _try_or_note(unseen, lambda: poll(driver, root, host, catalog), Observed(host, driver.name))
    catalog = catalog or observed.catalog
    domains, foreign = _try_or_note(unseen, driver.inventory, no_domains)
    seen = _try_or_note(unseen, links.observe, no_links)
    table = _try_or_note(unseen, lambda: _table(catalog), None)
    place = image_directory(root, SYSTEM)
    directories = _try_or_note(unseen, lambda: _directories(place), no_directories)
    return replace(
        observed,
        inventory=Inventory(
            place=place,
            domains=domains,
            foreign=foreign,
            directories=directories,
            bridges=tuple(
                _bridge(name, link, link.mark)
                for name, link in sorted(seen.items())
                if link.mark and link.kind == "bridge"
            ),
            devices=tuple(
                UplinkDevice(name, link.mark.catalog, link.mark.network, uplinks.describe(link), link.bridge, link.up)
                for name, link in sorted(seen.items())
                if link.mark and link.kind in uplinks.KINDS
            ),
            others=tuple(
                _bridge(name, link, links.Mark("", ""))
                for name, link in sorted(seen.items())
                if link.kind == "bridge" and not link.mark
            ),
            interfaces=tuple(sorted(seen)),
            table=table.name if table is not None and table.exists else "",
            rules={comment: len(rules) for comment, rules in table.rules.items()} if table is not None else {},
            forwarding=table is not None and table.forwarding == "1",
            filters=_try_or_note(unseen, lambda: _filters(root, catalog), {}),
            left=_try_or_note(unseen, lambda: _left_behind_files(root, catalog), ()),
            switches=_try_or_note(unseen, lambda: _switches(seen), ()),
            unseen=tuple(unseen),
        ),
    )


def _try_or_note(unseen: list[str], look: Callable[[], T], otherwise: T) -> T:
    try:
        return look()
    except NebulaError as error:
        unseen.append(str(error))
    except OSError as error:
        unseen.append(f"{error.filename or 'this host'}: {error.strerror}")
    return otherwise


def _table(catalog: str) -> nat.Table | None:
    return nat.observe(catalog) if catalog else None


def _filters(root: str, catalog: str) -> dict[str, str]:
    if not catalog:
        return {}
    silent = router_advertisements.digests(router_advertisements.Announcers(root, catalog).found())
    table = nic_filter.read_table(catalog, needed=False)
    return {**table.ports, **table.earlier, **silent}


def _bridge(name: str, link: links.Link, mark: links.Mark) -> Bridge:
    addresses, ports = tuple(link.addresses), tuple(link.ports)
    kernels = dict(link.settings)
    return Bridge(name, mark.catalog, mark.network, mark.address, link.up, addresses, ports, kernels, link.mtu)


def _switches(seen: Mapping[str, links.Link]) -> tuple[SwitchBridge, ...]:
    found = openvswitch_state.observe()
    return tuple(
        SwitchBridge(
            name=name,
            catalog=bridge.mark,
            networks=bridge.networks,
            port=bridge.port,
            port_up=bridge.port in seen and seen[bridge.port].up,
            up=name in seen and seen[name].up,
            ports={port: str(each) for port, each in sorted(bridge.ports.items())},
            running=found.running,
        )
        for name, bridge in sorted(found.bridges.items())
        if bridge.mark
    )


def _left_behind_files(root: str, catalog: str) -> tuple[str, ...]:
    """Return the files that host.files.write_atomically() was writing when it was killed: of nebula.node, of files for
    contexts, and of what makes this catalog's networks at boot (network/networks_at_boot.py; not imported, as nothing
    else of it is needed here)."""
    return tuple(
        os.path.join(place, name)
        for place in (root, files_on_node.place(root), os.path.join(root, "boot", catalog or "-"))
        if os.path.isdir(place)
        for name in sorted(os.listdir(place))
        if is_left_behind(name)
    )


def _directories(place: str) -> tuple[VmDirectory, ...]:
    if not os.path.isdir(place):
        return ()
    found = []
    for name in sorted(set(os.listdir(place)) - {UNPACKED, SHARED_MARK}, key=lambda name: (len(name), name)):
        path = os.path.join(place, name)
        # Another run may be removing it.
        try:
            found.append(_directory(path, name))
        except FileNotFoundError:
            continue
    return tuple(found)


def _directory(path: str, name: str) -> VmDirectory:
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        return VmDirectory(path, name)
    try:
        record = read_record(path)
    except NebulaError:
        record = None
    files = tuple(_file(os.path.join(path, each), each) for each in sorted(os.listdir(path)))
    if record is None:
        return VmDirectory(path, name, files=files)
    mark = (record.catalog, record.vm_id, record.uuid, record.generation)
    return VmDirectory(path, name, *mark, files, record.exact)


def _file(path: str, name: str) -> VmFile:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return VmFile(name, "link", target=os.readlink(path), lost=not os.path.isfile(path))
    if not stat.S_ISREG(found.st_mode):
        return VmFile(name, "directory" if stat.S_ISDIR(found.st_mode) else "other")
    if not name.startswith("disk."):
        return VmFile(name, size=found.st_size)
    size, backing = qcow2_size_and_backing(path)
    return VmFile(
        name, size=found.st_size, virtual_size=size, backing=backing, lost=bool(backing) and not os.path.isfile(backing)
    )


def qcow2_size_and_backing(path: str) -> tuple[int, str]:
    """Return the bytes that a machine sees of a disk and the file that the disk rests on, as its qcow2 header states
    them; 0 and "" if it has no such header."""
    with reader(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)) as file:
        header = qcow2_header.Header(file)
    # A guest may write any number there; a number that JSON's readers do not agree on would be its host's error.
    return (min(header.size, MOST_BYTES), header.backing.replace("\0", "?")) if header.whole else (0, "")
