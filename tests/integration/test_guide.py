# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of the guide does what the guide says, as it stands there; its image is built already, as a world has
no way to Debian's packages."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml
from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.site_runs import ROOT, Site

GUIDE = ROOT / "docs/guide.md"
MARK = "<!-- test: this inventory is run -->"
RUNNING = 3


class Copied(Site):
    """Nothing is set that the guide does not set, but where all of it is."""

    def __init__(self, image: str) -> None:
        super().__init__(image)
        self.image = image

    def inventory(self, **_changes: object) -> Path:
        text = re.search(rf"{re.escape(MARK)}\n```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
        assert text
        content, found = re.subn(r"( +)nebula_demo_image: \S+\n", "", text[1])
        content, times = re.subn(r"path: /var/lib/nebula/demo.qcow2", f"path: {self.image}", content)
        assert (found, times) == (1, 1)
        path = self.directory / "hosts.yml"
        path.write_text(content.replace("/var/lib/nebula", str(self.root)), encoding="utf-8")
        return path


def left(site: Site) -> set[str]:
    """The files and directories of a host that a run could leave."""
    places = ("/run", "/var/log", "/var/lib", "/var/cache", "/etc", str(site.directory / "home"))
    # What libvirt's daemons make when they first start, and Ansible for itself.
    theirs = re.compile(
        r"/etc/libvirt/|/run/libvirt|/run/mount$|/var/(?:cache|lib)/libvirt/qemu/"
        rf"|{re.escape(str(site.directory))}/home/\.ansible(?:/tmp.*)?$"
    )
    found = (
        os.path.join(top, name) for place in places for top, more, names in os.walk(place) for name in more + names
    )
    return {path for path in found if not theirs.match(path)}


@in_bare_world
def test_the_inventory_of_the_guide_is_run_as_it_is(image: str) -> None:
    site = Copied(image)
    assert set(yaml.safe_load(site.inventory().read_text())) == {"all", "nebula_frontend", "nebula_nodes"}
    before = left(site)
    root = ("-e", f"nebula_root={site.root}", "-e", "nebula_manage_packages=false")
    code, output = site.run("site.yml", *root)
    assert code == 0, output
    # Each guest has said on its console that it is what it was told to be: else the run would have failed.
    assert "Wait until the guests say" in output and re.search(r"web-1 +alpha +RUNNING +10\.66\.0\.11", output), output
    code, output = site.run("site.yml", *root)
    assert code == 0 and re.search(r"^alpha +: ok=\d+ +changed=0 ", output, re.MULTILINE), output
    code, output = site.run("playbooks/teardown.yml", *root)
    assert code == 0 and not site.root.exists(), output
    remains = sorted(left(site) - before)
    assert remains == [], "\n".join(remains)
