"""What the drawing of tracks shows: values, places, genes, marks, limits; and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba

import glm
from glm.pl._track_drawing import width_of, wrapped
from glm.pl._track_marks import merged, rows_of
from glm.pl._track_view import Bins, View

if TYPE_CHECKING:
    from anndata import AnnData

REGION = ("chr1", 10_000, 18_192)  # 64 bins of 128 bp
N, BIN = 64, 128


def draw(*arguments: Any, **options: Any) -> dict[str, Any]:
    """Panels by their names."""
    panels = glm.pl.tracks(*arguments, show=False, **options)
    return {panel.get_label(): panel for panel in panels}


def steps(panel: Any, which: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values and edges that are drawn."""
    (data, *_) = [patch.get_data() for patch in panel.patches if hasattr(patch, "get_data")][which:]
    return np.asarray(data.values), np.asarray(data.edges)


def texts(panel: Any) -> list[str]:
    """What is written in a panel."""
    beside = {text.get_text() for text in panel.texts if text.get_horizontalalignment() == "right"}
    return [text.get_text() for text in panel.texts if text.get_text() not in beside]


def beside(panel: Any) -> str:
    (label,) = [t.get_text() for t in panel.texts if t.get_horizontalalignment() == "right"]
    return label


def boxes(panel: Any) -> list[tuple[float, float]]:
    """Left and right ends of boxes, from the left."""
    found = []
    for collection in panel.collections:
        if type(collection).__name__ == "PolyCollection":
            for path in collection.get_paths():
                found.append((path.vertices[:, 0].min(), path.vertices[:, 0].max()))
    return sorted(found)


def lines_at(panel: Any) -> list[float]:
    """Where upright lines stand."""
    found = []
    for collection in panel.collections:
        if type(collection).__name__ == "LineCollection":
            for (x0, _), (x1, _) in [s for s in collection.get_segments() if len(s) == 2]:
                if x0 == x1:
                    found.append(x0)
    return sorted(found)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.gamma(0.5, size=N).astype(np.float32) for name in ("liver", "heart")}


@pytest.fixture
def stretch(make_stretch: Callable[..., AnnData]) -> AnnData:
    return make_stretch()


@pytest.fixture
def make_stretch() -> Callable[..., AnnData]:
    """Bins × tracks as they are predicted of a stretch."""
    from anndata import AnnData

    def make(*, start: int = 10_000, bin_bp: int = BIN, n: int = N, seed: int = 0) -> AnnData:
        starts = start + bin_bp * np.arange(n)
        obs = pd.DataFrame(
            {"chrom": "chr1", "start": starts, "end": starts + bin_bp},
            index=[f"bin{i}" for i in range(n)],
        )
        var = pd.DataFrame(
            {
                "identifier": ["CN1+", "CN1-", "EN2", "EN3"],
                "assay": ["CAGE", "CAGE", "DNASE", "CHIP"],
                "sample": ["cardiac cells", "cardiac cells", "K562", "CTCF:liver"],
                "aggregation": ["sum", "sum", "mean", "mean"],
            },
            index=["0", "1", "4", "7"],
        )
        rng = np.random.default_rng(seed)
        return AnnData(rng.gamma(0.5, size=(n, 4)).astype(np.float32), obs=obs, var=var)

    return make


@pytest.fixture
def genes() -> pd.DataFrame:
    rows = [
        ("chr1", 9_000, 12_000, "+", "gene", "g1", "ALPHA"),
        ("chr1", 9_000, 9_500, "+", "exon", "g1", "ALPHA"),
        ("chr1", 11_000, 11_600, "+", "exon", "g1", "ALPHA"),
        ("chr1", 11_500, 12_000, "+", "exon", "g1", "ALPHA"),
        ("chr1", 11_200, 11_700, "+", "CDS", "g1", "ALPHA"),
        ("chr1", 11_950, 12_020, "-", "exon", "g2", "BETA"),
        ("chr1", 16_000, 16_010, "-", "exon", "g3", None),
        ("chr1", 90_000, 90_010, "-", "exon", "g4", "FAR"),
        ("chr2", 11_000, 11_010, "-", "exon", "g5", "OTHER"),
    ]
    names = ["chrom", "start", "end", "strand", "feature", "gene_id", "gene_name"]
    return pd.DataFrame(rows, columns=names)


# ---- signals -----------------------------------------------------------------------------------


def test_arrays_are_drawn_where_they_lie(arrays: dict[str, np.ndarray]) -> None:
    panels = draw(arrays, REGION)
    assert list(panels) == ["liver", "heart"]
    for name, array in arrays.items():
        values, edges = steps(panels[name])
        np.testing.assert_array_equal(values, array.astype(np.float64))
        np.testing.assert_array_equal(edges, 10_000 + BIN * np.arange(N + 1))
        assert panels[name].get_xlim() == (10_000, 18_192)
        assert beside(panels[name]) == name
    assert panels["heart"].get_xlabel() == "position on chr1 (kb)"


@pytest.mark.parametrize(
    "region",
    ["chr1:10,000-18,192", ["chr1", 10_000, 18_192], glm.Regions.of(["chr1"], [10_000], [18_192])],
)
def test_a_region_in_any_spelling(arrays: dict[str, np.ndarray], region: Any) -> None:
    assert draw(arrays, region)["liver"].get_xlim() == (10_000, 18_192)


