"""The workflow of GitHub Actions: true to the command line, and careful with what it runs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import DEPLOY, ROOT, check_command, documents, texts

PATH = DEPLOY / "github" / "benchfarm-gate.yml"
GUIDE = ROOT / "docs" / "ci-gate.md"


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    """The workflow, as YAML 1.1 reads it: there the key `on` is true."""
    [found] = documents(PATH)
    assert isinstance(found, dict)
    return found


def _scripts(workflow: dict[Any, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def _commands(script: str) -> list[list[str]]:
    """The benchfarm commands of a script."""
    lines = script.replace("\\\n", " ").splitlines()
    found = [re.split(r"\s(?:>|\|\||\|)", line.strip())[0] for line in lines]
    return [shlex.split(line)[1:] for line in found if re.match(r"benchfarm\s", line)]


def test_its_commands_are_commands_with_options_that_they_have(workflow: dict[Any, Any]) -> None:
    commands = [command for script in _scripts(workflow) for command in _commands(script)]
    assert len(commands) == 1
    for command in commands:
        check_command(command)
    assert "--gate" in commands[0]


def test_the_guide_names_commands_and_options_that_there_are() -> None:
    text = GUIDE.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`(benchfarm [^`]+)`", text)
    commands = [command for block in (*blocks, *inline) for command in _commands(block)]
    assert len(commands) >= 4
    for command in commands:
        check_command(command)


def test_its_scripts_are_shell(workflow: dict[Any, Any]) -> None:
    for script in _scripts(workflow):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_what_a_pull_request_brings_gets_no_rights_and_no_word_in_a_script(workflow: dict[Any, Any]) -> None:
    assert set(workflow[True]) == {"pull_request"}  # pull_request_target would hand over secrets
    assert workflow["permissions"] == {"contents": "read"}
    gate, comment = workflow["jobs"]["gate"], workflow["jobs"]["comment"]
    assert "head.repo.full_name == github.repository" in gate["if"]
    assert gate["runs-on"][0] == "self-hosted"
    assert "permissions" not in gate
    assert comment["permissions"] == {"pull-requests": "write"}
    assert "self-hosted" not in comment["runs-on"]
    assert not [step for step in comment["steps"] if "checkout" in step.get("uses", "")]
    for script in _scripts(workflow):
        assert "${{" not in script  # a title or a branch would become code
    for step in gate["steps"]:
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
    assert not [text for text in texts(workflow) if "secrets." in text]


def test_its_actions_are_the_platforms_own_by_major_version(workflow: dict[Any, Any]) -> None:
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert len(used) == 4
    for name in used:
        assert re.fullmatch(r"actions/[\w-]+@v\d+", name), name


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (1, 1), (2, 2), (3, 0), (4, 4), (130, 130)])
def test_it_ends_as_the_gate_did(workflow: dict[Any, Any], tmp_path: Path, code: int, ends: int) -> None:
    """Run with a benchfarm that ends with a code; inconclusive is a warning."""
    [script] = [script for script in _scripts(workflow) if "benchfarm compare" in script]
    (tmp_path / "benchfarm").write_text(f"#!/bin/sh\necho '{{}}'\necho told > gate.md\nexit {code}\n")
    (tmp_path / "benchfarm").chmod(0o755)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "m.onnx").touch()
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MODEL": "m.onnx", "DEVICE": "kind=cpu"}
    variables |= {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    done = subprocess.run(  # as the runner does
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (ends, "")
    assert (tmp_path / "summary").read_text() == "told\n"
    assert ("::error::" in done.stdout, "::warning::" in done.stdout) == (code in (1, 4), code == 3)


def test_a_new_model_is_compared_with_nothing(workflow: dict[Any, Any], tmp_path: Path) -> None:
    [script] = [script for script in _scripts(workflow) if "benchfarm compare" in script]
    variables = {"PATH": "/usr/bin:/bin", "MODEL": "m.onnx", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    done = subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=tmp_path, env=variables)
    assert done.returncode == 0
    assert "nothing to compare" in (tmp_path / "gate.md").read_text()
