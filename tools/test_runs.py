# SPDX-License-Identifier: GPL-3.0-or-later
"""All test runs of `build.py test`, and their sum.

Tests of the backend run in one process of the backend's Python, those of Triton's kernels in another one where Triton
interprets kernels instead of compiling them. Each file of tests/blender runs in a process of its own in every Blender
version, with a time limit: a crash or a hang there costs one file, not the run. Two processes run at a time, each with
one thread for its arithmetic.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .environments import clean_variables

BACKEND_LIMIT_S = 2400
BLENDER_FILE_LIMIT_S = 420
LANES = 2
NO_TESTS_COLLECTED = 5


@dataclass(frozen=True)
class Result:
    name: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    problem: str = ""


def run(
    root: Path, python: Path, blenders: dict[str, Path], paths: list[Path], expression: str | None
) -> int:
    """Runs everything, or only `paths` and tests matching `expression`; returns the exit status."""
    for path in paths:
        if not path.exists():
            print(f"There is no test file or folder {path}.", file=sys.stderr)
            return 1
    chosen = [path.resolve() for path in paths] or [root / "tests"]
    inside = root / "tests" / "blender"
    results = []
    if not paths and not expression:
        results.append(check_style(root, python))
    interpreted = root / "tests" / "kernels" / "interpreted"
    match = ["-k", expression] if expression else []
    backend_paths = [p for p in chosen if not p.is_relative_to(inside) and not p.is_relative_to(interpreted)]
    runs = []
    if backend_paths:
        ignored = ["--ignore", inside, "--ignore", interpreted]
        command = [python, "-m", "pytest", "-q", "--durations=5", *ignored, *match, *backend_paths]
        runs.append(("backend", command, BACKEND_LIMIT_S, True))
    for version, blender in blenders.items():
        for file in sorted(inside.glob("test_*.py")):
            if any(p == file or p in file.parents for p in chosen):
                command = [blender, "-m", "pytest", "-q", *match, file]
                runs.append((f"Blender {version}: {file.stem}", command, BLENDER_FILE_LIMIT_S, False))
    if any(p.is_relative_to(interpreted) or interpreted.is_relative_to(p) for p in chosen):
        inside_it = [p for p in chosen if p.is_relative_to(interpreted)] or [interpreted]
        command = [python, "-m", "pytest", "-q", *match, *inside_it]
        runs.append(("kernels, interpreted", command, BACKEND_LIMIT_S, False))
    started = time.monotonic()
    results += in_lanes(root, runs)
    return summary(results, time.monotonic() - started)


def in_lanes(root: Path, runs: list[tuple[str, list, float, bool]]) -> list[Result]:
    """The results of (name, command, limit in seconds, whether to show its output), begun in their order."""
    children: set[subprocess.Popen] = set()
    pool = ThreadPoolExecutor(LANES)
    try:
        return list(pool.map(lambda given: pytest_run(root, children, *given), runs))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in list(children):
            end_group(child)
        raise
    finally:
        pool.shutdown()


def check_style(root: Path, python: Path) -> Result:
    started = time.monotonic()
    ruff = subprocess.run([str(python), "-m", "ruff", "check", "."], cwd=root, env=clean_variables())
    failed = int(ruff.returncode != 0)
    return Result("ruff", 1 - failed, failed, 0, time.monotonic() - started)


def pytest_run(
    root: Path, children: set[subprocess.Popen], name: str, command: list, limit_s: float, show: bool
) -> Result:
    """One pytest process, in `children` while it runs; a crash or a timeout counts as one failed test beside those it
    reported.

    With `show` its output goes straight to the terminal, otherwise only when something failed.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sana_wm_tests_") as scratch:
        report = Path(scratch) / "report.xml"
        command = [*map(str, command), f"--junitxml={report}", f"--basetemp={scratch}/tmp"]
        variables = clean_variables(OMP_NUM_THREADS="1", BLENDER_USER_RESOURCES=f"{scratch}/blender")
        output = None if show else subprocess.PIPE
        child = subprocess.Popen(
            command,
            cwd=root,
            env=variables,
            stdout=output,
            stderr=output and subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        children.add(child)
        problem = text = ""
        try:
            text = child.communicate(timeout=limit_s)[0] or ""
        except subprocess.TimeoutExpired:
            end_group(child)
            text = child.communicate()[0] or ""
            problem = f"not finished after {limit_s:.0f} s"
        finally:
            children.discard(child)
        passed, failed, skipped = counts(report)
    if not problem and child.returncode not in (0, 1, NO_TESTS_COLLECTED):
        problem = f"pytest ended with status {child.returncode}"
    if child.returncode == 1 and not failed:
        problem = "pytest reports a failure outside the tests"
    result = Result(name, passed, failed + bool(problem), skipped, time.monotonic() - started, problem)
    if not show:
        print(line(result), flush=True)
        if result.failed:
            print(text, flush=True)
    return result


def end_group(child: subprocess.Popen) -> None:
    """Ends a test process together with the workers that it started."""
    if os.name == "nt":
        child.kill()
    else:
        os.killpg(child.pid, signal.SIGKILL)


def counts(report: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests in a JUnit file, zeros if the process died before it wrote one."""
    if not report.exists():
        return 0, 0, 0
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    total, failures, errors, skipped = (
        sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    )
    return max(0, total - failures - errors - skipped), failures + errors, skipped


def line(result: Result) -> str:
    text = f"{result.name:<42} {result.passed:>4} passed {result.failed:>3} failed"
    text += f" {result.skipped:>3} skipped {result.seconds:>6.0f} s"
    return f"{text}  {result.problem}".rstrip()


def summary(results: list[Result], seconds: float) -> int:
    print("\nSummary")
    for result in results:
        print(line(result))
    passed, failed = sum(r.passed for r in results), sum(r.failed for r in results)
    print(f"Took {seconds:.0f} s, {sum(r.skipped for r in results)} skipped.")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0
