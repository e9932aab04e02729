"""What methods gain on base and lose on new classes, in words and as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from runs.results import find_results
from tests.tools.results.results_tree import transfer, world, write_base2new, write_result
from tools.plots import main
from tools.results.style import STYLE
from tools.results.summary import AVERAGE, Summary, harmonic_mean, summarise
from tools.results.trade import trade_words
from tools.results.trade_figure import trade_figure

ZERO = "On Shapes, against ZeroshotCLIP (base 60.0, new 50.0, H 54.5), "


def summary_of(output: Path) -> Summary:
    (summary,) = summarise(find_results(output))
    return summary


def words(output: Path, dataset: str = "Shapes") -> str:
    return trade_words(summary_of(output), dataset)


def zero_shot(output: Path, base: float = 60.0, new: float | None = 50.0, **more: str) -> None:
    write_base2new(output, base, new, trainer="ZeroshotCLIP", **more)


def labels(figure: Figure) -> dict[str, tuple[float, float]]:
    """Names of the points, and what they point at."""
    return {t.get_text(): t.xy for t in figure.axes[0].texts if isinstance(t, Annotation)}


@pytest.mark.parametrize(
    ("base", "new", "told"),
    [
        (69.1, 36.5, "gains 9.1 points on base classes and loses 13.5 on new ones (H 47.8)"),
        (62.0, 51.0, "gains 2.0 points on base classes and 1.0 on new ones (H 56.0)"),
        (58.0, 49.0, "loses 2.0 points on base classes and 1.0 on new ones (H 53.1)"),
        (58.0, 51.3, "loses 2.0 points on base classes and gains 1.3 on new ones (H 54.4)"),
        (60.04, 53.0, "stays level on base classes and gains 3.0 points on new ones (H 56.3)"),
        (64.0, 49.96, "gains 4.0 points on base classes and stays level on new ones (H 56.1)"),
        (60.04, 49.96, "stays level on base and new classes (H 54.5)"),
        (60.06, 50.0, "gains 0.1 points on base classes and stays level on new ones (H 54.6)"),
    ],
)
def test_a_method_gains_loses_or_stays_level(tmp_path, base, new, told):
    zero_shot(tmp_path)
    write_base2new(tmp_path, base, new)
    assert words(tmp_path) == f"{ZERO}CoOp {told}."


def test_means_say_over_how_many_seeds_they_are(tmp_path):
    zero_shot(tmp_path)
    for seed in (1, 2, 3):
        write_base2new(tmp_path, 68.0 + seed, 40.0, seed=seed)
    write_base2new(tmp_path, 66.0, 51.0, trainer="MoPD")
    assert words(tmp_path) == (
        f"{ZERO}CoOp gains 10.0 points on base classes and loses 10.0 on new ones (H 50.9, "
        "3 seeds); MoPD gains 6.0 points on base classes and 1.0 on new ones (H 57.5)."
    )


def test_methods_without_both_halves_are_left_out_and_named(tmp_path):
    zero_shot(tmp_path)
    write_base2new(tmp_path, 70.0, 40.0)
    write_base2new(tmp_path, 70.0, None, trainer="MoPD")
    for seed, settings in ((1, "a"), (2, "b")):
        write_base2new(tmp_path, 70.0, 40.0, trainer="SiPD", seed=seed, config_hash=settings)
    assert words(tmp_path) == (
        f"{ZERO}CoOp gains 10.0 points on base classes and loses 10.0 on new ones (H 50.9). "
        "Left out, as base or new is missing or unsound: MoPD, SiPD."
    )
    assert labels(trade_figure(summary_of(tmp_path), "Shapes")).keys() == {"CoOp", "ZeroshotCLIP"}


def test_without_zero_shot_there_are_figures_and_no_comparison(tmp_path):
    write_base2new(tmp_path, 70.0, 40.0)
    told = "CoOp reaches 70.0% on base classes and 40.0% on new ones (H 50.9)."
    assert words(tmp_path) == f"On Shapes, {told}"
    zero_shot(tmp_path, new=None)
    absent = " Left out, as base or new is missing or unsound: ZeroshotCLIP."
    assert words(tmp_path) == f"On Shapes, {told}{absent}"


def test_zero_shot_alone_has_its_figures(tmp_path):
    zero_shot(tmp_path)
    told = "ZeroshotCLIP reaches 60.0% on base classes and 50.0% on new ones (H 54.5)."
    assert words(tmp_path) == f"On Shapes, {told}"


def test_each_is_compared_with_the_zero_shot_of_its_configuration(tmp_path):
    for config, base in (("vit_b16", 60.0), ("rn50", 50.0)):
        zero_shot(tmp_path, base, config=config)
        write_base2new(tmp_path, 70.0, 40.0, config=config)
    write_base2new(tmp_path, 70.0, 40.0, config="other")
    change = "points on base classes and loses 10.0 on new ones (H 50.9)"
    assert words(tmp_path) == (
        "On Shapes, CoOp other reaches 70.0% on base classes and 40.0% on new ones (H 50.9). "
        "Against ZeroshotCLIP rn50 (base 50.0, new 50.0, H 50.0), CoOp rn50 gains 20.0 "
        f"{change}. Against ZeroshotCLIP vit_b16 (base 60.0, new 50.0, H 54.5), CoOp vit_b16 "
        f"gains 10.0 {change}."
    )


def test_rows_are_named_as_far_as_others_of_the_method_need_it(tmp_path):
    write_base2new(tmp_path, 70.0, 40.0, shots=4)
    write_base2new(tmp_path, 72.0, 38.0, shots=16)
    write_base2new(tmp_path, 71.0, 39.0, config="embedded-lr")
    write_base2new(tmp_path, 68.0, 48.0, trainer="MoPD")
    names = labels(trade_figure(summary_of(tmp_path), "Shapes"))
    assert list(names) == [
        "CoOp embedded, 4 shots",
        "CoOp embedded, 16 shots",
        "CoOp embedded-lr",
        "MoPD",
    ]
    assert names["CoOp embedded, 4 shots"] == (70.0, 40.0)


def test_other_images_are_told(tmp_path):
    zero_shot(tmp_path, data="old")
    write_base2new(tmp_path, 70.0, 40.0, data="new")
    assert "H 50.9). Not to be compared on Shapes (base), other images: " in words(tmp_path)


def test_the_average_has_words_of_its_own(tmp_path):
    world(tmp_path)
    assert words(tmp_path, AVERAGE) == (
        "On the average over 2 datasets, against ZeroshotCLIP (base 53.0, new 44.0, H 48.1), CoOp "
        "embedded gains 14.0 points on base classes and 7.0 on new ones (H 57.9, 2 seeds). Left "
        "out, as base or new is missing or unsound: CoOp embedded-lr."
    )
    write_base2new(tmp_path, 63.0, 51.0, seed=3)
    assert "(H 58.0, datasets with different seeds)" in words(tmp_path, AVERAGE)


def test_other_protocols_have_no_words_and_no_picture(tmp_path):
    transfer(tmp_path)
    write_result(tmp_path, 50.0, protocol="fewshot")
    for summary in summarise(find_results(tmp_path)):
        assert trade_words(summary, summary.datasets[0]) == ""


def test_plots_print_the_words_and_write_a_picture_for_each_dataset(tmp_path, capsys):
    world(tmp_path / "runs")
    out = tmp_path / "plots"
    main([str(tmp_path / "runs"), "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "On Digits, against ZeroshotCLIP (base 58.0, new 44.0, H 50.0), CoOp"
    )
    assert max(len(line) for line in lines if not line.startswith(str(out))) <= 110
    pictures = [
        str(out / f"base2new_{name}_new_over_base.{suffix}")
        for name in ("Digits", "Shapes", "average")
        for suffix in ("png", "svg")
    ]
    assert [line for line in lines if "new_over_base" in line] == pictures
    first = {path: Path(path).read_bytes() for path in pictures}
    main([str(tmp_path / "runs"), "--out", str(out)])
    assert {path: Path(path).read_bytes() for path in pictures} == first


def test_the_picture_has_points_bars_and_lines_of_equal_h(tmp_path):
    zero_shot(tmp_path)
    for seed in (1, 2):
        write_base2new(tmp_path, 69.0 + seed, 40.0 + 2 * seed, seed=seed)
    write_base2new(tmp_path, 66.0, 51.0, trainer="MoPD")
    figure = trade_figure(summary_of(tmp_path), "Shapes")
    (panel,) = figure.axes
    points = {"ZeroshotCLIP": (60.0, 50.0), "CoOp": (70.5, 43.0), "MoPD": (66.0, 51.0)}
    assert labels(figure) == points
    drawn = [tuple(bars.lines[0].get_xydata()[0]) for bars in panel.containers]
    assert drawn == list(points.values())
    faces = [bars.lines[0].get_markerfacecolor() for bars in panel.containers]
    assert [face == "white" for face in faces] == [False, False, True]
    assert figure.get_suptitle() == "base2new, Shapes (hollow: seeds are missing)"
    assert panel.get_xlabel() == "accuracy on base classes, % (bars: sd over seeds)"
    across = panel.containers[1].lines[2][0].get_segments()[0][:, 0]
    assert (across[1] - across[0]) / 2 == pytest.approx(0.5**0.5)
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    assert right - left == pytest.approx(top - bottom) and panel.get_aspect() == 1.0
    assert all(left < x < right and bottom < y < top for x, y in points.values())
    levels = [text for text in panel.texts if not isinstance(text, Annotation)]
    assert len(levels) > 2
    for text in levels:
        h = float(text.get_text().removeprefix("H "))
        assert harmonic_mean(*text.get_position()) == pytest.approx(h)


@pytest.mark.parametrize("spread", [1.0, 0.02])
def test_names_of_near_points_do_not_cover_each_other(tmp_path, spread):
    methods = ("CoCoOp", "CoOp", "KgCoOp", "MoPD", "ProGrad", "SiPD", "ZeroshotCLIP2")
    zero_shot(tmp_path)
    for at, trainer in enumerate(methods):
        write_base2new(tmp_path, 70 + spread * (at % 3), 50 + spread * (at % 2), trainer=trainer)
    with matplotlib.rc_context(STYLE):
        figure = trade_figure(summary_of(tmp_path), "Shapes")
        figure.draw_without_rendering()
    frame = figure.axes[0].get_window_extent()
    names = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    boxes = [Text.get_window_extent(name) for name in names]
    assert len(boxes) == 8
    for at, box in enumerate(boxes):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1, names[at]
        assert box.count_overlaps([other.padded(-1) for other in boxes[:at]]) == 0, names[at]


@pytest.mark.parametrize(("base", "new"), [(0.0, 0.0), (100.0, 100.0), (100.0, 0.0)])
def test_a_point_in_a_corner_of_the_scale_is_drawn(tmp_path, base, new):
    write_base2new(tmp_path, base, new)
    panel = trade_figure(summary_of(tmp_path), "Shapes").axes[0]
    assert panel.get_xlim()[0] <= base <= panel.get_xlim()[1]
    assert panel.get_ylim()[0] <= new <= panel.get_ylim()[1]


def test_a_picture_that_cannot_be_written_is_named(tmp_path, capsys):
    zero_shot(tmp_path / "runs")
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path / "runs"), "--out", str(tmp_path / "file")])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(
        f"error: cannot write {tmp_path / 'file'}/base2new_Shapes_new_over_base.png: "
    )
