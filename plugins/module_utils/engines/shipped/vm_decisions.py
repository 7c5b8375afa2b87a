# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names what decides about machines, of each engine, beside what vms.py names."""

from __future__ import annotations

from ..embedded.vms import actions, adopt, instantiate, moving, plans, recreate, update
from . import vms

__all__ = ("actions", "adopt", "instantiate", "moving", "plans", "recreate", "update", "vms")
