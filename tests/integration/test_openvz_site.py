# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on a host of OpenVZ, whose vzctl is a stand-in: no container runs. The lists are those of KVM, but for
the image and what has to be said of a veth."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import container_config, vzctl
from ansible_collections.nebula.provision.tests.integration.openvz_node import installed
from ansible_collections.nebula.provision.tests.integration.site_runs import Site, host_state, recap, torn_down

TEMPLATE = """
CPU = 0.1
MEMORY = 64
DISK = [ IMAGE = "debian-busybox", SIZE = 100 ]
DISK = [ TYPE = swap, SIZE = 32 ]
NIC = [ NETWORK = "Public", MODEL = "veth" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""


class Containers(Site):
    def __init__(self, image: Path) -> None:
        super().__init__(str(image))
        self.variables |= {
            "nebula_hypervisor": "openvz",
            # No guest is there to say that it is up.
            "nebula_verify": False,
            "nebula_images": [{"name": "debian-busybox", "path": str(image), "format": "tar"}],
            "nebula_templates": [{"name": "web", "template": TEMPLATE}],
        }


@pytest.mark.timeout(600)
@in_bare_world
def test_the_whole_flow_on_containers_by_vzctl() -> None:
    with installed() as node:
        image = Path(os.environ["NEBULA_WORLD"], "root.tar.gz")
        shutil.copy(node.image, image)
        before = host_state()
        with torn_down(Containers(image)) as site:
            code, output = site.run("site.yml", "--check")
            assert code == 0, output
            code, output = site.run("site.yml")
            assert code == 0 and "web-1" in output, output
            assert recap(output)["changed"] > 0
            code, output = site.run("site.yml")
            assert code == 0 and recap(output)["changed"] == 0, output
            for number, address in enumerate(("10.66.0.10", "10.66.0.11")):
                text = (vzctl.CONFIGURATIONS / f"{100000 + number}.conf").read_text(encoding="utf-8")
                values = container_config.read(text).values
                assert values["DISKSPACE"] == "102400:102400" and values["PHYSPAGES"] == "0:64M", text
                directory = site.root / f"datastores/0/{number}"
                context = (directory / "images/private/mnt/context.sh").read_text(encoding="utf-8")
                assert f"ETH0_IP='{address}'" in context and f"SET_HOSTNAME='web-{number}'" in context, context
                # Its root and its swap space are in no file of ours.
                assert sorted(name for name in os.listdir(directory) if name.startswith("disk.")) == ["disk.2"]
            code, output = site.run("playbooks/audit.yml")
            assert code == 0, output
            code, output = site.run("playbooks/status.yml")
            assert code == 0 and "RUNNING" in output, output
            wrong = {"name": "disk", "template": "web", "attributes": {"HYPERVISOR": "kvm"}}
            code, output = site.run("site.yml", nebula_vms=[*site.variables["nebula_vms"], wrong])
            assert code != 0 and "VM disk: a host that runs kvm" in output, output
        assert host_state() == before
        assert os.listdir("/etc/vz/conf") == os.listdir("/etc/vz/names") == os.listdir(vzctl.cache()) == []
