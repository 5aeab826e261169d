"""Names of the slots that ``glm`` writes, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RankKeys:
    """Slots of a rank encoding under ``key``."""

    key: str

    @property
    def layer(self) -> str:
        return f"rank_{self.key}"

    @property
    def token(self) -> str:
        return f"token_{self.key}"

    @property
    def n_ranked(self) -> str:
        return f"n_ranked_{self.key}"

    @property
    def record(self) -> str:
        return f"rank_{self.key}"


@dataclass(frozen=True)
class EmbeddingKeys:
    """Slots of an embedding under ``key``."""

    key: str

    @property
    def obsm(self) -> str:
        return f"X_{self.key}"

    @property
    def ok(self) -> str:
        return f"{self.key}_ok"

    @property
    def record(self) -> str:
        return f"X_{self.key}"


ENSEMBL_ID = "ensembl_id"
"""Column of ``var`` in which gene ids are looked for first and :func:`glm.pp.map_genes` writes."""
