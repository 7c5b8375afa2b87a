# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter over surveys/job_templates.py, whose tests have the rules."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.awx_nodes import FilterModule

awx_nodes = FilterModule().filters()["awx_nodes"]


def test_a_node_is_of_its_workflow_and_names_its_job_template():
    flows = [{"name": "all", "nodes": [{"name": "a", "job_template": "audit"}]}]
    (made,) = awx_nodes(flows, [], "n ")
    assert (made["workflow_job_template"], made["unified_job_template"]) == ("n all", "n audit")
    (made,) = awx_nodes(flows, [], "n ", ids={"job_template": {"n audit": 7}})
    assert made["unified_job_template"] == "7"
