# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads CPU, CPULIMIT, VCPU and MEMORY: how much of a host a machine takes."""

from __future__ import annotations

import re

from ...errors import InvalidValue
from .. import beancounters, defaults
from ..template import Template
from .template_values import read_whole

_UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}


def cpu_of(template: Template, where: str) -> float:
    """Return the processors that CPU asks for, in parts of one: 0.5 is half a processor."""
    text = template.get("CPU").strip()
    if not text:
        return defaults.CPU
    if re.fullmatch(r"[0-9]{0,6}\.?[0-9]{0,9}", text) and text != "." and float(text) > 0:
        return float(text)
    raise InvalidValue(
        f"{where}: CPU = {text!r}", "it is not a number of processors above 0", "Half a processor is CPU = 0.5"
    )


def cpu_limit_of(template: Template, where: str) -> int:
    """Return the percents of one processor that CPULIMIT allows at most; 0 is no limit."""
    text = template.get("CPULIMIT").strip() or "0"
    return read_whole(text, f"{where}: CPULIMIT", "Give percents of one processor: 50 is half of one, 0 no limit")


def vcpu_of(template: Template, where: str) -> int | None:
    """Return the processors that the guest sees, None where VCPU does not say."""
    text = template.get("VCPU").strip()
    return read_whole(text, f"{where}: VCPU", "Give a whole number, at least 1", lowest=1) if text else None


def memory_of(template: Template, where: str) -> int:
    """Return the memory in MiB; raise InvalidValue where the template has none."""
    text = template.get("MEMORY").strip()
    vectors = template.vectors("MEMORY")
    if vectors and not text:
        return beancounters.memory_mib(vectors[0], f"{where}: MEMORY")
    if not text:
        raise InvalidValue(f"{where}: MEMORY", "it is not set", "Give it in MB: MEMORY = 512")
    remedy = "Give whole MB: MEMORY = 512"
    unit = re.fullmatch(r"([0-9]{1,9})\s*([KMGT])I?B?", text.upper())
    if unit and int(unit.group(1)) * _UNITS[unit.group(2)] >= 1:
        remedy = f"It is in MB: write MEMORY = {int(int(unit.group(1)) * _UNITS[unit.group(2)])}"
    return read_whole(text, f"{where}: MEMORY", remedy, lowest=1)
