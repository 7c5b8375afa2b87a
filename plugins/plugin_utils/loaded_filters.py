# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads the collection's filters before Ansible makes the processes of tasks.

Ansible loads all filters of a collection to find one, in each process that needs one: 0.04 s of a processor for each
task. It imports the plugin of an action before it makes the process of each of its tasks, which then has what is loaded
by then. So plugins whose tasks come early in a run import this file."""

from __future__ import annotations

import contextlib

from ansible.plugins.loader import filter_loader

ANY = "nebula.provision.variable"

# Where a plugin is imported without a run, there is no collection in which Ansible could find filters.
with contextlib.suppress(KeyError):
    filter_loader.get(ANY)
