"""Two small robust networks for the packaged example, trained by this project's `ferd-train`.

``scripts/make_demo_networks.sh`` is how they were made; each file's metadata holds its recipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path

#: Files of this folder, in the order they are shown.
DEMO_NETWORKS = ("resnet8.safetensors", "cnn.safetensors")


@contextmanager
def demo_checkpoints() -> Iterator[list[Path]]:
    """The packaged checkpoints as files, also when the package is in an archive."""
    with ExitStack() as stack:
        folder = resources.files(__name__)
        yield [
            stack.enter_context(resources.as_file(folder / network)) for network in DEMO_NETWORKS
        ]
