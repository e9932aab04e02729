"""Which plots there are, what they show, and that their bytes do not change."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from scipy import stats

from runs.results import find_results
from tests.tools.results import calls
from tests.tools.results.results_tree import write_base2new, write_result
from tools.plots import main
from tools.results.curves import KNOBS, POOL_SIZE, SHOTS, Curve, Knob, curves
from tools.results.figures import GAIN, LOSS, MEAN, curve_figure, gain_figure
from tools.results.pairing import baseline_of
from tools.results.summary import AVERAGE, H, Summary, summarise

refused = partial(calls.refused, main)
KNOB = {knob.name: knob for knob in KNOBS}


def mopd(h: int = 12, k: int = 3, pool: str = "paper", **more: float) -> dict[str, Any]:
    """Settings of a run of MoPD, as results.json has them."""
    knobs = {"ALPHA": 0.8, "BETA": 0.1, "TEMPERATURE": 1.0} | more
    return {
        "POOL_SIZE": h,
        "POOL_DIGEST": f"{pool}-{h}",
        "TRAINER.MOPD.POOL": pool,
        "TRAINER.MOPD.NUM_TEACHERS": k,
        **{f"TRAINER.MOPD.{name}": value for name, value in knobs.items()},
    }


def write_run(
    output: Path, tag: str, settings: dict[str, Any], base: float = 60.0, **more: Any
) -> None:
    """A run of MoPD for a variant."""
    config = "vit_b16" + (f"-{tag}" if tag else "")
    given = {"trainer": "MoPD", "config": config, "settings": settings, **more}
    write_base2new(output, base, 50.0, **given)


def summary_of(output: Path) -> Summary:
    (summary,) = summarise(find_results(output))
    return summary


def only_curve(output: Path, knob: Knob, dataset: str = "Shapes") -> Curve:
    (curve,) = curves(summary_of(output), knob, dataset)
    return curve


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "key"),
    [("alpha", "ALPHA"), ("beta", "BETA"), ("temperature", "TEMPERATURE")],
)
def test_a_curve_has_the_rows_that_differ_in_its_knob_only(tmp_path, name, key):
    write_run(tmp_path, "", mopd(), 60.0)
    write_run(tmp_path, "x", mopd(**{key: 0.25}), 62.0)
    write_run(tmp_path, "k", mopd(k=2), 64.0)
    curve = only_curve(tmp_path, KNOB[name])
    default = {"ALPHA": 0.8, "BETA": 0.1, "TEMPERATURE": 1.0}[key]
    assert curve.label == "MoPD"
    means = {value: point["base"].mean for value, point in curve.points.items()}
    assert means == dict(sorted({0.25: 62.0, default: 60.0}.items()))
    drawn = [knob.name for knob in KNOBS if curves(summary_of(tmp_path), knob, "Shapes")]
    assert drawn == ["num_teachers", name]


def test_curves_of_one_method_are_named_by_what_tells_them_apart(tmp_path):
    for k in (1, 2):
        for alpha in (0.2, 0.8):
            write_run(tmp_path, f"k{k}a{alpha}", mopd(k=k, ALPHA=alpha))
    found = curves(summary_of(tmp_path), KNOB["alpha"], "Shapes")
    assert [curve.label for curve in found] == [
        "MoPD (NUM_TEACHERS 1)",
        "MoPD (NUM_TEACHERS 2)",
    ]


def test_pool_sizes_are_those_of_one_family_of_pools_and_the_default(tmp_path):
    for h, k in ((1, 1), (2, 2), (4, 3), (8, 3)):
        write_run(tmp_path, f"h{h}", mopd(h, k, f"configs/pools/h{h}.yaml"), 50.0 + h)
    write_run(tmp_path, "", mopd(), 62.0)
    write_run(tmp_path, "noise25", mopd(pool="noise25"), 30.0)
    write_run(tmp_path, "noise50", mopd(pool="noise50"), 20.0)
    write_run(tmp_path, "mixed", mopd(35, pool="mixed"), 40.0)
    curve = only_curve(tmp_path, POOL_SIZE)
    means = {value: point["base"].mean for value, point in curve.points.items()}
    assert means == {1: 51.0, 2: 52.0, 4: 54.0, 8: 58.0, 12: 62.0}
    assert curve.label == "MoPD"


@pytest.mark.parametrize("dataset", ["Shapes", AVERAGE])
def test_other_prompts_of_one_size_are_no_study_of_the_size(tmp_path, dataset):
    for h, pool in ((4, "noise1"), (12, "noise2"), (12, "noise3")):
        for name in ("Shapes", "Digits"):
            write_run(tmp_path, pool, mopd(h, pool=pool), dataset=name)
    assert curves(summary_of(tmp_path), POOL_SIZE, dataset) == []
    for name in ("shapes", "digits"):
        for path in (tmp_path / f"base2new/{name}/MoPD/vit_b16-noise3").rglob("results.json"):
            path.unlink()
    assert list(only_curve(tmp_path, POOL_SIZE, dataset).points) == [4, 12]


def test_a_value_that_differs_between_datasets_has_no_average_curve(tmp_path):
    for tag, shapes, digits in (("a", 0.2, 0.5), ("b", 0.4, 0.5)):
        write_run(tmp_path, tag, mopd(ALPHA=shapes))
        write_run(tmp_path, tag, mopd(ALPHA=digits), dataset="Digits")
    summary = summary_of(tmp_path)
    assert len(curves(summary, KNOB["alpha"], "Shapes")) == 1
    assert curves(summary, KNOB["alpha"], "Digits") == []
    assert curves(summary, KNOB["alpha"], AVERAGE) == []


def test_points_that_lack_seeds_are_marked_and_those_that_lack_tests_are_absent(tmp_path):
    for alpha in (0.2, 0.4, 0.6):
        for seed in (1, 2) if alpha != 0.4 else (1,):
            write_run(tmp_path, f"a{alpha}", mopd(ALPHA=alpha), 60.0 + seed, seed=seed)
    run = tmp_path / "base2new/shapes/MoPD/vit_b16-a0.6/shots_16"
    (run / "seed2/new/results.json").unlink()
    curve = only_curve(tmp_path, KNOB["alpha"])
    assert curve.partial == {0.4}
    assert {value: sorted(point) for value, point in curve.points.items()} == {
        0.2: [H, "base", "new"],
        0.4: [H, "base", "new"],
        0.6: ["base"],
    }
    figure = curve_figure([curve], summary_of(tmp_path), KNOB["alpha"], "Shapes")
    assert figure.get_suptitle() == "base2new, Shapes: MoPD (hollow: seeds are missing)"
    base, new, _ = figure.axes
    for panel, values in ((base, [61.5, 61.0, 61.5]), (new, [50.0, 50.0])):
        assert list(panel.lines[0].get_ydata()) == values
        hollow = panel.lines[-1]
        assert hollow.get_markerfacecolor() == "white" and list(hollow.get_xdata()) == [1]
    assert [tick.get_text() for tick in base.get_xticklabels()] == ["0.2", "0.4", "0.6"]


def fewshot(output: Path) -> None:
    for dataset in ("Shapes", "Digits"):
        for trainer, more in (("CoOp", 0.0), ("MoPD", 1.0)):
            for shots in (1, 4):
                for seed in (1, 2):
                    write_result(
                        output, 50.0 + shots + seed + more, protocol="fewshot", dataset=dataset,
                        trainer=trainer, shots=shots, seed=seed, config_hash=f"{dataset}{shots}",
                        settings={"OPTIM.MAX_EPOCH": 50 * shots},
                    )  # fmt: skip


def test_every_plot_is_written_as_png_and_svg_with_the_same_bytes(tmp_path, capsys):
    fewshot(tmp_path / "runs")
    for name in ("one", "two"):
        main([str(tmp_path / "runs"), "--out", str(tmp_path / name)])
    stems = [
        *(f"fewshot_{dataset}_shots" for dataset in ("Digits", "Shapes", "average")),
        *(f"fewshot_gain_MoPD_embedded_{shots}_over_CoOp_embedded" for shots in (1, 4)),
    ]
    assert written(tmp_path / "one") == sorted(
        f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")
    )
    listed = capsys.readouterr().out.splitlines()[: 2 * len(stems)]
    assert sorted(Path(line).name for line in listed) == written(tmp_path / "one")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    assert b"<dc:date>" not in (tmp_path / "one/fewshot_Shapes_shots.svg").read_bytes()


def test_a_shots_curve_shows_mean_and_spread_of_each_method(tmp_path):
    fewshot(tmp_path)
    summary = summary_of(tmp_path)
    found = curves(summary, SHOTS, "Shapes")
    figure = curve_figure(found, summary, SHOTS, "Shapes")
    (panel,) = figure.axes
    assert [curve.label for curve in found] == ["CoOp", "MoPD"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["CoOp", "MoPD"]
    assert panel.get_ylabel() == "accuracy, % (bars: sd over seeds)"
    coop, mopd_bars = (container for container in panel.containers)
    assert list(coop.lines[0].get_ydata()) == [52.5, 55.5]
    low, high = coop.lines[2][0].get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(0.5**0.5)
    assert list(mopd_bars.lines[0].get_ydata()) == [53.5, 56.5]


def gains_world(output: Path) -> Summary:
    for dataset, base, new in (
        ("Shapes", 62.0, 51.0),
        ("Digits", 57.0, 54.0),
        ("EuroSAT", 61.0, None),
        ("ImageNet", 65.0, 40.0),
    ):
        write_base2new(output, 60.0, 50.0, dataset=dataset)
        write_base2new(output, base, new, dataset=dataset, trainer="MoPD")
    return summary_of(output)


def test_gains_are_sorted_with_the_average_below_and_missing_ones_named(tmp_path):
    summary = gains_world(tmp_path)
    coop, ours = summary.rows
    figure = gain_figure(summary, ours, coop)
    base, new, _ = figure.axes
    names = [tick.get_text() for tick in base.get_yticklabels()]
    assert names == ["ImageNet", "Shapes", "EuroSAT", "Digits", "average"]
    assert [bar.get_width() for bar in base.patches] == [5.0, 2.0, 1.0, -3.0, 1.25]
    colours = [to_hex(bar.get_facecolor()).upper() for bar in base.patches]
    assert colours == [GAIN, GAIN, GAIN, LOSS, MEAN]
    shown = [text.get_text() for text in base.texts]
    assert shown == ["+5.00", "+2.00", "+1.00", "\N{MINUS SIGN}3.00", "+1.25"]
    names = [tick.get_text() for tick in new.get_yticklabels()]
    assert names == ["Digits", "Shapes", "ImageNet", "EuroSAT", "average"]
    assert [bar.get_width() for bar in new.patches] == [4.0, 1.0, -10.0]
    assert [text.get_text().strip() for text in new.texts][-2:] == ["missing", "missing"]


def test_a_gain_that_rounds_to_zero_has_no_minus(tmp_path):
    for dataset in ("Shapes", "Digits"):
        write_base2new(tmp_path, 60.0, 50.0, dataset=dataset)
        write_base2new(tmp_path, 59.999, 49.0, dataset=dataset, trainer="MoPD")
    summary = summary_of(tmp_path)
    base, new, _ = gain_figure(summary, summary.rows[1], summary.rows[0]).axes
    assert [text.get_text() for text in base.texts] == ["+0.00"] * 3
    assert [text.get_text() for text in new.texts] == ["\N{MINUS SIGN}1.00"] * 3


def seeds_world(output: Path) -> Summary:
    """Gains with intervals on both sides of zero; on Digits, a seed that CoOp lacks."""
    for dataset, gains in (("Shapes", (2.0, 3.0, 7.0)), ("Digits", (-1.0, 2.0, -3.0))):
        for seed, gain in enumerate(gains, start=1):
            write_base2new(
                output, 60.0 + seed + gain, 50.0, dataset=dataset, trainer="MoPD", seed=seed
            )
            if (dataset, seed) != ("Digits", 3):
                write_base2new(output, 60.0 + seed, 50.0, dataset=dataset, seed=seed)
    return summary_of(output)


def test_gains_have_intervals_over_the_seeds_that_both_have(tmp_path):
    summary = seeds_world(tmp_path)
    figure = gain_figure(summary, summary.rows[1], summary.rows[0])
    panel = figure.axes[0]
    assert [bar.get_width() for bar in panel.patches] == [4.0, 0.5, 1.5]
    names = [tick.get_text() for tick in panel.get_yticklabels()]
    assert names == ["Shapes", "Digits *", "average *"]
    differences = ([2.0, 3.0, 7.0], [-1.0, 2.0], [0.5, 2.5])
    for bars, values in zip(panel.containers[1::2], differences, strict=True):
        (segment,) = bars.errorbar.lines[2][0].get_segments()
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert tuple(segment[:, 0]) == pytest.approx(tuple(expected))
    assert figure.get_supxlabel() == (
        "gain in accuracy, percentage points (lines: 95% confidence interval, paired by seed; "
        "*: seeds are missing)"
    )


def test_gains_of_single_seeds_have_no_intervals_and_none_are_spoken_of(tmp_path):
    summary = gains_world(tmp_path)
    figure = gain_figure(summary, summary.rows[1], summary.rows[0])
    assert all(bars.errorbar is None for bars in figure.axes[0].containers)
    assert figure.get_supxlabel() == "gain in accuracy, percentage points"


def test_a_figure_without_a_common_seed_has_no_bars(tmp_path):
    for dataset in ("Shapes", "Digits"):
        write_base2new(tmp_path, 60.0, 50.0, dataset=dataset, seed=1)
        write_base2new(tmp_path, 61.0, 50.0, dataset=dataset, seed=2, trainer="MoPD")
    summary = summary_of(tmp_path)
    panel = gain_figure(summary, summary.rows[1], summary.rows[0]).axes[0]
    assert [text.get_text().strip() for text in panel.texts] == ["missing"] * 3
    assert panel.get_xlim() == (0.0, 1.0) and not panel.patches


@pytest.mark.parametrize("case", ["gains", "losses", "intervals"])
def test_numbers_beside_bars_stay_within_their_panel(tmp_path, case):
    if case == "losses":  # and one that is exactly zero
        for dataset, ours in (("Shapes", 60.0), ("Digits", 59.8)):
            write_base2new(tmp_path, 60.0, 60.0, dataset=dataset)
            write_base2new(tmp_path, ours, ours, dataset=dataset, trainer="MoPD")
    worlds = {"gains": gains_world, "losses": summary_of, "intervals": seeds_world}
    summary = worlds[case](tmp_path)
    figure = gain_figure(summary, summary.rows[1], summary.rows[0])
    figure.draw_without_rendering()
    for panel in figure.axes:
        frame = panel.get_window_extent()
        for text in panel.texts:
            box = text.get_window_extent()
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()


def test_the_baseline_of_a_variant_is_the_configuration_that_it_varies(tmp_path):
    for config in ("vit_b16", "rn50"):
        write_base2new(tmp_path, 60.0, 50.0, config=config)
    for config in ("vit_b16", "vit_b16-k2", "other"):
        write_base2new(tmp_path, 61.0, 50.0, config=config, trainer="MoPD")
    summary = summary_of(tmp_path)
    rows = {(row.method, row.config): row for row in summary.rows}
    against = {
        config: baseline_of(summary, rows["MoPD", config], "CoOp")
        for config in ("vit_b16", "vit_b16-k2", "other")
    }
    coop = rows["CoOp", "vit_b16"]
    assert against == {"vit_b16": coop, "vit_b16-k2": coop, "other": None}
    assert baseline_of(summary, rows["MoPD", "other"], "CoOp/rn50") == rows["CoOp", "rn50"]
    assert baseline_of(summary, coop, "CoOp/vit_b16") is None
    assert baseline_of(summary, rows["MoPD", "vit_b16-k2"], "MoPD") == rows["MoPD", "vit_b16"]
    assert baseline_of(summary, rows["MoPD", "vit_b16"], "MoPD") is None


def test_mistakes_are_refused_with_what_is_needed(tmp_path, capsys, monkeypatch):
    out = ("--out", tmp_path / "plots")
    assert refused(capsys, tmp_path, *out).startswith(f"no results.json below {tmp_path}")
    write_base2new(tmp_path / "runs", 60.0, None)
    message = refused(capsys, tmp_path / "runs", *out)
    assert message.startswith("nothing to plot: a curve needs")
    assert message.endswith("; new over base needs both accuracies of base2new")
    message = refused(capsys, tmp_path / "runs", *out, "--baseline", "KgCoOp")
    assert message == 'no results of "KgCoOp"; there are: CoOp, CoOp/embedded'
    fewshot(tmp_path / "runs")
    (tmp_path / "file").touch()
    message = refused(capsys, tmp_path / "runs", "--out", tmp_path / "file")
    assert message.startswith(f"cannot write {tmp_path / 'file'}/fewshot_Digits_shots.png: ")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "plots need matplotlib" in refused(capsys, tmp_path / "runs", *out)
    assert not (tmp_path / "plots").exists()


def test_pictures_go_beside_the_first_folder_by_default(tmp_path, capsys, monkeypatch):
    write_base2new(tmp_path / "runs", 60.0, 50.0)
    name = "base2new_Shapes_new_over_base.png"
    main([str(tmp_path / "runs")])
    assert name in written(tmp_path / "runs-plots")
    assert str(tmp_path / "runs-plots" / name) in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "runs/base2new")
    main(["."])
    assert name in written(tmp_path / "runs/base2new-plots")
    monkeypatch.chdir(tmp_path)
    main(["runs/base2new", "runs"])
    assert str(Path("runs/base2new-plots") / name) in capsys.readouterr().out


def test_results_without_settings_still_have_curves_over_shots(tmp_path):
    for shots in (1, 4):
        path = write_result(tmp_path, 50.0 + shots, protocol="fewshot", shots=shots)
        found = json.loads(path.read_text())
        del found["settings"]
        path.write_text(json.dumps(found))
    assert list(only_curve(tmp_path, SHOTS).points) == [1, 4]
    assert curves(summary_of(tmp_path), KNOB["alpha"], "Shapes") == []


@pytest.mark.parametrize("key", ["POOL_SIZE", "POOL_DIGEST", "TRAINER.MOPD.NUM_TEACHERS"])
def test_a_setting_of_another_kind_is_no_point_and_no_traceback(tmp_path, key):
    for h, tag in ((4, "h4"), (8, "h8")):
        write_run(tmp_path / "runs", tag, mopd(h) | {key: ["x"]})
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "plots")])
    drawn = "base2new_Shapes_pool_size.png" in written(tmp_path / "plots")
    assert drawn == (key != "POOL_SIZE")
