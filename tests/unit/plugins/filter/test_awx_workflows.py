# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter over surveys/job_templates.py, whose tests have the rules."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.awx_workflows import FilterModule

awx_workflows = FilterModule().filters()["awx_workflows"]


def test_a_workflow_of_a_job_without_questions_has_no_survey():
    jobs = [{"name": "audit", "playbook": "audit.yml"}]
    (made,) = awx_workflows([{"name": "all", "nodes": [{"name": "a", "job_template": "audit"}]}], jobs, "n ")
    assert (made["name"], made["survey_enabled"], made["survey_spec"]) == ("n all", False, {})
