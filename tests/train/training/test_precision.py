"""Precisions: what they change, and what they leave alone."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from ferd_eval.errors import UserError
from ferd_train.training.precision import PRECISIONS, memory_format

CPU = torch.device("cpu")


def test_an_unknown_precision(tiny):
    with pytest.raises(UserError, match=r"no precision is called 'bf16'"):
        tiny.with_changes({"precision": "bf16"})


@pytest.mark.parametrize(
    ("name", "tf32", "product"),
    [
        ("float32", False, torch.float32),
        ("tf32", True, torch.float32),
        ("bfloat16", True, torch.bfloat16),
    ],
)
def test_what_holds_inside_and_after(name, tf32, product):
    flags = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    with PRECISIONS[name](CPU):
        assert torch.backends.cuda.matmul.allow_tf32 is tf32
        assert torch.backends.cudnn.allow_tf32 is tf32
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == product
    assert flags == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    assert not torch.is_autocast_enabled("cpu")


def test_weights_lie_channels_last_on_cpus_and_where_tensor_cores_compute():
    cuda = torch.device("cuda")
    assert memory_format("bfloat16", cuda) == memory_format("tf32", cuda) == torch.channels_last
    assert memory_format("float32", CPU) == memory_format("bfloat16", CPU) == torch.channels_last
    assert memory_format("float32", cuda) == torch.contiguous_format


def test_bfloat16_trains_single_weights_and_continues_to_the_bit(train, tmp_path):
    """Rounding shows, but not much: the steps compute in bfloat16."""

    def stop(log, epochs):
        if log.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "half", precision="bfloat16", watch=stop)
    rounded = load_file(train(tmp_path / "half", precision="bfloat16"))
    whole = load_file(train(tmp_path / "whole", precision="bfloat16"))
    assert all(torch.equal(rounded[key], whole[key]) for key in whole)
    assert rounded["conv1.weight"].dtype == torch.float32


def test_bfloat16_is_close_to_float32_after_a_few_steps(train, tmp_path):
    exact = load_file(train(tmp_path / "exact", epochs=1))["conv1.weight"]
    rounded = load_file(train(tmp_path / "half", epochs=1, precision="bfloat16"))["conv1.weight"]
    assert 1e-6 < (rounded - exact).abs().max() / exact.abs().max() < 0.1
