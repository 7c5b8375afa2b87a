# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/changes.md: what becomes of each change of a machine, on each hypervisor and in each state, as the embedded
catalog decides it by what the hypervisors declare.
usage: changes_of_machines.py          writes the page
       changes_of_machines.py --check  exits with 1 if the page is not what it would write"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/changes.md"
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import (  # noqa: E402
    EmbeddedEngine,
)
from ansible_collections.nebula.provision.plugins.module_utils.model import hypervisor_rules  # noqa: E402
from ansible_collections.nebula.provision.plugins.module_utils.model.host import (  # noqa: E402
    Host,
    HostHardware,
    PciDevice,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image  # noqa: E402
from ansible_collections.nebula.provision.plugins.module_utils.model.network import (  # noqa: E402
    AddressRange,
    Network,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome  # noqa: E402
from ansible_collections.nebula.provision.plugins.module_utils.model.security_group import (  # noqa: E402
    SecurityGroup,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import (  # noqa: E402
    HostState,
    ImageState,
    ImageType,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template  # noqa: E402
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import (  # noqa: E402
    reconcile,
)

HYPERVISORS = ("kvm", "xen", "xen_libvirt", "lxc", "openvz")
STATES = ("RUNNING", "POWEROFF", "SUSPENDED")
REFUSED, NO_EFFECT, OFF, NONE = "refused", "no effect", "at once", "–"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Operation:
    """One change of a machine.
    what: for people.
    before, after: keys of its item.
    containers: containers have such a thing."""

    what: str
    after: Mapping[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict)
    containers: bool = True


def _attributes(**values: Any) -> dict[str, Any]:
    return {"attributes": values}


def _disk(**keys: str) -> dict[str, Any]:
    return {"disks": [{"IMAGE": "os", **keys}]}


def _nic(**keys: str) -> dict[str, Any]:
    return {"nics": [{"NETWORK": "net", **keys}]}


_ISO, _OTHER = {"IMAGE": "iso"}, {"IMAGE": "other"}
_SHARED = {"TYPE": "FILESYSTEM", "SOURCE": "/srv/shared"}
_OS, _DATA, _NIC = {"IMAGE": "os"}, {"IMAGE": "data"}, {"NETWORK": "net"}
_KERNEL = {"OS": [{"KERNEL": "/boot/vmlinuz"}]}
_ROOM = {"MEMORY_MAX": "1024", "VCPU_MAX": "4"}
OPERATIONS = (
    Operation("a disk comes", {"disks": [_OS, _DATA]}, {"disks": [_OS]}),
    Operation("a disk goes, with `detach: true`", {"disks": [_OS], "detach": True}, {"disks": [_OS, _DATA]}),
    Operation(
        "a disk becomes larger",
        {"disks": [_OS, {**_DATA, "SIZE": "16"}]},
        {"disks": [_OS, {**_DATA, "SIZE": "8"}]},
    ),
    Operation("limits of a disk (`TOTAL_IOPS_SEC` …)", _disk(TOTAL_IOPS_SEC="50"), _disk(), False),
    Operation("`CACHE`, `DISCARD`, `IO` of a disk", _disk(CACHE="unsafe"), _disk(), False),
    Operation(
        "another medium of a CD-ROM, with `detach: true`",
        {"disks": [_OS, {"IMAGE": "other"}], "detach": True},
        {"disks": [_OS, {"IMAGE": "iso"}]},
        containers=False,
    ),
    Operation("a directory of the host comes or goes", {"disks": [_OS, _SHARED]}, {"disks": [_OS]}, False),
    Operation("a NIC comes", {"nics": [_NIC, _NIC]}, {"nics": [_NIC]}),
    Operation("a NIC goes, with `detach: true`", {"nics": [_NIC], "detach": True}, {"nics": [_NIC, _NIC]}),
    Operation("the link of a NIC (`LINK`)", _nic(LINK="down"), _nic()),
    Operation("limits of a NIC (`INBOUND_AVG_BW` …)", _nic(INBOUND_AVG_BW="50"), _nic()),
    Operation("`VLAN_TAGGED_ID` of a NIC", _nic(VLAN_TAGGED_ID="20"), _nic()),
    Operation(
        "`SECURITY_GROUPS` and filters of a NIC",
        _nic(NETWORK="filtered", SECURITY_GROUPS="100"),
        _nic(NETWORK="filtered"),
    ),
    Operation("`MODEL` of a NIC", _nic(MODEL="e1000"), _nic(), False),
    Operation("`cpu`", {"cpu": 2}, {"cpu": 1}),
    Operation("`CPULIMIT`", _attributes(CPULIMIT="80"), _attributes(CPULIMIT="50")),
    Operation("`memory`, of which more was reserved", {"memory": 512, **_attributes(**_ROOM)}, _attributes(**_ROOM)),
    Operation("`memory`", {"memory": 512}),
    Operation("`vcpu`, of which more was reserved", {"vcpu": 2, **_attributes(**_ROOM)}, _attributes(**_ROOM)),
    Operation("`vcpu`", {"vcpu": 2}),
    Operation("`context`", {"context": {"TOKEN": "new"}}, {"context": {"TOKEN": "old"}}),
    Operation(
        "`context` of a machine that starts from a `KERNEL`",
        {"context": {"TOKEN": "new"}, **_attributes(**_KERNEL)},
        {"context": {"TOKEN": "old"}, **_attributes(**_KERNEL)},
        False,
    ),
    Operation(
        "the password of the console (`PASSWD`)",
        _attributes(GRAPHICS=[{"TYPE": "vnc", "PASSWD": "second"}]),
        _attributes(GRAPHICS=[{"TYPE": "vnc", "PASSWD": "first"}]),
        False,
    ),
    Operation("another console", _attributes(GRAPHICS=[{"TYPE": "vnc"}]), containers=False),
    Operation("`VIDEO`, `IOMMU`", _attributes(VIDEO=[{"TYPE": "vga"}]), containers=False),
    Operation(
        "what it has of its host to itself: `PIN_POLICY`, `NUMA_NODE`, `HUGEPAGE_SIZE`, `PCI`, `MEMORY_ENCRYPTION`",
        _attributes(PCI=[{"CLASS": "0302"}]),
        containers=False,
    ),
    Operation("`OS`, `FEATURES`, `CPU_MODEL`, `TOPOLOGY`", _attributes(FEATURES=[{"PAE": "YES"}]), containers=False),
)


BASE = {
    "name": "web",
    "template": "web",
    "memory": 256,
    "vcpu": 1,
    "disks": [{"IMAGE": "os"}],
    "nics": [{"NETWORK": "net"}],
}


class Site:
    """One catalog with a host of that hypervisor.
    files: of its images, by their names; those that are not there have some name.
    bridges: of its two networks, of which the second is filtered by its nodes."""

    def __init__(
        self,
        place: str,
        hypervisor: str,
        files: Mapping[str, str] = _NOTHING,
        bridges: tuple[str, str] = ("ovsbr0", "br1"),
    ) -> None:
        self.hypervisor = hypervisor
        self.engine = engine = EmbeddedEngine(place, create=True)
        kind = "tar" if self.is_container else "qcow2"
        with engine.session():
            own = HostHardware(iommu=True, devices=(PciDevice("0000:01:00.0", "10de", "1eb8", "0302"),))
            host = Host(None, "node1", hypervisor, state=HostState.MONITORED, memory=8192, cpu=16.0, hardware=own)
            engine.hosts.allocate(host)
            for name, type_, format_ in (
                ("os", ImageType.OS, kind),
                ("data", ImageType.DATABLOCK, "raw"),
                ("iso", ImageType.CDROM, "raw"),
                ("other", ImageType.CDROM, "raw"),
            ):
                image = engine.images.allocate(Image(None, name, type=type_, attributes={"TRUSTED": "YES"}))
                engine.images.update(
                    image.id, state=ImageState.READY, size=8, format=format_, source=files.get(name, f"/{name}")
                )
            ranges = (AddressRange(0, "IP4", 50, ip="10.66.0.10"),)
            engine.networks.allocate(
                Network(None, "net", bridge=bridges[0], vn_mad=self._driver, address_ranges=ranges)
            )
            on = {"FILTERS_ON_NODE": "YES"}
            filtered = Network(None, "filtered", bridge=bridges[1], attributes=on, address_ranges=ranges)
            engine.networks.allocate(filtered)
            engine.security_groups.allocate(SecurityGroup(None, "web"))
            engine.templates.allocate("web", Template.from_mapping({"CPU": "1", "CONTEXT": {"NETWORK": "YES"}}))

    @property
    def is_container(self) -> bool:
        return "tar" in hypervisor_rules.rules_of(self.hypervisor).formats

    @property
    def _driver(self) -> str:
        return "bridge" if self.hypervisor == "openvz" else "ovswitch"

    def becomes(self, operation: Operation, state: str) -> str:
        """What becomes of the change of a machine in that state."""
        if self.decide({**BASE, **operation.before, "state": "running"}).error is not None:
            return NONE
        before = set(self.warnings)
        self._record("RUNNING")
        if state != "RUNNING":
            self.decide({**BASE, **operation.before, "state": state.lower()})
            self._record(state)
        return self._word(operation, self.decide({**BASE, **operation.after, "state": state.lower()}), before)

    def _word(self, operation: Operation, outcome: Any, before: set[str]) -> str:
        if outcome.differs or outcome.error is not None:
            return REFUSED
        changed = {each.part for each in outcome.parts}
        idle = [text for text in self.warnings if text not in before or any(f" {name} is" in text for name in changed)]
        if any("is kept, and nothing acts on it" in text for text in idle):
            return NO_EFFECT
        words = {part.when for part in outcome.parts if part.when}
        if len(words) > 1:
            raise AssertionError(f"{operation.what}: {words}")
        if words:
            return words.pop()
        acting = [change for change in outcome.changes if change.how != "catalog"]
        return OFF if acting else NO_EFFECT

    def decide(self, item: dict[str, Any]) -> Any:
        with self.engine.session():
            outcomes, self.warnings = reconcile(self.engine, [item])
            self.plans = self.engine.vms.plans()
            self.planned = [each for plan in self.plans.values() for each in plan.vms]
        # What was refused first is why.
        return outcomes[0]

    def bring_running(self, item: dict[str, Any]) -> None:
        """Have the machine as the item says, on a node that obeys."""
        outcome = self.decide({**item, "state": "running"})
        if outcome.error is not None:
            raise outcome.error
        self._record("RUNNING")

    def _record(self, state: str) -> None:
        with self.engine.session():
            for each in self.planned:
                self.engine.vms.record("node1", [VmOutcome(each.vm.vm_id, each.generation, state, True)])


@cache
def table() -> dict[tuple[str, str, str], str]:
    """By what is changed, hypervisor and state, the word for it; nothing where the hypervisor has no such thing."""
    found = {}
    for hypervisor in HYPERVISORS:
        for operation in OPERATIONS:
            for state in STATES:
                with tempfile.TemporaryDirectory() as place:
                    site = Site(place, hypervisor)
                    try:
                        if operation.containers or not site.is_container:
                            found[operation.what, hypervisor, state] = site.becomes(operation, state)
                    finally:
                        site.engine.close()
    return found


HEAD = """# What becomes of a change

What a run does with each change of a machine that runs. Made by `make changes` from what the catalog decides by the
hypervisors' own declarations.

| word | means |
|---|---|
| at once | the machine has it when the run ends; a guest may have to agree, or to look |
| at its next start | the machine's definition has it, and the run says that it waits; `nebula_restart` starts it anew |
| no effect | the hypervisor has no such thing, and a warning says so |
| refused | the hypervisor can't have it |
| – | it has nothing of that kind |

A machine that is off gets all of them in the same run. A machine that is suspended gets what its memory does not hold
(the catalog's own, CPU, and `context` where a running machine gets that at once); anything else is told as a difference
until it runs or is off.
"""


def page() -> str:
    found = table()
    names = {"kvm": "KVM", "xen": "Xen (`xl`)", "xen_libvirt": "Xen (libvirt)", "lxc": "LXC", "openvz": "OpenVZ"}
    lines = [
        HEAD,
        f"| change | {' | '.join(names[each] for each in HYPERVISORS)} |",
        "|---|" + "---|" * len(HYPERVISORS),
    ]
    for operation in OPERATIONS:
        words = [found.get((operation.what, each, "RUNNING"), NONE) for each in HYPERVISORS]
        lines.append(f"| {operation.what} | {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print(f"{PAGE.relative_to(ROOT)} is not what is decided: run `make changes`")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
