#!/usr/bin/env bash
# torch 2.14.1: the gradient of a strided slice of a channels-last tensor is contiguous.
#
# Guessed before it was run: it has the layout of the tensor that was sliced, and of the gradient that
# came in, which are both channels last.
# Seen: the gradient of x[:, :, ::2, ::2] is contiguous, so all that is computed from it further back
# mixes two layouts. Average pooling with a window of one pixel and the same stride picks the same
# pixels, bit for bit, and its gradient stays channels last. A ResNet whose shortcut has no parameters
# meets this at every stage.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 numpy

cat > "$work/layout.py" <<'PY'
import torch
from torch.nn.functional import avg_pool2d


def layout(tensor):
    if tensor.is_contiguous(memory_format=torch.channels_last):
        return "channels last"
    return "contiguous" if tensor.is_contiguous() else "neither"


torch.manual_seed(0)
image = torch.rand(2, 8, 6, 6).contiguous(memory_format=torch.channels_last)
above = torch.rand(2, 8, 3, 3).contiguous(memory_format=torch.channels_last)
found = []
for name, pick in (("slice", lambda x: x[:, :, ::2, ::2]), ("pooling", lambda x: avg_pool2d(x, 1, 2))):
    leaf = image.clone(memory_format=torch.preserve_format).requires_grad_()
    picked = pick(leaf)
    (gradient,) = torch.autograd.grad(picked, leaf, above)
    print(f"{name}: gradient {layout(gradient)}")
    found.append((picked, gradient))
same = all(torch.equal(ours, theirs) for ours, theirs in zip(*found))
print("same values:", same)
PY
"$work/venv/bin/python" "$work/layout.py" | tee "$work/seen"

diff - "$work/seen" <<'EOF'
slice: gradient contiguous
pooling: gradient channels last
same values: True
EOF
