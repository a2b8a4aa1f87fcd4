"""`threadkeep new-store`."""

from __future__ import annotations

from pathlib import Path

import click

from threadkeep.cli.new_store.package import DRAFT, EXAMPLES, Names, files_of


@click.command
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Where to write it; it must not be there yet.  [default: NAME-store]",
)
@click.option(
    "--example",
    type=click.Choice(EXAMPLES),
    help="Write a complete store on this database instead, to read, to try and to change.",
)
def command(name: str, folder: Path | None, example: str | None) -> None:
    """Begin a store of your own: write a package that answers to NAME:// and is judged by the contract.

    The package has the entry point, the five verbs to fill in, and the contract as its test. NAME is a lower-case
    letter, then such letters and digits; +, - and . may stand between them.
    """
    names = _names(name)
    folder = Path(names.distribution) if folder is None else folder
    files = files_of(names, example or DRAFT)
    try:
        folder.mkdir(parents=True)
        for path, text in files.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
            click.echo(f"wrote {place}")
    except FileExistsError as error:
        raise click.ClickException(f"{folder} is there already; name another with --folder") from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    click.echo(
        f"\nNext:\n"
        f"  cd {folder}\n"
        f'  pip install -e ".[test]"\n'
        f"  threadkeep contract {names.url} --profile brief\n"
        f"README.md says how to go on."
    )


def _names(name: str) -> Names:
    from threadkeep.port import installed_schemes

    try:
        names = Names.of(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error
    for claim in installed_schemes().get(names.scheme, ()):
        owner = claim.dist.name if claim.dist is not None else claim.value
        raise click.BadParameter(f"{names.scheme}:// is taken by {owner}, which is installed here", param_hint="NAME")
    return names
