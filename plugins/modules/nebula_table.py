#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_table
short_description: Print a table in the run's output
version_added: 0.1.0
description:
  - Prints rows as aligned text, at normal verbosity, in a terminal and as an event of ansible-runner.
  - It runs on the control node and changes nothing.
options:
  title:
    description: A line above the table.
    type: str
  columns:
    description: Keys of the rows, in their order. V(key=HEADING) gives a column another heading than its key.
    type: list
    elements: str
    required: true
  rows:
    description: The rows.
    type: list
    elements: dict
    default: []
  empty:
    description: What to print when there are no rows.
    type: str
    default: none
  notes:
    description: Lines below the table.
    type: list
    elements: str
    default: []
  statistic:
    description:
      - Name of a custom statistic of the run, as M(ansible.builtin.set_stats) sets it, that gets the rows with the keys
        of O(columns). AWX shows it as an artifact of the job, and gives it to the next nodes of a workflow.
    type: str
    version_added: 0.2.0
  statistic_keys:
    description: Keys of the rows that the statistic has besides those of O(columns).
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  statistics:
    description: Further custom statistics, by their names.
    type: dict
    default: {}
    version_added: 0.2.0
attributes:
  check_mode:
    description: Can run in check mode. It changes nothing in any case.
    support: full
  diff_mode:
    description: There is never a difference to show.
    support: N/A
  platform:
    description: Runs on the control node.
    platforms: posix
    support: full
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Print the machines
  nebula.provision.nebula_table:
    title: Virtual machines
    columns: [id, name, state, ip, console=CONSOLE LOG]
    rows: "{{ info.vms }}"
    statistic: nebula_stats_vms
"""

RETURN = r"""
lines:
  description: The table's lines, the heading first.
  returned: always
  type: list
  elements: str
"""
