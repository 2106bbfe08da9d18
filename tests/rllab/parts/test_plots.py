"""Pictures know the answer: their texts are the numbers, their pixels the colours, their axes the units."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from rllab.parts import drawing, plots
from rllab.parts.drawing import COLOURS, render


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def title(figure: Figure) -> str:
    assert figure._suptitle is not None  # type: ignore[attr-defined]
    return str(figure._suptitle.get_text())  # type: ignore[attr-defined]


def test_matplotlib_is_imported_when_something_is_drawn_and_pyplot_never() -> None:
    code = (
        "import sys; from rllab import pictures; from rllab.parts import plots, drawing\n"
        "assert 'matplotlib' not in sys.modules\n"
        "drawing.render(plots.bars(['a'], [1.0], 'weight'))\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_users_own_style_changes_nothing_and_is_not_changed() -> None:
    import matplotlib

    plain = np.asarray(render(plots.bars(["a", "b"], [1, -2], "weight")))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        styled = np.asarray(render(plots.bars(["a", "b"], [1, -2], "weight")))
        assert matplotlib.rcParams["font.size"] == 30
    np.testing.assert_array_equal(styled, plain)


# --- curves -------------------------------------------------------------------------------------------------

LINES: list[dict[str, float | None]] = [
    {"step": 100, "train/loss": 2.0, "train/lr": 0.1, "validation/accuracy": 0.5},
    {"step": 200, "train/loss": None, "train/lr": 0.1},
    {"step": 300, "train/loss": 1.0, "validation/accuracy": 0.75, "eval/accuracy": 0.7, "eval/majority_accuracy": 0.25},
]


def test_curves_are_the_metrics_against_steps_and_epochs_the_score_first() -> None:
    figure = plots.curves(LINES, unit="examples", objective="eval/accuracy", epoch=50, title="mlp on digits")
    assert figure is not None
    score, loss = figure.axes
    assert (score.get_ylabel(), loss.get_ylabel(), loss.get_xlabel()) == ("accuracy (share right)", "loss", "examples")
    validation, evaluation, baseline = score.lines
    assert (validation.get_label(), list(validation.get_xdata()), list(validation.get_ydata())) == (
        *("validation", [100, 300]),
        [0.5, 0.75],
    )
    assert (evaluation.get_label(), list(evaluation.get_ydata())) == ("evaluation", [0.7])
    assert (baseline.get_label(), list(baseline.get_ydata())) == ("most frequent class", [0.25, 0.25])
    assert list(loss.lines[0].get_xdata()) == [100, 300]  # what was not finite is left out
    render(figure)
    top = score.child_axes[0]
    assert top.get_xlabel() == "epochs"
    assert np.allclose(np.array(score.get_xlim()) / 50, top.get_xlim())


def test_there_are_no_curves_of_what_was_measured_once() -> None:
    assert plots.curves(LINES[-1:], unit="examples", objective="eval/accuracy") is None
    assert plots.curves([], unit="examples", objective="eval/accuracy") is None


def test_an_agent_has_returns_against_env_steps_and_no_epochs() -> None:
    lines = [{"step": i, "train/return": 2.0 * i, "eval/return": 3.0 * i, "train/epsilon": 0.1} for i in (1, 2)]
    figure = plots.curves(lines, unit="env steps", objective="eval/return")
    assert figure is not None
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("env steps", "return of an episode")
    assert [list(line.get_ydata()) for line in axes.lines] == [[2, 4], [3, 6]]
    assert not axes.child_axes


def test_a_loss_over_decades_is_drawn_on_a_logarithmic_axis_with_plain_numbers() -> None:
    lines = [{"step": i, "train/loss": 10.0**-i} for i in range(4)]
    figure = plots.curves(lines, unit="examples", objective="eval/accuracy")
    assert figure is not None
    render(figure)
    assert figure.axes[0].get_yscale() == "log"
    assert "0.01" in [label.get_text() for label in figure.axes[0].get_yticklabels()]


# --- confusion ----------------------------------------------------------------------------------------------


def test_the_cells_of_a_confusion_matrix_say_counts_and_shares_of_the_true_class() -> None:
    figure = plots.confusion([[3, 1], [0, 4]], ["no", "yes"], "Title")
    axes = figure.axes[0]
    cells = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "3\n75 %", (0, 1): "1\n25 %", (1, 0): "0", (1, 1): "4\n100 %"}
    assert (axes.get_xlabel(), axes.get_ylabel(), title(figure)) == ("predicted class", "true class", "Title")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["no", "yes"]
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), [[75, 25], [0, 100]])


@pytest.mark.parametrize(("k", "written"), [(30, 30), (100, 0)])
def test_many_classes_are_readable_too(k: int, written: int) -> None:
    matrix = 7 * np.eye(k, dtype=int)
    figure = plots.confusion(matrix, [f"class number {i}" for i in range(k)], "Title")
    image = render(figure)
    axes = figure.axes[0]
    assert texts(figure) == ["7"] * written
    assert len(axes.get_xticklabels()) == k
    box = axes.get_tightbbox()
    assert box is not None
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.y1 <= image.height
    size = axes.get_yticklabels()[0].get_window_extent()
    assert size.height <= 1.2 * axes.get_window_extent().height / k  # no label covers the next


def test_a_class_without_items_has_no_shares() -> None:
    assert texts(plots.confusion([[0, 0], [1, 1]], ["a", "b"])) == ["0", "0", "1\n50 %", "1\n50 %"]


# --- two inputs ---------------------------------------------------------------------------------------------


def test_places_go_from_the_bottom_left_row_by_row() -> None:
    plane = plots.Plane.around([[0, 0], [10, 100]], 4)
    assert plane.extent == pytest.approx((-0.6, 10.6, -6, 106))
    places = plane.places()
    assert places.shape == (16, 2)
    assert places[0] == pytest.approx([0.8, 8])
    assert places[1] == pytest.approx([3.6, 8])
    assert places[-1] == pytest.approx([9.2, 92])


def at(figure: Figure, image: Image.Image, x: float, y: float) -> Any:
    """Return the colour of a place, as shares of 1."""
    across, up = figure.axes[0].transData.transform((x, y))
    return np.asarray(image)[image.height - 1 - round(up), round(across)] / 255


def test_regions_have_the_colour_of_the_class_where_it_is_predicted() -> None:
    plane = plots.Plane.around([[0.0, 0.0], [1.0, 1.0]], 40)
    right = (plane.places()[:, 0] > 0.5).astype(float)  # the second class on the right
    points = [plots.Points("training", np.array([[0.1, 0.1], [0.9, 0.9]]), np.array([0, 1]))]
    figure = plots.regions(plane, np.stack([1 - right, right], 1), points, ["left", "right"])
    image = render(figure)
    for x, colour in ((0.25, COLOURS[0]), (0.75, COLOURS[1])):
        np.testing.assert_allclose(at(figure, image, x, 0.3), (1 + np.array(to_rgb(colour))) / 2, atol=0.01)
    np.testing.assert_allclose(at(figure, image, 0.9, 0.9), to_rgb(COLOURS[1]), atol=0.01)  # a point
    assert figure.legends[0].get_texts()[0].get_text() == "left"
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("x", "y")


def test_the_first_input_goes_to_the_right_and_the_second_up() -> None:
    plane = plots.Plane.around([[0.0, 0.0], [1.0, 1.0]], 40)
    x, y = plane.places().T
    corner = ((x > 0.5) & (y > 0.5)).astype(float)
    points = [plots.Points("training", np.array([[0.5, 0.5]]), np.array([0]))]
    figure = plots.regions(plane, np.stack([1 - corner, corner], 1), points, ["most", "corner"])
    image = render(figure)
    found = [at(figure, image, *place)[2] < 0.6 for place in ((0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8))]
    assert found == [False, False, False, True]  # the corner is orange, which has no blue


def test_unsure_regions_are_paler_mixtures() -> None:
    np.testing.assert_allclose(drawing.blend([[0.5, 0.5]], ["#FF0000", "#0000FF"], 1.0), [[0.5, 0, 0.5]])
    np.testing.assert_allclose(drawing.blend([[1, 0]], ["#FF0000", "#0000FF"], 0.5), [[1, 0.5, 0.5]])


def test_classes_called_by_colours_have_them() -> None:
    assert drawing.colours(["orange", "blue"]) == [COLOURS[1], COLOURS[0]]
    assert drawing.colours(["a", "blue"]) == [COLOURS[0], COLOURS[1]]
    assert len(set(drawing.colours([str(i) for i in range(26)]))) == 26


def test_the_map_of_a_number_has_the_range_of_the_true_ones() -> None:
    plane = plots.Plane.around([[0.0, 0.0], [1.0, 1.0]], 10)
    points = [plots.Points("training", np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([-3.0, 5.0]))]
    figure = plots.surface(plane, plane.places().sum(1), points, "height (m)")
    assert figure.axes[0].images[0].get_clim() == (-3, 5)
    assert figure.axes[1].get_ylabel() == "height (m)"


def test_each_hidden_neuron_is_a_picture_of_the_plane_the_right_way_up() -> None:
    plane = plots.Plane.around([[0.0, 0.0], [1.0, 1.0]], 8)
    x, y = plane.places().T
    figure = plots.activations(plane, {"relu1": np.stack([x, y], 1), "relu2": np.tile(x[:, None], 20)})
    first, second = figure.axes[:2]
    right, up = (np.asarray(image.get_array()) for image in first.images)
    assert (right[:, 0] < right[:, -1]).all()
    assert (up[0] > up[-1]).all()  # the first row of an image is its top
    assert second.get_title("left") == "relu2: 16 of 20 neurons"
    assert len(second.images) == 16
    render(figure)


# --- images, tables, numbers --------------------------------------------------------------------------------


def test_wrong_images_have_their_captions_below_them() -> None:
    images = [np.full((1, 4, 4), 10 * i, np.uint8) for i in range(8)]
    figure = plots.wrong_images(images, [f"{i} taken for 9\n5 %" for i in range(8)], "Title")
    axes = figure.axes[0]
    assert texts(figure)[7] == "7 taken for 9\n5 %"
    assert [int(np.asarray(image.get_array()).max()) for image in axes.images] == [0, 10, 20, 30, 40, 50, 60, 70]
    for image, text in zip(axes.images, axes.texts, strict=True):
        left, right, bottom, top = image.get_extent()
        assert left < text.get_position()[0] < right
        assert top < bottom <= text.get_position()[1]


def test_images_keep_their_channels_and_their_range() -> None:
    assert drawing.pixels(np.zeros((1, 5, 7), np.uint8)).shape == (5, 7)
    assert drawing.pixels(np.zeros((3, 5, 7), np.uint8)).shape == (5, 7, 3)
    np.testing.assert_allclose(drawing.pixels(np.array([[[-1.0, 3.0]]])), [[0, 1]])
    assert drawing.pixels(np.ones((2, 2))).max() == 0


def test_wrong_rows_are_a_table() -> None:
    figure = plots.wrong_rows(["x", "true"], [["1.5", "a"], ["-2", "b"]])
    assert texts(figure) == ["x", "true", "1.5", "a", "-2", "b"]


def test_predictions_lie_over_the_true_numbers_and_errors_beside_them() -> None:
    figure = plots.predictions([1.0, 2.0, 50.0], [0.0, 2.0, 4.0], "price (EUR)")
    left, right = figure.axes
    points = np.asarray(left.collections[0].get_offsets())
    np.testing.assert_allclose(points, [[0, 1], [2, 2], [4, 4.32]])  # the third is at the border
    assert (left.get_xlabel(), left.get_ylabel()) == ("true price (EUR)", "predicted price (EUR)")
    assert sum(bar.get_height() for bar in right.patches) == 3
    assert right.get_xlabel() == "error: predicted - true price (EUR)"


def test_bars_are_sorted_by_size_and_coloured_by_sign() -> None:
    figure = plots.bars(["a", "b", "c"], [1, -3, 2], "weight")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "c", "a"]
    assert [bar.get_width() for bar in axes.patches] == [-3, 2, 1]
    assert len({bar.get_facecolor() for bar in axes.patches}) == 2


def test_filters_are_shown_around_zero() -> None:
    weights = np.arange(-8.0, 10).reshape(2, 1, 3, 3)
    figure = plots.tiles(weights, "Title")
    assert [image.get_clim() for image in figure.axes[0].images] == [(-9, 9)] * 2
    np.testing.assert_array_equal(np.asarray(figure.axes[0].images[1].get_array()), weights[1, 0])
    assert texts(plots.tiles(weights, names=["no", "yes"])) == ["no", "yes"]
    colour = plots.tiles(np.stack([np.zeros((3, 2, 2)), np.ones((3, 2, 2))])).axes[0].images
    assert [float(np.asarray(image.get_array()).mean()) for image in colour] == [0.5, 1.0]  # grey is 0


def test_weights_of_a_table_are_a_map_with_the_names_of_features() -> None:
    figure = plots.heat(np.ones((5, 2)), [str(i + 1) for i in range(5)], ["size", "colour"])
    axes = figure.axes[0]
    assert np.asarray(axes.images[0].get_array()).shape == (2, 5)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["size", "colour"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("unit", "feature")


def test_feature_maps_show_each_layer_of_an_image() -> None:
    layers = {"relu1": np.ones((20, 4, 4)), "relu2": np.zeros((3, 2, 2)), "relu3": np.arange(9.0)}
    figure = plots.feature_maps(np.zeros((1, 8, 8), np.uint8), layers, "Title")
    named = [axes.get_title("left") for axes in figure.axes if axes.get_title("left")]
    assert named == ["the image", "relu1: 16 of 20 maps of 4x4", "relu2: 3 maps of 2x2", "relu3: 9 units"]
    assert [len(axes.images) for axes in figure.axes[:4]] == [1, 16, 3, 1]
    render(figure)


# --- images and films ---------------------------------------------------------------------------------------


def test_a_figure_becomes_an_image_of_150_pixels_an_inch() -> None:
    image = render(drawing.sheet(4, 2, "Title"))
    assert (image.size, image.mode) == ((600, 300), "RGB")
    assert image.getpixel((599, 299)) == (255, 255, 255)


def test_names_with_dollars_are_no_mathematics() -> None:
    figure = plots.confusion([[1, 0], [0, 1]], ["$a_1$", "日本"], "50 $ of 60 $")
    render(figure)  # nor does a letter that the font lacks warn
    assert figure.axes[0].get_yticklabels()[0].get_text() == "$a_1$"


def test_a_film_has_a_frame_for_each_picture_and_leaves_out_other_sizes(tmp_path: Path) -> None:
    files = []
    for number in range(4):
        size = (20, 10) if number != 1 else (30, 10)
        files.append(tmp_path / f"{number}.png")
        Image.new("RGB", size, (60 * number, 0, 0)).save(files[-1])
    (tmp_path / "film.gif").write_bytes(drawing.film(files))
    with Image.open(tmp_path / "film.gif") as film:
        frames = [frame.convert("RGB").getpixel((5, 5)) for frame in ImageSequence.Iterator(film)]
        assert film.info["loop"] == 0
    assert np.abs(np.array(frames) - [[0, 0, 0], [120, 0, 0], [180, 0, 0]]).max() <= 8
