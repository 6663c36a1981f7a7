#!/usr/bin/env bash
# torchattacks 3.5.1 (with torch 2.14.1): what Attack.save(save_type="int") makes of an attack's images.
#
# Guessed before it was run: pixels are rounded to the nearest of 256 values, so that an attack within
# 8/255 stays within 8/255 of images that were of 256 values; and the file holds uint8 whatever the
# network computes in.
# Seen: decimals are cut off, so pixels move down only: by up to 9/255, and up by 8/255 at most. With a
# network in bfloat16 nothing is converted: the file says "int" and holds bfloat16 in [0, 1].
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy scipy tqdm requests
"$work/venv/bin/pip" install -q --no-deps torchattacks==3.5.1
cd "$work"

cat > save.py <<'PY'
import torch
import torchattacks
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
pixels = torch.arange(256).repeat(8, 3, 1).view(8, 3, 16, 16)
labels = torch.arange(8) % 4


def saved(dtype):
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).to(dtype).eval()
    attack = torchattacks.PGD(network, eps=8 / 255, alpha=2 / 255, steps=5)
    batches = DataLoader(TensorDataset((pixels / 255).to(dtype), labels), batch_size=8)
    # Without results on screen or in return, save() fails where it also saves predictions.
    attack.save(
        batches, "saved.pt", save_type="int", save_clean_inputs=True, verbose=False,
        return_verbose=True,
    )
    return torch.load("saved.pt", weights_only=True)


content = saved(torch.float32)
change = content["adv_inputs"].int() - content["clean_inputs"].int()
print("float32:", content["adv_inputs"].dtype, "change", int(change.min()), "to", int(change.max()))
print("clean images kept:", torch.equal(content["clean_inputs"].int(), pixels.int()))
content = saved(torch.bfloat16)
print("bfloat16:", content["adv_inputs"].dtype, "at most", float(content["adv_inputs"].max()),
      "in a file that says", content["save_type"])
PY

venv/bin/python save.py | tee seen.txt
diff seen.txt - <<'SEEN'
float32: torch.uint8 change -9 to 8
clean images kept: True
bfloat16: torch.bfloat16 at most 1.0 in a file that says int
SEEN
