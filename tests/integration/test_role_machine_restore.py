# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook that restores machines, on one host: shown, foreseen, in place, as an image, as a new machine."""

from __future__ import annotations

import json
from pathlib import Path

from in_world import in_bare_world
from made_backups import MadeBackups, content_of, random_content

from ansible_collections.nebula.provision.tests.integration.site_runs import Case, recap, torn_down

MIB = 1 << 20


class Restored(Case):
    def does(self, *words: str, ends: int = 0, **given: object) -> str:
        more = [word for name, value in given.items() for word in ("-e", json.dumps({name: value}))]
        code, output = self.run("playbooks/restore_machines.yml", *words, *more)
        assert (code != 0) == bool(ends), output
        return output


@in_bare_world
def test_the_playbook() -> None:
    with torn_down(Restored()) as site:
        data = {"TYPE": "FS", "SIZE": "2", "FORMAT": "raw", "DEV_PREFIX": "vd"}
        template = {
            "CPU": "0.1",
            "MEMORY": "128",
            "DISK": [{"IMAGE": "halt", "DEV_PREFIX": "vd"}, data],
            "NIC": {"NETWORK": "Public"},
            "CONTEXT": {"NETWORK": "YES", "SET_HOSTNAME": "$NAME"},
        }
        site.variables["nebula_templates"] = [{"name": "web", "template": template}]
        site.variables["nebula_vms"] = [{"name": "db", "template": "web", "state": "poweroff", "hard": True}]
        place = MadeBackups(site.directory / "backups")
        site.variables["nebula_machine_backup_directory"] = str(place.directory)
        site.done()
        ((vm_id,),) = site.rows("SELECT id FROM vms WHERE state != 6")
        ((catalog,),) = site.rows("SELECT value FROM meta WHERE key = 'catalog'")
        disks = Path(site.root, "datastores/0", str(vm_id))
        content = content_of(disks / "disk.0")
        random = random_content(2 * MIB, "1")
        hidden = {"CONTEXT/PASSWORD": "x"}
        first = place.full(
            int(str(vm_id)),
            str(catalog),
            {0: content, 1: random},
            name="db",
            template=template,
            secrets=hidden,
            images={0: "halt"},
        )
        output = site.does(nebula_machine_restore="list")
        assert first.id in output and recap(output)["changed"] == 0
        assert "it is not said which" in " ".join(site.does(ends=1).split())
        foretold = site.does("--check", vm="db")
        assert recap(foretold)["changed"] > 0 and content_of(disks / "disk.1", "raw") != random
        output = site.does(vm="db")
        assert first.id in output and content_of(disks / "disk.1", "raw") == random
        site.does(vm="db", nebula_machine_restore_image="rescued", nebula_machine_restore_disks=[1])
        assert site.rows("SELECT count(*) FROM images WHERE name = 'rescued'") == [(1,)]
        refused = site.does(vm="db", nebula_machine_restore_as="new", ends=1)
        assert "CONTEXT/PASSWORD" in " ".join(refused.split())
        secrets = {"CONTEXT/PASSWORD": "s3cr3t-Zx9"}
        given: dict[str, object] = {"nebula_machine_restore_as": "new", "nebula_machine_restore_secrets": secrets}
        assert "Public: Public" in " ".join(site.does(vm="db", **given, ends=1).split())
        given["nebula_machine_restore_networks"] = {"Public": "Public"}
        site.does("--check", vm="db", **given)
        output = site.does(vm="db", **given)
        assert "s3cr3t-Zx9" not in output
        states = dict(site.rows("SELECT name, state FROM vms WHERE state != 6"))
        assert states == {"db": 8, "new": 3}
        site.done()
