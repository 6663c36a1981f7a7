#!/usr/bin/env bash
# torch 2.14.1: inside one autocast context a layer goes on with the weights it had at first.
#
# Guessed before it was run: a weight that is changed in place, as an optimiser's step does, is cast
# afresh at its next use.
# Seen: the cast copy is kept until the outermost context ends, so after a step, or after an addition
# without gradients, the layer answers as before. Whoever opens one context around an epoch trains on
# the weights of its first step.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 numpy

cat > "$work/cast.py" <<'PY'
import torch
from torch import nn

torch.manual_seed(0)
layer, x = nn.Linear(4, 4), torch.rand(2, 4)
descent = torch.optim.SGD(layer.parameters(), lr=1.0)


def bfloat16():
    return torch.autocast("cpu", torch.bfloat16)


def weights(before, after):
    return "old weights" if torch.equal(before, after) else "new weights"


with bfloat16():
    before = layer(x)
    before.float().sum().backward()
    descent.step()
    print("after a step, same context:", weights(before, layer(x)))
with bfloat16():
    print("after a step, new context:", weights(before, layer(x)))
with bfloat16():
    before = layer(x)
    with torch.no_grad():
        layer.weight.add_(1.0)
    print("added in place, same context:", weights(before, layer(x)))
with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
    before = layer(x)
    with torch.no_grad():
        layer.weight.add_(1.0)
    print("added in place, without its cache:", weights(before, layer(x)))
PY

"$work/venv/bin/python" "$work/cast.py" | tee "$work/seen.txt"
diff "$work/seen.txt" - <<'SEEN'
after a step, same context: old weights
after a step, new context: new weights
added in place, same context: old weights
added in place, without its cache: new weights
SEEN
