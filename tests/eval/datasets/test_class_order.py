import pytest

from ferd_eval.datasets.class_order import ClassOrder, read_class_list, without_numbers


@pytest.mark.parametrize(
    "lines",
    [
        ("0 airplane", "1 bird", "2 wild cat"),
        ("2\twild cat", "0\tairplane", "1\tbird"),
        ("1: airplane", "2: bird", "3: wild cat"),
        ("0, airplane", "1,bird", "02,wild cat"),
        ("1. airplane", "2) bird", "3 wild cat"),
    ],
)
def test_numbers_before_names_say_the_order(lines):
    assert without_numbers(lines) == ("airplane", "bird", "wild cat")


@pytest.mark.parametrize(
    "lines",
    [
        ("0", "1", "2"),
        ("1 euro", "2 euro"),
        ("50 euro", "100 dollar"),
        ("0 airplane", "2 bird"),
        ("0 airplane", "bird"),
        ("0.5", "1.2"),
    ],
)
def test_other_numbers_belong_to_the_names(lines):
    assert without_numbers(lines) == lines


def test_labels_count_from_0(refused):
    order = ClassOrder.chosen("1 cat,2 dog", None)
    with refused("from 1", "Number them from 0"):
        order.of_numbers()
    assert ClassOrder.chosen("1 dog,0 cat", None).of_numbers() == ("cat", "dog")
    assert ClassOrder.chosen(None, None).of_numbers() == ()
    with refused("--class-order text", "--classes"):
        ClassOrder.chosen(None, "text").of_numbers()


def test_folders_may_be_called_like_the_lines_or_without_their_numbers(tmp_path):
    order = ClassOrder.chosen("1 cat,0 dog", None)
    assert order.of_folders(["0 dog", "1 cat"], tmp_path).names == ("1 cat", "0 dog")
    assert order.of_folders(["cat", "dog"], tmp_path).names == ("dog", "cat")


def test_lists_that_are_none(tmp_path, refused):
    file = tmp_path / "names.txt"
    for content, said in (
        (b"cat\n\ndog\n", "name 1 is empty"),
        (b"cat\n", "names 1 classes"),
        (b"cat\ncat\n", "'cat' more than once"),
        (b"c\xe4t\ndog\n", "Save it as UTF-8"),
    ):
        file.write_bytes(content)
        with refused(file, said):
            read_class_list(str(file))
    file.write_bytes(b"\xef\xbb\xbfcat \r\ndog\r\n\r\n")
    assert read_class_list(str(file)) == ("cat", "dog")
