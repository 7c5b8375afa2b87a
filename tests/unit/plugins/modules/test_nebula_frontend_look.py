# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of a front-end asked in one call: as they are in calls of their own."""

from __future__ import annotations

import json

from ansible_collections.nebula.provision.plugins.module_utils.calls.frontend_look import LOOK
from ansible_collections.nebula.provision.plugins.module_utils.looking import asked_of, look
from ansible_collections.nebula.provision.plugins.modules import nebula_frontend


def calls(root, **options):
    given = {"nebula_frontend": {}, "nebula_network": {"networks": []}, "nebula_image": {"images": "[]"}, **options}
    entries = [{"name": name, "module": name, "options": {"root": root, **own}} for name, own in given.items()]
    return asked_of(json.dumps(entries), LOOK)


def test_a_catalog_that_is_not_there_is_not_begun(tmp_path):
    root = tmp_path / "nebula"
    result = look(LOOK, calls(str(root)), [], False, False)
    assert result.payload["differs"] == "nebula_frontend: something is to be done"
    assert not root.exists()


def test_what_is_there_is_answered_as_by_the_modules(main, tmp_path):
    root = str(tmp_path / "nebula")
    begun = main(nebula_frontend, root=root)
    result = look(LOOK, calls(root), [], False, False)
    assert result.payload["differs"] == "" and not result.changed
    answers = result.payload["answers"]
    assert answers["nebula_frontend"]["frontend"] == begun.payload["frontend"]
    assert answers["nebula_network"]["catalog"] == begun.payload["frontend"]["catalog"]
    wanted = {"networks": [{"name": "net", "bridge": "br0", "vn_mad": "dummy"}]}
    result = look(LOOK, calls(root, nebula_network=wanted), [], False, False)
    assert result.payload["differs"] == "nebula_network: something is to be done"
    assert "nebula_image" not in result.payload["answers"]
    # Nothing of it was kept.
    assert look(LOOK, calls(root), [], False, False).payload["answers"]["nebula_network"]["known"] == []
