# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of the benchmarks; what they measure is not tested, and nothing here is timed."""

from __future__ import annotations

import base64
import contextlib
import importlib
import itertools
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def path():
    # They are programs, which find each other beside themselves.
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def measure():
    return importlib.import_module("measure")


@pytest.mark.parametrize(
    ("made", "ours", "peer", "limit", "ratio", "met"),
    [
        ("at_most", 0.25, 0.2, 1.25, 1.25, True),
        ("at_most", 0.26, 0.2, 1.25, 1.3, False),
        ("at_least", 0.2, 1.0, 5, 5, True),
        ("at_least", 0.21, 1.0, 5, 4.7619, False),
    ],
)
def test_ratio_is_as_its_target_reads_it(measure, made, ours, peer, limit, ratio, met):
    row = getattr(measure.Row, made)("a row", ours, peer, "s", limit).as_json()
    assert (row["ratio"], row["met"]) == (ratio, met)


def test_json_has_the_promised_keys_and_no_others(measure):
    row = measure.Row.limit("a row", 16.0, 15, "s").as_json()
    assert row == {
        "name": "a row",
        "ours": 16.0,
        "peer": 15,
        "unit": "s",
        "ratio": 1.0667,
        "target": "≤ 15 s",
        "met": False,
        "memory": None,
        "spread": None,
    }


def test_a_missed_target_is_in_the_table(measure):
    shown = measure.table([measure.Row.exactly("changed", 2, 0, "results"), measure.Row.fact("x", 1.0, None, "s")])
    lines = shown.splitlines()
    assert lines[1].split() == ["changed", "2", "0", "results", "–", "=", "0", "MISSED"]
    assert lines[2].split() == ["x", "1", "–", "s", "–"]


def test_medians_of_contestants_that_take_turns(measure, capsys):
    order = []

    def contestant(name, figures):
        values = iter(figures)

        def measured():
            order.append(name)
            return next(values)

        return measured

    found = measure.take_turns(3, {"ours": contestant("ours", [1, 9, 2]), "peer": contestant("peer", [4, 5, 60])})
    assert found == {"ours": 2, "peer": 5}
    assert order == ["ours", "peer"] * 3


def test_how_far_rounds_lie_apart(measure):
    assert measure.Median.of([3.0]).spread is None
    found = measure.Median.of([2.0, 1.0, 100.0, 3.0, 2.0])
    assert (found, found.spread) == (2.0, 0.5)
    sure = measure.Median.of([2.0, 2.0])
    assert measure.Row.at_most("a row", sure, found, "s", 1).as_json()["spread"] == 0.5
    assert measure.Row.at_most("a row", sure + 1, 2.0, "s", 1).spread is None


def test_slope_of_what_grows_with_a_size_or_does_not(measure):
    assert measure.slope((1000, 2.0), (10_000, 20.0)) == pytest.approx(1)
    assert measure.slope((10, 3.0), (500, 3.0)) == 0


def test_children_and_daemons_are_computed_for(measure):
    busy = "import time\nwhile time.process_time() < 0.3: pass"

    def work():
        subprocess.run([sys.executable, "-c", busy], check=True)

    assert 0.3 <= measure.computed(work) < 3
    with subprocess.Popen([sys.executable, "-c", f"{busy}\nprint(flush=True)\ninput()"], stdin=-1, stdout=-1) as daemon:
        found = measure.computed(daemon.stdout.readline, lambda: [daemon.pid])
        daemon.communicate(b"\n")
    assert 0.2 < found < 3
    # It has ended.
    assert measure.processor_of(daemon.pid) == 0


def test_a_program_that_fails_gives_no_figure(measure):
    with pytest.raises(measure.MeasurementFailed, match=r"ended with 3:\nwhy"):
        measure.run([sys.executable, "-c", "print('why'); raise SystemExit(3)"])


def test_memory_is_that_of_the_program(measure):
    large = bytearray(300 << 20)
    done = measure.run([sys.executable, "-c", "x = bytearray(150 << 20); print(1)"])
    assert done.output == "1\n" and 150 < done.memory < 200
    assert done.processor > 0 and len(large) > 0


def test_tasks_and_changes_are_counted(measure):
    output = """
PLAY [Check the inventory] ****
TASK [Check that there is one] ****
ok: [localhost]
TASK [nebula.provision.vm : Act] ****
changed: [world]
PLAY RECAP ****
localhost                  : ok=1    changed=0    unreachable=0    failed=0    skipped=0
world                      : ok=24   changed=3    unreachable=0    failed=0    skipped=7
"""
    setting = importlib.import_module("setting")
    found = setting.counted(measure.Finished(1.5, 1.0, 30.0, output))
    assert (found.seconds, found.tasks, found.changed) == (1.5, 2, 3)


def wrapper(arguments):
    params = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
    packed = base64.b64encode(b"x" * 100).decode()
    return f"    _ansiballz_main(\nmodule_fqn='m',\nparams={params!r},\nextensions={{}},\nzip_data='{packed}',\n)\n"


