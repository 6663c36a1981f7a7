#!/usr/bin/env bash
# torch 2.13.0 and 2.14.1: the gradient of clamp exactly at its bound, by kind of bound.
#
# Guessed before it was run: 1 at a bound in both releases, whichever way the bound is given.
# Seen: with bounds that are numbers, 1 in 2.13.0 and 0 in 2.14.1. With bounds that are tensors, 1 in
# 2.13.0 and 0.5 in 2.14.1. Who takes the gradient with respect to images in [0, 1] through a network
# that clamps its input gets nothing for black and white pixels, after an upgrade alone.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/clamp.py" <<'PY'
import torch

lowest, highest = torch.tensor(0.0), torch.tensor(1.0)
kinds = {
    "numbers": lambda x: torch.clamp(x, 0, 1),
    "tensors": lambda x: torch.clamp(x, lowest, highest),
    "hardtanh": lambda x: torch.nn.functional.hardtanh(x, 0.0, 1.0),
}
for name, clamp in kinds.items():
    x = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    clamp(x).sum().backward()
    print(name, *x.grad.tolist())
PY

for version in 2.13.0 2.14.1; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install -q "torch==$version" numpy
    "$work/$version/bin/python" "$work/clamp.py" > "$work/$version.txt"
    echo "torch $version"
    cat "$work/$version.txt"
done

diff "$work/2.13.0.txt" - <<'SEEN'
numbers 1.0 1.0 1.0
tensors 1.0 1.0 1.0
hardtanh 0.0 1.0 0.0
SEEN
diff "$work/2.14.1.txt" - <<'SEEN'
numbers 0.0 1.0 0.0
tensors 0.5 1.0 0.5
hardtanh 0.0 1.0 0.0
SEEN
