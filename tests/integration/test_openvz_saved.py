# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roots of containers through playbooks, on a host of OpenVZ whose vzctl is a stand-in: another limit while one runs,
an image of one, a container of that image, what is left of one that was shut down."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import container_config, vzctl
from ansible_collections.nebula.provision.tests.integration.openvz_node import installed
from ansible_collections.nebula.provision.tests.integration.site_runs import recap, torn_down
from ansible_collections.nebula.provision.tests.integration.test_openvz_site import TEMPLATE, Containers


@pytest.mark.timeout(900)
@in_bare_world
def test_a_root_is_saved_as_an_image_and_is_a_container_again() -> None:
    with installed() as node:
        image = Path(os.environ["NEBULA_WORLD"], "root.tar.gz")
        shutil.copy(node.image, image)
        with torn_down(Containers(image)) as site:
            one = {"name": "box", "template": "web"}
            code, output = site.run("site.yml", nebula_vms=[one])
            assert code == 0, output
            directory, conf = site.root / "datastores/0/0", vzctl.CONFIGURATIONS / "100000.conf"
            (directory / "images/private/root/written").write_text("by the guest\n", encoding="utf-8")

            # Another limit, of a container that runs and goes on.
            begun = os.stat(Path(vzctl.settings()["LOCKDIR"], "100000.running")).st_mtime_ns
            larger = TEMPLATE.replace("SIZE = 100", "SIZE = 200")
            templates = [{"name": "web", "template": larger}]
            code, output = site.run("site.yml", nebula_vms=[one], nebula_templates=templates)
            assert code == 0, output
            assert container_config.read(conf.read_text(encoding="utf-8")).values["DISKSPACE"] == "204800:204800"
            assert os.stat(Path(vzctl.settings()["LOCKDIR"], "100000.running")).st_mtime_ns == begun
            assert (directory / "images/private/root/written").exists()

            # An image of its root, if the name tells what is in it.
            code, output = site.run(
                "site.yml", nebula_vms=[{**one, "save_as": [{"image": "box"}]}], nebula_templates=templates
            )
            assert code != 0 and "its name begins with no distribution" in output, output
            saved = {**one, "save_as": [{"image": "debian-box"}]}
            code, output = site.run("site.yml", nebula_vms=[saved], nebula_templates=templates)
            assert code == 0, output
            code, output = site.run("site.yml", nebula_vms=[saved], nebula_templates=templates)
            assert code == 0 and recap(output)["changed"] == 0, output

            # A container of that image, beside what was shut down and left its root as disk.0.
            templates.append({"name": "saved", "template": larger.replace("debian-busybox", "debian-box")})
            vms = [{**saved, "state": "poweroff"}, {"name": "copy", "template": "saved"}]
            code, output = site.run("site.yml", nebula_vms=vms, nebula_templates=templates)
            assert code == 0, output
            written = site.root / "datastores/0/1/images/private/root/written"
            assert written.read_text(encoding="utf-8") == "by the guest\n"
            with tarfile.open(directory / "disk.0") as tar:
                assert "./root/written" in tar.getnames()
            assert sorted(name for name in os.listdir(vzctl.cache()) if "debian-b" in name and name[0] != ".") == [
                "debian-box.tar",
                "debian-busybox.tar",
            ]
        assert os.listdir("/etc/vz/conf") == os.listdir("/etc/vz/names") == os.listdir(vzctl.cache()) == []
