"""Images and the compose file: nothing is open, nothing runs as root, no secret is written down."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from exporters.server import DEFAULT_PORT
from scheduler.head import DEFAULT_ADDRESS as HEAD
from tests.deploy import DEPLOY, PORTS, ROOT, check_command, documents, needs, texts, tool

METRICS = f"127.0.0.1:{DEFAULT_PORT}"
DOCKERFILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]


def _name(requirement: str | Requirement) -> str:
    return re.sub(r"[-_.]+", "-", Requirement(str(requirement)).name).lower()


#: What a head node must not need: what brings a framework.
ML = {
    _name(requirement)
    for extra in ("torch", "onnx", "litert", "coreml", "openvino", "executorch", "tensorflow")
    for requirement in EXTRAS[extra]
} | {"scipy", "keras", "triton"}


def _compose(**variables: str) -> Any:
    """The compose file as Docker Compose reads it."""
    program = tool("docker-compose")
    assert program is not None
    told = ["--file", str(DEPLOY / "compose.yaml"), "--profile", "*", "config", "--format", "json"]
    done = subprocess.run([program, *told], env={"PATH": "/usr/bin:/bin", **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def compose() -> Any:
    """With no variable set."""
    return _compose()


@needs("docker-compose")
def test_every_service_is_kept_in(compose: Any) -> None:
    services = compose["services"]
    assert {"postgres", "head", "farm", "prometheus", "grafana"} <= set(services)
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert int(service["user"].partition(":")[0]) > 0, name
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name


@needs("docker-compose")
def test_nothing_is_published_and_everything_listens_on_loopback(compose: Any) -> None:
    services = compose["services"]
    for name, service in services.items():
        assert "ports" not in service, name
        assert service["network_mode"] == "host", name
    listens = {
        "postgres": "-clisten_addresses=127.0.0.1",
        "head": HEAD,
        "farm": METRICS,
        "prometheus": f"--web.listen-address=127.0.0.1:{PORTS['prometheus']}",
    }
    for name, word in listens.items():
        assert word in services[name]["command"], name
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert "0.0.0.0" not in " ".join(texts(compose))
    assert (f"127.0.0.1:{PORTS['ray']}", f"127.0.0.1:{PORTS['metrics']}") == (HEAD, METRICS)


@needs("docker-compose")
def test_one_variable_lets_hosts_in() -> None:
    services = _compose(BENCHFARM_ADDRESS="10.0.0.1:6379", BENCHFARM_STORE_URL="s3://farm")["services"]
    for name in ("head", "farm", "worker"):
        assert "10.0.0.1:6379" in services[name]["command"]
    assert services["farm"]["environment"]["BENCHFARM_STORE_URL"] == "s3://farm"
    assert METRICS in services["farm"]["command"]


@needs("docker-compose")
def test_services_wait_for_what_they_need(compose: Any) -> None:
    waits = {
        (name, other): wait["condition"]
        for name, service in compose["services"].items()
        for other, wait in service.get("depends_on", {}).items()
    }
    for pair in (("farm", "postgres"), ("farm", "head"), ("grafana", "postgres"), ("grafana", "prometheus")):
        assert waits[pair] == "service_healthy"
    # The driver of Ray's node finds its processes and its sockets: without either it does not connect.
    farm, head = compose["services"]["farm"], compose["services"]["head"]
    assert farm["pid"] == "service:head"
    assert {"type": "volume", "source": "ray", "target": "/tmp", "volume": {}} in farm["volumes"]
    assert {"type": "volume", "source": "ray", "target": "/tmp", "volume": {}} in head["volumes"]


@needs("docker-compose")
def test_secrets_are_files_that_make_makes(compose: Any) -> None:
    made = re.search(r"for name in (.*); do", (DEPLOY / "secrets" / "make.sh").read_text())
    assert made is not None
    files = {Path(secret["file"]) for secret in compose["secrets"].values()}
    assert files == {DEPLOY / "secrets" / name for name in made[1].split()}
    for name, service in compose["services"].items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET", key):
                given = {secret["source"] for secret in service["secrets"]}
                assert key.endswith("_FILE"), f"{name}: {key}"
                assert value.removeprefix("/run/secrets/") in given, f"{name}: {key}"
        assert not re.search(r"://[^/\s]*:[^/\s]*@", " ".join(texts(service))), name


@needs("docker-compose")
def test_what_is_mounted_is_there_and_read_only(compose: Any) -> None:
    volumes = set(compose["volumes"])
    for name, service in compose["services"].items():
        for mount in service.get("volumes", []):
            if mount["type"] == "bind":
                assert Path(mount["source"]).exists(), f"{name}: {mount['source']}"
                assert mount["read_only"], f"{name}: {mount['source']}"
            else:
                assert mount["source"] in volumes


@needs("docker-compose")
def test_grafana_finds_what_it_is_provisioned_with(compose: Any) -> None:
    grafana = compose["services"]["grafana"]
    [sources] = documents(DEPLOY / "grafana" / "provisioning" / "datasources" / "benchfarm.yml")
    said = " ".join(texts(sources))
    assert set(re.findall(r"\$([A-Z]\w+)", said)) <= set(grafana["environment"])
    secrets = {f"/run/secrets/{given.get('target', given['source'])}" for given in grafana["secrets"]}
    assert set(re.findall(r"\$__file\{(.*?)\}", said)) <= {path.replace("/run/secrets//", "/") for path in secrets}
    [boards] = documents(DEPLOY / "grafana" / "provisioning" / "dashboards" / "benchfarm.yml")
    [mount] = [mount for mount in grafana["volumes"] if mount["source"].endswith("dashboards/json")]
    assert {provider["options"]["path"] for provider in boards["providers"]} == {mount["target"]}
    assert grafana["environment"]["BENCHFARM_PROMETHEUS_URL"] == f"http://127.0.0.1:{PORTS['prometheus']}"
    assert grafana["environment"]["BENCHFARM_POSTGRESQL_ADDRESS"] == f"127.0.0.1:{PORTS['postgres']}"


@needs("docker-compose")
def test_prometheus_finds_the_farm(compose: Any) -> None:
    [config] = documents(DEPLOY / "prometheus" / "prometheus.yml")
    targets = [
        target for job in config["scrape_configs"] for one in job.get("static_configs", []) for target in one["targets"]
    ]
    assert METRICS in targets
    mounted = {mount["target"] for mount in compose["services"]["prometheus"]["volumes"]}
    assert {"/etc/prometheus/prometheus.yml", "/etc/prometheus/rules", "/prometheus"} == mounted
    assert config["rule_files"] == ["rules/*.yml"]


@needs("docker-compose")
def test_images_are_pinned_or_built_here(compose: Any) -> None:
    version = PROJECT["project"]["version"]
    for name, service in compose["services"].items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).exists()
            assert service["image"] == f"benchfarm-{Path(service['build']['dockerfile']).stem}:{version}"
        elif name == "farm":
            assert service["image"] == f"benchfarm-head:{version}"
        else:
            assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", service["image"]), service["image"]


@needs("docker-compose")
def test_services_run_commands_that_there_are(compose: Any) -> None:
    commands = [service["command"] for service in compose["services"].values() if service.get("command")]
    ours = [command[1:] for command in commands if command[0] == "benchfarm"]
    assert len(ours) == 3
    for command in ours:
        check_command(command)


@needs("hadolint")
@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    program = tool("hadolint")
    assert program is not None
    done = subprocess.run([program, "--no-color", path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@needs("hadolint")
def test_hadolint_would_find_something(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(DOCKERFILES[0].read_text().replace(" --no-install-recommends", ""))
    program = tool("hadolint")
    assert program is not None
    assert "DL3015" in subprocess.run([program, path], capture_output=True, text=True).stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_holds_our_packages_and_runs_as_nobody_in_particular(path: Path) -> None:
    text = path.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    copied = re.findall(r"^COPY (?!--from)(?:--chmod=\S+ )?(.+) \S+$", text, re.MULTILINE)
    sources = [word for sources in copied for word in sources.split()]
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= set(sources)
    assert all((ROOT / source).exists() for source in sources)
    allowed = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    assert all(any(source == known or source.startswith(f"{known}/") for known in allowed) for source in sources)
    assert not any(line.startswith("ADD ") for line in lines)
    assert lines.index("USER 10001:10001") > max(n for n, line in enumerate(lines) if line.startswith("COPY"))
    assert re.search(r"^ARG PYTHON=3\.11\.\d+-slim-\w+$", text, re.MULTILINE)
    assert text.count("FROM python:${PYTHON}") == text.count("\nFROM ") == 2
    assert "--compile-bytecode --constraint constraints.txt" in text
    assert "\nHEALTHCHECK " in text
    assert not re.search(r"password|secret", text, re.IGNORECASE)
    extras = {*re.findall(r"--extra (\w+)", text), *",".join(re.findall(r"^ARG EXTRAS=(.*)$", text, re.M)).split(",")}
    assert {""} < extras | {""} <= {*EXTRAS, ""}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_login_shells_find_ray(path: Path) -> None:
    # KubeRay's init container asks for the head by `bash -l`, and Debian's profile sets PATH anew.
    assert "ln -s /opt/benchfarm/bin/ray /usr/local/bin/ray" in path.read_text()


def test_a_head_needs_no_package_of_machine_learning() -> None:
    """What the head's image installs, all the way down, as the packages that are installed here say."""
    extras = re.findall(r"--extra (\w+)", (DEPLOY / "docker" / "head.Dockerfile").read_text())
    wanted = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    wanted += [Requirement(text) for extra in extras for text in EXTRAS[extra]]
    seen: set[tuple[str, str]] = set()
    while wanted:
        one = wanted.pop()
        for extra in {"", *one.extras}:
            if (known := (_name(one), extra)) in seen:
                continue
            seen.add(known)
            further = map(Requirement, importlib.metadata.requires(_name(one)) or ())
            wanted += [it for it in further if it.marker is None or it.marker.evaluate({"extra": extra})]
    names = {name for name, _ in seen}
    assert {"ray", "sqlalchemy", "psycopg-binary", "grafana-foundation-sdk", "plotly", "numpy"} <= names
    assert not names & ML


def test_every_document_is_yaml() -> None:
    found = [*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")]
    assert len(found) > 8
    for path in found:
        assert documents(path), path
