# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process of a task has the collection's filters from the run's main process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ansible_collections.nebula.provision.plugins.plugin_utils.loaded_filters import ANY

ROOT = Path(__file__).resolve().parents[4]
# In an interpreter of its own, since a session of tests has loaded filters before.
PROGRAM = """
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([{collections!r}])
from ansible.plugins import loader
from ansible_collections.nebula.provision.plugins.action import {action}
cache = loader.filter_loader._module_cache
known = {{*cache}}
loader.filter_loader.get({name!r})
print(len([path for path in known if "/nebula/provision/" in path]), len({{*cache}} - known))
"""


def loaded(action: str) -> list[int]:
    program = PROGRAM.format(collections=str(ROOT / "collections"), action=action, name=ANY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_who_imports_the_plugin_of_an_early_task_has_all_filters() -> None:
    files = [path for path in (ROOT / "plugins/filter").glob("*.py") if path.stem != "__init__"]
    for action in ("nebula_changes", "nebula_frontend_look", "nebula_node_look"):
        assert loaded(action) == [len(files), 0]
    assert loaded("nebula_vm")[0] == 0
