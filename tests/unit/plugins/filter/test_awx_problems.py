# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter over surveys/job_templates.py, whose tests have the rules."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.awx_problems import FilterModule

awx_problems = FilterModule().filters()["awx_problems"]


def test_each_problem_is_a_sentence():
    assert awx_problems([{"name": "audit", "playbook": "audit.yml"}], []) == []
    assert awx_problems([{"name": "audit"}], []) == [
        "nebula_awx_job_templates: audit: there is no playbook. Name a file of the project, as site.yml"
    ]