def test_bins_of_an_object(stretch: AnnData) -> None:
    panels = draw(stretch)
    assert list(panels) == ["CN1+", "CN1-", "EN2", "EN3"]
    for column, panel in enumerate(panels.values()):
        values, edges = steps(panel)
        np.testing.assert_array_equal(values, stretch.X[:, column].astype(np.float64))
        np.testing.assert_array_equal(edges, 10_000 + BIN * np.arange(N + 1))
    assert [beside(panel) for panel in panels.values()] == [
        "CAGE CN1+\ncardiac cells",
        "CAGE CN1-\ncardiac cells",
        "DNASE\nK562",
        "CHIP\nCTCF:liver",
    ]


@pytest.mark.parametrize(
    ("tracks", "drawn"),
    [
        ("EN2", ["EN2"]),
        (["EN3", "CN1-"], ["EN3", "CN1-"]),
        ("cage", ["CN1+", "CN1-"]),
        ("CAGE:cell", ["CN1+", "CN1-"]),
        (":liver", ["EN3"]),
        (2, ["EN2"]),
        ([3, 0, "CAGE"], ["EN3", "CN1+", "CN1-"]),
        (np.array([1]), ["CN1-"]),
        ("7", ["EN3"]),
    ],
)
def test_choosing(stretch: AnnData, tracks: Any, drawn: list[str]) -> None:
    assert list(draw(stretch, None, tracks)) == drawn


def test_order_of_bins_gaps_and_sparse_values(make_stretch: Callable[..., AnnData]) -> None:
    from scipy.sparse import csr_matrix

    adata = make_stretch(n=6)
    kept = adata[[5, 0, 1, 4]].copy()
    kept.X = csr_matrix(kept.X)
    values, edges = steps(draw(kept, None, "EN2")["EN2"])
    np.testing.assert_array_equal(edges, 10_000 + BIN * np.array([0, 1, 2, 4, 5, 6]))
    expected = adata.X[[0, 1, 4, 5], 2].astype(np.float64)
    np.testing.assert_array_equal(values, [*expected[:2], np.nan, *expected[2:]])


def test_a_part_of_an_object_and_of_arrays(stretch: AnnData, arrays: dict[str, np.ndarray]) -> None:
    part = ("chr1", 11_000, 12_000)
    first, last = (11_000 - 10_000) // BIN, -(-(12_000 - 10_000) // BIN)
    for panel, all_of in (
        (draw(stretch, part, "EN2")["EN2"], stretch.X[:, 2]),
        (draw(stretch, None, "EN2", zoom="1:11000-12000")["EN2"], stretch.X[:, 2]),
        (draw(arrays, REGION, zoom=part)["liver"], arrays["liver"]),
    ):
        values, edges = steps(panel)
        np.testing.assert_array_equal(values, all_of[first:last].astype(np.float64))
        assert edges[0] == 10_000 + BIN * first
        assert panel.get_xlim() == (11_000, 12_000)


def test_zoom_ends_where_the_region_does(arrays: dict[str, np.ndarray]) -> None:
    panel = draw(arrays, REGION, zoom=("chr1", 17_000, 99_000))["liver"]
    assert panel.get_xlim() == (17_000, 18_192)


def test_several_chromosomes(make_stretch: Callable[..., AnnData]) -> None:
    import anndata

    one, other = make_stretch(), make_stretch(seed=1)
    other.obs["chrom"] = "chr2"
    both = anndata.concat([one, other], merge="same", index_unique="-")
    with pytest.raises(ValueError, match=r"on chr1, chr2.*region="):
        draw(both)
    values, _ = steps(draw(both, ("2", 10_000, 18_192), "EN2")["EN2"])
    np.testing.assert_array_equal(values, other.X[:, 2].astype(np.float64))


def test_missing_values_are_gaps(arrays: dict[str, np.ndarray]) -> None:
    arrays["liver"][3:5] = np.nan
    arrays["heart"][:] = np.nan
    panels = draw(arrays, REGION)
    values, _ = steps(panels["liver"])
    np.testing.assert_array_equal(np.isnan(values), np.isin(np.arange(N), [3, 4]))
    assert texts(panels["heart"]) == ["no values here"]
    low, high = panels["liver"].get_ylim()
    assert low < 0 < np.nanmax(arrays["liver"]) < high


def test_many_bins_keep_their_peaks() -> None:
    rng = np.random.default_rng(1)
    signal = rng.gamma(0.5, size=100_000)
    signal[54_321] = 99.0
    signal[70_000:70_500] = np.nan
    values, edges = steps(draw({"a": signal}, ("chr1", 0, 100_000))["a"])
    assert values.size == 1_500
    at = int(np.nanargmax(values))
    assert values[at] == 99.0
    assert edges[at] <= 54_322
    assert edges[at + 1] >= 54_321
    gap = np.isnan(values)
    inside = (edges[:-1] >= 70_000) & (edges[1:] <= 70_500)
    np.testing.assert_array_equal(gap, inside)
    for part in range(0, 1_500, 100):  # each is the greatest of the bins it overlaps
        first, last = int(np.floor(edges[part])), int(np.ceil(edges[part + 1]))
        expected = signal[first:last]
        assert np.isnan(values[part]) or values[part] == np.nanmax(expected)


def test_of_joined_bins_the_farthest_from_0_is_shown() -> None:
    signal = np.tile([1.0, -3.0, 2.0, np.nan], 3_000)
    values, _ = Bins.even(0, 1, signal).steps(View("1", 0, signal.size), 1_500)
    assert set(values) == {-3.0}


def test_several_sources(stretch: AnnData, arrays: dict[str, np.ndarray]) -> None:
    panels = draw([stretch, {"own": arrays["liver"]}], None, ["EN2", "own"])
    assert list(panels) == ["EN2", "own"]
    np.testing.assert_array_equal(steps(panels["own"])[0], arrays["liver"].astype(np.float64))


