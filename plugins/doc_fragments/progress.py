# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # module_utils/arguments.py: PROGRESS
    DOCUMENTATION = r"""
options:
  _progress_file:
    description:
      - Where the module writes how far it is. The action plugin that starts the module sets it, and shows that.
      - It is not for playbooks.
    type: path
"""
