# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares how a look asks module nebula_ovn_central: also what the hosts would do with their certificates."""

from __future__ import annotations

from ..reconcile.ovn_central import foreseen as run
from .ovn_central import ARGUMENTS

__all__ = ("ARGUMENTS", "run")
