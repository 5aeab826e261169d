"""The report: every finding, that verbs and report agree, and that nothing is raised or changed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import glm
from glm.pp import Finding, Report

TINY = "geneformer-tiny"


@pytest.fixture(scope="module")
def _toy() -> ad.AnnData:
    return glm.datasets.toy_cells(n_cells=20)


@pytest.fixture
def cells(_toy: ad.AnnData) -> ad.AnnData:
    """Twenty cells of 3,000 genes with Ensembl ids: nothing is wrong with them."""
    return _toy.copy()


def by_topic(report: Report) -> dict[str, Finding]:
    return {finding.topic: finding for finding in report.findings}


# ---- faults: name → what is done to good cells, options, topic, severity, found, remedy ---------

Fault = Callable[[ad.AnnData], ad.AnnData | None]
FAULTS: dict[str, tuple[Fault, dict[str, object], str, str, str, str]] = {}


def fault(topic: str, severity: str, found: str, remedy: str, **options: object):
    """Name a fault, and say what the report has to say of it."""

    def add(make: Fault) -> Fault:
        FAULTS[make.__name__] = (make, options, topic, severity, found, remedy)
        return make

    return add


def _symbols(adata: ad.AnnData) -> list[str]:
    symbol_of = {gene: s for s, gene in glm.models.get(TINY).vocabulary().symbols.items()}
    return [symbol_of.get(gene, gene) for gene in adata.var_names]


def _normalised(adata: ad.AnnData, total: float = 1e4) -> np.ndarray:
    counts = adata.X.toarray().astype(np.float64)
    return total * counts / counts.sum(axis=1, keepdims=True)


@fault("gene ids", "error", "gene symbols", r"Call glm\.pp\.map_genes.* place 3,000 of 3,000")
def symbols(adata):
    adata.var_names = _symbols(adata)


@fault("gene ids", "error", "gene symbols", r"adata\.var\['gene_ids'\] .* pass gene_ids=")
def symbols_beside_ids(adata):
    adata.var["gene_ids"] = list(adata.var_names)
    adata.var_names = _symbols(adata)


@fault("gene ids", "warning", "1,500 others are gene symbols", r"glm\.pp\.map_genes")
def symbols_among_ids(adata):
    adata.var_names = [*adata.var_names[:1500], *_symbols(adata)[1500:]]


@fault("gene ids", "error", "None of the 3,000 names", "gene_ids=")
def unknown_names(adata):
    adata.var_names = [f"nobody{i}" for i in range(adata.n_vars)]


@fault("gene ids", "error", "regions of a genome", r"mod='rna'")
def peaks(adata):
    adata.var_names = [f"chr1:{i}-{i + 500}" for i in range(adata.n_vars)]


@fault("gene ids", "error", "None of the 20 names", r"turn the object round with adata\.T")
def turned(adata):
    return adata.T.copy()


@fault("gene ids", "error", "None of the 20 names", r"turn the object round with adata\.T")
def turned_symbols(adata):
    adata.var_names = _symbols(adata)
    return adata.T.copy()


@fault("gene names", "error", "2 of 3,000 .* missing", "Name every gene")
def missing_names(adata):
    adata.var["id"] = [None, np.nan, *adata.var_names[2:]]


FAULTS["missing_names"][1]["gene_ids"] = "id"


@fault("species", "error", "another species .*ENSMUSG", "orthologues")
def mouse(adata):
    adata.var_names = [name.replace("ENSG", "ENSMUSG") for name in adata.var_names]


@fault("species", "error", "another species .*Abc", "orthologues")
def mouse_symbols(adata):
    adata.var_names = [f"Abc{chr(97 + i % 26)}{i}" for i in range(adata.n_vars)]


@fault("species", "warning", "300 of 3,000 .* another species", "leave cells and genes")
def some_mouse(adata):
    names = list(adata.var_names)
    names[:300] = [name.replace("ENSG", "ENSMUSG") for name in names[:300]]
    adata.var_names = names


@fault("versions", "note", r"3,000 ids carry a version \(ENSG\d+\.4", "left off")
def versions(adata):
    adata.var_names = adata.var_names + ".4"


@fault("versions", "note", r"3,000 ids carry a version \(.* and 2,997 more\)", "left off")
def versions_of_all(adata):
    """Few of them are kept as examples, but all are counted."""
    adata.var_names = adata.var_names + ".4"


@fault("copies on Y", "note", "1 ids name the Y copy", "kept apart")
def par_y(adata):
    adata.var_names = ["ENSG00000002586.20_PAR_Y", *adata.var_names[1:]]


@fault("transcripts", "warning", "1 names are ids of transcripts", "Sum them")
def transcripts(adata):
    adata.var_names = ["ENST00000002586", *adata.var_names[1:]]


@fault("spreadsheet dates", "warning", r"2 gene names .*dates .*\(1-Mar, 2-Sep\)", "original file")
def dates(adata):
    adata.var_names = ["1-Mar", "2-Sep", *adata.var_names[2:]]


@fault("repeated genes", "warning", "1 column shares a gene", "parts of one gene")
def repeated(adata):
    adata.var_names = [adata.var_names[1], *adata.var_names[1:]]


@fault("repeated names", "note", r"1 name stands for several columns", "ambiguous")
def ambiguous(adata):
    adata.var_names = ["TBCE", "TBCE", *adata.var_names[2:]]


@fault("repeated names", "note", r"numbered, .* \(nobody-1\)", "Ensembl ids")
def numbered(adata):
    adata.var_names = ["nobody", "nobody-1", *adata.var_names[2:]]


@fault("values", "error", "looks log-normalised", r"log_normalized=True")
def logged(adata):
    adata.X = np.log1p(_normalised(adata))


@fault("same totals", "note", r"10,000\) once log1p is undone", "order of its genes")
def logged_to_one_total(adata):
    adata.X = np.log1p(_normalised(adata))


@fault("values", "error", "looks normalised", "Pass layer= with raw counts")
def cpm(adata):
    adata.X = _normalised(adata, 1e6)


@fault("same totals", "note", r"\(1,000,000\): counts were scaled", "order of its genes")
def cpm_to_one_total(adata):
    adata.X = _normalised(adata, 1e6)


@fault("values", "error", "negative values .* scaled", "Pass layer=")
def scaled(adata):
    values = _normalised(adata)
    adata.X = (values - values.mean(axis=0)) / (values.std(axis=0) + 1)


@fault("values", "error", "looks log-normalised", r"Pass layer='counts', which looks like raw")
def counts_in_a_layer(adata):
    adata.layers["counts"] = adata.X
    adata.layers["other"] = np.log1p(_normalised(adata))
    adata.X = adata.layers["other"].copy()


@fault("values", "error", "looks log-normalised", r"Pass use_raw=True, which looks like raw")
def counts_in_raw(adata):
    adata.raw = adata.copy()
    adata.X = np.log1p(_normalised(adata))


@fault("values", "error", "looks log-normalised", r"there are other, adata\.raw; none looks")
def counts_nowhere(adata):
    adata.X = np.log1p(_normalised(adata))
    adata.layers["other"] = adata.X.copy()
    adata.layers["rank_geneformer"] = np.ones(adata.shape, np.uint16)
    adata.layers["rank_geneformer"][0, 0] = 2
    adata.uns["rank_geneformer"] = {"a": "record"}
    adata.raw = adata.copy()


@fault(
    "values",
    "error",
    "negative values .* scaled",
    r"adata\.raw does not look like them\), or use_raw=True with log_normalized=True, since",
)
def scaled_beside_its_logarithm(adata):
    """What scanpy's first tutorial leaves behind."""
    adata.X = np.log1p(_normalised(adata))
    adata.raw = adata.copy()
    adata.X = adata.X - adata.X.mean(axis=0)


