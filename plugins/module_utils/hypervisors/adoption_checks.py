# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares machines that are on this node with what a plan says of them. Read-only: nothing is made, defined or
started, and of disks that a guest has written nothing but the header is read."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections import Counter
from collections.abc import Iterator

from ..dataclass import replace
from ..errors import NebulaError
from ..host import node_file
from ..host.files import closing_fd, explain, read_limited
from ..model.disk import TAR, Disk, DiskFiles
from ..model.plan import ADOPT, Comparison, Plan, PlannedVm
from ..model.vm import Vm
from ..storage.datastore_layout import disk_path, vm_directory
from .base import Driver
from .carry_out.forecast import Forecast
from .machine_record import Record, read_record
from .node_inventory import qcow2_size_and_backing

MIB = 1024 * 1024
# Where a qcow2 header has the number of its snapshots.
_SNAPSHOTS = 60
_SHOWN = 8
# The name of an element, or of a setting: what it says may be a secret.
_NAME = re.compile(r"[</\s]*([A-Za-z_][\w.:-]*)")
# What a definition that an earlier release wrote may lack: such a machine gets it when it is defined the next time.
_LATER = "<mtu "
_DEPLOYMENT = re.compile(r"deployment\.(\d{1,9})")


def compare(plan: Plan, driver: Driver, root: str) -> tuple[Comparison, ...]:
    """Return how the machines of the plan that are to be adopted differ from what the plan says."""
    forecast = Forecast(plan, driver, root)
    return tuple(
        Comparison(
            planned.vm.vm_id, planned.vm.uuid, planned.generation, tuple(_differences_or_error(forecast, planned))
        )
        for planned in forecast.plan.vms
        if planned.operation == ADOPT
    )


def _differences_or_error(forecast: Forecast, planned: PlannedVm) -> Iterator[str]:
    try:
        yield from _differences(forecast, planned)
    except NebulaError as error:
        yield str(error)
    except OSError as error:
        yield str(explain(error, str(error.filename or "its directory")))


def _differences(forecast: Forecast, planned: PlannedVm) -> Iterator[str]:
    directory = vm_directory(forecast.root, planned.vm.vm_id)
    record = read_record(directory)
    if record is None or (record.catalog, record.vm_id, record.uuid.lower()) != (
        forecast.plan.catalog, planned.vm.vm_id, planned.vm.uuid.lower(),
    ):  # fmt: skip
        yield f"{directory}/vm.json is not its"
        return
    text = _newest_deployment(directory)
    vm = _with_password(planned.vm, text, forecast.driver)
    known = node_file.read(forecast.root)
    if not known.accelerator:
        yield "it is not known what machines of this host run on"
        return
    deployment, context, files = forecast.foresee_definition(vm, known)
    yield from _definition_differences(record, deployment.digest, deployment.text, text)
    if context != record.context:
        yield "its context has other variables or files"
    if forecast.has_wrong_autostart(planned):
        yield "whether it starts with its host is not as its state wants it"
    # What a hypervisor makes itself is in no file that could be looked at.
    for disk in (disk for disk in vm.disks if not disk.by_hypervisor):
        for found in _disk_differences(disk, disk_path(directory, disk.disk_id), files[disk.disk_id]):
            yield f"disk {disk.disk_id} {found}"


def _newest_deployment(directory: str) -> str:
    numbers = [int(found[1]) for name in os.listdir(directory) if (found := _DEPLOYMENT.fullmatch(name))]
    return read_limited(os.path.join(directory, f"deployment.{max(numbers, default=0)}"), node_file.LARGEST).decode()


def _with_password(vm: Vm, text: str, driver: Driver) -> Vm:
    """Return the machine with the password that its console has, where nobody chose one."""
    if vm.graphics is None or not vm.graphics.made_up:
        return vm
    return replace(vm, graphics=replace(vm.graphics, password=driver.password_in(text)))


def _definition_differences(record: Record, digest: str, wanted: str, found: str) -> Iterator[str]:
    if digest == record.definition:
        return
    # Bags of lines: devices are listed one after the other, and what follows a missing device is no difference.
    have, want = (Counter(line.strip() for line in text.splitlines()) for text in (found, wanted))
    if have != want and not have - want and all(line.startswith(_LATER) for line in want - have):
        return
    lines = [*(have - want), *(want - have)]
    names = dict.fromkeys(name[1] for line in lines if (name := _NAME.match(line)) and "generation=" not in line)
    shown = ", ".join([*names][:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
    yield f"its definition differs ({shown})" if shown else "its definition differs from its newest deployment file"


def _disk_differences(disk: Disk, path: str, files: DiskFiles) -> Iterator[str]:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        yield f"is not there: {path}"
        return
    if disk.source and not disk.clone:
        if not stat.S_ISLNK(mode) or os.readlink(path) != files.path:
            yield f"is not the file of image {disk.image}: {path}"
        return
    if disk.format == TAR:
        if not stat.S_ISDIR(mode):
            yield f"is no directory: {path}"
        return
    if not stat.S_ISREG(mode):
        yield f"is no file: {path}"
        return
    if files.format != "qcow2":
        if os.path.getsize(path) < disk.size * MIB:
            yield f"has {os.path.getsize(path)} bytes, and the list says {disk.size} MiB"
        return
    size, backing = qcow2_size_and_backing(path)
    wanted = files.backing[0][0] if files.backing else ""
    if backing != wanted:
        yield f"rests on {backing or 'nothing'}, and image {disk.image or '(none)'} is {wanted or 'nothing'}"
    if size < disk.size * MIB:
        yield f"has {size} bytes, and the list says {disk.size} MiB"
    if _snapshot_count(path):
        yield "holds snapshots, and nothing here tells what they are of: delete them (qemu-img snapshot -d) before"


def _snapshot_count(path: str) -> int:
    with closing_fd(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)) as fd:
        head = os.pread(fd, 4, _SNAPSHOTS)
    return int(struct.unpack(">I", head)[0]) if len(head) == 4 else 0