def test_real_tracks(test_data: Path) -> None:
    folder = test_data / "enformer" / "tiny" / "hg38"
    if not folder.is_dir():
        pytest.skip("needs enformer/tiny of the test data")
    files = folder / "tfrecords" / "test-0.tfr"
    record = next(iter(glm.io.read_tfrecords(files, length_bp=131_072, n_tracks=74)))
    region = ("chr9", 68_875_912, 68_941_448)
    measured = {f"track {i}": record.targets[:, i] for i in (0, 24, 40)}
    panels = draw(measured, region)
    for name, panel in panels.items():
        values, edges = steps(panel)
        assert values.size == 1_500
        assert values.max() == float(measured[name].max())
        assert (edges[0], edges[-1]) == region[1:]
    part = ("chr9", 68_900_008, 68_901_032)
    values, edges = steps(draw(measured, region, zoom=part)["track 24"])
    first = (part[1] - region[1]) // 32
    np.testing.assert_array_equal(values, measured["track 24"][first : first + 32].astype(float))
    assert edges[0] == region[1] + 32 * first


# ---- what the package itself predicts ----------------------------------------------------------


def test_a_predicted_stretch(track_model: Any) -> None:
    genome = glm.datasets.toy_regions(n_regions=30)[1]
    found = glm.tl.predict_stretch(
        ("chr1", 4_000, 9_000), track_model, genome=genome, tracks="CAGE", max_n_share_window=1.0
    )
    panels = draw(found)
    assert list(panels) == ["CN1+", "CN1-"]
    for column, panel in enumerate(panels.values()):
        values, edges = steps(panel)
        np.testing.assert_array_equal(values, found.X[:, column].astype(float))
        np.testing.assert_array_equal(edges[:-1], found.obs["start"])
    assert panels["CN1-"].get_xlabel() == "position on chr1 (kb, toy)"
    assert list(draw(found, None, found.var_names[1])) == ["CN1-"]


@pytest.mark.parametrize("out", [False, True], ids=["in the slot", "in a folder"])
def test_a_row_of_a_slot(track_model: Any, tmp_path: Path, out: bool) -> None:
    peaks, genome = glm.datasets.toy_regions(n_cells=2, n_regions=6)
    options = {"genome": genome, "tracks": "CAGE", "max_n_share_window": 1.0}
    folder = tmp_path / "run" if out else None
    glm.tl.predict_tracks(peaks, track_model, bins="all", out=folder, **options)
    name = peaks.var_names[3]
    table = glm.get.tracks(peaks, region=name)
    panels = draw(peaks, name)
    assert list(panels) == ["CN1+", "CN1-"]
    for place, panel in enumerate(panels.values()):
        values, edges = steps(panel)
        np.testing.assert_array_equal(values, table.iloc[:, place].to_numpy().astype(float))
        np.testing.assert_array_equal(edges[:-1], table.index)
        assert edges[-1] == table.index[-1] + BIN
    middle = (peaks.var["start"].iloc[3] + peaks.var["end"].iloc[3]) // 2
    assert (edges[0] + edges[-1]) // 2 == middle
    measured = {"CN1+": np.arange(len(table))}
    part = (peaks.var["chrom"].iloc[3], int(middle), int(middle) + 500)
    compared = draw(peaks, name, "CN1+", compare=measured, difference=True, zoom=part)
    assert steps(compared["CN1+ compare"])[0][0] == (middle - edges[0]) // BIN
    with pytest.raises(ValueError, match="name a region"):
        draw(peaks)
    with pytest.raises(KeyError, match="called 'nobody'"):
        draw(peaks, "nobody")
    with pytest.raises(TypeError, match=r"name of a row.*zoom="):
        draw(peaks, part)
    with pytest.raises(ValueError, match=r"no 'tracks_other'.*tracks_enformer: pass key="):
        draw(peaks, name, key="other")


def test_reduced_bins_cannot_be_drawn(track_model: Any) -> None:
    peaks, genome = glm.datasets.toy_regions(n_cells=2, n_regions=3)
    options = {"genome": genome, "tracks": "CAGE", "max_n_share_window": 1.0}
    glm.tl.predict_tracks(peaks, track_model, **options)
    with pytest.raises(ValueError, match=r"bins were reduced.*bins='all'"):
        draw(peaks, peaks.var_names[0])


# ---- comparing ---------------------------------------------------------------------------------


def test_pairs_and_their_difference(stretch: AnnData, make_stretch: Callable[..., AnnData]) -> None:
    other = make_stretch(seed=3)
    labels = ("alternative", "reference")
    panels = draw(stretch, None, ["EN2", "CAGE"], compare=other, labels=labels, difference=True)
    assert list(panels)[:3] == ["EN2", "EN2 compare", "EN2 difference"]
    assert len(panels) == 9
    np.testing.assert_array_equal(steps(panels["EN2 compare"])[0], other.X[:, 2].astype(float))
    shown = steps(panels["EN2 difference"])[0] + steps(panels["EN2 difference"], 1)[0]
    expected = stretch.X[:, 2].astype(float) - other.X[:, 2].astype(float)
    np.testing.assert_array_equal(shown, expected)
    low, high = panels["EN2 difference"].get_ylim()
    assert -low == pytest.approx(high)
    assert beside(panels["EN2"]) == "DNASE\nK562\nalternative"
    assert beside(panels["EN2 compare"]) == "reference"
    assert beside(panels["EN2 difference"]) == "alternative \N{MINUS SIGN} reference"


