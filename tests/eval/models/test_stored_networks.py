"""Files that hold several networks: the one that is meant is taken and said, or none is."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from ferd_eval.errors import UserError
from ferd_eval.models.checkpoint.load import load_checkpoint


def network(seed, width=4):
    """A convolution, a batch norm and a head; another seed is another network."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = OrderedDict(
            conv1=nn.Conv2d(3, width, 3), bn=nn.BatchNorm2d(width), fc=nn.Linear(width, 10)
        )
        return nn.Sequential(layers).state_dict()


STUDENT, TEACHER, AVERAGE, OTHER = (
    network(1), network(2, width=16), network(3), network(4),
)  # fmt: skip
NORMALIZER = {"mean": torch.tensor([0.5, 0.25, 0.125]), "std": torch.tensor([0.25, 0.5, 0.75])}


def at(prefix, state):
    return {prefix + key: tensor for key, tensor in state.items()}


def lightning(state, **more):
    return {"pytorch-lightning_version": "2.6.0", "state_dict": state, **more}


def read(tmp_path, content, **arguments):
    file = tmp_path / "net.pt"
    torch.save(content, file)
    return load_checkpoint(file, **arguments)


def refusal(tmp_path, content, **arguments):
    with pytest.raises(UserError) as caught:
        read(tmp_path, content, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_is(checkpoint, state):
    assert {*checkpoint.tensors} == {*state}
    for key, tensor in state.items():
        assert torch.equal(checkpoint.tensors[key], tensor), key


BOTH = {
    "nested": {"teacher": TEACHER, "student": STUDENT},
    "short names": {"teacher": TEACHER, "stu": STUDENT},
    "letters": {"model_t": TEACHER, "model_s": STUDENT, "epoch": 3},
    "capitals": {"T": TEACHER, "S": STUDENT},
    "camel case": {"teaNet": TEACHER, "stuNet": STUDENT},
    "student named": {"net": TEACHER, "student": STUDENT},
    "teacher named": {"net": STUDENT, "teacher": TEACHER},
    "flat": {**at("student.", STUDENT), **at("teacher.", TEACHER)},
    "flat, wrapped": {**at("module.stu.model.", STUDENT), **at("module.tea.model.", TEACHER)},
    "flat, in a container": {"model": {**at("teacher.", TEACHER), **at("net.", STUDENT)}},
    "around its teacher": {**STUDENT, **at("teacher.", TEACHER)},
    "Lightning": lightning({**at("student.", STUDENT), **at("teacher.", TEACHER)}),
    "Lightning, net": lightning({**at("net.", STUDENT), **at("teacher.", TEACHER)}),
    "Lightning, with a head": lightning(
        {**at("student.", STUDENT), **at("teacher.", TEACHER),
         "projector.weight": torch.ones(64, 64), "criterion.center": torch.ones(1, 10)}
    ),
    "with a generator": {"student": STUDENT, "teacher": TEACHER, "generator": OTHER},
}  # fmt: skip


@pytest.mark.parametrize("name", BOTH)
def test_of_student_and_teacher_the_role_decides_and_both_are_named(tmp_path, name):
    scored = read(tmp_path, BOTH[name])
    distilled = read(tmp_path, BOTH[name], role="teacher")
    assert_is(scored, STUDENT)
    assert_is(distilled, TEACHER)
    assert scored.key != distilled.key
    for checkpoint, flag in ((scored, "--key"), (distilled, "--teacher-key")):
        assert "2 networks" in checkpoint.choice
        assert f"{flag} chooses" in checkpoint.choice
    # Each is found again by the name that was said, whatever it is wanted for.
    assert_is(read(tmp_path, BOTH[name], key=scored.key, role="teacher"), STUDENT)
    assert_is(read(tmp_path, BOTH[name], key=distilled.key), TEACHER)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"model": STUDENT, "best": OTHER}, "model and best"),
        ({"vit_s": STUDENT, "vit_b": TEACHER}, "vit_s and vit_b"),
        ({"student_a": STUDENT, "student_b": OTHER}, "student_a and student_b"),
        (lightning({**at("model.", STUDENT), **at("net.", OTHER)}), "state_dict/model"),
        ({"runs": {"first": STUDENT, "second": OTHER}}, "runs/first and runs/second"),
    ],
)
def test_where_no_rule_decides_all_networks_and_the_flag_are_named(tmp_path, content, names):
    assert names in refusal(tmp_path, content)
    assert "--key" in refusal(tmp_path, content)
    assert "--teacher-key" in refusal(tmp_path, content, role="teacher")


@pytest.mark.parametrize("copy", [True, False])
def test_one_network_under_two_names_is_one(tmp_path, copy):
    again = {key: tensor.clone() if copy else tensor for key, tensor in STUDENT.items()}
    checkpoint = read(tmp_path, {"model": STUDENT, "best": at("module.", again)})
    assert_is(checkpoint, STUDENT)
    assert (checkpoint.key, checkpoint.choice) == ("", "")
    again["bn.running_mean"] = again["bn.running_mean"] + 1
    assert "model and best" in refusal(tmp_path, {"model": STUDENT, "best": at("module.", again)})


AVERAGED = {
    "nested": {"model": STUDENT, "ema": AVERAGE},
    "flat": {
        **at("model.", STUDENT), **at("ema_model.module.", AVERAGE),
        "ema_model.n_averaged": torch.tensor(7),
    },
    "Lightning": lightning(
        at("model.", AVERAGE), current_model_state=at("model.", STUDENT),
        averaging_state={"n_averaged": torch.tensor(7)},
    ),
    "of a student": {"student": STUDENT, "student_ema": AVERAGE, "teacher": TEACHER},
}  # fmt: skip


