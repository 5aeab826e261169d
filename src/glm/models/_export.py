"""Write a model in the layout that checkpoints are published in, for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._export_tracks import export_tracks
from ._saving import plain, state_to_save, write_json, written_together
from .any_model import get, load
from .bundle import Model
from .dna_vocabulary import SPECIAL_TEXTS, KmerVocabulary, PairVocabulary
from .published import ARCHITECTURES, PROBLEMS, SHAPE
from .track_model import TrackModel

if TYPE_CHECKING:
    from .kinds import Vocabulary
    from .spec import ModelSpec
    from .weights import Network

_FILES = ["model.safetensors", "vocabulary.json", "config.json"]


def export(model: str | Path | Model | TrackModel, folder: str | Path) -> Path:
    """Write a model so that ``transformers`` or ``enformer-pytorch`` loads it, and ``glm`` too.

    Parameters
    ----------
    model
        A loaded model, or what :func:`glm.models.load` takes.
    folder
        Where to write; it is made if need be. Files of an earlier export are replaced once all
        new ones are whole.

    Returns
    -------
    The folder. As ``model=folder`` it computes the same. It holds:

    ``config.json``
        Of a ``BertForMaskedLM``, ``BertForSequenceClassification`` or
        ``BertForTokenClassification``, with the classes by name; of a ``BertModel`` (without
        pooler) where there is no head. What only ``glm`` reads is in its entry ``glm``.
    ``model.safetensors``
        Weights, float32, under their published names.
    ``vocabulary.json``
        Ids with their tokens and medians, special tokens, symbols and older names; of DNA the k, or
        the byte pairs.
    ``tokenizer_config.json``, and ``vocab.txt`` (k-mers) or ``tokenizer.json`` (byte pairs)
        For a model of DNA, so that ``transformers.AutoTokenizer`` makes its tokens: of k-mers with
        a space between them, or of plain DNA in upper case.

    Of a model that predicts tracks, for ``enformer_pytorch.Enformer.from_pretrained`` (which needs
    ``transformers`` 4):

    ``config.json``
        Of an ``Enformer``, its window and crop in its entry ``glm``. With windows of 196,608 bases
        it says ``use_tf_gamma``, and they compute the same; of other lengths that tool has no
        positional features scaled as published, and its results differ.
    ``pytorch_model.bin``
        Weights, float32, under their published names, the second copy of the trunk included; the
        two share their place in the file.
    ``tracks_human.tsv``, and one for each other head
        The tracks by name, which the layout has no place for.

    Raises
    ------
    RuntimeError
        If weights are not finite, or classes are not named each once.
    ValueError
        If the folder holds a bundle, which an export would overwrite.

    Examples
    --------
    >>> import glm
    >>> folder = glm.models.export("geneformer-tiny", "for-transformers")
    >>> sorted(path.name for path in folder.iterdir())
    ['config.json', 'model.safetensors', 'vocabulary.json']
    """
    from .weights import save_safetensors

    model, folder = load(model), Path(folder).expanduser()
    _refuse_bundle(folder)
    if isinstance(model, TrackModel):
        return export_tracks(model, folder)
    state = state_to_save(model.spec, model.network)
    tokenizer = _tokenizer(model.vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    with written_together(folder, [*_FILES, *tokenizer]) as beside:
        # Others tell by this entry of the header that names and shapes are torch's.
        save_safetensors(state, beside["model.safetensors"], metadata={"format": "pt"})
        write_json(beside["vocabulary.json"], model.vocabulary.to_dict())
        write_json(beside["config.json"], _config(model), indent=1)
        for name, content in tokenizer.items():
            if isinstance(content, str):
                beside[name].write_text(content, encoding="utf-8")
            else:
                write_json(beside[name], content, indent=1)
    return folder


def _tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    """Files of a tokenizer by name, as text or plain values; none for genes."""
    names = {f"{'sep' if name == 'eos' else name}_token": t for name, t in SPECIAL_TEXTS.items()}
    if isinstance(vocabulary, KmerVocabulary):
        # Their list of words has no stride: it is the caller's, who puts the spaces.
        kind = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
        words = "\n".join([*SPECIAL_TEXTS.values(), *vocabulary.pieces, ""])
        content: dict[str, Any] = {"vocab.txt": words}
    elif isinstance(vocabulary, PairVocabulary):
        kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
        special, pieces = vocabulary.special, vocabulary.pairs.pieces
        names = {name: pieces[special[key]] for key, name in zip(special, names, strict=True)}
        content = {"tokenizer.json": vocabulary.pairs.to_tokenizer_json()}
    else:
        return {}
    return {
        **content,
        "tokenizer_config.json": {**kind, **names, "model_max_length": vocabulary.context},
    }


def _refuse_bundle(folder: Path) -> None:
    if (folder / "config.json").is_file() and get(folder).is_bundle:
        raise ValueError(
            f"{folder} holds a bundle, which has files of the same names. Name another folder."
        )


def _config(model: Model) -> dict[str, Any]:
    spec = model.spec
    kind = next(name for name, head in ARCHITECTURES.items() if head == spec.head)
    shape = {theirs: getattr(spec.shape, ours) for theirs, ours in SHAPE.items()}
    return {
        "model_type": "bert",
        "architectures": [kind],
        **shape,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        **_classes(spec, model.network),
        "glm": {
            "name": spec.name,
            "system": spec.system,
            "pooling": spec.pooling,
            "hidden_layer": spec.hidden_layer,
            "licence": spec.licence,
            "source": spec.source,
            "note": spec.note,
            "task": spec.task,
            "card": plain(model.card),
        },
    }


def _classes(spec: ModelSpec, network: Network) -> dict[str, Any]:
    """Names of the classes, and what is computed of the outputs."""
    from .heads import Classifier

    if not isinstance(network, Classifier):
        return {}
    found: dict[str, Any] = {"num_labels": network.classifier.out_features}
    if spec.labels:
        names = dict(enumerate(spec.labels))
        found = {
            "id2label": {str(i): name for i, name in names.items()},
            "label2id": {name: i for i, name in names.items()},
        }
    problem = next((theirs for theirs, ours in PROBLEMS.items() if ours == spec.task), None)
    if spec.task.startswith("counts"):
        problem = "regression"  # the nearest that there is; the outputs are the same
    return {**found, "problem_type": problem}