def test_compared_by_name_where_there_is_one(
    stretch: AnnData, arrays: dict[str, np.ndarray]
) -> None:
    panels = draw(stretch, None, ["EN2", "EN3"], compare={"EN3": arrays["liver"]})
    assert list(panels) == ["EN2", "EN3", "EN3 compare"]
    np.testing.assert_array_equal(steps(panels["EN3 compare"])[0], arrays["liver"].astype(float))


def test_differences_in_the_bins_of_both(
    stretch: AnnData, make_stretch: Callable[..., AnnData]
) -> None:
    later = make_stretch(start=10_000 + 10 * BIN)
    panel = draw(stretch, None, "EN2", compare=later, difference=True)["EN2 difference"]
    values = steps(panel)[0] + steps(panel, 1)[0]
    expected = stretch.X[10:, 2].astype(float) - later.X[: N - 10, 2].astype(float)
    np.testing.assert_array_equal(values, expected)
    assert steps(panel)[1][0] == 10_000 + 10 * BIN


def test_differences_of_other_bins_are_refused(
    stretch: AnnData, make_stretch: Callable[..., AnnData]
) -> None:
    finer = make_stretch(bin_bp=32, n=256)
    assert "EN2 compare" in draw(stretch, None, "EN2", compare=finer)
    with pytest.raises(ValueError, match=r"bins of 128 bp from 10,000; bins of 32 bp"):
        draw(stretch, None, "EN2", compare=finer, difference=True)
    shifted = make_stretch(start=10_064)
    with pytest.raises(ValueError, match="no bin in common"):
        draw(stretch, None, "EN2", compare=shifted, difference=True)


# ---- files -------------------------------------------------------------------------------------


@pytest.fixture
def big_wig(tmp_path: Path) -> Path:
    pytest.importorskip("pybigtools")
    starts = np.arange(10_000, 18_192, 32)
    regions = glm.Regions.of(["chr1"] * 256, starts, starts + 32)
    values = np.arange(256.0)
    return glm.io.write_bigwig(tmp_path / "m.bw", regions, values, chrom_sizes={"chr1": 50_000})


def test_a_file_shows_single_bases(big_wig: Path) -> None:
    panel = draw({"m": big_wig}, ("1", 10_000, 11_024))["m"]
    values, edges = steps(panel)
    np.testing.assert_array_equal(values, np.repeat(np.arange(32.0), 32))
    np.testing.assert_array_equal(edges, np.arange(10_000, 11_025))
    values, _ = steps(draw({"m": str(big_wig)}, ("chr1", 8_000, 20_000))["m"])
    assert values.size == 1_500
    assert values.max() == 255.0


def test_a_file_is_compared_in_the_bins_of_the_track(stretch: AnnData, big_wig: Path) -> None:
    panels = draw(stretch, None, "EN2", compare={"EN2": big_wig}, difference=True)
    mean = np.arange(256.0).reshape(-1, 4).mean(1)
    np.testing.assert_allclose(steps(panels["EN2 compare"])[0], mean)
    shown = steps(panels["EN2 difference"])[0] + steps(panels["EN2 difference"], 1)[0]
    np.testing.assert_allclose(shown, stretch.X[:, 2] - mean, rtol=1e-6)


def test_a_file_in_bins_with_a_gap(stretch: AnnData, big_wig: Path) -> None:
    kept = stretch[[0, 1, 10, 11]].copy()
    panels = draw(kept, None, "EN2", compare={"EN2": big_wig})
    mean = np.arange(256.0).reshape(-1, 4).mean(1)[[0, 1, 10, 11]]
    values, _ = steps(panels["EN2 compare"])
    np.testing.assert_allclose(values[~np.isnan(values)], mean)
    odd = stretch[[0, 1, 10, 11]].copy()
    odd.obs.loc[odd.obs_names[3], "end"] += 5
    with pytest.raises(ValueError, match=r"glm\.io\.read_bigwig"):
        draw(odd, None, "EN2", compare={"EN2": big_wig})


def test_files_that_are_none(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.bw.*'a'"):
        draw({"a": tmp_path / "nowhere.bw"}, REGION)


# ---- limits and colours ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share_y", "groups"),
    [
        ("track", [{"EN2", "EN2 compare"}, {"CN1+", "CN1+ compare"}, {"CN1-", "CN1- compare"}]),
        ("assay", [{"EN2", "EN2 compare"}, {"CN1+", "CN1+ compare", "CN1-", "CN1- compare"}]),
        ("all", [{"EN2", "EN2 compare", "CN1+", "CN1+ compare", "CN1-", "CN1- compare"}]),
        (None, [{"EN2"}, {"EN2 compare"}, {"CN1+"}, {"CN1-"}, {"CN1+ compare"}]),
    ],
)
def test_shared_limits(
    make_stretch: Callable[..., AnnData], share_y: Any, groups: list[set[str]]
) -> None:
    one, other = make_stretch(), make_stretch(seed=5)
    options = {"compare": other, "difference": True, "share_y": share_y}
    panels = draw(one, None, ["EN2", "CAGE"], **options)
    limits = {name: panel.get_ylim() for name, panel in panels.items()}
    values = {name: np.nanmax(steps(panel)[0]) for name, panel in panels.items()}
    for group in groups:
        assert len({limits[name] for name in group}) == 1
        top = max(values[name] for name in group)
        assert limits[next(iter(group))][1] == pytest.approx(1.04 * top)
    assert len({limits[next(iter(group))] for group in groups}) == len(groups)
    differences = {limits[name] for name in limits if name.endswith("difference")}
    assert len(differences) == {"track": 3, None: 3, "assay": 2, "all": 1}[share_y]


