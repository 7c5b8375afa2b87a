# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and says truthfully what would change, without changing it.
    support: full
  diff_mode:
    description: Returns what has changed or would change, in diff mode. Secrets are not part of it.
    support: full
  platform:
    description: The systems that this can act on.
    platforms: posix
    support: full
"""

    # For modules that only read.
    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode. It changes nothing in any case.
    support: full
  diff_mode:
    description: There is never a difference to show.
    support: N/A
  platform:
    description: The systems that this can act on.
    platforms: posix
    support: full
"""