def test_a_payload_is_given_other_arguments():
    payload = importlib.import_module("payload")
    made = payload.Payload("nebula_vm", wrapper({"old": "it's", "_ansible_check_mode": True, "_ansible_diff": False}))
    assert made.size == 100
    scope = {"_ansiballz_main": lambda **given: scope.update(given)}
    text = made.with_arguments({"vms": '[{"name": "a\\nb"}]'})
    exec("if True:\n" + text, scope)
    assert json.loads(scope["params"]) == {
        "ANSIBLE_MODULE_ARGS": {"vms": '[{"name": "a\\nb"}]', "_ansible_check_mode": False, "_ansible_diff": False}
    }


def test_a_wrapper_of_another_form_is_told():
    payload, measure = importlib.import_module("payload"), importlib.import_module("measure")
    with pytest.raises(measure.MeasurementFailed, match="nebula_vm"):
        _size = payload.Payload("nebula_vm", "something else").size


def test_every_module_of_targets_has_its_row():
    modules = importlib.import_module("modules")
    assert modules.shipped() == set(modules.idle("", ""))


def test_make_bench_runs_every_benchmark():
    programs = [file for file in BENCHMARKS.glob("*.py") if "\ndef rows(" in file.read_text(encoding="utf-8")]
    run = importlib.import_module("run")
    # context_iso is a program of its own, which run.py starts.
    assert set(run.BENCHMARKS) == {file.stem for file in programs} | {"context_iso"}
    table = (BENCHMARKS.parent / "docs/testing.md").read_text(encoding="utf-8")
    assert [name for name in run.BENCHMARKS if f"| `{name}.py` |" not in table] == []


@pytest.fixture
def on_a_disk():
    # /tmp may be memory, which is never cold.
    with tempfile.TemporaryDirectory(prefix="nebula-test-", dir="/var/tmp") as directory:
        yield Path(directory)


@pytest.mark.usefixtures("synced")
def test_what_is_in_the_page_cache_is_no_cold_file(on_a_disk, monkeypatch):
    images, measure = importlib.import_module("images"), importlib.import_module("measure")
    file = on_a_disk / "file"
    images.write_content(file, 8)
    assert (file.stat().st_size, file.stat().st_blocks * 512) == (8 * images.MIB, 6 * images.MIB)
    assert images.in_cache(file) > images.MIB
    images.cold(file)
    assert images.in_cache(file) <= images.MIB
    file.read_bytes()
    monkeypatch.setattr(images.os, "posix_fadvise", lambda *_arguments: None)
    with pytest.raises(measure.MeasurementFailed, match="page cache"):
        images.cold(file)


def test_the_table_of_image_formats_says_what_was_measured():
    formats = importlib.import_module("image_formats")
    assert [formats.in_words(seconds) for seconds in (0.0004, 0.0123, 1.26)] == ["0 ms", "12 ms", "1.3 s"]
    assert [formats.room(mib) for mib in (-0.1, 0.19, 767.9)] == ["0.0 MB", "0.2 MB", "768 MB"]
    assert formats.line("a", 1) == "| a | 1 |"
    kinds = {name: [kind.name for kind in formats.kinds_on(name, "raw")] for name in formats.MKFS}
    assert [any("reflink" in kind for kind in kinds[name]) for name in ("ext4", "xfs", "btrfs")] == [False, True, True]


def test_what_was_missed_is_said_in_words(measure):
    summary = importlib.import_module("summary")
    row, sure = measure.Row, measure.Median(2.0, 0.01)
    rows = [
        row.at_most("fine", 1.0, 1.0, "s", 1.5),
        row.fact("known", 1.0, 1.0, "s"),
        row.at_most("slow", measure.Median(1.6, 0.2), 1.0, "s CPU", 1.5),
        row.at_least("slower", sure, 3.0, "s CPU", 5),
        row.limit("long", 4.0, 3, "s"),
        row.limit("steep", 1.5, 1.05, ""),
        row.exactly("changed", 2, 0, "results"),
    ]
    assert summary.missed(rows) == [
        "5 of 6 targets were missed:",
        "  slow: 1.6 times, the target is ≤ 1.5 (missed by 7%, and the rounds differ by 20%)",
        "  slower: 1.5 times, the target is ≥ 5",
        "  long: 4 s, the target is ≤ 3 s",
        "  steep: 1.5, the target is ≤ 1.05",
        "  changed: 2 results, the target is = 0",
    ]
    assert summary.missed(rows[:1]) == ["All 1 targets were met."]


def test_why_figures_can_be_believed_is_said_in_words(measure):
    summary = importlib.import_module("summary")
    load = summary.Load(processors=2, before=0.5, during=[1.0, 3.0], others=0.25)
    rows = [measure.Row.fact(f"row {number}", measure.Median(1.0, number / 100), None, "s CPU") for number in range(10)]
    found = summary.belief(load, [*rows, measure.Row.fact("clocked", 1.0, 2.0, "s")])
    assert found[0].startswith("2 processors.") and found[0].endswith(
        "0.5 before they began, meanwhile 2.0 on average and 3.0 at most."
    )
    assert found[1] == "Other programs of this machine kept 0.2 processors busy on average."
    assert found[2].startswith("10 rows are in seconds that processors computed") and "1 are by the clock" in found[2]
    assert "differ by 5% or less" in found[3] and found[3].endswith("most does “row 9”, by 9%.")
    load.others = 1.0
    assert "too busy for rows by the clock" in summary.belief(load, [*rows, measure.Row.fact("c", 1.0, 2.0, "s")])[3]
    assert not any("too busy" in line for line in summary.belief(load, rows))