def test_ticks_of_the_y_axis_do_not_overlap() -> None:
    panels = draw(
        {"a": [0, 12_345.6], "b": [-0.01, 5], "c": [-2, 2.0], "d": [0, 0], "e": [0, 2e-7]},
        ("chr1", 0, 256),
    )
    ticks = {n: [t.get_text() for t in p.get_yticklabels()] for n, p in panels.items()}
    assert ticks == {
        "a": ["0", "12,346"],
        "b": ["0", "5"],
        "c": ["-2", "0", "2"],
        "d": ["0"],
        "e": ["0", "2e-07"],
    }


def test_colours(stretch: AnnData) -> None:
    def colour(panel: Any) -> tuple[float, ...]:
        return next(p.get_facecolor() for p in panel.patches if hasattr(p, "get_data"))

    panels = draw(stretch, colors={"CAGE": "red", "CN1-": "lime"})
    assert colour(panels["CN1+"]) == to_rgba("red")
    assert colour(panels["CN1-"]) == to_rgba("lime")
    assert colour(panels["EN2"]) != colour(panels["EN3"])
    with pytest.raises(KeyError, match="'ATAC', which is no track or assay"):
        draw(stretch, colors={"ATAC": "red"})
    with pytest.raises(ValueError, match=r"colors\['CAGE'\] is 'reddish'"):
        draw(stretch, colors={"CAGE": "reddish"})


# ---- genes, regions, variants ------------------------------------------------------------------


def test_genes(arrays: dict[str, np.ndarray], genes: pd.DataFrame) -> None:
    panel = draw(arrays, REGION, genes=genes)["genes"]
    # Overlapping exons are one box; the coding part is a taller box on top.
    assert boxes(panel) == [
        (9_000, 9_500),
        (11_000, 12_000),
        (11_200, 11_700),
        (11_950, 12_020),
        (16_000, 16_010),
    ]
    assert texts(panel) == ["ALPHA", "< BETA", "< g3"]
    first, second, third = (t.get_position()[1] for t in panel.texts[:3])
    assert first != second  # ALPHA and BETA overlap
    assert first == third
    assert panel.get_ylim() == (2, 0)


def test_a_gene_around_the_view_and_none(
    arrays: dict[str, np.ndarray], genes: pd.DataFrame
) -> None:
    between = ("chr1", 10_000, 10_064)  # in an intron, of which no row tells by itself
    exons = genes[genes["feature"] == "exon"]
    assert texts(draw({"a": arrays["liver"]}, between, genes=exons)["genes"]) == ["ALPHA"]
    empty = draw({"a": arrays["liver"]}, ("chr7", 0, 64), genes=genes)["genes"]
    assert texts(empty) == ["no genes here"]


def test_names_of_chromosomes_in_other_spellings(
    arrays: dict[str, np.ndarray], genes: pd.DataFrame
) -> None:
    panels = draw(
        arrays,
        ("1", 10_000, 18_192),
        genes=genes,
        regions=["chr1:12000-13000"],
        variants=["NC_000001.11:12001:A>G"],
    )
    assert "ALPHA" in texts(panels["genes"])
    assert boxes(panels["regions"]) == [(12_000, 13_000)]
    assert texts(panels["variants"]) == ["A>G"]


