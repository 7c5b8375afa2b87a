# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which operations may be under way with an image: in which of its states each begins and goes on, and what may
follow. The catalog keeps an operation as canonical JSON, so that SQL may compare whole texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Union

from ..dataclass import dataclass
from ..errors import CatalogError, InvalidValue
from .dataclass_json import from_plain, to_plain
from .states import ImageState

# What a Rewrite does: it writes a new file; it makes the file larger where it is; it digs holes into it.
REWRITE, GROW, DIG = "rewrite", "grow", "sparse"


@dataclass(frozen=True)
class Clone:
    """Says that the image's file is being made from that of another image, whose id is image_id."""

    do: ClassVar[str] = "clone"
    image_id: int


@dataclass(frozen=True)
class Save:
    """Says that a machine's disk is being saved as the image. origin: which disk (saved_disks.origin_of)."""

    do: ClassVar[str] = "save"
    origin: str


@dataclass(frozen=True)
class Return:
    """Says that what a machine wrote to the image, or was saved as it, is on a host and has to be fetched from there.
    ran: the machine is known to have run; without that there may be nothing to fetch, and that is all right."""

    do: ClassVar[str] = "return"
    host: str
    ran: bool = True


@dataclass(frozen=True)
class Prepare:
    """Says that files are being put into the image by nebula_image_prepare. was: the state that it returns to."""

    do: ClassVar[str] = "prepare"
    was: ImageState


@dataclass(frozen=True)
class Rewrite:
    """Says that the image's content is being written anew.
    do: one of REWRITE, GROW, DIG.
    to: the values that the image has once this is done, by their names.
    was: the state that it returns to.
    whole: the new file is complete, and has only to take the place of the old one."""

    do: str
    to: Mapping[str, Any]
    was: ImageState
    whole: bool = False


Operation = Union[Clone, Save, Return, Prepare, Rewrite]

_KINDS: Mapping[str, type[Operation]] = {
    **{kind.do: kind for kind in (Clone, Save, Return, Prepare)},
    **dict.fromkeys((REWRITE, GROW, DIG), Rewrite),
}


@dataclass(frozen=True)
class OperationRule:
    """Says when an operation may be under way. The same kind may always replace itself: a step of it is noted, or
    another run begins it anew.
    begins: the states of an image without an operation in which this one may begin.
    holds: the states that the image may have meanwhile.
    follows: operations that this one may replace without an end of theirs."""

    begins: frozenset[ImageState]
    holds: frozenset[ImageState]
    follows: frozenset[type[Operation]] = frozenset()


_CONTENT = frozenset((ImageState.READY, ImageState.DISABLED))
# An image that is being removed keeps its operation to the end: the run that is at it sees that it is to stop.
_LOCKED = frozenset((ImageState.LOCKED, ImageState.DELETE))
# Every operation may end, and the image may have any state after that (docs/architecture.md draws this table).
RULES: Mapping[type[Operation], OperationRule] = {
    # It is registered with the image itself, which is LOCKED from its first moment.
    Clone: OperationRule(begins=frozenset((ImageState.LOCKED,)), holds=_LOCKED),
    # An image that an earlier attempt left is taken again, unless it may hold what that has saved.
    Save: OperationRule(begins=frozenset((ImageState.INIT, ImageState.LOCKED, ImageState.ERROR)), holds=_LOCKED),
    # It is never removed: the host would keep what nobody knows of any more. LOCKED is what was saved as a new image.
    Return: OperationRule(
        begins=frozenset((ImageState.USED_PERS, ImageState.LOCKED)),
        holds=frozenset((ImageState.LOCKED_USED_PERS, ImageState.LOCKED)),
        follows=frozenset((Save,)),
    ),
    Prepare: OperationRule(begins=_CONTENT, holds=_LOCKED),
    Rewrite: OperationRule(begins=_CONTENT, holds=_LOCKED),
}


def why_refused(before: ImageState, was: Operation | None, after: ImageState, to: Operation | None) -> str:
    """Return why an image in state `before` with the operation `was` must not get the state `after` with the operation
    `to`; an empty text if it may. Every writer of the two columns asks this."""
    if to is None:
        return ""
    rule = RULES[type(to)]
    if after not in rule.holds:
        return f"{to.do} is under way, which state {after.name} does not go with"
    if was is None and before not in rule.begins:
        return f"it is in state {before.name}, in which {to.do} does not begin"
    if was is not None and type(was) is not type(to) and type(was) not in rule.follows:
        return f"{was.do} is under way, which {to.do} does not follow"
    return ""


def write(operation: Operation | None) -> str:
    """Return the operation as the catalog keeps it: canonical JSON, the same for equal operations; "" for none."""
    if operation is None:
        return ""
    plain: dict[str, Any] = {"do": operation.do}
    for name, value in to_plain(operation).items():
        plain[name] = ImageState(value).name if name == "was" else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def read(text: str) -> Operation | None:
    """Return the operation that the catalog keeps as this text; raise CatalogError for what write() never wrote."""
    if not text:
        return None
    try:
        plain = json.loads(text)
        kind = _KINDS[plain["do"]]
        if kind is not Rewrite:
            plain.pop("do")
        if "was" in plain:
            plain["was"] = ImageState[plain["was"]]
        return from_plain(kind, plain)
    except (ValueError, KeyError, TypeError, AttributeError, InvalidValue) as error:
        raise CatalogError(
            f"the catalog's operation of an image: {text[:80]!r}",
            f"it is none that this version of the collection knows ({type(error).__name__})",
            "Use the newer nebula.provision that wrote it, or restore the catalog from a backup",
        ) from error


def returning_host(operation: Operation | None) -> str:
    """Return the host from which the newest content of an image has to be fetched; "" if it is not on its way."""
    return operation.host if isinstance(operation, Return) else ""


def returns_from(host: str) -> tuple[str, str]:
    """Return all texts of the catalog that say that the content of an image has to be fetched from this host."""
    return write(Return(host)), write(Return(host, ran=False))
