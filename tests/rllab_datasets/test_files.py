"""CSV files and folders that were made by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rllab_datasets import csvtable, folders

from rllab.data import DatasetTask, Part
from rllab.errors import UsageError


def opened(target: Path | str, **options: object) -> DatasetTask:
    return DatasetTask.open(str(target), DatasetTask.config_class(str(target)).parse(options), seed=0)


def everything(task: DatasetTask) -> dict[tuple[float, ...], float]:
    """All items: the target of each input."""
    return {
        tuple(row.flatten().tolist()): target.item()
        for part in task.data.parts.values()
        for row, target in zip(part.inputs, part.targets, strict=True)
    }


# --- tables -----------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path):
    def write(text: str | bytes, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


FRUIT = "weight,colour,kind\n1,red,apple\n2.5,green,pear\n-3e1,red,apple\n4,green,pear\n"


def test_numbers_stay_and_text_becomes_a_column_for_each_value(table):
    task = opened(table(FRUIT))
    assert task.data.features == ("weight", "colour=green", "colour=red")
    assert task.classes == ("apple", "pear")
    assert task.data.target == "kind"
    assert everything(task) == {(1, 0, 1): 0, (2.5, 1, 0): 1, (-30, 0, 1): 0, (4, 1, 0): 1}
    assert task.config.scale == "standard"
    assert task.slug == "table.csv"


def test_another_column_can_be_the_target(table):
    task = opened(table(FRUIT), target_column="weight")
    assert task.classes == ()
    assert task.data.features == ("colour=green", "colour=red", "kind=apple", "kind=pear")
    assert sorted(float(t) for part in task.data.parts.values() for t in part.targets) == [-30, 1, 2.5, 4]


def test_a_wrong_target_column_gets_the_nearest_name(table):
    with pytest.raises(UsageError, match=r"(?s)--target-column wieght: .* has no such column.*Did you mean 'weight'"):
        opened(table(FRUIT), target_column="wieght")
    with pytest.raises(UsageError, match="It has weight, colour, kind"):
        opened(table(FRUIT), target_column="zzz")
    with pytest.raises(UsageError, match="--ignore color: "):
        opened(table(FRUIT), ignore="color")


def test_whole_numbers_that_recur_are_classes_and_others_are_not(table):
    recurring = table("x,y\n" + "".join(f"{n},{n % 3}\n" for n in range(12)))
    assert opened(recurring).classes == ("0", "1", "2")
    assert opened(recurring, predict="numbers").classes == ()
    different = table("x,y\n" + "".join(f"{n},{n}\n" for n in range(12)))
    assert opened(different).classes == ()
    assert len(opened(different, predict="classes").classes) == 12
    halves = table("x,y\n" + "".join(f"{n},{n % 3 / 2}\n" for n in range(12)))
    assert opened(halves).classes == ()
    assert opened(halves, predict="classes").classes == ("0.0", "0.5", "1.0")


def test_classes_that_are_numbers_are_in_the_order_of_numbers(table):
    assert opened(table("x,y\n" + "".join(f"{n},{n % 12}\n" for n in range(24)))).classes[-2:] == ("10", "11")


def test_numbers_cannot_be_made_of_text(table):
    with pytest.raises(UsageError, match=r"--predict numbers: the target 'kind' .* has text, such as 'apple'"):
        opened(table(FRUIT), predict="numbers")


def test_without_a_header_columns_are_called_by_number(table):
    path = table("1,a\n2,b\n3,a\n")
    task = opened(path, header=False)
    assert (task.data.features, task.data.target, task.classes) == (("1",), "2", ("a", "b"))
    assert len(everything(task)) == 3
    with pytest.raises(UsageError, match=r"(?s)first line has numbers, not names.*--no-header"):
        opened(table("1,2\n3,4\n"))


def test_quotes_hold_commas_line_ends_and_quotes(table):
    task = opened(table('a,"the, b"\r\n1,"x, ""y"""\r\n2,"two\nlines"\r\n\r\n3,"x, ""y"""\r\n'))
    assert task.data.target == "the, b"
    assert task.classes == ("two\nlines", 'x, "y"')


@pytest.mark.parametrize("between", [";", "\t"])
def test_other_delimiters_are_found_or_said(table, between):
    path = table(FRUIT.replace(",", between))
    assert everything(opened(path)) == everything(opened(table(FRUIT, "other.csv")))
    name = {";": "semicolon", "\t": "tab"}[between]
    assert everything(opened(path, delimiter=name)) == everything(opened(path))


def test_a_byte_order_mark_is_no_part_of_the_first_name(table):
    assert opened(table(b"\xef\xbb\xbf" + FRUIT.encode())).data.features[0] == "weight"


def test_columns_can_be_left_out(table):
    assert opened(table(FRUIT), ignore="colour").data.features == ("weight",)
    with pytest.raises(UsageError, match="--ignore kind: that is the target"):
        opened(table(FRUIT), ignore="kind")
    with pytest.raises(UsageError, match="has no column beside the target 'kind'"):
        opened(table(FRUIT), ignore="colour,weight")


