import numpy as np
import pytest

from rllab.data import Data, DatasetConfig, DatasetTask, classification, regression, split
from rllab.errors import UsageError
from rllab.parts.drawing import render
from rllab.parts.samples import KERNELS, convolve, draw_kernel, draw_samples, kernel, samples


def task(data: Data, name: str = "toy") -> DatasetTask:
    return DatasetTask(name, DatasetConfig(), split(data, DatasetConfig(), 0))


def images(channels: int = 1, dtype: type = np.uint8) -> DatasetTask:
    pixels = np.random.default_rng(0).integers(0, 256, (40, channels, 6, 4)).astype(dtype)
    return task(Data(classification(pixels, np.arange(40) % 2), ("cat", "dog")))


def test_images_are_a_grid_with_a_row_a_class() -> None:
    data = images()
    axes = draw_samples(data).axes[0]
    assert [text.get_text() for text in axes.texts] == ["cat", "dog"]
    train = data.data.train
    rows = [image.get_extent()[3] for image in axes.images]
    for number in (0, 1):
        shown = [
            np.asarray(i.get_array()) for i, top in zip(axes.images, rows, strict=True) if int(top / 1.5) == number
        ]
        np.testing.assert_array_equal(shown[0], train.inputs[train.targets == number][0, 0])
        assert len(shown) == 10


def test_two_inputs_are_points_with_their_classes_colours() -> None:
    points = np.random.default_rng(0).normal(size=(50, 2))
    data = task(Data(classification(points, points[:, 0] > 0), ("left", "right"), features=("east", "north")))
    axes = draw_samples(data).axes[0]
    left, right = (np.asarray(drawn.get_offsets()) for drawn in axes.collections)
    assert left[:, 0].max() < 0 < right[:, 0].min()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("east", "north")


def test_a_table_has_a_histogram_for_each_column_and_the_target() -> None:
    inputs = np.random.default_rng(0).normal(size=(50, 3))
    figure = draw_samples(task(Data(regression(inputs, inputs[:, 0]), features=("a", "b", "c"), target="price (EUR)")))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in shown] == ["a", "b", "c", "price (EUR) (target)"]
    assert [sum(bar.get_height() for bar in axes.patches) for axes in shown] == [40] * 4


def test_sequences_are_lines_in_a_panel_for_each_class() -> None:
    inputs = np.arange(20 * 3).reshape(20, 3, 1) / 60
    figure = draw_samples(task(Data(classification(inputs, np.arange(20) % 2), ("even", "odd"))))
    assert [axes.get_title("left") for axes in figure.axes] == ["even", "odd"]
    for axes in figure.axes:
        for line in axes.lines:
            values = np.asarray(line.get_ydata())
            assert values[2] - values[0] == pytest.approx(2 / 60, abs=1e-6)
    assert [len(axes.lines) for axes in figure.axes] == [5, 5]


@pytest.mark.parametrize(
    "data",
    [
        images(3),
        images(1, np.float32),
        task(Data(regression(np.zeros((20, 1, 5, 5), np.uint8), np.arange(20)))),
        task(Data(regression(np.random.default_rng(0).normal(size=(30, 2)), np.arange(30)))),
        task(Data(classification(np.ones((30, 4)), np.arange(30) % 3), ("a", "b", "c"))),
        task(Data(classification(np.zeros((60, 40)), np.arange(60) % 20), tuple(f"class {i}" for i in range(20)))),
        task(Data(regression(np.zeros((60, 7, 2)), np.arange(60)))),
    ],
    ids=[
        "colours",
        "floats",
        "images to numbers",
        "points to numbers",
        "constant columns",
        "many classes",
        "sequences",
    ],
)
def test_every_kind_of_data_can_be_shown(data: DatasetTask) -> None:
    image = samples(data)
    assert image.mode == "RGB"
    assert min(image.size) > 150
    assert len(np.unique(np.asarray(image))) > 10


# --- kernels ------------------------------------------------------------------------------------------------


def test_an_edge_is_where_pixels_differ() -> None:
    image = np.zeros((1, 5, 5), np.uint8)
    image[0, 2, 2] = 10
    edges = convolve(image, KERNELS["edge"])
    assert edges[0, 2, 2] == 80
    assert edges.sum() == 80  # what is below 0 is cut off
    assert convolve(np.full((1, 4, 4), 77, np.uint8), KERNELS["edge"]).max() == 0


def test_blur_spreads_a_pixel_over_nine_and_keeps_a_flat_image() -> None:
    image = np.zeros((1, 5, 5), np.uint8)
    image[0, 1, 1] = 90
    blurred = convolve(image, KERNELS["blur"])[0]
    assert (blurred[:3, :3] == 10).all()
    assert blurred.sum() == 90
    flat = np.full((3, 4, 4), 77, np.uint8)
    for name in ("blur", "sharpen", "emboss"):
        np.testing.assert_array_equal(convolve(flat, KERNELS[name]), flat)


def test_kernels_are_not_turned_around() -> None:
    image = np.zeros((1, 3, 3), np.uint8)
    image[0, 1, 1] = 10
    assert convolve(image, [[0, 0, 0], [0, 0, 3], [0, 0, 0]])[0].tolist() == [[0, 0, 0], [30, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_shown_with_an_image_before_and_after(name: str) -> None:
    data = images()
    figure = draw_kernel(data, name)
    numbers, before, after = figure.axes
    item = data.data.parts["test"].inputs[0].numpy()
    np.testing.assert_array_equal(np.asarray(before.images[0].get_array()), item[0])
    np.testing.assert_array_equal(np.asarray(after.images[0].get_array()), convolve(item, KERNELS[name])[0])
    assert len(numbers.texts) == 9
    assert render(figure).size == (1230, 480)


def test_what_no_kernel_fits_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no images"):
        kernel(task(Data(classification(np.ones((30, 4)), np.arange(30) % 3), ("a", "b", "c"))), "edge")
    with pytest.raises(UsageError, match="there is no kernel 'edgy'") as refused:
        kernel(images(), "edgy")
    assert "edge" in (refused.value.hint or "")
