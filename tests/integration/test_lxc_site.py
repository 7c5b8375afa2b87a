# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on a host of containers: the lists are those of KVM, but for the image."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_container
from ansible_collections.nebula.provision.tests.integration.lxc_node import without_unified_cgroups
from ansible_collections.nebula.provision.tests.integration.site_runs import Site, host_state, recap, torn_down

TEMPLATE = """
CPU = 0.1
MEMORY = 64
DISK = [ IMAGE = "demo" ]
DISK = [ TYPE = "fs", SIZE = 16, FS = "ext4" ]
NIC = [ NETWORK = "Public" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""


class Containers(Site):
    def __init__(self, image: Path) -> None:
        super().__init__(str(image))
        self.variables |= {
            "nebula_hypervisor": "lxc",
            "nebula_images": [{"name": "demo", "path": str(image), "format": "tar"}],
            "nebula_templates": [{"name": "web", "template": TEMPLATE}],
        }


def pinged(address: str) -> bool:
    argv = ["ping", "-c", "1", "-W", "5", address]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def virsh(*words: str) -> str:
    return subprocess.run(["virsh", "-c", "lxc:///system", *words], check=True, capture_output=True, text=True).stdout


@pytest.mark.timeout(600)
@in_bare_world
def test_the_whole_flow_on_containers() -> None:
    image = Path(subprocess.run(["mktemp"], check=True, capture_output=True, text=True).stdout.strip())
    image.write_bytes(demo_container.archive(Path("/bin/busybox").read_bytes()))
    before = host_state()
    with without_unified_cgroups(), torn_down(Containers(image)) as site:
        code, output = site.run("site.yml", "--check")
        assert code == 0, output
        code, output = site.run("site.yml")
        assert code == 0 and "web-1" in output, output
        assert recap(output)["changed"] > 0
        code, output = site.run("site.yml")
        assert code == 0 and recap(output)["changed"] == 0, output
        for number, address in enumerate(("10.66.0.10", "10.66.0.11")):
            console = (site.root / f"datastores/0/{number}/console.log").read_text(errors="replace")
            assert f"nebula-guest: hostname=web-{number}" in console, console
            assert f"ip={address}/24" in console, console
            root = site.root / f"datastores/0/{number}/disk.0"
            assert root.stat().st_uid == id_range(number).start
            assert pinged(address)
        code, output = site.run("playbooks/audit.yml")
        assert code == 0, output
        code, output = site.run("playbooks/status.yml")
        assert code == 0 and "RUNNING" in output, output
        wrong = {"name": "disk", "template": "web", "attributes": {"HYPERVISOR": "kvm"}}
        ran = virsh("domid", "one-0")
        (webs,) = site.variables["nebula_vms"]
        code, output = site.run("site.yml", nebula_vms=[{**webs, "memory": 96}, wrong])
        assert code != 0 and "VM disk: a host that runs kvm" in output, output
        # The others have what they were to have, at once.
        assert re.search(r"^hard_limit *: 98304$", virsh("memtune", "one-0"), re.MULTILINE)
        assert virsh("domid", "one-0") == ran
    assert host_state() == before
