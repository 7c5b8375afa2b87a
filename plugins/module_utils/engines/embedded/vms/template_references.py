# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks up what templates of machines refer to: the images, networks and files that one batch names, each once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from ....context import variables
from ....errors import InvalidValue, NebulaError, NotFound, WrongState
from ....model.image import Image
from ....model.instantiate.demands import Demands
from ....model.instantiate.demands import demands as demands_of
from ....model.instantiate.disk_vectors import refuse_format
from ....model.instantiate.growth import growth_of
from ....model.instantiate.validate import refusals_by_hypervisor as refusals_of
from ....model.network import Network
from ....model.states import ImageState, ImageType
from ....model.template import Template
from ....model.vm import Growth
from ..images.image_verbs import Images
from ..networks.network_verbs import Networks
from ..store import compact
from .network_values import NetworkValues


class References(NetworkValues):
    """Resolves the references of the templates of one batch. What is looked up is kept, so an object of this class
    serves one verb and no longer."""

    def __init__(self, images: Images, networks: Networks) -> None:
        super().__init__(networks)
        self._images = images
        self._image: dict[Any, Image] = {}
        self._demands: dict[int, tuple[Template, Demands]] = {}
        self._refusals: dict[int, dict[str, NebulaError]] = {}
        self._growths: dict[int, dict[str, Growth | None]] = {}
        self._json: dict[int, str] = {}
        self._context: dict[int, tuple[list[Network], list[Image]]] = {}

    def demands(self, name: str, template: Template) -> Demands:
        # By identity: the machines of one request share one template object, and comparing it costs more than this.
        known = self._demands.get(id(template))
        if known is None:
            known = self._demands[id(template)] = (template, demands_of(template, f"VM {name}"))
        return known[1]

    def growths(self, name: str, template: Template, hypervisors: Iterable[str]) -> dict[str, Growth | None]:
        """Return by hypervisor how far a new machine of the template may grow there."""
        if id(template) not in self._growths:
            found = self._growths[id(template)] = {}
            for each in hypervisors:
                # What no machine there can have is told with what else refuses it.
                with contextlib.suppress(InvalidValue):
                    found[each] = growth_of(template, each, f"VM {name}")
        return self._growths[id(template)]

    def refusals(self, name: str, template: Template, hypervisors: Iterable[str]) -> dict[str, NebulaError]:
        if id(template) not in self._refusals:
            known = [*hypervisors]
            found = refusals_of(template, f"VM {name}", known)
            self._refusals[id(template)] = {**self._of_images(name, template, known), **found}
        return self._refusals[id(template)]

    def _of_images(self, name: str, template: Template, hypervisors: Iterable[str]) -> dict[str, NebulaError]:
        """Return by hypervisor why it has no use for an image of the template."""
        found: dict[str, NebulaError] = {}
        demands = self.demands(name, template)
        images = self.images_of(name, template, demands)
        for hypervisor in hypervisors:
            try:
                growth_of(template, hypervisor, f"VM {name}")
                for index, image in images.items():
                    refuse_format(image, hypervisor, f"VM {name}: DISK {index}")
            except NebulaError as error:
                found[hypervisor] = error
        return found

    def as_json(self, template: Template) -> str:
        if id(template) not in self._json:
            self._json[id(template)] = compact(template.to_attributes())
        return self._json[id(template)]

    def images_of(self, name: str, template: Template, demands: Demands) -> dict[int, Image]:
        found = {}
        for index, ref in enumerate(demands.images):
            if ref is None:
                continue
            if ref not in self._image:
                try:
                    self._image[ref] = self._images.uncounted(ref)
                except NebulaError as error:
                    error.asked = f"VM {name}, DISK {index}: {error.asked}"
                    raise
            found[index] = self._image[ref]
        return found

    def of_context(self, template: Template) -> tuple[list[Network], list[Image]]:
        """Return the networks and images that expressions of CONTEXT name. One that is not there expands to nothing,
        with a warning of its own; a file has to be there."""
        if id(template) not in self._context:
            networks, images = [], []
            for expression in variables.references(template):
                if expression.name == "FILE" and expression.value:
                    images.append(self._file(expression.value))
                    continue
                with contextlib.suppress(NotFound):
                    if expression.name == "NETWORK" and expression.value:
                        networks.append(self._networks.uncounted(expression.value))
                    elif expression.name == "IMAGE" and expression.value:
                        images.append(self._images.info(expression.value))
            self._context[id(template)] = (networks, images)
        return self._context[id(template)]

    def _file(self, ref: Any) -> Image:
        """Return an image for $FILE in CONTEXT. Raise an error where there is none: the machine would lack a file."""
        image = self._images.uncounted(ref)
        if image.type != ImageType.CONTEXT:
            raise InvalidValue(
                f"CONTEXT: $FILE of image {image.name}",
                f"it is of type {image.type.name}",
                "Name an image of type CONTEXT",
            )
        if image.state != ImageState.READY:
            raise WrongState(
                f"CONTEXT: $FILE of image {image.name}",
                f"it is in state {image.state.name}" + (f" ({image.error})" if image.error else ""),
                "It has to be READY: see nebula_image",
            )
        return image

    def networks_of(self, name: str, demands: Demands) -> list[Network]:
        where = f"VM {name}, NIC"
        return [self.network(f"{where} {index}", demand.network) for index, demand in enumerate(demands.nics)]

    def networks_of_aliases(self, name: str, demands: Demands) -> list[Network]:
        where = f"VM {name}, NIC_ALIAS"
        return [self.network(f"{where} {i}", demand.address.network) for i, demand in enumerate(demands.aliases)]
