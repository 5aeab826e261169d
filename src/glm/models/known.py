"""The published models, one row of data each; what stands in the table of files is named here."""

from __future__ import annotations

from .config import BertConfig, Head
from .enformer_config import EnformerConfig
from .spec import ModelSpec
from .track_model import TrackSpec


def _geneformer(
    name: str,
    n_layers: int,
    hidden_size: int,
    *,
    v2: bool,
    weights: str,
    note: str = "",
    intermediate_size: int | None = None,
    head: Head = "tokens",
) -> ModelSpec:
    shape = BertConfig(
        vocab_size=20_275 if v2 else 25_426,
        hidden_size=hidden_size,
        n_layers=n_layers,
        n_heads=hidden_size // 64,
        intermediate_size=intermediate_size or 2 * hidden_size,
        n_positions=4096 if v2 else 2048,
    )
    return ModelSpec(
        name=name,
        system="geneformer",
        shape=shape,
        pooling="cls" if v2 else "mean",
        dictionary="gc104M" if v2 else "gc30M",
        weights=f"geneformer/{weights}",
        note=note,
        head=head,
    )


_GC95M = (
    "Pretrained with dictionaries named gc95M, of the same size as gc104M, which are not published "
    "with a known hash: gc104M is used in their place."
)

# Shapes: the published config.json files; hashes of the weights: the table in _files.
_GENEFORMER = (
    _geneformer(
        "geneformer-v1-10m", 6, 256, v2=False, weights="Geneformer-V1-10M/model.safetensors"
    ),
    _geneformer(
        "geneformer-v1-12l-30m", 12, 512, v2=False, weights="geneformer-12L-30M/pytorch_model.bin"
    ),
    _geneformer(
        "geneformer-12l-95m",
        12,
        512,
        v2=True,
        weights="gf-12L-95M-i4096/model.safetensors",
        note=_GC95M,
    ),
    _geneformer(
        "geneformer-12l-95m-clcancer",
        12,
        512,
        v2=True,
        weights="gf-12L-95M-i4096_CLcancer/model.safetensors",
        note=_GC95M,
    ),
    _geneformer(
        "geneformer-20l-95m",
        20,
        896,
        v2=True,
        weights="gf-20L-95M-i4096/model.safetensors",
        note=_GC95M,
    ),
    _geneformer(
        "geneformer-v2-104m",
        12,
        768,
        v2=True,
        weights="Geneformer-V2-104M/model.safetensors",
        intermediate_size=3072,
    ),
    _geneformer(
        "geneformer-v2-104m-clcancer",
        12,
        768,
        v2=True,
        weights="Geneformer-V2-104M_CLcancer/model.safetensors",
        intermediate_size=3072,
        note="Continued on cancer cells. No hash of its weights is known.",
    ),
    _geneformer(
        "geneformer-v2-316m",
        18,
        1152,
        v2=True,
        weights="Geneformer-V2-316M/model.safetensors",
        intermediate_size=4608,
    ),
    _geneformer(
        "geneformer-v1-10m-cardiomyopathy",
        6,
        256,
        v2=False,
        weights="fine_tuned_models/Geneformer-V1-10M_CellClassifier_cardiomyopathies_220224/"
        "pytorch_model.bin",
        note="Fine-tuned to tell cells of failing hearts from others. The names of its classes are "
        "not published with a known hash.",
        head="cells",
    ),
)


def _of_dna(
    name: str, repository: str, vocab_size: int, *, dictionary: str, note: str = ""
) -> ModelSpec:
    """A BERT-base with exact GELU, read at the CLS token of its last layer."""
    system, place = name.partition("-")[0], repository.rpartition("/")[2]
    shape = BertConfig(
        vocab_size=vocab_size,
        hidden_size=768,
        n_layers=12,
        n_heads=12,
        intermediate_size=3072,
        n_positions=512,
        activation="gelu",
        dropout=0.1,
        attention_dropout=0.1,
    )
    return ModelSpec(
        name=name,
        system=system,
        shape=shape,
        pooling="cls",
        hidden_layer="last",
        dictionary=dictionary,
        weights=f"{system}/{place}/pytorch_model.bin",
        licence="not stated here: see the source",
        source=f"https://huggingface.co/{repository}",
        note=note,
    )


# Shapes: the published config.json files. Both papers read a sequence at its CLS token (DNABERT's
# classifier through a pooler that pretraining does not train; GROVER's maps of genome windows). The
# vector that verify() holds GROVER to is another tool's mean over all tokens: see models/expected.
_DNA_MODELS = (
    *(
        _of_dna(
            f"dnabert-{k}",
            f"zhihan1996/DNA_bert_{k}",
            5 + 4**k,
            dictionary=f"{k}-mers",
            note="No hash of its weights is known.",
        )
        for k in (3, 4, 5, 6)
    ),
    _of_dna("grover", "PoetschLab/GROVER", 609, dictionary="grover"),
)

PUBLISHED = (*_GENEFORMER, *_DNA_MODELS)

PUBLISHED_TRACKS = (
    TrackSpec(
        name="enformer",
        shape=EnformerConfig(),
        window_bp=196_608,
        targets={head: f"targets_{head}.txt" for head in ("human", "mouse")},
        weights="enformer/enformer-official-rough/pytorch_model.bin",
        licence="Apache-2.0",
        source="https://huggingface.co/EleutherAI/enformer-official-rough",
    ),
)
