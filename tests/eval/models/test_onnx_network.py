"""Networks in ONNX files: right logits, no gradients, and nothing but what is in the file."""

from __future__ import annotations

import copy
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ferd_eval import score
from ferd_eval.attacks.autoattack.ensemble import alone
from ferd_eval.attacks.autoattack.square import Square
from ferd_eval.errors import UserError
from ferd_eval.models import build_classifier
from ferd_eval.models.checkpoint.load import load_checkpoint
from tests.conftest import tiny_data
from tests.onnx_files import linear, random_linear

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SHAPE = (1, 8, 8)


def saved(folder: Path, model, name: str = "net.onnx") -> Path:
    file = folder / name
    file.write_bytes(model.SerializeToString())
    return file


def refusal(file: Path, **options) -> str:
    with pytest.raises(UserError) as caught:
        build_classifier(load_checkpoint(file), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("count", [1, 7])
def test_its_logits_are_those_of_the_formula(tmp_path, count):
    weight_KD, bias_K, model = random_linear(4, SHAPE)
    classifier, facts = build_classifier(saved(tmp_path, model))
    x_BCHW = torch.rand(count, *SHAPE)
    expected_BK = x_BCHW.flatten(1).numpy() @ weight_KD.T + bias_K
    np.testing.assert_allclose(classifier(x_BCHW).numpy(), expected_BK, rtol=1e-5, atol=1e-5)
    assert (facts.num_classes, facts.in_channels) == (4, 1)
    assert facts.parameters == 4 * 64 + 4
    assert facts.normalization is None


def test_a_normalisation_named_goes_before_it(tmp_path):
    weight_KD, bias_K, model = random_linear(4, SHAPE)
    classifier, _ = build_classifier(saved(tmp_path, model), normalize="0.25/0.5")
    x_BCHW = torch.rand(3, *SHAPE)
    expected_BK = ((x_BCHW.flatten(1).numpy() - 0.25) / 0.5) @ weight_KD.T + bias_K
    np.testing.assert_allclose(classifier(x_BCHW).numpy(), expected_BK, rtol=1e-5, atol=1e-5)


def test_a_copy_and_a_pickle_are_the_same_network(tmp_path):
    classifier, _ = build_classifier(saved(tmp_path, random_linear(4, SHAPE)[2]))
    x_BCHW = torch.rand(2, *SHAPE)
    for other in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        assert torch.equal(other(x_BCHW), classifier(x_BCHW))


def test_it_is_scored_as_the_same_network_in_torch(tmp_path):
    """Square's random numbers are keyed by image: the same network, the same verdicts."""
    data = tiny_data(24)
    weight_KD, bias_K, model = random_linear(4, SHAPE)
    twin = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4)).eval()
    twin[1].load_state_dict(
        {"weight": torch.from_numpy(weight_KD), "bias": torch.from_numpy(bias_K)}
    )
    labels_N = twin(torch.from_numpy(data.images_NCHW) / 255).argmax(1).numpy()
    data = replace(data, labels_N=labels_N)
    attacks = ["clean", alone(Square(queries=40))]
    found, expected = (
        score(network, data, attacks, "1/10").table
        for network in (build_classifier(saved(tmp_path, model))[0], twin)
    )
    assert 0.1 < expected["correct"][expected["attack"] != "clean"].mean() < 0.9
    assert found["correct"].tolist() == expected["correct"].tolist()
    assert found["steps"].tolist() == expected["steps"].tolist()


def test_it_gives_no_gradients(tmp_path):
    classifier, _ = build_classifier(saved(tmp_path, random_linear(4, SHAPE)[2]))
    with pytest.raises(UserError, match="no gradients"):
        classifier(torch.rand(1, *SHAPE).requires_grad_())
    with pytest.raises(UserError, match="no gradients"):
        score(classifier, tiny_data(8), "pgd")


def test_images_it_does_not_take_are_named(tmp_path):
    classifier, _ = build_classifier(saved(tmp_path, random_linear(4, SHAPE)[2]))
    with pytest.raises(UserError, match=r"images 2×1×9×9.*--dataset"):
        classifier(torch.rand(2, 1, 9, 9))


def test_options_that_say_nothing_of_it_are_refused(tmp_path):
    file = saved(tmp_path, random_linear(4, SHAPE)[2])
    assert "leave resnet18 out" in refusal(file, arch="resnet18")
    for options, said in (
        ({"key": "student"}, "leave --key student out"),
        ({"role": "teacher"}, "gradients"),
    ):
        with pytest.raises(UserError, match=said):
            load_checkpoint(file, **options)


# --- Files that ask for more than they hold ------------------------------------------------------


def test_weights_in_other_files_are_not_read(tmp_path):
    """Wherever they lie: an initializer, a constant, a graph inside a graph."""
    for where in ("weight", "constant", "inner"):
        (tmp_path / "secret.bin").write_bytes(bytes(4 * 256))
        model = random_linear(4, SHAPE)[2]
        tensor = model.graph.initializer[0]
        if where != "weight":
            tensor = copy.deepcopy(tensor)
            node = onnx.helper.make_node("Constant", [], ["other"], value=tensor)
            if where == "inner":
                graph = onnx.helper.make_graph([node], "inner", [], [])
                node = onnx.helper.make_node("If", ["x"], ["y"], then_branch=graph)
                tensor = node.attribute[0].g.node[0].attribute[0].t
            else:
                tensor = node.attribute[0].t
            model.graph.node.append(node)
            tensor = model.graph.node[-1].attribute[0]
            tensor = tensor.g.node[0].attribute[0].t if where == "inner" else tensor.t
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="secret.bin")
        assert "keeps weights in other files" in refusal(saved(tmp_path, model)), where


def test_libraries_of_operators_are_not_loaded(tmp_path):
    model = random_linear(4, SHAPE)[2]
    model.graph.node[0].domain = "evil.example"
    model.opset_import.append(onnx.helper.make_opsetid("evil.example", 1))
    assert "evil.example, which are libraries of code" in refusal(saved(tmp_path, model))


def test_an_operator_that_does_not_exist(tmp_path):
    model = random_linear(4, SHAPE)[2]
    model.graph.node[0].op_type = "Nonsense"
    assert "onnxruntime cannot open it" in refusal(saved(tmp_path, model))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_half_a_file(tmp_path, share):
    file = saved(tmp_path, random_linear(4, SHAPE)[2])
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert "damaged ONNX file" in refusal(file)


def test_other_inputs_and_outputs_are_named(tmp_path):
    weight_KD, bias_K, whole = random_linear(4, SHAPE)
    assert "batches of exactly 4" in refusal(
        saved(tmp_path, linear(weight_KD, bias_K, (4, *SHAPE)))
    )
    flat = linear(weight_KD, bias_K, ("batch", 64))
    assert "of shape batch×64; export a network with float32 images" in refusal(
        saved(tmp_path, flat)
    )
    half = copy.deepcopy(whole)
    for each in (*half.graph.input, *half.graph.output):
        each.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for tensor in half.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    assert "tensor(double)" in refusal(saved(tmp_path, half))
    two = copy.deepcopy(whole)
    two.graph.output.append(
        onnx.helper.make_tensor_value_info("flat", onnx.TensorProto.FLOAT, ["batch", 64])
    )
    assert "it has 2 outputs (logits, flat)" in refusal(saved(tmp_path, two))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_its_packages_one_line_says_what_to_install(tmp_path, package, monkeypatch):
    file = saved(tmp_path, random_linear(4, SHAPE)[2])
    monkeypatch.setitem(sys.modules, package, None)
    assert "pip install onnx onnxruntime" in refusal(file)