@fault(
    "values", "error", "negative values .* scaled", "layer='counts', which looks like raw counts.$"
)
def scaled_beside_counts_and_a_logarithm(adata):
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(_normalised(adata))
    adata.raw = adata.copy()
    adata.X = adata.X - adata.X.mean(axis=0)


@fault("values", "error", r"1 value that is not finite \(first: nan in cell 'cell1'", "mend")
def not_a_number(adata):
    adata.X = adata.X.toarray()
    adata.X[1, 5] = np.nan


@fault("values", "error", r"adata\.X is empty", r"layer= \(there are counts\)")
def no_matrix(adata):
    adata.layers["counts"] = adata.X
    adata.X = None


@fault("raw counts", "note", "were looked at", "Pass layer='counts', which looks like raw")
def no_matrix_but_a_layer(adata):
    adata.layers["counts"] = adata.X
    adata.X = None


@fault("values", "error", "of type bool", "uint8")
def truth_values(adata):
    adata.X = adata.X.toarray() > 0


@fault("values", "error", "but adata.X reaches", "Leave it out", log_normalized=True)
def counts_taken_for_logs(adata):
    pass


@fault("values", "warning", "nothing but zeros", "layer=")
def zeros(adata):
    adata.X = np.zeros(adata.shape, np.float32)


