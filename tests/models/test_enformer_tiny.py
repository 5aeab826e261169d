"""The bundled model of tracks: whole, small, and what its card says of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import glm
from glm.models.track_model import TrackModel

NAME = "enformer-tiny"
MOST_BYTES = 8_000_000


@pytest.fixture(scope="module")
def tiny() -> TrackModel:
    return glm.models.load(NAME)


def test_it_is_a_small_demonstration_of_whole_windows(tiny: TrackModel) -> None:
    spec = tiny.spec
    assert (spec.name, spec.tier, spec.where) == (NAME, "demo", "bundled")
    assert (spec.window_bp, spec.output_bp) == (131_072, 65_536)
    assert "not for research" in spec.note
    assert "Apache-2.0" in spec.licence
    assert spec.folder is not None
    assert sum(path.stat().st_size for path in spec.folder.iterdir()) < MOST_BYTES


def test_its_tables_tell_assays_and_pairs_of_strands(tiny: TrackModel) -> None:
    assert {head: len(table) for head, table in tiny.tables.items()} == {"human": 74, "mouse": 32}
    for table in tiny.tables.values():
        assert set(table["assay"]) == {"CAGE", "DNASE", "RNA", "RNA3"}
        pair = table["strand_pair"].to_numpy()
        np.testing.assert_array_equal(pair[pair], np.arange(len(table)))
        plus = table["identifier"].str.endswith("+")
        of_pair = table["identifier"].to_numpy()[pair[plus]]
        assert [name[:-1] + "+" for name in of_pair] == table["identifier"][plus].tolist()


def test_it_computes_what_was_recorded(tiny: TrackModel) -> None:
    assert glm.models.verify(NAME).ok


def test_it_predicts_more_at_an_island_of_cpg(tiny: TrackModel) -> None:
    import torch

    rng = np.random.default_rng(0)
    codes = rng.choice(4, tiny.spec.window_bp, p=[0.3, 0.2, 0.2, 0.3]).astype(np.uint8)
    middle = len(codes) // 2
    codes[middle - 512 : middle + 512] = rng.choice(4, 1_024, p=[0.15, 0.35, 0.35, 0.15])
    for at in range(middle - 512, middle + 512, 8):
        codes[at : at + 2] = (1, 2)
    with torch.inference_mode():
        found = tiny.network(torch.from_numpy(codes[None]))
    for head, tracks in found.items():
        assert tracks.shape == (1, 512, len(tiny.tables[head]))
        assert torch.isfinite(tracks).all()
        assert (tracks >= 0).all()
    dnase = np.flatnonzero(tiny.tables["human"]["assay"] == "DNASE")
    along = found["human"][0, :, dnase].mean(dim=1)
    assert along[254:258].max() > 2 * along[:200].mean()


def test_it_is_as_good_on_the_test_windows_as_its_card_says(
    tiny: TrackModel, test_data: Path
) -> None:
    import torch

    folder = test_data / "enformer" / "tiny" / "hg38"
    if not folder.is_dir():
        pytest.skip("the test data hold no windows with tracks")
    windows = glm.train.read_track_windows(folder, genome="hg38", splits=("test",))
    with torch.inference_mode():
        said = [
            tiny.network(torch.from_numpy(codes[None]), heads=["human"])["human"][0].numpy()
            for codes in windows.codes
        ]
    correlation = glm.metrics.track_pearson(windows.targets, np.stack(said))
    told = tiny.card["scores"]["pearson_human_test"]
    for assay, tracks in tiny.tables["human"].groupby("assay"):
        found = np.nanmean(correlation[tracks.index.to_numpy()])
        assert found == pytest.approx(told[NAME][assay], abs=0.01)
    assert told[NAME]["DNASE"] > told["untrained twin"]["DNASE"]


def test_its_card_says_what_it_was_made_of(tiny: TrackModel) -> None:
    card = tiny.card
    assert card["windows"] == {"human": 45, "mouse": 28}
    assert "Apache-2.0" in card["data"]
    assert json.loads(json.dumps(card)) == card
    assert {"enformer-tiny", "ridge", "untrained twin", "constant"} == set(
        card["scores"]["pearson_human_test"]
    )