def test_load_is_watched_while_it_is_entered():
    summary = importlib.import_module("summary")
    with summary.Load() as load:
        pass
    assert load.processors > 0 and load.before >= 0 and load.during and load.others >= 0


def test_what_a_world_computes_is_counted_when_nothing_goes_on(monkeypatch):
    setting, measure = importlib.import_module("setting"), importlib.import_module("measure")
    seconds = iter([1.0, 2.0, 2.5, 2.5001])
    monkeypatch.setattr(setting, "computed_here", lambda: next(seconds))
    monkeypatch.setattr(setting, "QUIET_SECONDS", 0.01)
    assert setting.computed_until_quiet() == 2.5001
    monkeypatch.setattr(setting, "computed_here", itertools.count(1.0).__next__)
    monkeypatch.setattr(setting, "PATIENCE", 0.05)
    with pytest.raises(measure.MeasurementFailed, match="still something going on"):
        setting.computed_until_quiet()


def test_plans_are_judged_by_how_they_grow():
    planning = importlib.import_module("planning")
    # Each takes as long as there are machines, and recording twice as long on the most hosts.
    taken = {
        (what, machines, hosts): machines * (2.0 if (what, hosts) == ("record", max(planning.HOSTS)) else 1.0)
        for what in planning.WORK
        for machines in planning.MACHINES
        for hosts in planning.HOSTS
    }
    rows = {row.name: (round(row.ours, 3), row.met) for row in planning.slopes(taken)}
    assert rows["a plan on 500 hosts: slope from 1,000 to 10,000 machines"] == (1.0, True)
    assert rows["a list again of 10,000 machines: slope from 10 to 500 hosts"] == (0.0, True)
    assert rows["recording of 1,000 machines: slope from 10 to 500 hosts"] == (0.177, True)
    assert len(rows) == 9


def test_the_bare_catalog_does_as_much_and_decides_nothing(tmp_path):
    asked, database = tmp_path / "asked.json", tmp_path / "bare.db"

    def done(what, wanted, body, answer):
        asked.write_text(json.dumps(wanted))
        program = [sys.executable, BENCHMARKS / "bare_catalog.py", what, asked, database, str(body), str(answer), "2"]
        return subprocess.run(program, check=True, capture_output=True, text=True).stdout

    items = [{"name": f"new-{number}", "template": "planned"} for number in range(10)]
    plans = json.loads(done("plan", items, 600, 900))
    assert {host: len(json.loads(plan)) for host, plan in plans.items()} == {"host0": 5, "host1": 5}
    assert 800 < len(plans["host0"]) / 5 < 950
    with contextlib.closing(sqlite3.connect(database)) as db:
        assert 500 < db.execute("SELECT avg(length(body)) FROM vms").fetchone()[0] < 650
    said = {"host0": {"outcomes": [{"vm_id": number, "state": "RUNNING"} for number in range(10)]}}
    assert len(json.loads(done("record", said, 600, 100))) == 10
    with contextlib.closing(sqlite3.connect(database)) as db:
        assert db.execute("SELECT count(*) FROM vms WHERE state = 'RUNNING'").fetchone() == (10,)
    assert 1900 < len(done("again", items, 600, 200)) < 2400


def test_a_node_that_stands_in_answers_the_module_that_it_is_sent(tmp_path):
    idle = importlib.import_module("idle_hosts")
    python = shutil.copy(BENCHMARKS / "node_answer.sh", tmp_path / "python3")
    module = idle.MODULE.format("nebula_node_look")
    (tmp_path / f"{module}.json").write_text('{"differs": ""}')

    def sent(name):
        text = f"#!/usr/bin/python3\nzip_data='AAAA'\nmodule_fqn='{name}',\n"
        return subprocess.run([python], input=text, capture_output=True, text=True)

    assert sent(module).stdout == '{"differs": ""}'
    assert sent("ansible.modules.ping").returncode != 0


def test_what_modules_on_the_front_end_computed_is_noted(tmp_path):
    idle = importlib.import_module("idle_hosts")
    python = shutil.copy(BENCHMARKS / "noting_python.sh", tmp_path / "python3")
    busy = "import time\nmodule_fqn='a.ping'\nwhile time.process_time() < 0.2: pass\nprint('{}')\n"
    for _ in range(2):
        done = subprocess.run([python], input=busy, capture_output=True, text=True, check=True)
        assert done.stdout == "{}\n" == (tmp_path / "a.ping.json").read_text()
    assert 0.3 < idle.children((tmp_path / "times").read_text()) < 3
    assert idle.children("0m0.000000s 0m0.010000s\n1m2.500000s 0m0.500000s\n") == 63
