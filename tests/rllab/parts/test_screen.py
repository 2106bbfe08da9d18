import numpy as np
import pytest
from PIL import Image

from rllab.parts import screen
from rllab.parts.screen import Cell


def test_small_frames_are_enlarged_by_a_whole_number_and_large_ones_left() -> None:
    small = screen.picture(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    assert small.size == (320, 320)
    assert (np.asarray(small)[::32, ::32] == np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).all()
    assert screen.picture(np.zeros((400, 600, 3), np.uint8)).size == (600, 400)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 4)])
def test_grey_frames_and_such_with_transparency_are_pictures(shape: tuple[int, ...]) -> None:
    assert screen.picture(np.full(shape, 255, np.uint8)).getpixel((0, 0)) == (255, 255, 255)


def test_frames_of_numbers_up_to_one_are_stretched() -> None:
    assert screen.picture(np.full((2, 2), 0.5)).getpixel((0, 0)) == (127, 127, 127)


def test_what_is_no_frame_is_told() -> None:
    with pytest.raises(ValueError, match=r"an array of shape \(3,\) is no picture"):
        screen.picture(np.zeros(3))


@pytest.mark.parametrize(("width", "height"), [(600, 400), (321, 77), (10, 501)])
def test_the_caption_is_below_the_picture_and_both_sides_are_even(width: int, height: int) -> None:
    white = Image.new("RGB", (width, height), "white")
    cells = [Cell("return", "-123.45"), Cell("step", "1,234"), Cell("reward", "-1.25"), Cell("", "terminated")]
    shown = screen.captioned(white, cells, note="R: again")
    assert shown.width % 2 == shown.height % 2 == 0
    left = (shown.width - width) // 2
    assert np.asarray(shown)[:height, left : left + width].min() == 255
    bar = np.asarray(shown)[height:]
    assert bar.max() > 200  # letters
    assert (bar[:, -4:] < 60).all()  # that end before the edge


def test_numbers_are_as_short_as_they_can_be() -> None:
    values = (0, -0.0, 12.0, 0.5, -123.456, 0.0123, 1e9, 12345678.5, float("nan"))
    assert [screen.number(value) for value in values] == [
        *("0", "0", "12", "0.50", "-123.46", "0.0123", "1e+09", "1.23e+07", "nan")
    ]


def test_a_text_keeps_its_colours_as_a_picture_and_brackets_where_there_are_none() -> None:
    text = "ab\x1b[41mc\x1b[0md\n\x1b[1;32me\x1b[39m"
    assert screen.plain_text(text) == "ab[c]d\ne"
    colours = {colour for _, colour in screen.text_picture(text).getcolors(100_000) or []}
    assert (213, 60, 60) in colours
    assert screen.text_picture("x").size == screen.text_picture("y").size
