# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a file a raw disk to those that look at it."""

from __future__ import annotations

# A sector of boot code and an empty partition table.
BOOT = bytes(510) + b"\x55\xaa"
