"""One server for all tests of a run."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sora_server import SoraServer  # noqa: E402


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with SoraServer(tmp_path_factory.mktemp("serve") / "data") as server:
        yield server
        assert server.stop() == 0


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text("sk-first-key-0123456789\nsk-second-key-0123456789\n")
    return path
