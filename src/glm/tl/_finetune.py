from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import slots
from .._keys import PredictionKeys
from .._messages import share, warn
from .._settings import logger
from ..cells import check_counts, check_target
from ..models.bundle import Model, load
from ..models.reads import gene_vocabulary
from ..models.registry import get
from ._finetune_job import Job, Result, prepare, train_all
from ._gene_axis import check_same_genes
from ._parts import Wish
from ._prediction_slots import Predictions
from ._targets import Axis, Kind, read_target
from ._trained import check_out, save_trained, tell_too_short
from ._tuning import ClassWeight, Tuning

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from ..train import LoRA, Recipe


def finetune(
    adata: AnnData | MuData,
    model: str | Path | Model = "geneformer-v2-104m",
    *,
    target: str,
    out: str | Path,
    axis: Axis | None = None,
    kind: Kind | None = None,
    split_by: str | None = None,
    folds: int | str | None = None,
    test_share: float = 0.1,
    validation_share: float = 0.1,
    class_weight: ClassWeight = None,
    lora: LoRA | None = None,
    frozen_layers: int = 0,
    recipe: Recipe | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    tokens_per_batch: int | None = None,
    seed: int | None = None,
    patience: int | None = None,
    mod: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_ids: str | None = None,
    log_normalized: bool = False,
    key_added: str | None = None,
    overwrite: bool = False,
    **trainer_options: Any,
) -> Model:
    """Teach a model your labels: of cells, or of genes :cite:p:`theodoris2023`.

    Rows are divided into a part to train on, one to choose the best epoch and calibrate confidence
    by, and one to be tested on. What is written into the object are predictions of the *test* part
    alone, beside which the truth stands: they tell what to expect of cells nobody has labelled,
    which :func:`glm.tl.predict` labels with the bundle in ``out``. With ``folds`` every row is
    tested once, by a model that has not seen it; the bundle is trained on all of them.

    Give ``split_by="donor"`` wherever there are donors (patients, batches, ...): cells of one donor
    are alike, and a model that is tested on cells of its training donors looks better than it is.

    The same call again goes on where it was stopped. :func:`glm.pl.confusion`,
    :func:`glm.pl.calibration` and :func:`glm.pl.training` draw what came of it.

    Parameters
    ----------
    adata
        Cells × genes, raw counts, as for :func:`glm.tl.rank_encode`; or a MuData, with ``mod``.
    model
        A name of :func:`glm.models.list`, the path of a folder, or a loaded model. It is not
        changed.
    target
        What is to be learnt. A column of ``obs``, one value a cell; a column of ``var``, one a gene
        (dosage-sensitive or not, say); or a matrix of 0 and 1 in ``obsm`` or ``varm``, rows ×
        labels (a DataFrame names them). Rows without a value are left out.
    out
        Folder of the new bundle, which is then ``model="<out>"`` everywhere. Checkpoints and logs
        are in its folder ``run``.
    axis
        ``"obs"`` or ``"var"``, where both have such a column.
    kind
        ``"classes"``, ``"multi_label"``, ``"regression"`` or ``"counts"`` (by Poisson's law);
        ``None`` goes by the type: text, categories and truth values are classes, fractions amounts,
        matrices labels. Whole numbers could be any of them, so say which.
    split_by
        Column whose groups are not parted: no group is in the test part and in another.
    folds
        How many folds to test every row in, one after the other; or a column that names the fold of
        each row, or its part (``"train"``, ``"validation"``, ``"test"``). Takes a training for each
        fold, and one more.
    test_share
        Without ``folds``: share of the rows to test on; 0 for none.
    validation_share
        Share of the others to choose the best epoch and to calibrate by. Groups of ``split_by``
        are kept whole there too, where there are enough of them.
    class_weight
        ``"balanced"`` lets all classes count alike, however rare; or weights by class (of labels:
        how much presence counts against absence).
    lora
        Train low-rank additions to the weights only, merged when saved (:class:`glm.train.LoRA`).
    frozen_layers
        The embeddings and so many layers above them stay as they are.
    recipe
        Optimiser, schedule and batches; ``None`` is the authors' own (:func:`glm.train.recipe`),
        with a warm-up of a tenth of the run where theirs would be longer.
    epochs, learning_rate, tokens_per_batch, seed
        In place of what the recipe says. ``seed`` also decides the parts.
    patience
        End after so many epochs without a better one.
    mod, layer, use_raw, gene_ids, log_normalized
        Where the counts and the Ensembl ids are, as for :func:`glm.tl.embed`.
    key_added
        Name in the slots; by default the system's name, ``"geneformer"``.
    overwrite
        Replace what another model or the user put into the slots.
    **trainer_options
        As for :func:`glm.train.fit`: ``devices=``, ``strategy=``, ``precision=``, ``workers=``, ...

    Returns
    -------
    The trained model, as loaded from ``out``: its head gives calibrated logits, or amounts. Sets,
    where ``<label>`` is ``<target>_<key>_held_out`` (of genes ``var`` and ``varm`` in place of
    ``obs`` and ``obsm``):

    ``adata.obs["<target>_<key>_fold"]``
        category. The part, or the fold in which the row was tested; missing where it was left out.
    ``adata.obs["<label>"]``
        category, all classes (float32 for amounts). Predicted, for rows of the test part only. For
        labels ``adata.obsm["<label>"]``, bool, rows × labels.
    ``adata.obs["<label>_confidence"]``
        float32. Probability of the predicted class, calibrated.
    ``adata.obsm["<label>_probability"]``
        float32, rows × classes or labels, in the order of ``uns["<label>"]["labels"]``; NaN where
        the row was not tested.
    ``adata.obs["<label>_ok"]``
        bool. Whether the row was tested.
    ``adata.uns["<label>"]``
        The record: model, hashes, parts, recipe, temperature, and ``metrics`` of the test part.

    Raises
    ------
    OSError
        If the model's files are not here and cannot be fetched.
    KeyError
        If there is no such column.
    ValueError, TypeError
        As for :func:`glm.tl.rank_encode`; if the target has one class only, or a class all of whose
        rows are in the test part; if groups are too few, or a column of folds parts them; if
        ``out`` holds something else, or a run of other data or another configuration.
    RuntimeError
        If a loss is not a number; what was kept before stays.

    Examples
    --------
    >>> import glm, tempfile
    >>> adata = glm.datasets.toy_cells(n_cells=40)
    >>> adata.obs["kind"] = ["a", "b"] * 20
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = glm.tl.finetune(
    ...         adata, "geneformer-tiny", target="kind", out=f"{folder}/mine", epochs=1
    ...     )
    >>> model.spec.labels
    ('a', 'b')
    """
    _, adata = check_target(adata, mod=mod)
    spec = model.spec if isinstance(model, Model) else get(model)
    learnt = read_target(adata, target, axis=axis, kind=kind)
    wish = Wish(
        folds,
        split_by,
        test_share,
        validation_share,
        seed if seed is not None else recipe.seed if recipe is not None else 0,
    )
    folder = check_out(out)
    name = folder.resolve().name
    keys = PredictionKeys(target, key_added or spec.system, held_out=True)
    written = [*Predictions.slots_of(learnt, keys), (learnt.axis, keys.fold)]
    slots.check_free(adata, written, keys.record, model=name, overwrite=overwrite)
    vocabulary = gene_vocabulary(model if isinstance(model, Model) else spec)
    counts = check_counts(
        adata,
        vocabulary,
        model=spec.name,
        layer=layer,
        use_raw=use_raw,
        gene_ids=gene_ids,
        log_normalized=log_normalized,
    )
    if learnt.axis == "var":
        check_same_genes(adata, use_raw)
    said = {"epochs": epochs, "learning_rate": learning_rate, "seed": seed}
    said["tokens_per_batch"] = tokens_per_batch
    job = prepare(adata, counts, learnt, wish, spec, recipe, folder, said)
    options = {"frozen_layers": frozen_layers, "patience": patience}
    tuning = Tuning(job.recipe, class_weight, lora, options | job.logging | trainer_options)
    start = load(model)
    found = train_all(job, start, tuning, folder)

    facts = {
        "function": "glm.tl.finetune",
        "target": target,
        "axis": learnt.axis,
        "kind": learnt.kind,
        "labels": list(learnt.labels),
        "split_by": split_by,
        "folds": folds,
        "class_weight": class_weight,
        "lora": None if lora is None else dataclasses.asdict(lora),
        "frozen_layers": frozen_layers,
        "recipe": dataclasses.asdict(job.recipe),
        **job.facts,
        **found.facts,
    }
    saved = save_trained(found.kept.model, start, folder, slots.plain(facts), task=learnt.kind)
    record = slots.make_record(
        model=name,
        tier=saved.spec.tier,
        weights_sha256=saved.weights_sha256,
        trained_from=spec.name,
        trained_from_sha256=start.weights_sha256,
        vocabulary=vocabulary.name,
        vocabulary_sha256=vocabulary.sha256,
        out=folder,
        **facts,
        **counts.facts,
    )
    predictions = Predictions(learnt.axis, learnt.kind, learnt.labels, found.outputs)
    values = {**predictions.values(keys), (learnt.axis, keys.fold): job.fold_column}
    with slots.keeping(found.outputs, folder):
        slots.write(adata, values, keys.record, record)
    _report(job, found, name)
    tell_too_short(adata, job.long_enough, job.recipe.min_tokens, spec.name)
    return saved


def _report(job: Job, found: Result, name: str) -> None:
    scores = ", ".join(f"{what} {value:.3g}" for what, value in found.metrics.items())
    tested = f"tested on {job.facts['n_test']:,}: {scores}" if found.metrics else "not tested"
    target = job.target
    logger.info(
        "trained %s on %s %s%s; %s",
        name,
        f"{job.facts['n_train']:,}",
        target.what,
        {
            "classes": f" of {len(target.labels)} classes",
            "multi_label": f" with {len(target.labels)} labels",
        }.get(target.kind, ""),
        tested,
    )
    if target.axis == "obs" and not target.known.all():
        n = int((~target.known).sum())
        warn(
            f"{share(n, target.known.size)} cells have no value in {target.title} and were left "
            f"out. glm.tl.predict(adata, {name!r}) fills them in."
        )
