# SPDX-License-Identifier: GPL-3.0-or-later
"""Set Up Backend: a set-up that fails or is stopped leaves what was there before, and says why."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend import installer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def target(tmp_path):
    """A target folder whose current environment is this very Python."""
    folder = tmp_path / "backend home"
    environment = folder / "env-1"
    python = installer.environment_python(environment)
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    installer.write_pointer(folder, environment, None, {"torch": "2.13.0"}, ["torch>=2.13,<2.14"])
    return folder


@pytest.fixture
def project(tmp_path):
    """A project whose backend asks for a package that no index has."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[dependency-groups]\nbackend = ["no-such-package-of-sana-wm"]\n')
    return folder


def start(target, project, **environment):
    command = [sys.executable, ROOT / "backend/installer.py", "--target", target, "--project", project]
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_failed_setup_names_the_reason_and_keeps_the_old_environment(target, project):
    before = (target / "current.json").read_bytes()
    output, _ = (child := start(target, project)).communicate(timeout=120)
    last = json.loads(output.splitlines()[-1])
    assert child.returncode == 1 and last["stage"] == "failed"
    assert "The package index has no" in last["message"]
    assert (target / "current.json").read_bytes() == before and installer.status(target).ready
    assert [p.name for p in target.glob("env-*")] == ["env-1"]


def test_cancelled_setup_leaves_no_half_environment(target, project):
    child = start(target, project)
    for line in child.stdout:
        if json.loads(line)["stage"] == "environment":
            break
    child.terminate()
    output, _ = child.communicate(timeout=60)
    assert json.loads(output.splitlines()[-1])["stage"] == "cancelled"
    assert installer.status(target).ready
    assert [p.name for p in target.glob("env-*")] == ["env-1"]


def test_leftovers_of_a_killed_setup_are_removed_but_not_the_current_environment(target, project):
    (target / "env-7" / "bin").mkdir(parents=True)
    start(target, project).communicate(timeout=120)
    assert [p.name for p in target.glob("env-*")] == ["env-1"]


@pytest.mark.skipif(os.name == "nt", reason="holds the lock with fcntl")
def test_second_setup_in_the_same_folder_is_refused(target, project):
    import fcntl

    with open(target / "setup.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        output, _ = start(target, project).communicate(timeout=60)
    assert "Another set-up is running" in output.splitlines()[-1]


def test_status_says_what_is_missing(target, tmp_path):
    assert installer.status(tmp_path / "nowhere").message == "The backend is not set up yet."
    ready = installer.status(target, ["torch>=2.13,<2.14"])
    assert ready.ready and ready.device == "cpu" and ready.versions["torch"] == "2.13.0"
    grown = installer.status(target, ["torch>=2.13,<2.14", "einops>=0.8"])
    assert not grown.ready and "without einops>=0.8" in grown.message
    installer.environment_python(target / "env-1").unlink()
    assert "is gone" in installer.status(target).message
    (target / "current.json").write_text("{")
    assert "damaged" in installer.status(target).message


def test_verify_names_the_package_that_does_not_load(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    with pytest.raises(installer.SetupError, match="No module named"):
        installer.verify(installer.environment_python(tmp_path / "bare"))