@pytest.mark.parametrize("cell", ["", "NA", "nan", "?", "null"])
def test_a_missing_value_is_refused_with_its_line_or_its_row_left_out(table, cell):
    path = table(FRUIT + f"{cell},red,apple\n")
    with pytest.raises(UsageError, match=r"line 6: nothing in the column 'weight'") as raised:
        opened(path)
    assert "--missing drop" in str(raised.value.hint)
    assert everything(opened(path, missing="drop")) == everything(opened(table(FRUIT, "other.csv")))
    assert opened(path, missing="drop").data.notes == {"rows left out": "1 of 5, which lack a value"}
    assert len(everything(opened(path, ignore="weight"))) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "has names of columns, and no rows"),
        ("a,b\n1,2\n3\n", r"line 3: 1 cell, and 2 in the first line"),
        ('a,b\n"1\n",2\n1,2,3\n', r"line 4: 3 cells, and 2 in the first line"),
        ('a,b\n1,"x"y\n', r"line 2: "),
        ('a,b\n1,"x\n2,y\n', r"line 2: "),
        ("a,a\n1,2\n", "has 2 columns called 'a'"),
        ("a,b\n1,x\n2,x\n", "has one class only: b is always 'x'"),
        ("a,b\n1,2\n1e99,3\n", "line 3: 1e99 is too large a number"),
        (
            "a,b\n" + "1,2\n" * 20 + "1O,3\n",
            "line 22: '1O' in the column 'a' is no number, though 20 of the 21 there are",
        ),
        ("a,b\nxf\xe9,2\n".encode("latin1"), r"line 2: not UTF-8 \(byte 0xe9 at offset 6\)"),
        ("name,b\n" + "".join(f"n{n},{n % 2}\n" for n in range(20)), "has 20 different texts in 20 rows"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused_with_the_line(table, text, message):
    path = table(text)
    with pytest.raises(UsageError, match=message) as raised:
        opened(path)
    assert str(path) in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"there\.csv is no file"):
        opened(tmp_path / "there.csv")
    for name in ("csv", "folder"):
        with pytest.raises(UsageError, match=f"{name} stands for data of your own"):
            opened(name)


def test_lines_are_counted_over_cells_of_several_lines(table):
    read = csvtable.read(table('a,b\n"1\n1",2\n\n3,4\n'))
    assert [column.lines for column in read.columns] == [[2, 5], [2, 5]]
    assert [column.cells for column in read.columns] == [["1\n1", "3"], ["2", "4"]]


def test_rows_are_split_as_scikit_learn_does(table):
    from sklearn.model_selection import train_test_split

    path = table("x,y\n" + "".join(f"{n},{n / 2}\n" for n in range(20)))
    test = train_test_split(np.arange(20), test_size=0.25, random_state=42)[1]
    part = opened(path, test_share=0.25, split_seed=42).data.test
    assert part is not None
    assert part.inputs[:, 0].tolist() == test.tolist()


# --- folders of images ------------------------------------------------------------------------------


