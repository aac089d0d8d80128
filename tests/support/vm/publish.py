"""Images for machines, built and signed from trees, and served."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Callable, NamedTuple

from tests.support.bench import ota
from tests.support.debian import Debian
from tests.support.nginx import Nginx


class Publisher(NamedTuple):
    """`server` gives out what lies in `served`; `keys` sign it; it was made of `trees`."""

    server: Nginx
    served: Path
    keys: Path
    trees: Debian

    def publish(self, version: str, tree: Path) -> None:
        """Makes `tree` the image `version`."""
        image = self.served / version
        for words in (
            ("build", tree, image, "--version", version),
            ("sign", image, "--key", self.keys / "sign.key", "--cert", self.keys / "sign.crt"),
        ):
            done = ota("image", *words)
            assert done.code == 0, done.err

    def publish_changed(self, version: str, scratch: Path, change: Callable[[Path], None]) -> None:
        """Makes a copy of the newer tree, with `change` done to it, the image `version`."""
        tree = scratch / version
        subprocess.run(["cp", "-a", "--reflink=auto", self.trees.new, tree], check=True)
        try:
            change(tree)
            self.publish(version, tree)
        finally:
            shutil.rmtree(tree)
