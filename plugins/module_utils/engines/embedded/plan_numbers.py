# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers the plans, and tells whether a node that names a plan was given it.

Each plan goes to its node with a proof: a code over its number by a key that only the catalog has. A node keeps the
proof beside the number and shows both, so that it can name no plan but those that there were. Copies of a catalog have
the same key: a number above the newest of this one, with its proof, shows that this one is an older copy."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...model.plan import Observed
    from .store import Store

# How many plans, or ids, may have come after a copy of the catalog was made. What a node names above that, without a
# proof, it has made up.
PLAUSIBLE = 100_000


class PlanNumbers:
    def __init__(self, store: Store) -> None:
        self.store = store

    def newest(self) -> int:
        """Return the number of the newest plan, 0 before the first."""
        return int(self.store.meta("plan"))

    def take(self) -> int:
        """Return the number of a new plan. It is called within a transaction of the store."""
        self.store.db.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'plan'")
        return self.newest()

    def use_key(self, key: str, since: int) -> None:
        """Go on with the key of the catalog that is replaced, since its proofs are what the nodes have. It is called
        within a transaction of the store. since: the newest plan of that catalog that went out without a proof."""
        for name, value in (("plan_key", key), ("plan_key_since", str(since))):
            self.store.db.execute("UPDATE meta SET value = ? WHERE key = ?", (value, name))

    def proof(self, number: int) -> str:
        """Return what shows that this catalog has given the number to a node: 32 hexadecimal digits."""
        key = self.store.meta("plan_key").encode()
        return hmac.new(key, f"plan {number}".encode(), hashlib.sha256).hexdigest()[:32]

    def is_proved(self, node: Observed) -> bool:
        """Return whether the node shows the proof of the plan that it names."""
        return hmac.compare_digest(self.proof(node.plan_number).encode(), node.plan_proof.encode())

    def is_credible(self, node: Observed) -> bool:
        """Return whether the node can have followed the plan that it names, which is newer than the catalog's newest.

        Plans of older versions of this collection had no proof. As long as the catalog has given none itself, it may be
        an older copy from that time."""
        if self.is_proved(node):
            return True
        gave_proofs = self.newest() > int(self.store.meta("plan_key_since"))
        return not gave_proofs and self.is_plausible(node.plan_number)

    def is_plausible(self, number: int) -> bool:
        """Return whether so many plans may have been made after a copy of the catalog was."""
        return number - self.newest() <= PLAUSIBLE

    def highest_of(self, nodes: Iterable[Observed]) -> int:
        """Return the highest number that a node can have followed, 0 if there is none. It is one too high rather than
        one too low, since new plans go above it."""
        return max(
            (each.plan_number for each in nodes if self.is_proved(each) or self.is_plausible(each.plan_number)),
            default=0,
        )
