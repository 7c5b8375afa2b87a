# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of modules share that are their action plugins."""

from __future__ import annotations

from types import SimpleNamespace

import yaml


def run_alone(plugin, check=False, **arguments):
    """What the plugin returns with a task's arguments; nothing else of a play is asked for."""
    task = SimpleNamespace(args=arguments, async_val=0, check_mode=check, action=plugin.__module__.rpartition(".")[2])
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    return plugin(task, connection, SimpleNamespace(), None, None, None).run(None, {})


def check_documented(module, plugin):
    """The options are documented that the plugin takes, and the examples have no others."""
    documented = yaml.safe_load(module.DOCUMENTATION)
    name = module.__name__.rpartition(".")[2]
    assert (documented["module"], set(documented["options"])) == (name, set(plugin._VALID_ARGS))
    tasks = [each.get(f"nebula.provision.{name}") for each in yaml.safe_load(module.EXAMPLES)]
    assert any(tasks)
    assert all(set(task) <= set(documented["options"]) for task in tasks if task)
