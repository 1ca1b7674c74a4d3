# SPDX-License-Identifier: GPL-3.0-or-later
"""The miniature release that films are made with."""

import pytest

from backend.__main__ import main
from tests.miniature_release import accept_licences, write_release


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """With accepted licences and the student's checkpoint converted."""
    root = accept_licences(write_release(tmp_path_factory.mktemp("weights")))
    assert main(["weights", "convert", "--weights", str(root)]) == 0
    return root
