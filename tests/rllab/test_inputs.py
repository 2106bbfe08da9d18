from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from rllab.data import Data, classification, regression
from rllab.errors import UsageError
from rllab.inputs import read

GREY = Data(classification(np.zeros((2, 1, 2, 3), np.uint8), [0, 1]), ("a", "b"))
COLOURS = Data(classification(np.zeros((2, 3, 2, 3), np.uint8), [0, 1]), ("a", "b"))
TABLE = Data(regression(np.zeros((2, 2)), [0, 1]), features=("width", "height"))
KINDS = Data(regression(np.zeros((2, 3)), [0, 1]), features=("carat", "cut=Fair", "cut=Ideal"))


def one(written: object, data: Data, *, resize: bool = False) -> Tensor:
    (item,) = read(str(written), data, resize=resize)
    return item.inputs


# --- pictures


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture of 3 x 2 pixels: red, green, blue; black, grey, white."""
    pixels = [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [128, 128, 128], [255, 255, 255]]]
    Image.fromarray(np.array(pixels, np.uint8)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_picture_is_read_in_the_colours_that_the_model_has(picture: Path) -> None:
    grey = one(picture, GREY)
    assert grey.dtype == torch.uint8
    assert grey.tolist() == [[[76, 150, 29], [0, 128, 255]]]  # 0.299 red + 0.587 green + 0.114 blue
    assert one(picture, COLOURS)[:, 0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_a_picture_of_another_size_is_resized_only_when_asked(tmp_path: Path) -> None:
    Image.new("L", (30, 20), 77).save(tmp_path / "large.png")
    with pytest.raises(UsageError, match=r"has 30 x 20 pixels, and the model takes 3 x 2\n--resize resizes it"):
        one(tmp_path / "large.png", GREY)
    assert one(tmp_path / "large.png", GREY, resize=True).tolist() == [[[77] * 3] * 2]


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file nothing"):
        read("nothing.png", GREY)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(UsageError, match=r"text\.png is no picture that can be read: cannot identify"):
        one(tmp_path / "text.png", GREY)
    Image.fromarray(np.zeros((2, 3), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UsageError, match="more than 8 bits a pixel"):
        one(tmp_path / "deep.png", GREY)


# --- numbers and rows


def test_numbers_with_commas_between_them() -> None:
    assert one("-1.5, 2e3", TABLE).tolist() == [-1.5, 2000]
    square = Data(classification(np.zeros((1, 2, 2)), [0]), ("a", "b"))
    assert one("1,2,3,4", square).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1,2,3", "1,2,3 has 3 numbers, and the model takes 2 numbers: width, height"),
        ("1,much", "1,much: 'much' is no number"),
        ("1,nan", "1,nan: 'nan' is no number"),
        ("somewhere", "somewhere is neither a file nor 2 numbers with commas between them"),
        ("nothing.csv", r"cannot read nothing\.csv: No such file"),
    ],
)
def test_other_numbers_are_refused(written: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(written, TABLE)


def rows(text: str, folder: Path, data: Data = TABLE) -> dict[str, list[float]]:
    (folder / "rows.csv").write_text(text)
    found = read(str(folder / "rows.csv"), data)
    return {item.name.removeprefix(f"{folder}/"): item.inputs.tolist() for item in found}


def test_rows_without_a_header_are_in_the_columns_of_the_data(tmp_path: Path) -> None:
    assert rows("1,2\n\n3,4\n", tmp_path) == {"rows.csv:1": [1, 2], "rows.csv:3": [3, 4]}


def test_a_header_says_which_columns_are_which(tmp_path: Path) -> None:
    text = "height;price;width\n2;?;1\n4;?;3\n"
    assert rows(text, tmp_path) == {"rows.csv:2": [1, 2], "rows.csv:3": [3, 4]}


def test_a_kind_becomes_the_columns_that_the_data_has_of_it(tmp_path: Path) -> None:
    text = "carat,cut\n0.5,Ideal\n0.7,Fair\n"
    assert rows(text, tmp_path, KINDS) == {"rows.csv:2": [0.5, 0, 1], "rows.csv:3": pytest.approx([0.7, 1, 0])}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("width,hight\n1,2\n", r"has no column 'height', which the model takes\nDid you mean 'hight'"),
        ("width,height\n1\n", r"rows\.csv:2 has 1 columns, and the header has 2"),
        ("1,2,3\n", r"rows\.csv:1 has 3 numbers, and the model takes 2 numbers: width, height"),
        ("1,2\n1,?\n", r"rows\.csv:2: '\?' is no number"),
        ("width,height\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        rows(text, tmp_path)


def test_a_kind_that_the_data_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rows\.csv:2: there is no cut 'Idea'\nDid you mean 'Ideal'"):
        rows("carat,cut\n0.5,Idea\n", tmp_path, KINDS)


def test_kinds_are_found_without_a_header_too(tmp_path: Path) -> None:
    assert rows("0.5,Ideal\n0.7,Fair\n", tmp_path, KINDS) == {
        "rows.csv:1": [0.5, 0, 1],
        "rows.csv:2": pytest.approx([0.7, 1, 0]),
    }
    assert one("0.5, Ideal", KINDS).tolist() == [0.5, 0, 1]
    with pytest.raises(UsageError, match="there is no cut 'Idea'\nDid you mean 'Ideal'"):
        one("0.5,Idea", KINDS)


def test_what_a_row_of_kinds_lacks_is_called_as_the_file_calls_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no column 'cut', which the model takes"):
        rows("carat\n0.5\nx\n", tmp_path, KINDS)
    with pytest.raises(UsageError, match=r"rows\.csv:2 has nothing in the column 'carat'"):
        rows("carat,cut\n,Ideal\n", tmp_path, KINDS)


# --- texts


def test_a_text_or_the_file_of_one_is_encoded_as_the_data_says(tmp_path: Path) -> None:
    texts = replace(TABLE, encode=lambda text: torch.tensor([text.count("a"), len(text)]).float())
    assert one("banana", texts).tolist() == [3, 6]
    (tmp_path / "text.txt").write_text("abracadabra")
    assert one(tmp_path / "text.txt", texts).tolist() == [5, 11]
    assert one("a" * 5000, texts).tolist() == [5000, 5000]  # too long to be the name of a file
    with pytest.raises(UsageError, match=r"there is no file nothing\.txt"):
        one("nothing.txt", texts)


def test_a_cell_in_quotes_may_have_the_delimiter_and_line_ends_in_it(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('note,width,height\n"wide,\nlow", 2, 1\nplain,3,4\n')
    items = read(str(tmp_path / "rows.csv"), TABLE)
    assert [item.inputs.tolist() for item in items] == [[2, 1], [3, 4]]
    assert [item.name.rpartition(":")[2] for item in items] == ["2", "4"]
