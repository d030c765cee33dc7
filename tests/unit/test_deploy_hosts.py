"""Units of systemd and launchd, Ray's launcher, Kubernetes: linted by what they are for, and true to the code."""

from __future__ import annotations

import importlib.util
import json
import plistlib
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from exporters.server import DEFAULT_PORT
from tests.deploy import DEPLOY, PORTS, ROOT, check_command, documents, needs, texts, tool

UNITS = sorted((DEPLOY / "systemd").iterdir())
SERVICES = [path for path in UNITS if path.suffix == ".service"]
KUBERNETES = [
    document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in documents(path)
    if document["kind"] != "Kustomization"
]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())


def _systemd_analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = tool("systemd-analyze")
    assert program is not None
    return subprocess.run([program, *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The units, with programs that are there."""
    folder = tmp_path_factory.mktemp("units")
    for path in UNITS:
        (folder / path.name).write_text(re.sub(r"/opt/benchfarm/bin/\w+", "/bin/true", path.read_text()))
    return sorted(folder.iterdir())


@needs("systemd-analyze")
def test_systemd_takes_every_unit(units: list[Path]) -> None:
    done = _systemd_analyze("verify", "--man=no", "--recursive-errors=no", *units)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs("systemd-analyze")
def test_systemd_would_find_something(units: list[Path], tmp_path: Path) -> None:
    harmed = tmp_path / "benchfarm-head.service"
    harmed.write_text((units[0].parent / harmed.name).read_text().replace("ProtectHome=yes", "ProtectHome=perhaps"))
    assert "perhaps" in _systemd_analyze("verify", "--man=no", harmed).stderr


@needs("systemd-analyze")
@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_is_kept_in(path: Path, units: list[Path]) -> None:
    """systemd's own grade, from 0 (nothing is open) to 10: hosts use devices, the others need little."""
    [unit] = [unit for unit in units if unit.name == path.name]
    done = _systemd_analyze("security", "--offline=yes", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= (4.0 if "host" in path.name else 2.0)


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_runs_a_command_that_there_is(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    [line] = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    words = shlex.split(line)
    if words[0] == "/bin/sh":
        words = shlex.split(words[2].removeprefix("exec "))
    program, *arguments = words
    assert program.startswith("/opt/benchfarm/bin/")
    if program.endswith("/benchfarm"):
        check_command([word for word in arguments if not word.startswith("$")])
    else:
        assert arguments[:2] == ["-m", "ray.autoscaler._private.monitor"]
        assert importlib.util.find_spec("ray") is not None
    assert "\nUser=benchfarm\n" in text
    # A raylet's workers outlive it: all of a unit must end with it.
    assert "KillMode=" not in text or "\nKillMode=control-group\n" in text


def test_only_who_needs_the_database_knows_it() -> None:
    for name in ("head", "launcher"):
        assert (
            "UnsetEnvironment=BENCHFARM_DATABASE_URL" in (DEPLOY / "systemd" / f"benchfarm-{name}.service").read_text()
        )
    assert "farm.env" not in (DEPLOY / "systemd" / "benchfarm-host.service").read_text()


def test_the_property_list_is_one() -> None:
    for path in (DEPLOY / "launchd").glob("*.plist"):
        read = plistlib.loads(path.read_bytes())
        assert read["Label"] == path.stem
        program, *arguments = read["ProgramArguments"]
        assert program == "/opt/benchfarm/bin/benchfarm"
        check_command(arguments)
        assert read["KeepAlive"]
        assert read["RunAtLoad"]


def test_rays_launcher_takes_the_cluster() -> None:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    schema = json.loads((Path(spec.submodule_search_locations[0]) / "autoscaler" / "ray-schema.json").read_text())
    [cluster] = documents(DEPLOY / "ray" / "cluster.yaml")
    jsonschema.validate(cluster, schema)
    assert cluster["provider"]["type"] == "local"
    started = " ".join(cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"])
    named = set(re.findall(r"benchfarm-\w+", started))
    assert named == {"benchfarm-head", "benchfarm-farm", "benchfarm-launcher", "benchfarm-host"}
    assert all((DEPLOY / "systemd" / f"{name}.service").exists() for name in named)
    assert "ray stop" not in " ".join(texts(cluster))  # it ends every Ray of a machine


@pytest.mark.parametrize(
    "document",
    [one for one in KUBERNETES if one["kind"] not in ("RayCluster", "ServiceMonitor")],
    ids=lambda one: f"{one['kind']}-{one['metadata']['name']}",
)
def test_kubernetes_takes_every_object(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.37", strict=True)


def _one(kind: str) -> dict[str, Any]:
    [found] = [document for document in KUBERNETES if document["kind"] == kind]
    return found


def _templates() -> list[dict[str, Any]]:
    spec = _one("RayCluster")["spec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [*(group["template"] for group in groups), _one("Deployment")["spec"]["template"]]


def test_kubernetes_takes_every_pod() -> None:
    for template in _templates():
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "a", **template["metadata"]},
            "spec": template["spec"],
        }
        kubernetes_validate.validate(pod, "1.37", strict=True)


def test_kubernetes_would_find_something() -> None:
    with pytest.raises(kubernetes_validate.ValidationError, match="replicaz"):
        kubernetes_validate.validate(_one("Deployment") | {"replicaz": 1}, "1.37", strict=True)


def test_pods_are_kept_in_and_hold_no_secret() -> None:
    for template in _templates():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert not spec["automountServiceAccountToken"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for container in spec["containers"]:
            kept = container["securityContext"]
            assert not kept["allowPrivilegeEscalation"]
            assert kept["readOnlyRootFilesystem"]
            assert kept["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} == set(container["resources"])
            assert re.fullmatch(r"benchfarm-(head|cpu-worker):\d+\.\d+\.\d+", container["image"])
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in spec["volumes"]}
            check_command([word for word in container["args"][1:] if not word.startswith("$")])
            for variable in container["env"]:
                if re.search(r"PASSWORD|DATABASE_URL|TOKEN", variable["name"]) and "value" in variable:
                    assert variable["value"].startswith("/run/secrets/") or variable["name"] == "RAY_AUTH_MODE"
    assert "Secret" not in {document["kind"] for document in KUBERNETES}


def test_a_ray_cluster_is_of_our_ray_and_starts_our_commands() -> None:
    cluster = _one("RayCluster")
    assert cluster["apiVersion"] == "ray.io/v1"
    assert cluster["metadata"]["annotations"]["ray.io/overwrite-container-cmd"] == "true"
    assert cluster["spec"]["rayVersion"] == PINS["ray"]
    head, farm = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    # A Ray driver needs the processes and the sockets of the node that it connects to.
    assert cluster["spec"]["headGroupSpec"]["template"]["spec"]["shareProcessNamespace"]
    shared = [{mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}["tmp"] for one in (head, farm)]
    assert shared == ["/tmp", "/tmp"]
    [worker] = cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    assert head["args"][-1] == f"$(POD_IP):{PORTS['ray']}"
    assert f"$(FQ_RAY_IP):{PORTS['ray']}" in worker["args"]
    assert not [name for one in (head, worker) for name in texts(one["env"]) if "DATABASE" in name]


def test_prometheus_finds_the_exporter() -> None:
    monitor, service, deployment = _one("ServiceMonitor"), _one("Service"), _one("Deployment")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    [port] = service["spec"]["ports"]
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] == port["name"]
    assert port["port"] == DEFAULT_PORT
    [allowed] = [one for one in KUBERNETES if one["metadata"]["name"] == "benchfarm-metrics"]
    assert allowed["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": DEFAULT_PORT}]


def test_only_what_serves_reaches_the_database() -> None:
    [policy] = [one for one in KUBERNETES if one["metadata"]["name"] == "benchfarm-database"]
    assert policy["spec"]["podSelector"]["matchExpressions"][0]["values"] == ["head", "exporter"]
    assert policy["spec"]["egress"][0]["ports"][0]["port"] == PORTS["postgres"]
    [closed] = [one for one in KUBERNETES if one["metadata"]["name"] == "benchfarm-nothing-else"]
    assert closed["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_all_objects_are_applied() -> None:
    [kustomization] = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    files = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert set(kustomization["resources"]) == files - {"kustomization.yaml"}
    assert {document["metadata"].get("namespace", "benchfarm") for document in KUBERNETES} == {"benchfarm"}