@fault("genes measured", "warning", "500 of 11,8.. .* a subset", "Use all measured genes")
def few_genes(adata):
    return adata[:, :500].copy()


@fault("genes measured", "warning", "all are marked highly_variable", "adata.raw has 3,000 genes")
def variable_genes(adata):
    adata.raw = adata.copy()
    adata = adata[:, :2_900].copy()
    adata.var["highly_variable"] = True
    return adata


@fault("coverage", "error", "Only 0.5% of the counts", "Expected 10%")
def other_genes(adata):
    adata.X = np.ones(adata.shape, np.float32)
    adata.var_names = [*adata.var_names[:15], *(f"ENSG9{i:010d}" for i in range(2_985))]


@fault("coverage", "warning", r"Only genes of .* 50\.0% .*\(50%\) columns", "current ids")
def half_other_genes(adata):
    adata.X = np.ones(adata.shape, np.float32)
    adata.var_names = [*adata.var_names[:1500], *(f"ENSG9{i:010d}" for i in range(1500))]


@fault("coverage", "ok", r"9\d\.\d% .* ENSG90000000000 \(\d\.\d%\) hold most", "^$")
def one_large_other_gene(adata):
    adata.var_names = ["ENSG90000000000", *adata.var_names[1:]]
    adata.X = adata.X.toarray()
    adata.X[:, 0] = 100


@fault("depth", "warning", "median cell .* 13,000 genes.* pseudobulk", "single cells")
def pseudobulk(adata):
    more = ad.AnnData(sp.csr_matrix((adata.n_obs, 10_000), dtype=np.float32))
    more.var_names = [f"ENSG9{i:010d}" for i in range(10_000)]
    more.obs_names = adata.obs_names
    whole = ad.concat([adata, more], axis=1, merge="first")
    whole.X = np.full(whole.shape, 1.0, np.float32)
    whole.X[:, :3000] = 900
    return whole


@fault("depth", "note", "reads rather than molecules", "single cells")
def reads(adata):
    adata.X = adata.X * 1000


@fault("depth", "warning", "all values are 0 or 1", "before that step")
def binary(adata):
    adata.X = (adata.X.toarray() > 0).astype(np.float32)


@fault("depth", "note", "few, for whole cells", "filter_cells")
def shallow(adata):
    adata.X = np.where(np.arange(adata.n_vars) % 20 == 0, adata.X.toarray(), 0)


@fault("same totals", "note", r"\(1,000\): counts were thinned", "before that step")
def thinned(adata):
    rng = np.random.default_rng(0)
    share = _normalised(adata, 1.0)
    adata.X = np.stack([rng.multinomial(1000, p / p.sum()) for p in share]).astype(np.float32)


@fault("empty cells", "warning", r"2 of 20 \(10%\) .*\(cell3, cell7\); 1 of them", "filter_cells")
def empty(adata):
    adata.var_names = [*adata.var_names[:-1], "nobody"]
    adata.X = adata.X.toarray()
    adata.X[3, :-1] = adata.X[7] = 0
    adata.X[3, -1] = 5


