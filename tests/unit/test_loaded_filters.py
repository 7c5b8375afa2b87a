# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible loads each filter of a collection to find one, in each of its processes, so that none may load much."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOADED = """
import pkgutil, sys
from importlib import import_module
filters = import_module("ansible_collections.nebula.provision.plugins.filter")
names = [each.name for each in pkgutil.iter_modules(filters.__path__, f"{filters.__name__}.")]
before = {*sys.modules}
for name in names:
    import_module(name).FilterModule().filters()
print(*(name.rpartition(".plugins.")[2] for name in {*sys.modules} - before if ".nebula." in name))
"""
# What decides about machines, draws pages, and prepares the calls of modules.
DEAR = ("module_utils.model.vm", "module_utils.model.image", "plugin_utils.topology", "plugin_utils.packing")


def test_loading_all_filters_loads_nothing_dear() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        env={"PYTHONPATH": str(ROOT / "collections")},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    assert "filter.topology_page" in loaded
    assert [name for name in loaded if name.startswith(DEAR)] == []
