# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles image_prepare and image_check as a playbook runs them: an image is prepared, imported, and a machine asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.tests.integration.guests import cloud_init, debian

ROOT = Path(__file__).resolve().parents[2]
PLAYS = [
    {"ansible.builtin.import_playbook": "nebula.provision.check_inventory"},
    {"hosts": "nebula_frontend", "roles": ["nebula.provision.frontend"]},
    {
        "hosts": "nebula_nodes",
        "roles": [
            f"nebula.provision.{role}"
            for role in ("node", "image_prepare", "image", "network", "template", "image_check")
        ],
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "dest": "{{ results }}",
                    "content": "{{ {'images': __nebula_image_checks.images, 'vms': info.vms} | to_json }}",
                    "mode": "0600",
                }
            }
        ],
    },
]
READ = {"nebula.provision.nebula_info": {"gather": ["vms"], "root": "{{ nebula_root }}"}, "register": "info"}
EXPECTED = {
    "console-log": "pass",
    "context-ran": "pass",
    "host-name": "pass",
    "file-injection": "pass",
    "attached-storage": "pass",
    "snapshot": "pass",
    "root-grown": "pass",
    "key-login": "pass",
}
# There is no ssh in its image.
EXPECTED_OF_CLOUD = {**EXPECTED, "key-login": "not tested"}

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]


def booted_directly(name, guests):
    """Images of a guest's kernel and initrd, and what a template says of them."""
    files = {f"{name}-kernel": ("KERNEL", guests.kernel), f"{name}-initrd": ("RAMDISK", guests.initrd)}
    images = [{"name": file, "type": kind, "path": str(path)} for file, (kind, path) in files.items()]
    system = {"KERNEL_DS": f'$FILE[IMAGE="{name}-kernel"]', "INITRD_DS": f'$FILE[IMAGE="{name}-initrd"]'}
    return images, {**system, "KERNEL_CMD": guests.append}


def test_machines_are_asked(tmp_path):
    guests, cloud = debian.images(), cloud_init.image()
    image = tmp_path / "small.qcow2"
    shutil.copy(guests.disks["networkd"], image)
    images = [{"name": "small", "path": str(image)}, {"name": "cloud", "path": str(cloud.disk)}]
    templates = []
    for name, memory, system in (("small", 384, guests), ("cloud", 640, cloud)):
        files, booted = booted_directly(name, system)
        images += files
        template = {"CPU": 0.2, "MEMORY": memory, "OS": booted, "NIC": {"NETWORK": "Public"}}
        templates.append({"name": name, "template": template})
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "/usr/bin/python3",
        "results": str(tmp_path / "results.json"),
        "nebula_root": "{{ lookup('ansible.builtin.env', 'NEBULA_WORLD') }}/nebula",
        "nebula_reserved_memory": 0,
        "nebula_manage_packages": False,
        "nebula_image_prepares": [{"path": str(image), "files": [{"path": "/etc/motd", "content": "prepared\n"}]}],
        "nebula_images": [{**item, "remote_src": True} for item in images],
        "nebula_networks": [
            {
                "name": "Public",
                "bridge": "nbrchk0",
                "network_address": "10.66.6.0",
                "network_mask": "255.255.255.0",
                "address_ranges": [{"type": "IP4", "ip": "10.66.6.10", "size": 9}],
            }
        ],
        "nebula_templates": templates,
        "nebula_image_checks": [
            {"name": "small", "template": "small"},
            {"name": "cloud", "template": "cloud", "context_format": "nocloud"},
        ],
        "nebula_image_check_mode": "both",
        "nebula_image_check_timeout": 400,
        "nebula_image_check_report": str(tmp_path / "report.html"),
    }
    groups = {name: {"hosts": {"here": {}}} for name in ("nebula_frontend", "nebula_nodes")}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"vars": variables, "children": groups}}))
    plays = [{**play, "tasks": [READ, *play["tasks"]]} if "tasks" in play else play for play in PLAYS]
    (tmp_path / "play.json").write_text(json.dumps(plays))
    playbook = Path(sys.executable).parent / "ansible-playbook"
    done = subprocess.run(
        [sys.executable, ROOT / "tests/tools/world.py", "--", playbook, "-i", tmp_path / "hosts.json"]
        + [tmp_path / "play.json"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    found = json.loads((tmp_path / "results.json").read_text())
    # None of these machines stays.
    assert found["vms"] == []
    small, cloud = ({point["point"]: point for point in view["points"]} for view in found["images"])
    for points, expected in ((small, EXPECTED), (cloud, EXPECTED_OF_CLOUD)):
        assert {name: points[name]["result"] for name in expected} == expected, [points[name] for name in expected]
    assert (small["context"]["result"], small["tmp"]["result"]) == ("pass", "pass")
    assert "nebula-context" in small["context-ran"]["why"]
    assert cloud["context"]["result"] == "pass"
    assert "cloud-init" in cloud["context"]["why"] and "cloud-init" in cloud["context-ran"]["why"]
    # Without a user's name the key is for the one that the distribution has.
    assert cloud["key-login"]["why"].startswith("debian has got the key")
    assert "small  attached-storage" in done.stdout
    assert "written and read back as vdb" in (tmp_path / "report.html").read_text()