def test_a_file_of_genes(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    attributes = 'gene_id "G1"; gene_name "ALPHA";'
    rows = [("gene", 10_001, 14_000), ("exon", 10_001, 10_500), ("exon", 13_001, 14_000)]
    lines = [f"1\tme\t{f}\t{s}\t{e}\t.\t+\t.\t{attributes}\n" for f, s, e in rows]
    (tmp_path / "genes.gtf").write_text("".join(lines), encoding="utf-8")
    panel = draw(arrays, REGION, genes=tmp_path / "genes.gtf")["genes"]
    assert boxes(panel) == [(10_000, 10_500), (13_000, 14_000)]


def test_directions_are_shown_between_exons_and_on_them(
    arrays: dict[str, np.ndarray], genes: pd.DataFrame
) -> None:
    def chevrons(strand: str) -> dict[str, list[np.ndarray]]:
        wide = genes[:4].assign(strand=strand)
        wide["end"] = wide["end"].replace(12_000, 17_000)
        panel = draw(arrays, REGION, genes=wide)["genes"]
        found: dict[str, list[np.ndarray]] = {}
        for collection in panel.collections:
            if type(collection).__name__ == "LineCollection":
                shapes = [s for s in collection.get_segments() if len(s) == 3]
                if shapes:
                    white = tuple(collection.get_colors()[0]) == to_rgba("white")
                    found["on" if white else "between"] = shapes
        assert texts(panel) == ["ALPHA"]
        return found

    for strand, sign in (("+", 1), ("-", -1)):
        shapes = chevrons(strand)
        for where, first, last in (("between", 9_500, 11_000), ("on", 11_000, 17_000)):
            assert shapes[where]
            for shape in shapes[where]:
                assert ((shape[:, 0] > first) & (shape[:, 0] < last)).all()
                assert np.sign(shape[1, 0] - shape[0, 0]) == sign


def test_nothing_overlaps_among_many_genes() -> None:
    rng = np.random.default_rng(4)
    starts = np.sort(rng.integers(0, 110_000, 40))
    table = pd.DataFrame(
        {
            "chrom": "chr1",
            "start": starts,
            "end": starts + rng.integers(200, 9_000, 40),
            "strand": rng.choice(["+", "-"], 40),
            "feature": "exon",
            "gene_id": [f"ENSG{i:05d}" for i in range(40)],
        }
    )
    panel = draw({"a": np.ones(896)}, ("chr1", 0, 114_688), genes=table)["genes"]
    panel.figure.canvas.draw()
    shown = [t.get_window_extent() for t in panel.texts if t.get_text().strip("<> ")[:4] == "ENSG"]
    assert len(shown) == 40
    assert not any(a.overlaps(b) for i, a in enumerate(shown) for b in shown[:i])
    limits = panel.get_window_extent()
    assert all(limits.x0 - 1 <= box.x0 and box.x1 <= limits.x1 + 3 for box in shown)


def test_more_genes_than_can_be_named() -> None:
    starts = np.arange(0, 100_000, 100)
    table = pd.DataFrame(
        {
            "chrom": "chr1",
            "start": starts,
            "end": starts + 60,
            "strand": "+",
            "feature": "exon",
            "gene_id": [f"ENSG{i:05d}" for i in range(starts.size)],
        }
    )
    panel = draw({"a": np.ones(896)}, ("chr1", 0, 114_688), genes=table)["genes"]
    assert texts(panel) == []
    assert len(boxes(panel)) == 1_000


@pytest.mark.parametrize("kind", ["file", "frame", "regions", "texts"])
def test_regions_in_any_form(arrays: dict[str, np.ndarray], tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame(
        {
            "chrom": ["chr1", "chr1", "chr1", "chr2"],
            "start": [12_000, 17_000, 90_000, 12_000],
            "end": [12_600, 18_000, 90_500, 13_000],
            "name": ["one", ".", "far", "other"],
        }
    )
    path = tmp_path / "peaks.bed"
    frame.to_csv(path, sep="\t", header=False, index=False)
    places = frame[["chrom", "start", "end"]].to_numpy()
    regions = {
        "file": path,
        "frame": frame,
        "regions": glm.Regions.of(frame["chrom"], frame["start"], frame["end"]),
        "texts": [f"{c}:{s}-{e}" for c, s, e in places],
    }[kind]
    panels = draw(arrays, REGION, regions=regions)
    assert boxes(panels["regions"]) == [(12_000, 12_600), (17_000, 18_000)]
    assert texts(panels["regions"]) == (["one"] if kind in ("file", "frame") else [])
    assert boxes(panels["liver"]) == [(12_000, 12_600), (17_000, 18_000)]  # the shades


def test_several_rows_of_regions(arrays: dict[str, np.ndarray]) -> None:
    regions = {"peaks": ["chr1:12000-12600"], "enhancers": ["chr1:50000-60000"]}
    panels = draw(arrays, REGION, regions=regions)
    assert list(panels)[-2:] == ["peaks", "enhancers"]
    assert texts(panels["enhancers"]) == ["no regions here"]
    assert beside(panels["peaks"]) == "peaks"


VARIANTS = [
    ["chr1:12,001:A>G", "chr1:13001:CT>C", "chr1:90001"],
    ["1-12001-A-G", "1-13001-CT-C", "chr2:12001:A>G"],
    pd.DataFrame(
        {
            "#CHROM": ["chr1", "chr1", None],
            "POS": [12_001, 13_001, 15_001],
            "REF": ["A", "CT", "G"],
            "ALT": ["G", "C", "T"],
        }
    ),
    pd.DataFrame(
        {"chrom": "chr1", "start": [12_000, 13_000], "ref": ["A", "CT"], "alt": ["G", "C"]}
    ),
]


@pytest.mark.parametrize("variants", VARIANTS, ids=["texts", "dashes", "vcf", "from 0"])
def test_variants_stand_at_their_base(arrays: dict[str, np.ndarray], variants: Any) -> None:
    panels = draw(arrays, REGION, variants=variants)
    assert next(iter(panels)) == "variants"
    assert texts(panels["variants"]) == ["A>G", "CT>C"]
    (markers,) = panels["variants"].lines
    np.testing.assert_array_equal(markers.get_xdata(), [12_000.5, 13_000.5])
    assert lines_at(panels["liver"]) == lines_at(panels["heart"]) == [12_000.5, 13_000.5]


def test_names_of_variants(arrays: dict[str, np.ndarray]) -> None:
    table = pd.DataFrame({"chrom": "chr1", "pos": [12_001, 12_005], "id": ["rs1", "."]})
    panel = draw(arrays, REGION, variants=table)["variants"]
    assert texts(panel) == ["rs1"]
    assert texts(draw(arrays, REGION, variants=["chr5:1:A>G"])["variants"]) == ["no variants here"]


# ---- the sheet ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "unit", "ticks"),
    [
        (("chr9", 34_650_000, 34_651_000), "kb", ["34,650.0", "34,650.2"]),
        (("chr9", 34_650_000, 34_660_000), "kb", ["34,650", "34,652"]),
        (("chr9", 34_600_000, 34_714_688), "Mb", ["34.60", "34.62"]),
        (("chr9", 0, 100_000_000), "Mb", ["0", "20"]),
        (("chr9", 34_650_000, 34_650_100), "bp", ["34,650,000", "34,650,020"]),
    ],
)
def test_the_axis(region: Any, unit: str, ticks: list[str]) -> None:
    panel = draw({"a": [1.0]}, region)["a"]
    panel.figure.canvas.draw()
    shown = [label for label in panel.get_xticklabels() if label.get_text()]
    low, high = panel.get_xlim()
    shown = [label for label in shown if low <= label.get_position()[0] <= high]
    assert [label.get_text() for label in shown][:2] == ticks
    assert panel.get_xlabel() == f"position on chr9 ({unit})"
    places = [label.get_window_extent() for label in shown]
    assert all(a.x1 + 5 < b.x0 for a, b in pairwise(places))


@pytest.mark.parametrize("n", [2, 6, 20])
@pytest.mark.parametrize("length", [1_024, 114_688])
def test_labels_do_not_overlap(genes: pd.DataFrame, n: int, length: int) -> None:
    names = [f"track {i} of a cell type with quite a long name, donor {i}" for i in range(n)]
    arrays = {name: np.random.default_rng(0).random(8) for name in names}
    region = ("chr1", 11_000, 11_000 + length)
    panels = draw(arrays, region, compare=arrays, difference=True, genes=genes)
    figure = panels["genes"].figure
    figure.canvas.draw()
    written = [text.get_window_extent() for panel in panels.values() for text in panel.texts]
    for panel in panels.values():
        ticks = panel.get_yticklabels() + (panel.get_xticklabels() if panel.get_xlabel() else [])
        written += [tick.get_window_extent() for tick in ticks if tick.get_text()]
        box = panel.get_window_extent()
        assert box.height > 0.13 * figure.dpi
    whole = figure.bbox
    assert not any(a.overlaps(b) for i, a in enumerate(written) for b in written[:i])
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.y1 <= whole.y1 for box in written)


