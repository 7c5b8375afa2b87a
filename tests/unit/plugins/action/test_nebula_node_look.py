# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles call on a node, looked at in one call."""

from __future__ import annotations

from looking_runs import LOOKS, looked

NODE = next(options for module, options in LOOKS if module == "nebula_node_look")
LOOK = {"nebula.provision.nebula_node_look": NODE, "register": "looked"}


def test_what_earlier_looks_found_is_known_and_a_bare_host_differs(tmp_path):
    known = {
        "__nebula_frontend": {"frontend": {"catalog": "c", "transfer_key": ""}},
        "__nebula_networks": {"networks": [], "known": [], "as_of": 1.0, "catalog": "c"},
    }
    variables = {"nebula_root": str(tmp_path / "nebula"), "nebula_manage_packages": False}
    before = {"__nebula_catalog_look": {"differs": "", "facts": known}}
    found = looked(tmp_path, [LOOK], "--check", **variables, **before)
    assert found["differs"].startswith("__nebula_node: ") and not found["changed"]
    # The node was asked about, and what follows from its answer is left open. What was known is not said once more.
    assert [*found["facts"]] == ["__nebula_node"] and "answers" not in found
    assert not (tmp_path / "nebula").exists()


def test_machines_that_are_to_be_adopted_are_the_roles_matter(tmp_path):
    found = looked(tmp_path, [LOOK], nebula_adopt_unknown={"node1": {"a": 1}})
    assert found["differs"] == "nebula_deploy: {{ nebula_adopt_unknown | length > 0 }}"
