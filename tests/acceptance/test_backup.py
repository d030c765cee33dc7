"""`benchfarm backup` and `restore` as they are typed, and ended half-way."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from sqlalchemy import insert

import benchfarm
from device_registry.capabilities import DeviceDescription
from device_registry.database import writing
from device_registry.registry import record_hello
from device_registry.tables import utc_now
from scheduler.queue import artifacts
from tests.acceptance.conftest import call, command_line, document, environment, one_sentence
from workers.host import describe_host

#: Zeros that take no room on the disk, and seconds to read.
LARGE = 64 * 2**30


@pytest.fixture
def farm(home: Path) -> Path:
    """A data directory with a host, a device and an artifact."""
    client = benchfarm.connect(home=home)
    device = DeviceDescription(key="d", name="d0", kind="cpu", driver="cpu")
    stored = client.farm.store.put_bytes(b"weights", home)
    row = {"key": "k", "bytes": 7, "format": "onnx", "recipe": "fp32", "model": "m", "companions": {}, "provenance": {}}
    with writing(client.farm.engine) as connection:
        record_hello(connection, describe_host("lab-1", {}), [device], "4", utc_now())
        connection.execute(insert(artifacts).values(**row, sha256=stored, created_at=utc_now()))
    client.farm.engine.dispose()
    return home


def test_a_farm_moves_to_another_folder(farm: Path, tmp_path: Path) -> None:
    made = document(call(farm, "backup", str(tmp_path / "farm.tar"), "--json"))
    assert made["rows"]["device"] == 1
    assert (made["files"], made["files_bytes"], made["store"]) == (1, 7, "copied")
    other = tmp_path / "other"
    done = call(other, "restore", str(tmp_path / "farm.tar"))
    assert done.returncode == 0, done.stderr
    assert "1 stored file (" in done.stdout
    [device] = document(call(other, "devices", "list", "--json"))
    assert device["name"] == "d0"

    again = call(other, "restore", str(tmp_path / "farm.tar"))
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].startswith(f"benchfarm: {other / 'benchfarm.db'} holds a farm already")
    assert one_sentence(call(tmp_path / "nowhere", "backup", str(tmp_path / "b"))).startswith("benchfarm: there is no")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_is_ended_leaves_nothing(farm: Path, tmp_path: Path, number: signal.Signals) -> None:
    client = benchfarm.connect(home=farm)
    row = {"key": "l", "bytes": 1, "format": "onnx", "recipe": "fp16", "model": "m", "companions": {}, "provenance": {}}
    with writing(client.farm.engine) as connection:
        connection.execute(insert(artifacts).values(**row, sha256="0" * 64, created_at=utc_now()))
    client.farm.engine.dispose()
    large = farm / "artifacts" / "00" / ("0" * 64)
    large.parent.mkdir(parents=True)
    with large.open("wb") as file:
        file.truncate(LARGE)
    target = tmp_path / "backups" / "farm"
    target.parent.mkdir()
    command = command_line("backup", str(target))
    with subprocess.Popen(command, env=environment(farm), stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        # It has the database, and reads what it would copy next.
        while not list(target.parent.glob("*/archive/database.sqlite")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert list(target.parent.iterdir()) == []
