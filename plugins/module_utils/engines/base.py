# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes what an engine is, which decides and remembers: the catalog here, a real oned later. ports.py has its
verbs.

Every method raises subclasses of NebulaError. In check mode everything may be called as usual, and nothing stays."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Callable, Protocol, TypeVar

from ..errors import NotFound, Unsupported

if TYPE_CHECKING:
    from ..model.audit import Ledger
    from .ports import (
        DatastoresPort,
        HostsPort,
        ImagesPort,
        NetworksPort,
        Ref,
        RoutersPort,
        SecurityGroupsPort,
        TemplatesPort,
        VmsPort,
    )

T = TypeVar("T")
PORTS = ("images", "datastores", "networks", "security_groups", "routers", "templates", "hosts", "vms")


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


def named(info: Callable[[Ref], N], name: str) -> N | None:
    """Return by a port's info() the object of exactly that name, None if there is none: digits may be another's id."""
    try:
        found = info(name)
    except NotFound:
        return None
    return found if found.name == name else None


class _NotThere:
    """Stands for a port that an engine does not have: whatever is asked of it is Unsupported."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_"):
            # Python itself asks classes for such names.
            raise AttributeError(verb)
        raise Unsupported(f"{self._kind}: {verb}", f"this engine has no {self._kind}")


class Engine(abc.ABC):
    """Makes the ports that it has in port(), or has them as attributes; the others are Unsupported. So a new engine
    can be written a port at a time.
    capabilities: what this engine leaves to its callers. They ask these, never its name.

    "plans": it deploys nothing itself. vms.plans() has what nebula_deploy is to do; vms.observe() and vms.record()
    take over what the nodes report. An engine without it deploys by drivers of its own: it has no plans, and these two
    change nothing.
    "stores_images": the caller stores an image's file at the source that images.allocate() gave, and reports by
    images.update() what became of it. An engine without it stores the file itself, and the caller waits for READY."""

    capabilities: frozenset[str] = frozenset()
    images: ImagesPort
    datastores: DatastoresPort
    networks: NetworksPort
    security_groups: SecurityGroupsPort
    routers: RoutersPort
    templates: TemplatesPort
    hosts: HostsPort
    vms: VmsPort

    def __getattr__(self, name: str) -> Any:
        """Make a port when it is first asked for: Python calls this for what is no attribute yet."""
        if name not in PORTS:
            raise AttributeError(name)
        port = self.port(name)
        setattr(self, name, port)
        return port

    def port(self, kind: str) -> Any:
        """Return the port for a kind of objects, which an engine makes here or sets as an attribute beforehand."""
        return _NotThere(kind)

    @classmethod
    @abc.abstractmethod
    def from_params(cls, params: Mapping[str, Any], check_mode: bool, create: bool) -> Engine:
        """Open the engine by a module's options. create: begin a catalog where there is none. In check mode a catalog
        that is not there is an empty one that nobody keeps."""

    @classmethod
    @abc.abstractmethod
    def begun(cls, params: Mapping[str, Any]) -> bool:
        """Return whether there is a catalog to open."""

    @abc.abstractmethod
    def end(self, last: Callable[[], None]) -> None:
        """Remove the catalog, if it is this collection's to remove. last: called when no other run can decide anything
        any more; when it raises, nothing is removed."""

    @classmethod
    def is_left(cls, params: Mapping[str, Any]) -> bool:
        """Return whether forget() has something to do."""
        return False

    @classmethod  # noqa: B027 (most leave nothing)
    def forget(cls, params: Mapping[str, Any]) -> None:
        """Remove what end() leaves, or a run that was killed after it."""

    @abc.abstractmethod
    def session(self) -> AbstractContextManager[None]:
        """Keep all that the verbs inside do, or nothing: when it raises, or at its end in check mode, everything is as
        it was before. Verbs see what the verbs before them did, in check mode too. An engine that can't roll back does
        not send in check mode, but answers from what it would have sent; when it raises, it takes back what it sent."""

    def decide(self, work: Callable[[], T], download: Callable[[str, Any], bytes]) -> T:
        """Return what `work` answers, done in a session. Files that machines want from the net are fetched meanwhile,
        outside of any session: then `work` is undone and done again. download: see context/files_on_frontend.py"""
        with self.session():
            return work()

    @abc.abstractmethod
    def attempt(self) -> AbstractContextManager[None]:
        """Undo what is done inside when it raises, by the rule of session(); what the session did before stays. An
        attempt that raises also undoes the attempts within it."""

    @abc.abstractmethod
    def declare(self, declared: Mapping[str, Any]) -> None:
        """Take as given, in check mode, what earlier tasks of this run would have created, as their results show it
        (keys images, networks, templates, hosts), and as paths the files that they would have brought to this host: no
        other may be missing."""

    @abc.abstractmethod
    def catalog(self) -> str:
        """Return the catalog's UUID."""

    @abc.abstractmethod
    def close(self) -> None: ...

    # -- audit ----------------------------------------------------------------------------------------------------
    @abc.abstractmethod
    def ledger(self) -> Ledger:
        """Return what an audit needs: what has to be the case, and what is wrong with the catalog in itself. Of a
        damaged catalog the ledger says just that. It is not called within a session."""

    @abc.abstractmethod
    def repair(self) -> list[str]:
        """Derive anew what follows from the machines (leases, ports, uses of images, counters), and return a sentence
        for each thing that was wrong. It is called within a session."""
