# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""That a class made later is what Python's own decorator makes of it at once, whoever asks first."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import ClassVar

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.dataclass import dataclass, replace

ROOT = Path(__file__).resolve().parents[4]
MODULE_UTILS = "ansible_collections.nebula.provision.plugins.module_utils"


def pair(frozen: bool):
    """The same class twice: made later, and made at once."""
    made = []
    for decorate in (dataclass, dataclasses.dataclass):

        @decorate(frozen=frozen)
        class Disk:
            """One."""

            name: str
            size: int = 1
            tags: list[str] = dataclasses.field(default_factory=list)
            hidden: str = dataclasses.field(default="x", repr=False, compare=False)

            def __post_init__(self):
                if self.size < 0:
                    raise ValueError("less than nothing")

            def double(self):
                return self.size * 2

        made.append(Disk)
    return made


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "use",
    [
        lambda cls: repr(cls("a", tags=["t"])),
        lambda cls: cls("a") == cls("a", hidden="y") and cls("a") != cls("b") and cls("a") != 7,
        lambda cls: [(f.name, f.type, f.repr, f.compare) for f in dataclasses.fields(cls)],
        dataclasses.is_dataclass,
        lambda cls: dataclasses.asdict(cls("a", 2)),
        lambda cls: dataclasses.replace(cls("a", 2), size=3).double(),
        lambda cls: copy.deepcopy(cls("a", 2, ["t"])).tags,
        lambda cls: [str(cls("a", 2)), cls("a").hidden, cls.hidden, cls.size, cls.__doc__, cls.__match_args__],
        lambda cls: cls("a").__hash__ is None or hash(dataclasses.replace(cls("a"), tags=())),
        lambda cls: cls(),
        lambda cls: cls("a", 1, [], "x", "too many"),
        lambda cls: cls("a", colour="red"),
        lambda cls: cls("a", -1),
        lambda cls: setattr(cls("a"), "size", 3),
        lambda cls: delattr(cls("a"), "size"),
    ],
)
def test_it_is_what_python_makes_of_it(use, frozen):
    found = []
    for cls in pair(frozen):
        try:
            found.append(use(cls))
        except Exception as error:
            found.append((type(error), str(error)))
    assert found[0] == found[1]


def test_kinds_of_a_class_that_nobody_has_used_yet():
    @dataclass
    class Device:
        name: str

    @dataclass
    class Nic(Device):
        mac: str = ""

    class Own(Nic):
        pass

    assert [f.name for f in dataclasses.fields(Own)] == ["name", "mac"]
    assert repr(Own("a", "b")).endswith("Own(name='a', mac='b')")
    assert Nic("a") == Nic("a") and Device("a") != Nic("a") and Device("a") == Device("a")


@pytest.mark.parametrize("decorate", [dataclass, dataclasses.dataclass])
def test_a_kind_of_a_frozen_class_has_attributes_of_its_own(decorate):
    @decorate(frozen=True)
    class Named:
        name: str
        kind: ClassVar[str] = "named"

    class Open(Named):
        pass

    one = Open("a")
    one.kind = "another"
    assert (one.kind, Named.kind) == ("another", "named")
    one.colour = "red"
    assert one.colour == "red"
    del one.colour
    for name in ("name", "colour"):
        with pytest.raises(AttributeError):
            delattr(one, name)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
        one.name = "b"


@pytest.mark.parametrize("decorate", [dataclass, dataclasses.dataclass])
def test_methods_of_a_class_stay_its_own(decorate):
    @decorate
    class Pair:  # noqa: PLW1641
        left: object = None
        right: object = None

        def __repr__(self):
            return f"pair of {type(self).__name__}"

        def __eq__(self, other):
            return True

        def name(self):
            return __class__.__qualname__

    @decorate
    class Own(Pair):
        left: object = 7

    assert repr(Pair()) == "pair of Pair" and Pair(1) == 2 and Pair.__hash__ is None
    assert Own() != 7 and Own() == Own(7) and Own().name() == Pair.__qualname__
    own = Own()
    own.right = own
    assert repr(own) == f"{Own.__qualname__}(left=7, right=...)"


def test_many_threads_make_the_first_one_at_the_same_time():
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(30):
            cls, _at_once = pair(True)
            begin = threading.Barrier(8)
            made, failed = [], []

            def one(cls=cls, begin=begin, made=made, failed=failed):
                begin.wait()
                try:
                    made.append(cls("a", 5))
                except Exception as error:
                    failed.append(error)

            threads = [threading.Thread(target=one) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert failed == [] and made == [cls("a", 5)] * 8
    finally:
        sys.setswitchinterval(switching)


@dataclass(frozen=True)
class Checked:
    """A class that looks at what it is given."""

    name: str = ""
    also: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "also", self.name.upper())


@dataclass(frozen=True)
class Plain:
    """A class with a field of each kind."""

    name: str
    numbers: tuple[int, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)


@pytest.mark.parametrize("of", [Plain("a", (1,), {"b": "c"}), Plain("a"), Checked("a")])
def test_a_copy_is_what_python_makes_of_it(of):
    for changes in ({}, {"name": "b"}):
        copy = replace(of, **changes)
        assert (copy, repr(copy), type(copy)) == (real := dataclasses.replace(of, **changes), repr(real), type(of))
        assert copy.__dict__ == real.__dict__ and copy is not of
    with pytest.raises(dataclasses.FrozenInstanceError):
        replace(of).name = "c"


def test_a_copy_has_no_other_fields():
    with pytest.raises(TypeError, match="colour"):
        replace(Plain("a"), colour="red")


OF_OURS = re.compile(r"\.dataclass import dataclass\b")


def modules() -> list[str]:
    below = ROOT / "plugins/module_utils"
    paths = [path for path in sorted(below.rglob("*.py")) if OF_OURS.search(path.read_text())]
    return [".".join(path.relative_to(below).with_suffix("").parts) for path in paths]


@pytest.mark.parametrize("name", modules())
def test_every_class_of_ours_can_be_made(name):
    """A fault in one would show only when something uses it."""
    module = importlib.import_module(f"{MODULE_UTILS}.{name}")
    ours = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
    assert [dataclasses.fields(cls) for cls in ours if dataclasses.is_dataclass(cls)]


def test_importing_makes_few():
    """Of those of a module, most stay as they are written until something uses them."""
    program = (
        "import dataclasses, json\nmade = []\nmake = dataclasses._process_class\n"
        "dataclasses._process_class = lambda cls, *a, **k: made.append(cls.__module__) or make(cls, *a, **k)\n"
        f"import {MODULE_UTILS.replace('module_utils', 'modules')}.nebula_vm\n"
        f"print(json.dumps([name for name in made if name.startswith({MODULE_UTILS!r})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{ROOT}/collections:{':'.join(sys.path)}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0 < len(json.loads(done.stdout)) <= 13