def test_height_grows_with_tracks(arrays: dict[str, np.ndarray]) -> None:
    def height(n: int, **options: Any) -> float:
        many = {f"t{i}": arrays["liver"] for i in range(n)}
        return next(iter(draw(many, REGION, **options).values())).figure.get_figheight()

    assert height(20) - height(10) == pytest.approx(10 * (0.5 + 0.16))
    assert height(20, track_height=0.2) - height(10, track_height=0.2) == pytest.approx(3.6)


def test_drawn_in_the_place_of_given_axes(
    arrays: dict[str, np.ndarray], genes: pd.DataFrame
) -> None:
    figure, (own, other) = plt.subplots(2, figsize=(8, 8))
    panels = draw(arrays, REGION, genes=genes, ax=own)
    assert plt.get_fignums() == [figure.number]
    assert len(figure.axes) == 2
    assert [child.get_label() for child in own.child_axes] == list(panels)
    assert not own.axison
    assert other.axison
    figure.canvas.draw()
    outer = own.get_window_extent()
    boxes = [panel.get_window_extent() for panel in panels.values()]
    assert boxes[0].y1 == pytest.approx(outer.y1)
    assert boxes[-1].y0 == pytest.approx(outer.y0)
    assert all(a.y0 > b.y1 for a, b in pairwise(boxes))


def test_panels_share_positions(arrays: dict[str, np.ndarray], genes: pd.DataFrame) -> None:
    panels = list(draw(arrays, REGION, genes=genes).values())
    panels[0].set_xlim(12_000, 13_000)
    assert all(panel.get_xlim() == (12_000, 13_000) for panel in panels)


def test_saved(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    draw(arrays, REGION, save=tmp_path / "tracks.png")
    assert (tmp_path / "tracks.png").stat().st_size > 5_000


def test_names_are_written_as_they_are(arrays: dict[str, np.ndarray]) -> None:
    panel = next(iter(draw({"a $1 to $2 _x^": arrays["liver"]}, REGION).values()))
    panel.figure.canvas.draw()
    assert beside(panel) == r"a \$1 to \$2 _x^"


def test_one_value_a_base() -> None:
    panel = draw({"a": np.arange(60)}, ("chr1", 100, 160))["a"]
    np.testing.assert_array_equal(steps(panel)[1], np.arange(100, 161))


# ---- what is left as it was --------------------------------------------------------------------


def test_nothing_of_the_users_is_changed(
    stretch: AnnData, genes: pd.DataFrame, arrays: dict[str, np.ndarray]
) -> None:
    compare = {"EN2": arrays["liver"]}
    before = stretch.copy(), genes.copy(), arrays["liver"].copy(), dict(matplotlib.rcParams)
    draw(stretch, None, "EN2", compare=compare, genes=genes, regions=genes, variants=["chr1:9:A>C"])
    np.testing.assert_array_equal(stretch.X, before[0].X)
    pd.testing.assert_frame_equal(stretch.obs, before[0].obs)
    pd.testing.assert_frame_equal(stretch.var, before[0].var)
    assert stretch.uns == before[0].uns
    pd.testing.assert_frame_equal(genes, before[1])
    np.testing.assert_array_equal(arrays["liver"], before[2])
    assert dict(matplotlib.rcParams) == before[3]


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "region", "options", "error", "told"),
    [
        ({"a": [1, 2, 3]}, ("chr1", 0, 100), {}, ValueError, r"3 bins.*100\s*bp of chr1:0-100"),
        ({"a": []}, ("chr1", 0, 100), {}, ValueError, "0 bins"),
        ({"a": np.ones((2, 2))}, ("chr1", 0, 100), {}, ValueError, r"shape \(2, 2\)"),
        ({"a": ["x", "y"]}, ("chr1", 0, 100), {}, TypeError, "expected numbers"),
        ({"a": [1, np.inf]}, ("chr1", 0, 100), {}, ValueError, r"1 of 2 \(50%\) values.*infinite"),
        ({"a": [1, 2]}, None, {}, ValueError, "pass region="),
        ({}, ("chr1", 0, 100), {}, ValueError, "empty dict"),
        ([], ("chr1", 0, 100), {}, ValueError, "empty list"),
        (3, ("chr1", 0, 100), {}, TypeError, "data is a int"),
        ({"a": [1]}, ("chr1", 100, 100), {}, ValueError, "has no bases"),
        ({"a": [1]}, ("chr1", 0.5, 100), {}, TypeError, "two whole numbers"),
        ({"a": [1]}, "somewhere", {}, ValueError, "are no regions"),
        ({"a": [1]}, 7, {}, TypeError, "region is 7"),
        ({"a": [1]}, "NA", {}, ValueError, "region is 'NA'"),
        ({"a": [1]}, ("chr1", 0, 100), {"zoom": "chr2:1-5"}, ValueError, "outside of chr1:0-100"),
        ({"a": [1]}, ("chr1", 0, 100), {"tracks": "b"}, KeyError, "no track 'b'; there are a"),
        ({"a": [1]}, ("chr1", 0, 100), {"tracks": 1}, KeyError, "no track 1; there are 1"),
        ({"a": [1]}, ("chr1", 0, 100), {"tracks": []}, ValueError, "tracks is empty"),
        ({"a": [1]}, ("chr1", 0, 100), {"share_y": "x"}, ValueError, "share_y is 'x'"),
        ({"a": [1]}, ("chr1", 0, 100), {"labels": "ab"}, ValueError, "expected two texts"),
        ({"a": [1]}, ("chr1", 0, 100), {"width": -1}, ValueError, "width is -1"),
        ({"a": [1]}, ("chr1", 0, 100), {"width": 1}, ValueError, "expected at least"),
        ({"a": [1]}, ("chr1", 0, 100), {"difference": True}, ValueError, "needs compare="),
        ({"a": [1]}, ("chr1", 0, 100), {"compare": {"b": [1]}}, KeyError, "compare has 'b'"),
        ({"a": [1]}, ("chr1", 0, 100), {"genes": 3}, TypeError, r"glm\.io\.read_gtf"),
        ({"a": [1]}, ("chr1", 0, 100), {"regions": 3}, TypeError, "BED file"),
        ({"a": [1]}, ("chr1", 0, 100), {"variants": 3}, TypeError, "variants is a int"),
        ({"a": [1]}, ("chr1", 0, 100), {"variants": ["x"]}, ValueError, "row 0, is 'x'"),
        (
            {"a": [1]},
            ("chr1", 0, 100),
            {"variants": pd.DataFrame({"chrom": ["1"]})},
            ValueError,
            "chrom and pos",
        ),
        (
            {"a": [1]},
            ("chr1", 0, 100),
            {"genes": pd.DataFrame({"chrom": ["1"]})},
            ValueError,
            "no column start, end",
        ),
        ({f"t{i}": [1] for i in range(151)}, ("chr1", 0, 100), {}, ValueError, "151 panels"),
    ],
)
def test_refusals(data: Any, region: Any, options: dict[str, Any], error: Any, told: str) -> None:
    tracks = options.pop("tracks", None)
    with pytest.raises(error, match=f"(?s){told}"):
        glm.pl.tracks(data, region, tracks, show=False, **options)
    assert plt.get_fignums() == []