@pytest.mark.parametrize("name", AVERAGED)
def test_trained_weights_go_before_their_average_which_is_named(tmp_path, name):
    checkpoint = read(tmp_path, AVERAGED[name])
    assert_is(checkpoint, STUDENT)
    assert "trained weights" in checkpoint.choice
    key = "state_dict" if name == "Lightning" else "ema"
    key = {"flat": "ema_model", "of a student": "student_ema"}.get(name, key)
    assert_is(read(tmp_path, AVERAGED[name], key=key), AVERAGE)


def test_in_a_file_of_timm_the_average_goes_first_and_that_is_said(tmp_path):
    content = {"state_dict": STUDENT, "state_dict_ema": AVERAGE, "epoch": 3}
    checkpoint = read(tmp_path, content)
    assert_is(checkpoint, AVERAGE)
    assert "timm" in checkpoint.choice
    assert "state_dict left out" in checkpoint.choice
    assert_is(read(tmp_path, content, key="state_dict"), STUDENT)


def test_what_is_no_classifier_is_no_candidate(tmp_path):
    for beside in ("generator", "netD", "proj", "queue"):
        checkpoint = read(tmp_path, {"net": STUDENT, beside: OTHER})
        assert_is(checkpoint, STUDENT)
        assert checkpoint.choice == ""
        assert any(beside in entry for entry in checkpoint.ignored)
    # It may still be asked for, and then that is said.
    checkpoint = read(tmp_path, {"net": STUDENT, "generator": OTHER}, key="generator")
    assert_is(checkpoint, OTHER)
    assert "net left out" in checkpoint.choice


def test_modules_of_one_network_are_not_taken_apart(tmp_path):
    for name in ("ema", "momentum", "s"):  # an attention, say, with filters of its own
        state = {**STUDENT, f"{name}.weight": torch.ones(4, 4, 3, 3)}
        assert_is(read(tmp_path, state), state)
    ensemble = {**at("netA.", STUDENT), **at("netB.", OTHER)}
    assert_is(read(tmp_path, ensemble), ensemble)
    assert_is(read(tmp_path, ensemble, key="netB"), OTHER)


def test_normalization_beside_both_networks_belongs_to_each(tmp_path):
    shared = lightning(
        {**at("normalize.", NORMALIZER), **at("student.", STUDENT), **at("teacher.", TEACHER)}
    )
    own = {
        name: {**at("normalize.", NORMALIZER), **at("model.", state)}
        for name, state in (("student", STUDENT), ("teacher", TEACHER))
    }
    for content in (shared, own):
        for role, state in (("student", STUDENT), ("teacher", TEACHER)):
            checkpoint = read(tmp_path, content, role=role)
            assert_is(checkpoint, state)
            assert checkpoint.embedded_normalization == ((0.5, 0.25, 0.125), (0.25, 0.5, 0.75))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("equal", [True, False])
def test_an_attackers_copy_is_left_out(tmp_path, prefix, equal):
    """MadryLab's robustness saves the network a second time, in its attacker."""
    constants = {f"new_{key}": tensor.view(3, 1, 1) for key, tensor in NORMALIZER.items()}
    state = {
        **at(f"{prefix}normalizer.", constants), **at(f"{prefix}model.", STUDENT),
        **at(f"{prefix}attacker.normalize.", constants),
        **at(f"{prefix}attacker.model.", STUDENT if equal else OTHER),
    }  # fmt: skip
    checkpoint = read(tmp_path, {"model": state, "epoch": 5})
    assert_is(checkpoint, STUDENT)
    assert checkpoint.embedded_normalization == ((0.5, 0.25, 0.125), (0.25, 0.5, 0.75))
    assert bool(checkpoint.choice) is not equal
    assert any("attacker" in entry for entry in checkpoint.ignored)


def test_a_key_is_a_container_a_prefix_or_a_path(tmp_path):
    content = lightning({**at("module.student.", STUDENT), **at("module.teacher.", TEACHER)})
    for key in ("teacher", "teacher.", "state_dict/teacher", "state_dict/module.teacher."):
        assert_is(read(tmp_path, content, key=key), TEACHER)
    said = refusal(tmp_path, content, key="pupil")
    assert "'pupil'" in said
    assert "state_dict/student and state_dict/teacher" in said
    assert "2 networks called 'state_dict'" in refusal(tmp_path, content, key="state_dict")
    assert_is(read(tmp_path, {"state_dict": STUDENT}, key="state_dict"), STUDENT)
    assert read(tmp_path, {"state_dict": STUDENT}, key="state_dict").key == ""


def test_opacus(tmp_path):
    checkpoint = read(tmp_path, {"module_state_dict": at("_module.", STUDENT)})
    assert_is(checkpoint, STUDENT)


def test_networks_that_hold_one_another_are_walked_through_once(tmp_path):
    level = {"weight": torch.ones(2, 2)}
    for _ in range(4):
        level = {f"a{i}": level for i in range(40)}
    assert len(read(tmp_path, level).tensors) == 1


def test_strides_of_zero_are_not_compared(tmp_path):
    huge = {"w": torch.ones(1).expand(10**6, 10**6), "v": torch.ones(1).expand(10**6, 10**6)}
    assert "claims" in refusal(tmp_path, {"model": huge, "net": {**huge}})
