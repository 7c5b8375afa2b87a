# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says how much memory QEMU takes of a host beside that of its machine. Pure."""

from __future__ import annotations

from ...model.host import Overhead
from .domain_xml import TRANSLATED

# At most, by what benchmarks/overhead.py measures. QEMU itself takes 21 MiB, and may take screen memory (16) and caches
# of disks; each processor its stack, and when emulated what its memory accesses are looked up in; page tables too.
# Emulated besides: translated code, which is limited (it was 510 MiB of a guest of 64, and growing), and what is noted
# of it: a guest that made all of it that it could took 209 MiB.
BY_KVM = Overhead(fixed=64, vcpu=4, share=1 / 256)
EMULATED = Overhead(fixed=128 + TRANSLATED, vcpu=8, share=1 / 32)
