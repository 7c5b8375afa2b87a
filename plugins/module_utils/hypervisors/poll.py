# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports what a node has of machines, room and files: the read-only look that each decision begins with."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from ..context import files_on_node
from ..dataclass import replace
from ..errors import NebulaError
from ..host import node_file
from ..model.network_drivers import INTEGRATION_BRIDGE
from ..model.plan import Observed, ObservedVm
from ..network import links, openvswitch_state
from ..storage import datastore_layout, node_image_files, shared_datastore
from ..storage.datastore_layout import vm_directory
from .base import Driver, Mark
from .machine_record import CHECKPOINT, Record, foreign_directories, read_record
from .moves import node_moves


def poll(driver: Driver | None, root: str, host: str, catalog: str = "", hypervisor: str = "") -> Observed:
    """Return what really is on this node, read-only.
    driver: None if `hypervisor` is not here yet.
    catalog: whose machines; "" for those of the catalog that this node follows."""
    known = node_file.read(root)
    catalog = catalog or known.catalog
    memory, cpu = driver.capacity() if driver is not None else (node_file.memory(), float(node_file.processors()))
    # Before and after the machines are looked at: the port is its own of one that starts or ends meanwhile.
    listening = node_file.listening_ports()
    survey = driver.survey(catalog) if driver is not None else None
    datastore = shared_datastore.seen(root)
    # Of what is saved on a shared datastore nothing is gone on with.
    saves = not datastore
    vms = [_with_record(root, seen, survey.runs, saves) for seen in survey.vms] if survey is not None else []
    running = [record for seen, record in vms if record is not None and seen.state not in ("POWEROFF", "SUSPENDED")]
    ours = {record.port for record in running if record.port}
    return Observed(
        host=host,
        hypervisor=driver.name if driver is not None else hypervisor,
        catalog=known.catalog,
        plan_number=known.plan,
        plan_proof=known.proof,
        done_number=known.done,
        memory=memory,
        cpu=cpu,
        foreign_memory=survey.foreign_memory if survey is not None else 0,
        foreign_ids=tuple(sorted(foreign_directories(root, catalog) | (survey.foreign_ids if survey else frozenset()))),
        ports=tuple(sorted((listening and listening & node_file.listening_ports()) - ours)),
        vms=tuple(_with_console(driver, catalog, seen, record) for seen, record in vms),
        as_of=int(time.time()),
        facts=node_file.facts(known),
        contents=files_on_node.digests(root),
        images=node_image_files.kept_files(root),
        returns=node_image_files.returning_sizes(root),
        lengths=node_image_files.returning_lengths(root),
        room=node_image_files.free_mib(root),
        networks=_networks(catalog) if catalog else None,
        mark=known.mark,
        disk_room=datastore_layout.room(os.path.dirname(vm_directory(root, 0)))[0],
        moves=node_moves.seen(root, catalog),
        has_ovn=links.is_there(INTEGRATION_BRIDGE),
        datastore=datastore,
    )


def _networks(catalog: str) -> tuple[str, ...] | None:
    """Return the UUIDs of the networks whose bridge is here; None if nothing tells them."""
    linked = links.networks_here(catalog)
    return None if linked is None else tuple(sorted((*linked, *openvswitch_state.networks_here(catalog))))


def _with_console(driver: Driver | None, catalog: str, seen: ObservedVm, record: Record | None) -> ObservedVm:
    """Return the machine with open_console. The hypervisor is asked only if it is not known: a poll is cheap."""
    if driver is None or record is None or not record.port or record.closed or seen.state != "RUNNING":
        return seen
    return replace(seen, open_console=driver.has_open_console(Mark(catalog, seen.vm_id, seen.uuid, seen.generation)))


def _with_record(
    root: str, seen: ObservedVm, runs: Mapping[int, str] | None, saves: bool
) -> tuple[ObservedVm, Record | None]:
    directory = vm_directory(root, seen.vm_id)
    try:
        record = read_record(directory)
    except NebulaError:
        record = None
    state = seen.state
    if saves and state == "POWEROFF" and os.path.exists(os.path.join(directory, CHECKPOINT)):
        state = "SUSPENDED"
    generation = seen.generation if record is None else max(seen.generation, record.generation)
    waits = record is not None and _waits(record, state, runs)
    return replace(seen, state=state, generation=generation, waits=waits), record


def _waits(record: Record, state: str, runs: Mapping[int, str] | None) -> bool:
    """Return whether the machine was not started anew since something of it was to change at its next start. What was
    saved to a file has the name of its run in there."""
    if not record.waits or state == "POWEROFF":
        return False
    return runs is None or state == "SUSPENDED" or runs.get(record.vm_id) == record.waits
