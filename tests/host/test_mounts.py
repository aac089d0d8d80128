"""What is mounted, by names that anybody who may mount something can choose."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bench import environment
from tests.support.blocks import needs_root

_LISTED = """\
import json
from ota_cli.host.mounts import mount_points
print(json.dumps([point.path for point in mount_points()]))
"""


@needs_root
@pytest.mark.parametrize(
    "name", ["with space", "tab\tbed", "two\nlines", "\\040", "a\rb", "\udcff"]
)
def test_a_mount_is_listed_whatever_its_name(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    script = 'mount -t tmpfs none "$1" && exec "$2" -c "$3"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", str(place), sys.executable, _LISTED]
    ran = subprocess.run(argv, env=environment(), stdout=subprocess.PIPE, check=True)
    assert str(place) in json.loads(ran.stdout)
