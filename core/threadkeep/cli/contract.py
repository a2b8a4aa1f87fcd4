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
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report to this file too, as a page that needs no other file.",
)
@click.option(
    "--program",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the program that shows the first fault to this file, where a law is broken.",
)
@click.option("--all", "everything", is_flag=True, help="Print each broken check whole, with its own program.")
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
def command(
    ctx: click.Context,
    url: str,
    file: Path | None,
    html: Path | None,
    program: Path | None,
    everything: bool,
    profile: str,
    laws: tuple[int, ...],
    seed: int,
) -> None:
    """Judge the store at URL by the laws of the contract.

    Says of each law whether it is kept, broken, not judged, where its checks saw too little of the store to say, or not
    offered, with the store's reason, and what was tried. Of each broken check there is a line; the shortest program
    that shows a fault is printed whole, and fails while the fault is there. The exit status is 1 where a law is broken
    or not judged. What the checks write into the store has resource ids of its own, and stays there: give a store for
    tests.

    Of a store with verbs that are not written yet, which raise NotImplementedError, it says which laws wait for them.
    """
    try:
        unwritten = _unwritten(url)
        report = _judged(url, laws, profile, seed, until_broken=bool(unwritten))
    except (InvalidInput, PluginError, StoreError) as error:
        raise click.UsageError(" ".join(str(error).split())) from error
    from threadkeep_contract.report.page import html_of
    from threadkeep_contract.report.values import values_of

    _show(report, unwritten, everything=everything)
    if file is not None:
        _write(file, json.dumps(values_of(report), ensure_ascii=False, indent=2) + "\n")
    if html is not None:
        _write(html, html_of(report))
    if program is not None and report.shortest is not None:
        _write(program, report.shortest.text)
    if not report.kept:
        ctx.exit(1)


def _write(file: Path, text: str) -> None:
    # What a store gave may hold what UTF-8 cannot encode.
    file.write_text(text, encoding="utf-8", errors="backslashreplace")
    notice(f"wrote {file}")


def _unwritten(url: str) -> dict[str, str]:
    from threadkeep_contract.unwritten import unwritten

    return unwritten(url)


def _show(report: Report, unwritten: dict[str, str], *, everything: bool) -> None:
    """Print the report: one line for each law that waits for verbs, and all there is to say of the others."""
    from rich.console import Console

    from threadkeep_contract.report.text import show

    others = []
    for verdict in report.verdicts:
        seen = " ".join(finding.seen for finding in verdict.broken)
        verbs = [verb for verb, said in unwritten.items() if said in seen]
        if verbs:
            click.echo(f"law {verdict.number:>2} {verdict.title}: waits for {', '.join(verbs)}")
        else:
            others.append(verdict)
    if others:
        show(replace(report, verdicts=tuple(others)), Console(), everything=everything)
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
