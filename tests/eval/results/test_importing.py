"""Plain predictions of other tools: what is read, filled in, and refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ferd_eval.errors import UserError
from ferd_eval.metrics import scorecard
from ferd_eval.results.importing import read_predictions
from ferd_eval.results.outcomes import COLUMNS, Outcomes
from ferd_eval.results.prediction_file import PredictionFile

#: index → label, clean prediction, prediction under attack.
IMAGES = {0: (0, 0, 1), 1: (1, 1, 1), 2: (2, 0, 0), 3: (2, 2, 0)}


@pytest.fixture
def read(tmp_path):
    """Write files of the given contents and read them."""

    def call(*contents: str | bytes, names=None, class_names=None, attack="pgd"):
        files = []
        for number, content in enumerate(contents):
            path = tmp_path / (names[number] if names else f"{number}.csv")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            files.append(PredictionFile(path, path.stem if names else attack))
        return read_predictions(files, class_names)

    return call


def lines(separator=",", newline="\n", attacks=("clean", "pgd")):
    rows = [("index", "label", "pred", "attack")]
    for column, attack in enumerate(attacks, start=1):
        rows += [(i, of[0], of[column], attack) for i, of in IMAGES.items()]
    return newline.join(separator.join(map(str, row)) for row in rows) + newline


def as_dict(found, column, attack="pgd"):
    rows = found.table[found.table["attack"] == attack]
    return dict(zip(rows["index"].tolist(), rows[column].tolist(), strict=True))


@pytest.mark.parametrize(
    "content",
    [
        lines(),
        lines(";"),
        lines("\t"),
        lines("|"),
        lines(", "),
        lines(newline="\r\n"),
        b"\xef\xbb\xbf" + lines(";", "\r\n").encode(),
        "\n" + lines().upper().replace("CLEAN", "clean").replace("PGD", "pgd"),
        lines().rstrip("\n"),
        lines().replace("0,1,pgd", "0.0,1.0,pgd"),
        lines().replace("clean", '"clean"'),
        "\n".join(",".join([*row.split(",")[::-1], ""]) for row in lines().splitlines()),
    ],
)
def test_files_are_read_as_people_save_them(read, content):
    found = read(content)
    assert found.attacks == ("clean", "pgd")
    assert found.class_names == ("0", "1", "2")
    assert {name: str(kind) for name, kind in found.table.dtypes.items()} == dict(COLUMNS)
    assert as_dict(found, "label") == {i: of[0] for i, of in IMAGES.items()}
    assert as_dict(found, "clean_pred") == {i: of[1] for i, of in IMAGES.items()}
    assert as_dict(found, "adv_pred") == {i: of[2] for i, of in IMAGES.items()}
    assert as_dict(found, "correct") == {i: of[0] == of[2] for i, of in IMAGES.items()}
    assert found.table[["margin", "confidence"]].isna().all(axis=None)
    assert found.table["stage"].isna().all()
    assert found.table.loc[found.table["attack"] == "pgd", "linf"].isna().all()


def test_clean_comes_first_and_files_join(read):
    header = "index,label,pred\n"
    found = read(
        header + "3,1,0\n5,0,0\n", header + "5,0,0\n3,1,1\n", names=["pgd.csv", "clean.csv"]
    )
    assert found.attacks == ("clean", "pgd")
    assert found.table["attack"].tolist() == ["clean", "clean", "pgd", "pgd"]
    assert as_dict(found, "clean_pred") == {3: 1, 5: 0}
    assert [source["name"] for source in found.sources] == ["pgd.csv", "clean.csv"]
    assert all(len(source["sha256"]) == 64 for source in found.sources)


def test_without_an_index_rows_are_images_and_that_is_said(read):
    found = read("label,pred,attack\n0,0,clean\n1,1,clean\n0,1,pgd\n1,1,pgd\n")
    assert as_dict(found, "adv_pred") == {0: 1, 1: 1}
    assert as_dict(found, "clean_pred") == {0: 0, 1: 1}
    assert any("no index" in note for note in found.notes)
    assert not any("no index" in note for note in read(lines()).notes)


def test_clean_rows_are_made_of_a_complete_column(read):
    found = read("index,label,pred,clean_pred\n7,0,1,0\n9,1,1,0\n")
    assert found.attacks == ("clean", "pgd")
    assert as_dict(found, "adv_pred", "clean") == {7: 0, 9: 0}
    assert as_dict(found, "correct", "clean") == {7: True, 9: False}


@pytest.mark.parametrize(
    "content",
    ["index,label,pred\n0,0,1\n1,1,1\n", "index,label,pred,clean_pred\n0,0,1,0\n1,1,1,\n"],
)
def test_unknown_clean_predictions_stay_unknown(read, content):
    found = read(content)
    assert found.attacks == ("pgd",)
    assert as_dict(found, "clean_pred")[1] == -1
    assert any("clean" in note for note in found.notes)


def test_images_without_a_clean_row_are_unknown(read):
    found = read("index,label,pred,attack\n0,0,0,clean\n0,0,1,pgd\n1,1,1,pgd\n")
    assert as_dict(found, "clean_pred") == {0: 0, 1: -1}
    assert any("1 attacked rows" in note for note in found.notes)


def test_targets(read):
    found = read(
        "index,label,pred,attack,target\n0,0,0,clean,\n1,1,1,clean,\n"
        "0,0,1,targeted,1\n0,0,0,targeted,2\n1,1,1,targeted,0\n1,1,1,targeted,2\n"
    )
    rows = found.table[found.table["attack"] == "targeted"]
    assert rows["target"].tolist() == [1, 2, 0, 2]
    assert found.table.loc[found.table["attack"] == "clean", "target"].isna().all()
    assert len(found.class_names) == 3


def test_unknown_columns_are_named_and_left_alone(read):
    found = read("index,label,loss,pred,path\n0,0,0.5,1,a b.png\n")
    assert found.table["adv_pred"].tolist() == [1]
    assert any("ignored loss, path" in note for note in found.notes)


def test_class_names_decide_how_many_there_are(read):
    assert read(lines(), class_names=tuple("abcde")).class_names == tuple("abcde")
    with pytest.raises(UserError, match=r"label 2, but there are 2 classes \(0 to 1\)"):
        read(lines(), class_names=("a", "b"))


def test_one_class_alone_has_another_to_be_taken_for(read):
    assert read("index,label,pred\n0,0,0\n").class_names == ("0", "1")


# What attacks are called


@pytest.mark.parametrize("word", ["Clean", "natural", "No attack", "standard", "None"])
def test_clean_predictions_under_another_name_are_clean(read, word):
    rows = lines().replace("clean", word)
    found = read(rows)
    assert found.attacks == ("clean", "pgd")
    assert as_dict(found, "clean_pred") == {i: of[1] for i, of in IMAGES.items()}
    assert any(f"{word!r} is read as clean" in note for note in found.notes)
    assert found.sources[0]["read_as"] == {word: "clean"}
    assert read("index,label,pred\n0,0,0\n", attack=word).attacks == ("clean",)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("clean_pred,pgd_pred", ("clean", "pgd")),
        ("pred_natural,PGD-20 Pred", ("clean", "pgd")),
        ("benign_prediction,AutoAttack_pred", ("clean", "aa")),
    ],
)
def test_a_column_for_each_attack(read, names, expected):
    rows = "".join(f"{i},{','.join(map(str, of))}\n" for i, of in IMAGES.items())
    found = read(f"index,label,{names}\n{rows}", attack=None)
    assert found.attacks == expected
    for place, attack in enumerate(expected, start=1):
        assert as_dict(found, "adv_pred", attack) == {i: of[place] for i, of in IMAGES.items()}


@pytest.mark.parametrize(
    "name", ["natural_pred", "Clean Pred", "pred_std", "unattacked_prediction"]
)
def test_clean_predictions_in_a_column_of_another_name(read, name):
    found = read(f"index,label,pred,{name}\n7,0,1,0\n9,1,1,0\n")
    assert found.attacks == ("clean", "pgd")
    assert as_dict(found, "adv_pred", "clean") == {7: 0, 9: 0}


def test_a_column_of_nobody_knows_which_attack_is_not_one(read):
    with pytest.raises(UserError, match="no pred, only index, label, y_pred"):
        read("index,label,y_pred\n0,0,1\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("index,label,pred\n0,1,1\n", r"Type \S+0.csv=clean, or \S+0.csv=NAME_OF_ATTACK"),
        ("index,label,pred,attack\n0,1,1,test\n", "'test' may mean clean images or an attack"),
        ("index,label,pred,attack\n0,1,1,NA\n", "'NA' may mean"),
        ("index,label,pred,attack\n0,1,1,pgd@0\n", "'pgd@0' may mean"),
        ("index,label,pred,attack\n0,1,1,PGD\n1,1,1,pgd\n", "two spellings of one attack"),
        ("index,label,pred,attack\n0,1,1,clean\n1,1,1,natural\n", "two spellings of one attack"),
        ("index,label,pred,attack\n0,1,1,Mim-7\n1,1,1,mim7\n", "two spellings of one attack"),
        ("index,label,pgd_pred,PGD20_pred\n0,1,1,1\n", "pgd_pred more than once"),
        ("index,label,clean_pred,natural_pred,pred\n0,1,1,1,1\n", "clean_pred more than once"),
    ],
)
def test_names_are_not_guessed(read, content, said):
    with pytest.raises(UserError, match=said):
        read(content, attack=None)


# Archives


def archive(tmp_path, **arrays):
    np.savez(tmp_path / "found.npz", **arrays)
    return read_predictions([PredictionFile(tmp_path / "found.npz", "pgd")])


def test_an_archive_is_a_csv(tmp_path, read):
    table = pd.read_csv(pd.io.common.StringIO(lines()))
    columns = {name: table[name].to_numpy() for name in ("index", "label", "pred")}
    for attack in (np.array(table["attack"], dtype="U"), np.array(table["attack"], dtype="S")):
        found = archive(tmp_path, **columns, attack=attack)
        pd.testing.assert_frame_equal(found.table, read(lines()).table)


def test_labels_in_a_column_are_labels(tmp_path):
    column = np.array([[0], [1], [1]], dtype=np.uint8)
    found = archive(tmp_path, label=column, pred=column[::-1], index=np.array([[4], [5], [6]]))
    assert as_dict(found, "label") == {4: 0, 5: 1, 6: 1}
    assert as_dict(found, "adv_pred") == {4: 1, 5: 1, 6: 0}
    found = archive(tmp_path, label=column, logits=np.eye(3, 2, dtype=np.float32))
    assert as_dict(found, "adv_pred") == {0: 0, 1: 1, 2: 0}


def test_logits_tell_margin_and_confidence(tmp_path):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(50, 4)).astype(np.float32)
    label = generator.integers(0, 4, 50)
    found = archive(tmp_path, label=label, logits=logits).table
    assert found["adv_pred"].tolist() == logits.argmax(1).tolist()
    for row, z, k in zip(found.itertuples(), logits.astype(float), label, strict=True):
        assert row.margin == pytest.approx(z[k] - np.delete(z, k).max(), abs=1e-6)
        assert row.confidence == pytest.approx((np.exp(z) / np.exp(z).sum()).max(), rel=1e-6)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"label": [0, 1], "pred": [0]}, "different lengths"),
        ({"label": [[0, 1]], "pred": [[0, 1]]}, r"shape \(1, 2\)"),
        ({"label": np.array([{}, 1], dtype=object), "pred": [0, 1]}, "never loaded"),
        ({"label": [0, 1]}, "no pred"),
        ({"images": np.zeros((2, 1, 4, 4))}, "--checkpoint"),
        ({"label": [0, 1], "logits": [1.0, 2.0]}, "N×K floats"),
        ({"label": [0, 1], "logits": [[1.0, np.nan], [1.0, 2.0]]}, "not finite"),
        ({"label": [0, 2], "logits": [[1.0, 0.0], [1.0, 2.0]], "index": [0]}, "lengths"),
        ({"label": [0, 1, 1], "logits": [[1.0, 0.0], [1.0, 2.0]]}, "2 rows of logits for 3"),
        ({"logits": [[1.0, 0.0], [1.0, 2.0]]}, "no label"),
        ({"label": [0.5, 1], "pred": [0, 1]}, "not a whole number"),
        ({"label": [True, False], "pred": [0, 1]}, "not a whole number"),
    ],
)
def test_bad_archives(tmp_path, arrays, said):
    with pytest.raises(UserError, match=said):
        archive(tmp_path, **arrays)


# What cannot be true


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("index,label,pred\n", "no rows"),
        ("0,1,1\n1,1,1\n", "no label and no pred"),
        ("index,label\n0,1\n", "no pred, only index, label"),
        ("index,label,pred,pred\n0,1,1,1\n", "pred more than once"),
        ("index,label,pred,Prediction\n0,1,1,1\n", "pred more than once"),
        ("index,label,pred\n0,1\n", "pred is"),
        ("index,label,pred\n0,1,\n", "row 1: pred is ''"),
        ("index,label,pred\n0,1,1,5\n1,1,1,5\n", "as many fields"),
        ("index,label,pred\n0,1,1\n1,1,1,5\n", "as many fields"),
        ("index,label,pred\n0,1,1\n1,1,1,5,6\n", "as many fields"),
        ("index,label,pred\n0,cat,1\n", "row 1: label is 'cat'"),
        ("index,label,pred\n0,1,1\n1,0,0.5\n", r"row 2: pred is '0\.5'"),
        ("index,label,pred\n0,1,inf\n", "not a whole number"),
        ("index,label,pred\n0,1,99999999999999999999\n", "not a whole number"),
        ("index,label,pred\n0,True,1\n", "not a whole number"),
        ("index,label,pred\n0,1,-1\n", "pred -1"),
        ("index,label,pred\n0,-1,1\n", "label -1"),
        ("index,label,pred\n-1,1,1\n", "image -1"),
        ("index,label,pred\n0,1,4000000000\n", "class 4000000000"),
        ("index,label,pred\n0,1,1\n0,1,0\n", "image 0 occurs more than once under pgd"),
        ("index,label,pred,attack\n0,1,1,clean\n0,0,0,pgd\n", "labels 1 and 0"),
        ("index,label,pred,attack\n0,1,1,\n", "attack is empty"),
        ("index,label,pred,attack\n0,1,1,=cmd()\n", "'=cmd()'"),
        ("index,label,pred,attack\n0,1,1,a b\n", "'a b'"),
        ("index,label,pred,attack,clean_pred\n0,1,1,clean,1\n0,1,0,pgd,0\n", "clean_pred 0"),
        ("index,label,pred,clean_pred\n0,1,1,-2\n", "clean_pred -2"),
        ("index,label,pred,target\n0,1,1,0\n1,1,1,\n", "on all rows"),
        ("index,label,pred,target\n0,1,1,1\n", "its own class"),
        ("index,label,pred,target,attack\n0,1,1,0,clean\n", "clean has rows with a target"),
        ("label,pred,target\n1,1,0\n", "add an index"),
        (b"\xff\xfei\x00n\x00", "UTF-8"),
        (b"PK\x03\x04" + bytes(range(256)), "."),
    ],
)  # fmt: skip
def test_bad_files_say_where(read, content, said):
    with pytest.raises(UserError) as refusal:
        read(content)
    assert "\n" not in str(refusal.value)
    assert said.replace("\\", "") in str(refusal.value)


def test_a_million_rows_and_names_like_formulas(read):
    """Every row is counted: against numpy's own count."""
    generator = np.random.default_rng(0)
    label = generator.integers(0, 10, 250_000)
    columns = {attack: generator.integers(0, 10, 250_000) for attack in ("clean", "a", "b", "c")}
    content = pd.concat(
        pd.DataFrame({"index": np.arange(len(label)), "label": label, "pred": pred, "attack": name})
        for name, pred in columns.items()
    ).to_csv(index=False)
    found = read(content, class_names=[f"=SUM({k})" for k in range(10)])
    manifest = {
        "dataset": {"class_names": found.class_names},
        "attacks": {attack: {} for attack in found.attacks},
    }
    card = scorecard(Outcomes(found.table, manifest))
    for name, pred in columns.items():
        assert card.attacks[name].average == (pred == label).mean()
        for each in card.attacks[name].per_class:
            assert each.accuracy == (pred[label == each.index] == each.index).mean()
            lost = (columns["clean"] == label)[label == each.index].mean() - each.accuracy
            assert each.drop == pytest.approx(lost)
