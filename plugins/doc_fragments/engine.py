# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # module_utils/arguments.py: ENGINE
    DOCUMENTATION = r"""
options:
  engine:
    description:
      - What decides and remembers.
      - V(embedded) is the catalog that this collection keeps on the front-end, an SQLite file.
    type: str
    choices: [embedded]
    default: embedded
  root:
    description:
      - Directory below which everything of this collection lies. The catalog is C(nebula.db) in it.
      - It has to be on a local file system.
    type: path
    default: /var/lib/nebula
"""

    # module_utils/arguments.py: ENGINE, of modules that ask no catalog
    ROOT = r"""
options:
  engine:
    description: Not used here. It is taken so that C(module_defaults) may set it for the whole action group.
    type: str
    choices: [embedded]
    default: embedded
    version_added: 0.2.0
  root:
    description:
      - Directory below which everything of this collection lies.
    type: path
    default: /var/lib/nebula
"""

    # module_utils/arguments.py: ENGINE, of modules that need neither
    UNUSED = r"""
options:
  engine:
    description: Not used here. It is taken so that C(module_defaults) may set it for the whole action group.
    type: str
    choices: [embedded]
    default: embedded
    version_added: 0.2.0
  root:
    description: Not used here. It is taken so that C(module_defaults) may set it for the whole action group.
    type: path
    default: /var/lib/nebula
    version_added: 0.2.0
"""
