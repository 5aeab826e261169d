"""The one table of published files: where each is, and what it must be.

A model, a genome or a table of tracks joins as one row. Hashes of the Geneformer files are those of
the repository's large-file pointers, read at the revision given.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes
    ----------
    path
        Where it lies below the cache folder, the system first.
    url
        Where it is fetched.
    sha256, md5
        What it is held to: one of them, or neither where no hash is known.
    n_bytes
        Its size, ``None`` where it is not known.
    revision
        The revision that the url names; ``""`` where the url follows a branch because the revision
        at which the path is served was not seen. The hash holds either way.
    licence
        Licence of the content.
    """

    path: str
    url: str
    sha256: str = ""
    n_bytes: int | None = None
    md5: str = ""
    revision: str = ""
    licence: str = "Apache-2.0"

    @property
    def name(self) -> str:
        """Its bare name."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def pin(self) -> tuple[str, str] | None:
        """Kind and value of the hash it is held to, ``None`` where no hash is known."""
        if self.sha256:
            return "sha256", self.sha256
        return ("md5", self.md5) if self.md5 else None


_PINNED = "04c2b2e84da7c0f385c3f9ad8f3ec24bab6650e5"
_OLD = "9d41e7053af8a702003d99305cee01cd34b62ab7"
_UNSEEN = ""


def _geneformer(
    path: str, sha256: str = "", n_bytes: int | None = None, revision: str = _PINNED
) -> RemoteFile:
    base = "https://huggingface.co/ctheodoris/Geneformer/resolve"
    return RemoteFile(
        path=f"geneformer/{path}",
        url=f"{base}/{revision or 'main'}/{path}",
        sha256=sha256,
        n_bytes=n_bytes,
        revision=revision,
    )


# Many models' weights share the name of their file: these go by their path.
_BY_PATH = (
    _geneformer(
        "Geneformer-V1-10M/model.safetensors",
        "a5e33a757431643b3697de7ef6127950cdc49e06e58d4266b3a3ab191b683f14",
        41_183_536,
    ),
    _geneformer(
        "Geneformer-V1-10M/config.json",
        "9cf69ca3bdb0215c4188b54c451b6f02adfe68b8f66011a57d0f32845133fd4b",
        565,
    ),
    _geneformer(
        "Geneformer-V2-104M/model.safetensors",
        "fff5cba29ddd8792991fa77b4872246fbe548a178cebda3775cdc72b67780e7f",
        417_571_156,
    ),
    _geneformer("Geneformer-V2-104M_CLcancer/model.safetensors"),
    _geneformer(
        "Geneformer-V2-316M/model.safetensors",
        "965ceccea81953d362081ef3843560a0e4fef88d396c28017881f1e94b1246f3",
        1_265_455_076,
    ),
    _geneformer(
        "geneformer-12L-30M/pytorch_model.bin",
        "812f8d85e5ecf9d64c268f052f6ece2c1906bc4f1aecf70d5144b2598386b615",
        158_467_410,
        revision=_OLD,
    ),
    _geneformer(
        "gf-12L-95M-i4096/model.safetensors",
        "4365ba23e393fcfa0e65a94ac64a0983cd788bd23a8d4914f4ab66f85cfe043c",
        152_012_980,
        revision=_UNSEEN,
    ),
    _geneformer(
        "gf-12L-95M-i4096_CLcancer/model.safetensors",
        "2451adeed240c165634fea60ccba17063da8a2843ea9fcdcc0ce185720bf0dc2",
        152_012_980,
        revision=_UNSEEN,
    ),
    _geneformer(
        "gf-20L-95M-i4096/model.safetensors",
        "db85c081a6d392448955c7d0185e26aba74507518df991ca8c69ee9108ce8bbf",
        605_292_732,
        revision=_UNSEEN,
    ),
    _geneformer(
        "fine_tuned_models/Geneformer-V1-10M_CellClassifier_cardiomyopathies_220224/"
        "pytorch_model.bin",
        "12ead3bad8cf4b853bac87eadeb79c9308ae492e9d29f32da1a2c85e8586108d",
        41_115_113,
    ),
)


def _of_dna(
    path: str,
    place: str,
    sha256: str = "",
    n_bytes: int | None = None,
    revision: str = _UNSEEN,
) -> RemoteFile:
    """A file of DNABERT or GROVER: ``place`` is its repository, whose licence was not seen."""
    base, name = f"https://huggingface.co/{place}/resolve", path.rsplit("/", 1)[-1]
    return RemoteFile(
        path=path,
        url=f"{base}/{revision or 'main'}/{name}",
        sha256=sha256,
        n_bytes=n_bytes,
        revision=revision,
        licence="not stated here",
    )


_DNABERT_6 = "55e0c0eb7b734c8b9b77bc083bf89eb6fbda1341"
_GROVER = "6b223110f0d6963e849f55bc2a2f3cff0e38c7a4"

# Of DNABERT no hash is known, and a revision of one repository alone: by consent.
_DNA = (
    *(
        _of_dna(
            f"dnabert/DNA_bert_{k}/pytorch_model.bin",
            f"zhihan1996/DNA_bert_{k}",
            revision=_DNABERT_6 if k == 6 else _UNSEEN,
        )
        for k in (3, 4, 5, 6)
    ),
    _of_dna(
        "grover/GROVER/pytorch_model.bin",
        "PoetschLab/GROVER",
        "81fa4ee056e65ff1c06c32512589f3ba3bcb9d054960f35f634b9cf6da7aadda",
        348_488_361,
        _GROVER,
    ),
    _of_dna(
        "grover/GROVER/config.json",
        "PoetschLab/GROVER",
        "de60db6f5cb476d9f38630517abec87803e32a87672ace7946b5cf82f68ac5de",
        1_109,
        _GROVER,
    ),
    _of_dna(
        "grover/GROVER/tokenizer.json",
        "PoetschLab/GROVER",
        "86b51bd8ecfc52cdc04f9f6787a2bd64fc5784709e7fd988b82d2e97348f9afd",
        24_637,
        _GROVER,
    ),
)

_ENFORMER = "affe5713ae9017460706a44108289b13c5fee16c"
_BASENJI = "74b8671"

_TRACKS = (
    RemoteFile(
        path="enformer/enformer-official-rough/pytorch_model.bin",
        url="https://huggingface.co/EleutherAI/enformer-official-rough/resolve/"
        f"{_ENFORMER}/pytorch_model.bin",
        sha256="99b09d602e195d89c7d4debe144bb2f43907ba0d74006e97098e99d9171c439c",
        n_bytes=1_005_149_571,
        revision=_ENFORMER,
    ),
)


def _targets(organism: str, sha256: str, n_bytes: int) -> RemoteFile:
    return RemoteFile(
        path=f"enformer/targets_{organism}.txt",
        url=f"https://raw.githubusercontent.com/calico/basenji/{_BASENJI}/manuscripts/cross2020/"
        f"targets_{organism}.txt",
        sha256=sha256,
        n_bytes=n_bytes,
        revision=_BASENJI,
    )


_TARGETS = (
    _targets("human", "d90233175a9fec389e5ac04cc4aac8cfc08c4aa86217e2e5c10221de78023580", 800_919),
    _targets("mouse", "f76c869a38bfc79690d7a43e86f155db9b8ac8085ff5a717f99358b3253cd230", 250_458),
)

# These names say what the file is: it is known by its bare name, also in a mirror.
_BY_NAME = (
    _geneformer(
        "geneformer/token_dictionary_gc104M.pkl",
        "67c445f4385127adfc48dcc072320cd65d6822829bf27dd38070e6e787bc597f",
        425_590,
    ),
    _geneformer(
        "geneformer/gene_median_dictionary_gc104M.pkl",
        "a51c53f6a771d64508dfaf61529df70e394c53bd20856926117ae5d641a24bf5",
        1_512_661,
    ),
    _geneformer(
        "geneformer/gene_name_id_dict_gc104M.pkl",
        "fabfa0c2f49c598c59ae432a32c3499a5908c033756c663b5e0cddf58deea8e1",
        1_660_882,
    ),
    _geneformer(
        "geneformer/ensembl_mapping_dict_gc104M.pkl",
        "0819bcbd869cfa14279449b037eb9ed1d09a91310e77bd1a19d927465030e95c",
        3_957_652,
    ),
    _geneformer(
        "geneformer/gene_dictionaries_30m/token_dictionary_gc30M.pkl",
        "ab9dc40973fa5224d77b793e2fd114cacf3d08423ed9c4c49caf0ba9c7f218f1",
        788_424,
    ),
    _geneformer(
        "geneformer/gene_dictionaries_30m/gene_median_dictionary_gc30M.pkl",
        "b3b589bb5ec75040d05fc44dd6bf0184cf87f3c362cf158d196a6ed3b7fe5f39",
        940_965,
    ),
    _geneformer(
        "geneformer/gene_dictionaries_30m/gene_name_id_dict_gc30M.pkl",
        "55e67962e79c0039a6c32d43c5c99f38e51964bbcfa32f736150ee1e285c438c",
        1_117_117,
    ),
    _geneformer(
        "geneformer/gene_dictionaries_30m/ensembl_mapping_dict_gc30M.pkl",
        "eac0fb0b3007267871b6305ac0003ceba19d4f28d85686cb9067ecf142787869",
        584_125,
    ),
)


def _genome(build: str, md5: str, n_bytes: int | None = None, sha256: str = "") -> RemoteFile:
    return RemoteFile(
        path=f"genomes/{build}.2bit",
        url=f"https://hgdownload.soe.ucsc.edu/goldenPath/{build}/bigZips/{build}.2bit",
        sha256=sha256,
        md5=md5,
        n_bytes=n_bytes,
        revision=build,
        licence="freely usable (UCSC Genome Browser)",
    )


_GENOMES = (
    _genome(
        "hg19",
        "bcdbfbe9da62f19bee88b74dabef8cd3",
        816_241_703,
        "797bdb4391cbe23bd30268d41d0d86676fd7b36b7f8e76797b1882d585766fa3",
    ),
    _genome("hg38", "dcc3ea27079aa6dc3f9deccd7275e0f8", 835_393_456),
    _genome("mm10", "fcfcc276799031793a513e2e9c07adad"),
    RemoteFile(
        path="genomes/gencode.v19.annotation.gtf.gz",
        url="https://ftp.ebi.ac.uk/pub/databases/gencode/Gencode_human/release_19/"
        "gencode.v19.annotation.gtf.gz",
        md5="bd83e28270e595d3bde6bfcb21c9748f",
        revision="19",
        licence="open access (GENCODE)",
    ),
)

FILES: dict[str, RemoteFile] = {file.path: file for file in (*_BY_PATH, *_DNA, *_TRACKS)}
"""Every published file by the name that the rest of the package knows it by."""
FILES.update({file.name: file for file in _BY_NAME})
FILES.update({file.name: file for file in _GENOMES})
FILES.update({file.name: file for file in _TARGETS})
