"""Public key layouts, written down a second time: forward passes over a bare dict of tensors.

Each function is one published network as a chain of `torch.nn.functional` calls. The first pass
makes the random weights it asks for, so the set of keys and shapes is as independent of the
product as the logits are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Weights(dict[str, Tensor]):
    """A state dict that makes a random tensor for every key it is first asked for."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def _get(self, key: str, shape: tuple[int, ...], scale: float, shift: float = 0.0) -> Tensor:
        if key not in self:
            self[key] = shift + scale * torch.rand(shape, generator=self.generator)
        return self[key]

    def conv(self, key: str, x: Tensor, out: int, kernel: int, stride: int = 1, groups: int = 1):
        fan_in = x.shape[1] // groups * kernel**2
        weight = self._get(f"{key}.weight", (out, x.shape[1] // groups, kernel, kernel), 2.0, -1.0)
        return F.conv2d(x, weight * (3 / fan_in) ** 0.5, None, stride, kernel // 2, 1, groups)

    def bn(self, key: str, x: Tensor) -> Tensor:
        n = (x.shape[1],)
        weight = self._get(f"{key}.weight", n, 1.0, 0.5)
        bias = self._get(f"{key}.bias", n, 0.4, -0.2)
        mean = self._get(f"{key}.running_mean", n, 0.4, -0.2)
        var = self._get(f"{key}.running_var", n, 1.0, 0.5)
        self.setdefault(f"{key}.num_batches_tracked", torch.tensor(7))
        return F.batch_norm(x, mean, var, weight, bias, False, 0.1, 1e-5)

    def linear(self, key: str, x: Tensor, out: int) -> Tensor:
        weight = self._get(f"{key}.weight", (out, x.shape[1]), 2.0, -1.0)
        return F.linear(x, weight, self._get(f"{key}.bias", (out,), 2.0, -1.0))

    def stored(self) -> dict[str, Tensor]:
        """What a file would hold: `conv` scales what it was given, a file does not."""
        return {key: t * (3 / t[0].numel()) ** 0.5 if t.ndim == 4 else t for key, t in self.items()}


def resnet(
    w,
    x,
    *,
    depths,
    widths,
    classes,
    bottleneck=False,
    option="B",
    head="linear",
    shortcut="shortcut",
):
    x = F.relu(w.bn("bn1", w.conv("conv1", x, widths[0], 3)))
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
        for i in range(depth):
            name, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            out_width = 4 * width if bottleneck else width
            if bottleneck:
                y = F.relu(w.bn(f"{name}.bn1", w.conv(f"{name}.conv1", x, width, 1)))
                y = F.relu(w.bn(f"{name}.bn2", w.conv(f"{name}.conv2", y, width, 3, stride)))
                y = w.bn(f"{name}.bn3", w.conv(f"{name}.conv3", y, out_width, 1))
            else:
                y = F.relu(w.bn(f"{name}.bn1", w.conv(f"{name}.conv1", x, width, 3, stride)))
                y = w.bn(f"{name}.bn2", w.conv(f"{name}.conv2", y, width, 3))
            if stride == 2 or x.shape[1] != out_width:
                if option == "A":
                    extra = torch.zeros(len(x), x.shape[1] // 2, *y.shape[2:], dtype=x.dtype)
                    x = torch.cat([extra, x[:, :, ::2, ::2], extra], 1)
                else:
                    x = w.conv(f"{name}.{shortcut}.0", x, out_width, 1, stride)
                    x = w.bn(f"{name}.{shortcut}.1", x)
            x = F.relu(x + y)
    return w.linear(head, x.mean((2, 3)), classes)


def preactresnet(w, x, *, depths, width, classes, final_bn=True, raw=False, head="linear"):
    x = w.conv("conv1", x, width, 3)
    for stage, depth in enumerate(depths, 1):
        for i in range(depth):
            name, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            out_width = width * 2 ** (stage - 1)
            pre = F.relu(w.bn(f"{name}.bn1", x))
            y = w.conv(f"{name}.conv1", pre, out_width, 3, stride)
            y = w.conv(f"{name}.conv2", F.relu(w.bn(f"{name}.bn2", y)), out_width, 3)
            if stride == 2 or x.shape[1] != out_width:
                x = w.conv(f"{name}.shortcut.0", x if raw else pre, out_width, 1, stride)
            x = x + y
    if final_bn:
        x = F.relu(w.bn("bn", x))
    return w.linear(head, x.mean((2, 3)), classes)


def wideresnet(w, x, *, depth, widen, classes):
    x = w.conv("conv1", x, 16, 3)
    for stage in (1, 2, 3):
        width = 16 * widen * 2 ** (stage - 1)
        for i in range((depth - 4) // 6):
            name, stride = f"block{stage}.layer.{i}", 2 if stage > 1 and i == 0 else 1
            pre = F.relu(w.bn(f"{name}.bn1", x))
            y = F.relu(w.bn(f"{name}.bn2", w.conv(f"{name}.conv1", pre, width, 3, stride)))
            y = w.conv(f"{name}.conv2", y, width, 3)
            if x.shape[1] != width:
                x = w.conv(f"{name}.convShortcut", pre, width, 1, stride)
            x = x + y
    return w.linear("fc", F.relu(w.bn("bn1", x)).mean((2, 3)), classes)


def mobilenetv2(w, x, *, classes, head="linear"):
    x = F.relu(w.bn("bn1", w.conv("conv1", x, 32, 3)))
    widths = [16] + [24] * 2 + [32] * 3 + [64] * 4 + [96] * 3 + [160] * 3 + [320]
    halving = {3, 6, 13}
    for i, width in enumerate(widths):
        name, stride = f"layers.{i}", 2 if i in halving else 1
        mid = x.shape[1] * (1 if i == 0 else 6)
        y = F.relu(w.bn(f"{name}.bn1", w.conv(f"{name}.conv1", x, mid, 1)))
        y = F.relu(w.bn(f"{name}.bn2", w.conv(f"{name}.conv2", y, mid, 3, stride, groups=mid)))
        y = w.bn(f"{name}.bn3", w.conv(f"{name}.conv3", y, width, 1))
        if stride == 1 and x.shape[1] != width:
            x = w.bn(f"{name}.shortcut.1", w.conv(f"{name}.shortcut.0", x, width, 1))
        x = y if stride == 2 else x + y
    x = F.relu(w.bn("bn2", w.conv("conv2", x, 1280, 1)))
    return w.linear(head, x.mean((2, 3)), classes)


def cnn28(w, x, *, width, classes):
    for i, stride in enumerate((1, 2, 2)):
        x = F.relu(w.bn(f"bn{i + 1}", w.conv(f"conv{i + 1}", x, width * 2**i, 3, stride)))
    return w.linear("linear", x.reshape(len(x), -1), classes)
