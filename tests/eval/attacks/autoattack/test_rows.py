"""Rows of memory against plain indexing, and searches in one layout against the other."""

from __future__ import annotations

import pytest
import torch

from ferd_eval.attacks import KeyedRng, Passes, Problem, Threat, frozen
from ferd_eval.attacks.autoattack.apgd import APGDCE, APGDT
from ferd_eval.attacks.autoattack.batched_search import run_search
from ferd_eval.attacks.autoattack.fab import FABT
from ferd_eval.attacks.autoattack.rows import images_of, overwrite, rows_of
from ferd_eval.attacks.autoattack.square import Square
from tests.conftest import TinyNet, tiny_data

LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_the_same_memory_in_its_order(layout):
    x_BCHW = torch.rand(4, 3, 5, 6).contiguous(memory_format=layout)
    rows_BD = rows_of(x_BCHW, x_BCHW)
    assert torch.equal(rows_BD.flatten(), x_BCHW.as_strided((x_BCHW.numel(),), (1,)))
    assert torch.equal(images_of(rows_BD, x_BCHW), x_BCHW)
    rows_BD.zero_()
    assert not x_BCHW.any()


@pytest.mark.parametrize("of", LAYOUTS)
@pytest.mark.parametrize("like", LAYOUTS)
def test_rows_of_another_layout_are_in_the_order_asked_for(of, like):
    x_BCHW = torch.rand(4, 3, 5, 6).contiguous(memory_format=of)
    model_BCHW = torch.empty(4, 3, 5, 6).contiguous(memory_format=like)
    assert torch.equal(images_of(rows_of(x_BCHW, model_BCHW), model_BCHW), x_BCHW)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", [[0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]])
def test_overwriting_chosen_images_leaves_the_others(layout, mask):
    mask_B = torch.tensor(mask, dtype=torch.bool)
    to, other = (torch.rand(4, 3, 5, 6).contiguous(memory_format=layout) for _ in range(2))
    source, source_of_other = torch.rand(4, 3, 5, 6), torch.rand(4, 3, 5, 6)
    expected = [
        torch.stack([new[i] if mask[i] else old[i] for i in range(4)])
        for old, new in ((to, source), (other, source_of_other))
    ]
    overwrite(mask_B, [(to, source), (other, source_of_other)])
    assert torch.equal(to, expected[0])
    assert torch.equal(other, expected[1])


@pytest.mark.parametrize(
    ("search", "eps"),
    [
        (APGDCE(iterations=20), "0.02"),
        (APGDT(iterations=10), "0.02"),
        (FABT(iterations=6), "0.02"),
        (Square(queries=50), "0.08"),
    ],
)
def test_a_search_does_not_depend_on_the_layout_of_images(search, eps):
    data = tiny_data(30, 4, 3, 8)
    labels_N = torch.from_numpy(data.labels_N)
    model = TinyNet(4, channels=3).double().eval()
    found = []
    for layout in LAYOUTS:
        x_NCHW = (torch.from_numpy(data.images_NCHW).double() / 255).contiguous(
            memory_format=layout
        )
        with frozen(model):
            logits_NK = model(x_NCHW).detach()
            others_NK = logits_NK.scatter(1, labels_N.unsqueeze(1), -torch.inf)
            problem = Problem(
                model=model,
                judge=model,
                x_BCHW=x_NCHW,
                labels_B=labels_N,
                targets_B=None,
                clean_logits_BK=logits_NK,
                threat=Threat(eps),
                noise=KeyedRng(0, search.family, torch.arange(30)),
                passes=Passes(),
                slots=7,
            )
            targets_NM = others_NK.argsort(dim=1, descending=True)[:, :3]
            found.append(run_search(search, problem, targets_NM if search.targeted else None, 7))
    assert 0 < found[0].fell_N.sum() < 30
    assert torch.equal(found[0].fell_N, found[1].fell_N)
    assert torch.equal(found[0].step_N, found[1].step_N)
    torch.testing.assert_close(found[0].adv_NCHW, found[1].adv_NCHW, rtol=0, atol=1e-9)
