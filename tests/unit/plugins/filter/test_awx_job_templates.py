# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter over surveys/job_templates.py, whose tests have the rules."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.awx_job_templates import FilterModule

awx_job_templates = FilterModule().filters()["awx_job_templates"]


def test_prefix_and_options_may_be_left_out():
    (made,) = awx_job_templates([{"name": "audit", "playbook": "audit.yml"}])
    assert (made["name"], made["survey_enabled"], made["extra_vars"]) == ("audit", False, {})
    (made,) = awx_job_templates([{"name": "audit", "playbook": "audit.yml"}], "n ", {"forks": 3})
    assert (made["name"], made["forks"]) == ("n audit", 3)
