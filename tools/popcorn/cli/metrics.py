# SPDX-License-Identifier: GPL-2.0
"""popcornctl metrics: what the kernels count, for Prometheus."""

from __future__ import annotations

from pathlib import Path

import click

from popcorn.cli.base import Command, settings
from popcorn.cli.output import print_json

SUFFIX = ".prom"


def _textfile(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.suffix != SUFFIX:
        raise click.BadParameter(
            f"'{value}' does not end in {SUFFIX}, and node_exporter reads no other files",
            ctx,
            param,
        )
    return value


@click.command(cls=Command)
@click.option(
    "--textfile",
    type=click.Path(path_type=Path),
    callback=_textfile,
    metavar="PATH",
    help=f"Write a file for node_exporter's textfile collector; its name ends in {SUFFIX}.",
)
def metrics(textfile: Path | None) -> None:
    """Print metrics of the kernels as OpenMetrics text.

    States of kernels and nodes, what this kernel counts of its channels and queues, and the
    latencies that all kernels count. A label `node` is who counted, `peer` the other end.

    With --textfile they go into a file, in the text format that node_exporter reads. It is replaced
    at once, and left as it was if something goes wrong.

    Needs python3-prometheus-client.
    """
    from popcorn.client import Client
    from popcorn.metrics import (
        openmetrics_text,
        prometheus_text,
        snapshot,
        to_json,
        write_textfile,
    )

    with Client() as client:
        shot = snapshot(client)
    if textfile is not None:
        text = prometheus_text(shot)
        write_textfile(textfile, text)
        if settings().json:
            print_json({"textfile": str(textfile), "size_bytes": len(text.encode())})
    elif settings().json:
        print_json(to_json(shot))
    else:
        print(openmetrics_text(shot), end="")
