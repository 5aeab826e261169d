"""The command line: ``glm demo`` and ``glm models``."""

from __future__ import annotations

from pathlib import Path

import click

from . import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="glm")
def main() -> None:
    """Genomic language models for AnnData."""


@main.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("glm-demo"),
    show_default=True,
    help="Folder for the figures and demo.h5ad.",
)
@click.option("--model", default="geneformer-tiny", show_default=True, help="Model to embed with.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def demo(out: Path, model: str, quiet: bool) -> None:
    """Embed 700 real blood cells that scanpy ships, offline, and draw what comes out."""
    from ._demo import run_demo
    from .models.registry import get

    try:
        get(model)
    except (KeyError, ValueError) as error:
        raise click.ClickException(error.args[0]) from error
    run_demo(out, model, progress=not quiet, say=click.echo)


@main.command()
def models() -> None:
    """List the models that glm knows."""
    from .models import list as list_models

    table = list_models()
    columns = [
        "system",
        "n_layers",
        "hidden_size",
        "context",
        "window_bp",
        "n_parameters",
        "tier",
        "where",
    ]
    click.echo(table[columns].to_string())


if __name__ == "__main__":
    main()
