# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what a machine that an earlier release made has less than a new one of its template would have."""

from __future__ import annotations

from ...engines.ports import VmRecord
from ...model.instantiate import growth, hardware_version


def doubts_of_age(record: VmRecord) -> list[str]:
    """Return warnings if a machine that is there has less than a new one of its template would have."""
    if record.request is None:
        return []
    doubts = (
        growth.doubt_of_machine(record.hypervisor, record.growth, record.request),
        hardware_version.doubt_of_machine(record.hypervisor, record.hardware_version, record.request),
    )
    return [f"VM {record.name}: {doubt}" for doubt in doubts if doubt]
