# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest program: from the mounted context to the network that is up, in seconds of the guest's own time.

Once at the machine's own speed, in namespaces of its own with two real interfaces, and once in a guest of busybox under
emulation, which has no target. Of the program's log: it notes when it came to either.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import MeasurementFailed, Row
from setting import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "collections"))

from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660
from ansible_collections.nebula.provision.plugins.module_utils.text import context_sh
from ansible_collections.nebula.provision.tests.integration.guests import debian, layouts, qemu

LIMIT = 1.0
NETWORK = {
    "ETH0_MAC": "02:00:0a:42:00:0a",
    "ETH0_IP": "10.66.0.10",
    "ETH0_GATEWAY": "10.66.0.1",
    "ETH0_DNS": "10.66.0.1",
    "NETWORK": "YES",
    "SET_HOSTNAME": "web-0",
}
SECOND = {"ETH1_MAC": "02:00:c0:a8:46:96", "ETH1_IP": "192.168.70.150"}
_REACHED = re.compile(r"^([0-9.]+) (context|network)\r?$", re.M)


def seconds(log: str) -> float:
    found = {what: float(when) for when, what in _REACHED.findall(log)}
    if set(found) != {"context", "network"}:
        raise MeasurementFailed(f"the guest's log does not say when it had its network:\n{log[-2000:]}")
    return found["network"] - found["context"]


def native(place: Path) -> float:
    guest = layouts.layout(place, "plain", "dash")
    guest.context(context_sh.render({**NETWORK, **SECOND}))
    guest.run("network")
    return seconds(guest.read("var/log/nebula-context.log"))


def emulated(place: Path) -> float:
    guests = debian.images()
    raw, disk = place / "disk.raw", place / "disk.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(guests.disks["busybox"]), str(raw)], check=True)
    (place / "nebula-context").write_bytes(layouts.PROGRAM.read_bytes())
    inittab = debian.BUSYBOX["etc/inittab"].replace("ttyS0::", "::sysinit:/bin/nebula-context all\nttyS0::", 1)
    (place / "inittab").write_text(inittab)
    commands = ["write nebula-context /bin/nebula-context", "set_inode_field /bin/nebula-context mode 0100755"]
    debian.edit(raw, [*commands, "rm /etc/inittab", "write inittab /etc/inittab"])
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(disk)], check=True)
    script = "cat /var/log/nebula-context.log > /dev/console"
    iso9660.write_iso(str(place / "context.iso"), {**NETWORK, "START_SCRIPT": script})
    kernel = ["-kernel", str(guests.kernel), "-initrd", str(guests.initrd), "-append", guests.append]
    with qemu.running(place, disk, place / "context.iso", memory=384, kernel=kernel) as machine:
        return seconds(machine.wait_for("nebula-guest: ready", timeout=180))


def rows(rounds: int) -> Iterator[Row]:
    with contextlib.ExitStack() as stack:
        places = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nebula-bench-"))) for _ in range(rounds + 1)
        ]
        own = statistics.median(native(place) for place in places[1:])
        slow = emulated(places[0])
    yield Row.limit("guest's network from its context", own, LIMIT, "s")
    yield Row.fact("the same in an emulated guest", slow, None, "s")