def test_a_region_elsewhere(stretch: AnnData) -> None:
    with pytest.raises(ValueError, match=r"no bins in chr1:50,000-60,000.*chr1:10,000-18,192"):
        draw(stretch, ("chr1", 50_000, 60_000))
    with pytest.raises(ValueError, match=r"no bins in chr3"):
        draw(stretch, "chr3:10000-12000")


def test_unknown_tracks_of_an_object(stretch: AnnData) -> None:
    with pytest.raises(KeyError, match=r"assays CAGE, CHIP, DNASE.*'CAGE:heart'"):
        draw(stretch, None, "CAGE:brain")
    other = stretch.copy()
    other.var["identifier"] = other.var_names = ["w", "x", "y", "z"]
    with pytest.raises(KeyError, match=r"none of the tracks EN2; it has w, x, y"):
        draw(stretch, None, "EN2", compare=other)


def test_overlapping_bins(stretch: AnnData) -> None:
    stretch.obs["end"] += 1
    with pytest.raises(ValueError, match="Bins overlap: bin0 and bin1"):
        draw(stretch)


def test_genomes_that_do_not_agree(
    stretch: AnnData, make_stretch: Callable[..., AnnData], genes: pd.DataFrame
) -> None:
    stretch.uns["genome"] = "hg38"
    genes.attrs["genome"] = "GRCh37.p13"
    with pytest.raises(ValueError, match=r"GRCh37\.p13.*hg38"):
        draw(stretch, genes=genes)
    other = make_stretch()
    other.uns["genome"] = "hg19"
    with pytest.raises(ValueError, match=r"'hg38' and of 'hg19'"):
        draw(stretch, compare=other)
    genes.attrs["genome"] = "GRCh38.p14"
    panels = draw(stretch, genes=genes)
    assert panels["genes"].get_xlabel() == "position on chr1 (kb, hg38)"


# ---- parts -------------------------------------------------------------------------------------


def test_rows_are_as_few_as_can_be() -> None:
    rng = np.random.default_rng(0)
    left = rng.integers(0, 1_000, 200)
    right = left + rng.integers(1, 90, 200)
    rows = np.array(rows_of(left.tolist(), right.tolist()))
    for row in range(rows.max() + 1):
        own = np.argsort(left[rows == row])
        assert (right[rows == row][own][:-1] <= left[rows == row][own][1:]).all()
    deepest = max(((left <= x) & (right > x)).sum() for x in left)
    assert rows.max() + 1 == deepest


def test_merged_stretches() -> None:
    start, end = np.array([5, 1, 8, 20]), np.array([9, 5, 9, 22])
    assert merged(start, end) == ((1, 9), (20, 22))
    assert merged(np.array([], int), np.array([], int)) == ()


def test_labels_are_cut_to_lines() -> None:
    assert wrapped("one", 3) == "one"
    long = wrapped("CAGE\n" + "word " * 40, 3)
    assert long.count("\n") == 2
    assert long.endswith(" …")
    assert max(map(len, long.split("\n"))) <= 28
    assert width_of("wide") > width_of("i") > 0
    assert width_of(" ") == 0
