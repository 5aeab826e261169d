"""Findings about a user's data and the report that lists them. What is looked for: ``findings``."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ._cards import html_table, wrapped

if TYPE_CHECKING:
    import pandas as pd

Severity = Literal["ok", "note", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note", "ok")
"""The worst first."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    topic
        What was looked at, for example ``"gene ids"``.
    severity
        ``"error"``: no model can run on it; ``"warning"``: it can, and the result deserves a second
        look; ``"note"``: worth knowing; ``"ok"``: as it should be.
    found
        What was found, in a sentence.
    remedy
        What to do about it, in a line; ``""`` where nothing is to be done.
    """

    topic: str
    severity: Severity
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.found} {self.remedy}".strip()


@dataclass(frozen=True, eq=False)
class Report:
    """What :func:`glm.pp.check` found: printed, shown in a notebook, or taken as a table.

    Attributes
    ----------
    model
        The model it was checked for.
    n_cells, n_columns
        Cells, and columns with a name each, of the object.
    findings
        Everything that was looked at, the worst first.
    n_genes_read
        The most genes of a cell that the model reads.
    cells
        A row for each cell, in the object's order: ``n_counts``, ``n_genes`` (columns above zero),
        ``n_counts_known`` and ``n_genes_known`` (of them, those the model knows; columns that share
        a gene count once). Without rows where the values could not be read.
    """

    model: str
    n_cells: int
    n_columns: int
    findings: tuple[Finding, ...]
    n_genes_read: int
    cells: pd.DataFrame = field(repr=False)
    assumed: str = ""

    @property
    def ok(self) -> bool:
        """Whether a model can run on it: nothing found is an error."""
        return not self.of("error")

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def to_frame(self) -> pd.DataFrame:
        """One row a finding: ``finding`` (what was looked at), ``severity``, ``found``, ``remedy``.

        ``severity`` is an ordered categorical, ``error`` the highest.
        """
        import pandas as pd

        rows = [(f.topic, f.severity, f.found, f.remedy) for f in self.findings]
        frame = pd.DataFrame(rows, columns=["finding", "severity", "found", "remedy"])
        frame["severity"] = pd.Categorical(frame["severity"], SEVERITIES[::-1], ordered=True)
        return frame

    def __str__(self) -> str:
        width = min(max(shutil.get_terminal_size((100, 24)).columns, 60), 100)
        indent = max((len(finding.topic) for finding in self.findings), default=0) + 11
        lines = [self._title(), wrapped(self._summary(), width), ""]
        for finding in self.findings:
            start = f"{finding.severity:<9}{finding.topic}".ljust(indent)
            lines.append(wrapped(finding.found, width, start, " " * indent))
            if finding.remedy:
                mark = " " * indent + "→ "
                lines.append(wrapped(finding.remedy, width, mark, " " * (indent + 2)))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = [(f.topic, f.severity, f.found, f.remedy) for f in self.findings]
        columns = ("finding", "severity", "found", "remedy")
        return html_table(self._title(), columns, rows, note=self._summary())

    def _title(self) -> str:
        return f"{self.n_cells:,} cells × {self.n_columns:,} genes, checked for {self.model}"

    def _summary(self) -> str:
        counted = [
            f"{n} {severity}{'s' if n > 1 and severity != 'ok' else ''}"
            for severity in SEVERITIES
            if (n := len(self.of(severity)))
        ]
        verdict = "The model can run on it" if self.ok else "The model cannot run on it as it is"
        assumed = f" The rest is told as if {self.assumed}." if self.assumed else ""
        return f"{verdict}: {', '.join(counted)}.{assumed}"


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings by severity; those of one severity keep their order."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