@fault(
    "context",
    "note",
    r"of 20 .* more known genes than the 1,022 .* cut off",
    "read by geneformer-v1-10m.*geneformer-v2-104m",
)
def long(adata):
    pass


@fault("object", "error", "0 cells and 3,000 genes", "filtered out")
def no_cells(adata):
    return adata[:0].copy()


@fault("object", "error", "20 cells and 0 genes", "filtered out")
def no_genes(adata):
    return adata[:, :0].copy()


def broken(cells: ad.AnnData, name: str) -> tuple[ad.AnnData, dict[str, object]]:
    make, options = FAULTS[name][:2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # anndata's, of names that repeat
        made = make(cells)
    return cells if made is None else made, dict(options)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_found(cells: ad.AnnData, name: str):
    adata, options = broken(cells, name)
    report = glm.pp.check(adata, TINY, **options)
    *_, topic, severity, found, remedy = FAULTS[name]
    finding = by_topic(report)[topic]
    assert finding.severity == severity
    assert pd.Series([finding.found]).str.contains(found)[0], finding.found
    assert pd.Series([finding.remedy]).str.contains(remedy)[0], finding.remedy


def _words(text: str) -> str:
    """Without what divides a message into what was found and what to do."""
    return re.sub(r"\W+", " ", text).lower()


@pytest.mark.parametrize("name", FAULTS)
def test_verbs_refuse_and_warn_of_the_same(cells: ad.AnnData, name: str):
    """An error is a refusal in the same words; all warnings come as one."""
    adata, options = broken(cells, name)
    report = glm.pp.check(adata, TINY, **options)
    errors = [_words(str(finding)) for finding in report.of("error")]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            glm.tl.rank_encode(adata, TINY, **options)
            refused = None
        except (ValueError, TypeError) as error:
            refused = str(error)
    assert report.ok is (refused is None)
    assert refused is None or _words(refused) in errors
    told = [str(w.message) for w in seen if issubclass(w.category, glm.GlmWarning)]
    assert len(told) <= 1
    own = {"empty cells", "values"}  # cells without counts are the verbs' own to tell
    if refused is None:
        expected = [f for f in report.of("warning") if f.topic not in own]
        assert bool(told) is bool(expected)
        assert all(finding.found.rstrip(".") in told[0] for finding in expected)


def _content(adata: ad.AnnData) -> dict[str, object]:
    """Everything in an object, as things that can be compared."""

    def values(matrix: object) -> object:
        if sp.issparse(matrix):
            return (type(matrix), *(part.tobytes() for part in (matrix.data, matrix.indices)))
        return None if matrix is None else (type(matrix), np.asarray(matrix).tobytes())

    parts = ("layers", "obsm", "varm", "obsp", "varp")
    return {
        "X": values(adata.X),
        "obs": adata.obs.to_csv(),
        "var": adata.var.to_csv(),
        "uns": repr(adata.uns),
        "raw": None if adata.raw is None else (values(adata.raw.X), adata.raw.var.to_csv()),
        **{part: {k: values(v) for k, v in getattr(adata, part).items()} for part in parts},
    }


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_changed(cells: ad.AnnData, name: str):
    adata, options = broken(cells, name)
    before = _content(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor is anything told but in the report
        glm.pp.check(adata, TINY, **options)
    assert _content(adata) == before


@pytest.mark.parametrize("name", FAULTS)
def test_every_finding_has_one_line_for_a_remedy(cells: ad.AnnData, name: str):
    adata, options = broken(cells, name)
    report = glm.pp.check(adata, TINY, **options)
    for finding in report.findings:
        assert finding.found.endswith((".", "?")), finding
        assert "\n" not in finding.found + finding.remedy
        assert (finding.severity == "ok") is (finding.remedy == ""), finding
    assert len({f.topic for f in report.findings}) >= 1
    assert str(report).count("→") == sum(bool(f.remedy) for f in report.findings)


# ---- good cells ---------------------------------------------------------------------------------


def test_nothing_is_wrong_with_good_cells(cells: ad.AnnData):
    counts = cells.X.toarray()
    counts[:, 900:] = 0
    cells.X = counts
    report = glm.pp.check(cells, TINY)
    assert report.ok
    assert {finding.severity for finding in report.findings} == {"ok"}
    assert set(by_topic(report)) == {
        "gene ids",
        "values",
        "coverage",
        "genes measured",
        "depth",
        "empty cells",
        "context",
    }


def test_numbers_are_those_of_the_verbs(cells: ad.AnnData):
    cells.var_names = [*cells.var_names[:-500], *(f"ENSG9{i:010d}" for i in range(500))]
    cells.var_names = [cells.var_names[1], *cells.var_names[1:]]
    report = glm.pp.check(cells, TINY)
    with pytest.warns(glm.GlmWarning, match="shares? a gene"):
        glm.tl.rank_encode(cells, TINY)
    record = cells.uns["rank_geneformer"]
    n_genes = report.cells["n_genes_known"]
    np.testing.assert_array_equal(n_genes, cells.obs["n_ranked_geneformer"])
    assert record["n_cells_truncated"] == (n_genes > report.n_genes_read).sum()
    known = report.cells["n_counts_known"].sum() / report.cells["n_counts"].sum()
    assert record["share_of_counts_in_vocabulary"] == pytest.approx(known)
    np.testing.assert_array_equal(report.cells["n_counts"], np.asarray(cells.X.sum(axis=1)).ravel())
    assert list(report.cells.index) == list(cells.obs_names)


def test_symbols_are_told_as_if_they_were_mapped(cells: ad.AnnData):
    good = glm.pp.check(cells, TINY)
    cells.var_names = _symbols(cells)
    report = glm.pp.check(cells, TINY)
    assert report.assumed == "glm.pp.map_genes had been called"
    assert "as if glm.pp.map_genes had been called" in " ".join(str(report).split())
    pd.testing.assert_frame_equal(report.cells, good.cells)


def test_another_species_is_not_told_as_if_it_were_mapped(cells: ad.AnnData):
    """Some hundreds of mouse symbols are written as human ones are."""
    cells.var_names = [*_symbols(cells)[:100], *(f"Abc{i}" for i in range(2_900))]
    report = glm.pp.check(cells, TINY)
    assert report.assumed == ""
    assert set(by_topic(report)) == {"species", "values", "depth"}


def test_nothing_is_said_of_the_share_of_no_counts(cells: ad.AnnData):
    cells.X = np.zeros(cells.shape, np.float32)
    found = by_topic(glm.pp.check(cells, TINY))
    assert not {"coverage", "depth"} & set(found)
    assert "20 of 20 (100%) cells" in found["empty cells"].found


def test_a_loaded_model(make_model, make_cells):
    model = make_model(v2=True)
    report = glm.pp.check(make_cells(model.vocabulary), model)
    assert (report.model, report.n_genes_read) == ("small-v2", 30)
    assert by_topic(report)["empty cells"].severity == "warning"
    assert by_topic(report)["context"].severity == "note"


def test_a_layer_of_any_name(cells: ad.AnnData):
    """``"raw"`` and ``"X"`` are names that a layer can have."""
    cells.layers["raw"] = np.log1p(_normalised(cells))
    cells.layers["X"] = cells.layers["raw"].copy()
    for layer in ("raw", "X"):
        finding = by_topic(glm.pp.check(cells, TINY, layer=layer))["values"]
        assert f"adata.layers['{layer}'] looks log-normalised" in finding.found
        assert "for adata.X, which looks like raw counts" in finding.remedy


def test_the_rank_layer_is_not_taken_for_counts(cells: ad.AnnData):
    glm.tl.rank_encode(cells, TINY)
    cells.X = np.log1p(_normalised(cells))
    assert "rank_geneformer" not in by_topic(glm.pp.check(cells, TINY))["values"].remedy


def test_labels_are_the_users_names(cells: ad.AnnData):
    """Ids are read from a column, but the columns are called what the user calls them."""
    cells.var["ensembl_id"] = ["", cells.var_names[2], *cells.var_names[2:]]
    cells.var_names = ["MALAT1", "again", *_symbols(cells)[2:]]
    cells.X = cells.X.toarray()
    cells.X[:, 0] = 50
    found = by_topic(glm.pp.check(cells, TINY))
    assert "MALAT1" in found["coverage"].found
    assert cells.var_names[2] in found["repeated genes"].found
    assert "repeated names" not in found


@pytest.mark.filterwarnings("ignore:var_names are not unique")
def test_a_modality(cells: ad.AnnData):
    import mudata

    with mudata.set_options(pull_on_update=False):
        both = mudata.MuData({"rna": cells, "other": cells[:, :50].copy()})
    report = glm.pp.check(both, TINY, mod="rna")
    assert report.to_frame().equals(glm.pp.check(cells, TINY).to_frame())
    with pytest.raises(KeyError, match="no modality 'atac'"):
        glm.pp.check(both, TINY, mod="atac")
    with pytest.raises(TypeError, match=r"expected an AnnData.* mod='rna' or mod='other'"):
        glm.pp.check(both, TINY)


# ---- the report ---------------------------------------------------------------------------------


def test_a_table(cells: ad.AnnData):
    cells.var_names = _symbols(cells)
    report = glm.pp.check(cells, TINY)
    frame = report.to_frame()
    assert list(frame.columns) == ["finding", "severity", "found", "remedy"]
    assert len(frame) == len(report.findings)
    assert frame["severity"].max() == "error"
    assert list(frame["severity"]) == sorted(frame["severity"], key=["error", "note", "ok"].index)


@pytest.mark.parametrize("columns", [40, 80, 300])
def test_a_terminal(cells: ad.AnnData, monkeypatch: pytest.MonkeyPatch, columns: int):
    monkeypatch.setenv("COLUMNS", str(columns))
    cells.var_names = _symbols(cells)
    text = str(glm.pp.check(cells, TINY))
    assert max(map(len, text.splitlines())) <= min(max(columns, 60), 100)
    assert text.startswith("20 cells × 3,000 genes, checked for geneformer-tiny\n")
    assert "The model cannot run on it as it is: 1 error" in text


# ---- what is the user's mistake, not the data's -------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "nowhere"}, "no layer 'nowhere'"),
        ({"gene_ids": "nowhere"}, "no column 'nowhere'"),
        ({"model": "nowhere"}, "no model 'nowhere'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_names_of_nothing_are_refused(cells: ad.AnnData, options, message: str):
    with pytest.raises(KeyError, match=message):
        glm.pp.check(cells, **{"model": TINY, **options})


def test_only_an_anndata_is_looked_at():
    for data in (np.ones((3, 3)), pd.DataFrame({"a": [1]})):
        with pytest.raises(TypeError, match=f"Got a {type(data).__name__}, expected an AnnData"):
            glm.pp.check(data, TINY)


# ---- real cells ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "topics"),
    [
        ("bmfm_cellxgene", {"gene ids": "error", "values": "ok", "genes measured": "ok"}),
        ("bmfm_scp1884", {"gene ids": "error", "values": "ok", "context": "note"}),
        ("bmfm_sciplex3", {"values": "error", "genes measured": "warning"}),
        ("scvi_pbmc_10k_protein_v3", {"repeated names": "note", "context": "note"}),
    ],
)
@pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning")
def test_real_cells(test_data: Path, file: str, topics: dict[str, str]):
    adata = ad.read_h5ad(test_data / "cells" / f"{file}.h5ad")
    with glm.settings.override(mirror=test_data / "geneformer"):
        found = by_topic(glm.pp.check(adata, "geneformer-v1-10m"))
    assert {topic: found[topic].severity for topic in topics} == topics
    assert found["coverage"].severity == "ok"
