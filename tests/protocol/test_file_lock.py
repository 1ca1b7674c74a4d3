# SPDX-License-Identifier: GPL-3.0-or-later
import subprocess
import sys

from backend.protocol import FileLock

HOLDER = """
import sys
from pathlib import Path
from backend.protocol import FileLock
print(FileLock(Path(sys.argv[1])).acquire("held by the test"), flush=True)
sys.stdin.read()
"""


def test_a_lock_is_exclusive_between_processes_and_ends_with_its_process(tmp_path, pytestconfig):
    path = tmp_path / ".lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=pytestconfig.rootpath,
    )
    try:
        assert holder.stdout.readline().strip() == b"True"
        mine = FileLock(path)
        assert mine.is_held() and not mine.acquire()
        assert mine.note() == "held by the test"
    finally:
        holder.kill()
        holder.communicate()
    assert not mine.is_held()
    assert mine.acquire("mine")
    assert FileLock(path).is_held()
    mine.release()
    assert not FileLock(path).is_held() and FileLock(path).acquire()
