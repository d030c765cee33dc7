"""The small scripts of deploy/, run for real."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psycopg
import pytest

from tests.deploy import DEPLOY, PORTS, ROOT
from tests.postgres import PostgresServer, binaries

ENTRYPOINT = DEPLOY / "docker" / "entrypoint.sh"
HEALTH = DEPLOY / "docker" / "health.py"


def test_scripts_may_be_run() -> None:
    scripts = [path for path in DEPLOY.rglob("*") if path.is_file() and path.read_bytes()[:2] == b"#!"]
    assert {path.name for path in scripts} == {"entrypoint.sh", "health.py", "make.sh", "roles.sh"}
    for path in scripts:
        assert os.access(path, os.X_OK), path
        if path.suffix == ".sh":
            subprocess.run(["/bin/sh", "-n", path], check=True)


def _enter(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "BENCHFARM_HOME": str(tmp_path), "BENCHFARM_RUN": str(tmp_path)}
    command = [ENTRYPOINT, "sh", "-c", "echo ran $PGPASSFILE; umask"]
    return subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True)


def test_the_entry_makes_files_that_only_their_reader_can_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc")
    (tmp_path / "password").write_text("p:a\\ss'$(word)\n")
    given = {"BENCHFARM_RAY_TOKEN_FILE": "token", "BENCHFARM_DATABASE_PASSWORD_FILE": "password"}
    done = _enter(tmp_path, **{name: str(tmp_path / file) for name, file in given.items()})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[:2] == ["ran", str(tmp_path / "pgpass")]
    assert (tmp_path / "ray-token").read_text() == "abc"
    # As libpq reads it: \ and : in a password are escaped.
    assert (tmp_path / "pgpass").read_text() == "*:*:*:*:p\\:a\\\\ss'$(word)\n"
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("ray-token", "pgpass")} == {0o600}


def test_the_entry_needs_no_secret_and_ends_without_one_that_it_was_promised(tmp_path: Path) -> None:
    assert _enter(tmp_path).stdout.split()[0] == "ran"
    assert not (tmp_path / "ray-token").exists()
    done = _enter(tmp_path, BENCHFARM_RAY_TOKEN_FILE=str(tmp_path / "none"))
    assert done.returncode != 0
    assert done.stdout == ""


def _healthy(home: Path, what: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "BENCHFARM_HOME": str(home), **variables}
    return subprocess.run([sys.executable, "-I", HEALTH, what], env=environment, capture_output=True, text=True)


def test_a_head_is_well_while_something_listens_where_it_says(tmp_path: Path) -> None:
    assert _healthy(tmp_path, "head").returncode == 1
    with socket.create_server(("127.0.0.1", 0)) as listening:
        (tmp_path / "head.json").write_text(json.dumps({"address": f"127.0.0.1:{listening.getsockname()[1]}"}))
        assert _healthy(tmp_path, "head").returncode == 0
    gone = _healthy(tmp_path, "head")
    assert gone.returncode == 1
    assert "refused" in gone.stderr
    assert "Traceback" not in gone.stderr


@pytest.fixture
def answering() -> Iterator[tuple[str, list[int]]]:
    """Where a server answers, and the status that it answers with."""
    status = [200]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status[0] if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}", status
        server.shutdown()
        thread.join()


def test_a_farm_is_well_while_it_answers(tmp_path: Path, answering: tuple[str, list[int]]) -> None:
    address, status = answering
    assert _healthy(tmp_path, "farm", BENCHFARM_METRICS=address).returncode == 0
    status[0] = 503
    assert "503" in _healthy(tmp_path, "farm", BENCHFARM_METRICS=address).stderr
    assert f'"127.0.0.1:{PORTS["metrics"]}"' in HEALTH.read_text()


def test_a_host_is_well_while_join_holds_its_lock(tmp_path: Path) -> None:
    assert _healthy(tmp_path, "host").returncode == 1
    with (tmp_path / "join.lock").open("a") as lock:
        assert _healthy(tmp_path, "host").returncode == 1
        fcntl.flock(lock, fcntl.LOCK_EX)  # as workers.join does
        assert _healthy(tmp_path, "host").returncode == 0


def test_secrets_are_made_once_and_for_their_owner(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    script = shutil.copy(DEPLOY / "secrets" / "make.sh", folder)
    subprocess.run([script], check=True, capture_output=True)
    made = {path.name: path.read_text() for path in folder.iterdir() if path.name != "make.sh"}
    assert len(made) == 5
    assert len(set(made.values())) == 5
    assert all(re.fullmatch(r"[0-9a-f]{64}", text) for text in made.values())
    assert folder.stat().st_mode & 0o077 == 0
    subprocess.run([script], check=True, capture_output=True)
    assert {name: (folder / name).read_text() for name in made} == made


def test_the_guide_names_files_that_there_are_and_the_ports_of_the_code() -> None:
    guide = (DEPLOY / "README.md").read_text()
    table = guide.partition("| file | for |")[2].partition("\n\n")[0]
    named = re.findall(r"`([\w./-]+[/.]\w*)`", table)
    assert len(named) >= 9
    assert [name for name in named if not (DEPLOY / name).exists()] == []
    told = {int(port) for port in re.findall(r"^\| (\d+) \|", guide, re.MULTILINE)}
    assert told == {*PORTS.values(), 5037, 22}  # of adb and ssh
    links = re.findall(r"\]\(([^)#]+)(?:#([\w-]+))?\)", guide)
    for path, anchor in links:
        target = DEPLOY / path
        assert target.exists(), path
        titles = [line.lstrip("# ").lower() for line in target.read_text().splitlines() if line.startswith("#")]
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in titles}, anchor


def test_no_secret_would_be_committed() -> None:
    names = ("ray-token", "postgres-password", "anything.part")
    paths = [f"deploy/secrets/{name}" for name in names]
    done = subprocess.run(["git", "check-ignore", "--", *paths], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == paths


def test_roles_get_their_passwords_without_a_command_line(postgres: PostgresServer, tmp_path: Path) -> None:
    found = binaries()
    assert found is not None
    passwords = {"farm": "it's \\ $(a) `b` :c", "grafana": "another"}
    for role, password in passwords.items():
        (tmp_path / f"{role}-database-password").write_text(password)
    environment = {
        "PATH": f"{found}:/usr/bin:/bin",
        "PGHOST": str(postgres.folder),
        "PGPORT": str(postgres.port),
        "POSTGRES_USER": "farm",
        "BENCHFARM_SECRETS": str(tmp_path),
        "BENCHFARM_ROLES": str(DEPLOY / "postgres" / "roles.sql"),
    }
    done = subprocess.run([DEPLOY / "postgres" / "roles.sh"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    query = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname IN ('benchfarm_farm', 'benchfarm_grafana')"
    with psycopg.connect(host=str(postgres.folder), port=postgres.port, user="farm", dbname="postgres") as connection:
        kept = dict(connection.execute(query).fetchall())
        for role, password in passwords.items():
            assert _is_of(kept[f"benchfarm_{role}"], password)


def _is_of(verifier: str, password: str) -> bool:
    """Whether a SCRAM verifier (RFC 5802) is of a password."""
    import base64
    import hashlib
    import hmac

    found = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)", verifier)
    assert found is not None
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(found[2]), int(found[1]))
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return base64.b64encode(stored).decode() == found[3]