def draw(path: Path, colour: int | tuple[int, ...], size: tuple[int, int] = (3, 2), mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode or ("L" if isinstance(colour, int) else "RGB"), size, colour).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Five images of two classes, 2 high and 3 wide, and what is to be passed over."""
    for number in range(3):
        draw(tmp_path / "pets" / "dog" / f"{number}.png", 10 * number)
    for number in range(2):
        draw(tmp_path / "pets" / "cat" / f"{number}.PNG", 100 + 10 * number)
    (tmp_path / "pets" / ".hidden").mkdir()
    (tmp_path / "pets" / "dog" / "Thumbs.db").write_text("")
    return tmp_path / "pets"


def shades(part: Part) -> dict[int, int]:
    return {int(image.max()): int(label) for image, label in zip(part.inputs, part.targets, strict=True)}


def test_subfolders_are_classes_and_grey_images_have_one_channel(pets):
    task = opened(pets, test_share=0.4)
    assert task.classes == ("cat", "dog")
    assert task.shape == (1, 2, 3)
    assert task.data.train.inputs.dtype is torch.uint8
    found = shades(task.data.parts["train"]) | shades(task.data.parts["test"])
    assert found == {0: 1, 10: 1, 20: 1, 100: 0, 110: 0}


def test_one_coloured_image_makes_all_of_three_channels_unless_grey_is_asked_for(pets):
    draw(pets / "dog" / "red.png", (200, 0, 0))
    task = opened(pets, test_share=0.5)
    assert task.shape == (3, 2, 3)
    images = torch.cat([part.inputs for part in task.data.parts.values()])
    pixels = {tuple(image[:, 0, 0].tolist()) for image in images}
    assert {(200, 0, 0), (110, 110, 110)} <= pixels
    assert opened(pets, test_share=0.5, grey=True).shape == (1, 2, 3)


def test_images_of_two_sizes_are_refused_unless_resized(pets):
    draw(pets / "dog" / "large.png", 5, (6, 4))
    with pytest.raises(UsageError, match=r"images of two sizes: .*0.PNG is 2x3, .*large.png is 4x6") as raised:
        opened(pets)
    assert "--resize 2x3" in str(raised.value.hint)
    assert opened(pets, resize="5x7").shape == (1, 5, 7)


@pytest.mark.parametrize("text", ["5", "0x4", "axb", "5x99999"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match=f"--resize {text}: write height x width"):
        DatasetTask.config_class("folder").parse({"resize": text})


def test_a_damaged_image_is_named(pets):
    (pets / "dog" / "broken.png").write_bytes((pets / "dog" / "0.png").read_bytes()[:40])
    with pytest.raises(UsageError, match=r"broken.png cannot be read as an image"):
        opened(pets)


def test_an_image_of_16_bits_is_refused(pets):
    Image.fromarray(np.zeros((2, 3), np.uint16)).save(pets / "dog" / "deep.png")
    with pytest.raises(UsageError, match=r"deep.png has I;16 pixels"):
        opened(pets)


def test_train_and_test_folders_are_parts(pets, tmp_path):
    pets.rename(tmp_path / "train")
    for name, shade in (("dog", 40), ("cat", 140)):
        draw(tmp_path / "both" / "test" / name / "x.png", shade)
    (tmp_path / "train").rename(tmp_path / "both" / "train")
    data = opened(tmp_path / "both").data
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 5, "test": 2}
    assert shades(data.parts["test"]) == {40: 1, 140: 0}
    pooled = opened(tmp_path / "both", folds=7).data
    assert {name: len(part) for name, part in pooled.parts.items()} == {"train": 6, "test": 1}


def test_a_folder_that_is_not_what_it_should_be_is_refused(tmp_path, pets):
    (tmp_path / "flat").mkdir()
    with pytest.raises(UsageError, match="has no subfolders"):
        opened(tmp_path / "flat")
    draw(tmp_path / "one" / "dog" / "x.png", 1)
    with pytest.raises(UsageError, match="has one class only: 'dog'"):
        opened(tmp_path / "one")
    (pets / "bird").mkdir()
    with pytest.raises(UsageError, match="bird has no files"):
        opened(pets)
    (pets / "bird" / "x.pdf").write_text("")
    with pytest.raises(UsageError, match="bird has 1 files, and none is an image or a text"):
        opened(pets)
    (pets / "bird" / "x.txt").write_text("tweet")
    with pytest.raises(UsageError, match=r"has images .* and texts \(x.txt\)"):
        opened(pets)


# --- folders of texts -------------------------------------------------------------------------------


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    """Four texts to learn from, two to test on."""
    for name, text in {
        "train/ham/1.txt": "Dinner at eight, dinner at home.",
        "train/ham/2.txt": "See you at home",
        "train/spam/1.txt": "Win, win, WIN a prize",
        "train/spam/2.txt": "Your prize at home",
        "test/ham/1.txt": "home alone, at home",
        "test/spam/1.txt": "unseen",
    }.items():
        (tmp_path / "mail" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mail" / name).write_text(text)
    return tmp_path / "mail"


def test_words_are_counted_the_most_frequent_ones_first(mail):
    data = opened(mail, vocabulary=4).data
    assert data.features == ("at", "home", "win", "dinner")
    assert data.train.inputs.tolist() == [[2, 1, 0, 2], [1, 1, 0, 0], [0, 0, 3, 0], [1, 1, 0, 0]]
    assert data.train.targets.tolist() == [0, 0, 1, 1]
    assert data.parts["test"].inputs.tolist() == [[1, 2, 0, 0], [0, 0, 0, 0]]


def test_words_of_the_test_part_choose_nothing(mail):
    assert "alone" not in opened(mail).data.features
    assert "unseen" not in opened(mail).data.features


def test_onehot_says_which_words_are_there(mail):
    data = opened(mail, vocabulary=4, represent="onehot").data
    assert data.train.inputs.tolist() == [[1, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0]]


def test_runs_of_characters_are_counted_across_words(mail):
    data = opened(mail, represent="ngrams", ngram=4).data
    assert data.features[:3] == (" at ", "t ho", "home") or " at " in data.features[:3]
    column = data.features.index("home")
    assert data.parts["test"].inputs[:, column].tolist() == [2, 0]
    assert all(len(run) == 4 for run in data.features)


def test_texts_that_have_no_words_or_are_not_utf8_are_refused(mail):
    (mail / "train" / "ham" / "2.txt").write_bytes(b"fine\nnot \xff fine")
    with pytest.raises(UsageError, match=r"2.txt, line 2: not UTF-8"):
        opened(mail)
    for file in mail.glob("train/*/*.txt"):
        file.write_text("!")
    with pytest.raises(UsageError, match="there to learn from are empty"):
        opened(mail)


def test_texts_are_split_before_their_words_are_chosen(mail):
    listing = folders.find(mail)
    assert listing.kind == "texts"
    task = opened(mail, folds=3, vocabulary=3)
    assert {name: len(part) for name, part in task.data.parts.items()} == {"train": 4, "test": 2}
    assert task.data.train.inputs.dtype is torch.float32
    assert task.data.finish is None
