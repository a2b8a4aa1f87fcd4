"""`threadkeep contract`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from threadkeep.cli.output import notice
from threadkeep.errors import InvalidInput, PluginError, StoreError

if TYPE_CHECKING:
    from threadkeep_contract.report import Report


# The contract has one list of profiles and one of laws. Neither needs what the extra brings.


def _profiles() -> list[str]:
    from threadkeep_contract.profiles import PROFILES

    return list(PROFILES)


def _numbers() -> click.IntRange:
    from threadkeep_contract.laws import NUMBERS

    return click.IntRange(NUMBERS[0], NUMBERS[-1])


@click.command
@click.argument("url")
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report to this file too."
)
@click.option(
    "--profile",
    type=click.Choice(_profiles()),
    default="default",
    show_default=True,
    help="How much is tried.",
)
@click.option("--law", "laws", type=_numbers(), multiple=True, help="Only this law; may be repeated.")
@click.option("--seed", type=int, default=0, show_default=True, help="The seed of the random examples.")
@click.pass_context
def command(ctx: click.Context, url: str, file: Path | None, profile: str, laws: tuple[int, ...], seed: int) -> None:
    """Judge the store at URL by the laws of the contract.

    Says of each law whether it is kept, broken, with the smallest failing history as Python that runs, or not offered,
    with the store's reason. The exit status is 1 where a law is broken. What the checks write into the store has
    resource ids of its own, and stays there: give a store for tests.

    Of a store with verbs that are not written yet, which raise NotImplementedError, it says which laws wait for them.
    """
    try:
        unwritten = _unwritten(url)
        report = _judged(url, laws, profile, seed, until_broken=bool(unwritten))
    except (InvalidInput, PluginError, StoreError) as error:
        raise click.UsageError(" ".join(str(error).split())) from error
    _show(report, unwritten)
    if file is not None:
        file.write_text(json.dumps(report.to_json(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        notice(f"wrote {file}")
    if not report.kept:
        ctx.exit(1)


def _unwritten(url: str) -> dict[str, str]:
    from threadkeep_contract.unwritten import unwritten

    return unwritten(url)


def _show(report: Report, unwritten: dict[str, str]) -> None:
    """Print the report: one line for each law that waits for verbs, and all there is to say of the others."""
    from rich.console import Console

    others = []
    for verdict in report.verdicts:
        seen = " ".join(finding.seen for finding in verdict.broken)
        verbs = [verb for verb, said in unwritten.items() if said in seen]
        if verbs:
            click.echo(f"law {verdict.number:>2} {verdict.title}: waits for {', '.join(verbs)}")
        else:
            others.append(verdict)
    if others:
        Console().print(replace(report, verdicts=tuple(others)))
    if unwritten:
        click.echo(
            f"\nVerbs that are not written yet: {', '.join(unwritten)}. A law is left at the first check that fails."
        )


def _judged(url: str, laws: tuple[int, ...], profile: str, seed: int, *, until_broken: bool) -> Report:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from threadkeep_contract.report import judge

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("opening the store")
        return judge(
            url,
            laws or None,
            profile,
            seed,
            database=True,
            until_broken=until_broken,
            progress=lambda done, total, law, check: bar.update(
                task, completed=done, total=total, description=f"law {law.number} {law.title}: {check}"
            ),
        )
