"""Store a network of this project in half precision, with its metadata.

Usage: python scripts/halve_network.py IN.safetensors OUT.safetensors
"""

import sys
from pathlib import Path

from ferd_eval.models import build_architecture, build_classifier, save_network
from ferd_eval.models.checkpoint.load import load_checkpoint


def main(source: Path, target: Path) -> None:
    """Read, halve, write."""
    checkpoint = load_checkpoint(source)
    classifier, facts = build_classifier(checkpoint)
    assert facts.in_channels is not None
    architecture = build_architecture(
        facts.architecture, num_classes=facts.num_classes, in_channels=facts.in_channels
    )
    metadata = {key: str(value) for key, value in checkpoint.metadata.items()}
    save_network(target, classifier, architecture, facts.normalization, metadata, half=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
