"""The report of a study: one HTML page that opens in any browser, offline.

All of it comes from a folder of tables, and from published numbers if the study covers any. The
same command on the same tables gives the same bytes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pandas as pd

from metabench.records import manifests
from metabench.records.artifacts import ArtifactError, Header, write_text
from metabench.records.provenance import code_digest, digest, made_from
from metabench.views.drawing.reading import Tables

HERE = Path(__file__).parent

PACKAGES = ("altair", "vl-convert-python", "jinja2", "matplotlib", "pandas")
"""The packages on whose versions the bytes of the page may depend."""

SOURCES = ("page.html.j2", "page.css", "page.js")

PROVENANCE = "provenance.json"

BOARD = ("leaderboard.csv", "comparisons.csv")
"""The tables of the leaderboard."""

TABLES = (".csv", ".parquet")
"""How the names of tables end; figures may be beside them."""

NOTHING: Header = {"content": "", "files": {}}
"""The manifest of the comparison with published numbers of a study that covers none."""

MADE = "<!-- made from "
"""Prefix of the first line of a page, which lists its inputs."""


def write(
    tables: Path, out: Path, literature: Path | None = None, arguments: Sequence[str] = ()
) -> Path:
    """Write the report of a study.

    Args:
        tables: Its tables, with their manifest.
        out: The file to write.
        literature: The folder of the comparison with published numbers, if the study covers any.
        arguments: Those of `metabench report` that write this page; by default the folder of the
            tables and the name of the file.

    Returns:
        The file.

    Raises:
        ArtifactError: A table is missing or damaged, or differs from its folder's manifest.
    """
    manifest = manifests.read(tables)
    published = manifests.read(literature) if literature is not None else NOTHING
    made = header(manifest["content"], tables.parent / PROVENANCE, published["content"])
    every = {**manifest["files"], **published["files"]}
    files = {name: digest for name, digest in every.items() if name.endswith(TABLES)}
    again = command(*arguments or ("--tables", str(tables), "--out", out.name))
    text = page(Tables(tables), files, _study(tables), _published(literature), again)
    write_text(out, f"{MADE}{json_text(made)} -->\n{text}")
    return out


def command(*arguments: str) -> str:
    """Return the command that writes a page.

    Example:
        >>> command("--tables", "my study/tables")
        ".venv/bin/metabench report --tables 'my study/tables'"
    """
    return shlex.join([".venv/bin/metabench", "report", *arguments])


def header(tables: str, provenance: Path, literature: str) -> Header:
    """Return the inputs of the page.

    Args:
        tables: Digest of the content of the tables.
        provenance: Provenance of the tables, which the page shows.
        literature: Digest of the comparison with published numbers; "" if there is none.
    """
    modules = [f"{__name__}.{name}" for name in ("board", "findings", "charts")]
    modules += [f"{modules[-1]}.{module.name}" for module in iter_modules([str(HERE / "charts")])]
    others = [(HERE / name).read_text(encoding="utf-8") for name in SOURCES]
    code = digest("".join([code_digest(__name__, *modules), *others]))
    digests = {"tables": tables, "literature": literature}
    digests["provenance"] = digest(json.dumps(_read(provenance), sort_keys=True))
    return made_from("report", {}, code, PACKAGES, **digests)


def read_header(path: Path) -> Header:
    """Return the recorded inputs of a page; raise ArtifactError if it is not a report."""
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline()
        return dict(json.loads(first.removeprefix(MADE).removesuffix(" -->\n")))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path} is not a report of metabench: {error}") from None


def page(
    tables: Tables,
    files: dict[str, str],
    study: dict[str, Any],
    published: list[dict[str, Any]],
    again: str,
) -> str:
    """Return the HTML of the page.

    Args:
        tables: Tables of the study.
        files: Digest of each file of the tables.
        study: Name, source and main protocol of the study.
        published: Rows of the comparison with published numbers, often none.
        again: The command that writes the page.
    """
    # The workflow asks for headers each time that it starts, and these take a second to import.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from metabench.analysis.statistics.losses import ROUNDING
    from metabench.views.report import board, charts, findings
    from metabench.views.report.charts.parts import (
        OF_DIFFERENCES,
        OF_MEANS,
        OF_STATISTICS,
        Source,
    )

    main = study["protocol"]
    protocols = [main, *(name for name in tables.protocols if name != main)]
    try:
        drawn = charts.every(tables, protocols, study["confidence"])
        rows = board.rows(tables, protocols)
    except KeyError as error:
        raise ArtifactError(
            f"{tables.folder} has tables of another version of metabench: they lack {error}"
        ) from None
    size = tables.size(main)
    template = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, autoescape=True
    ).get_template("page.html.j2")
    return template.render(
        study=study,
        size=size,
        protocols=protocols,
        findings=findings.sentences(tables, protocols, study["confidence"]),
        confidence=f"{study['confidence']:.0%}",
        charts=drawn,
        columns=board.COLUMNS,
        published=published,
        again=again,
        leaderboard=Source(size, BOARD, f"{OF_STATISTICS}; {OF_DIFFERENCES}"),
        literature=Source(size, ("literature.csv",), OF_MEANS),
        files=files,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        library=library(),
        data=json_text(
            {
                "study": study,
                "board": columns(rows),
                "copiedFields": board.COPIED,
                "pairs": columns(board.pairs(tables, protocols)),
                "rounding": ROUNDING,
                "charts": {chart.name: _packed(chart.spec) for chart in drawn},
            }
        ),
    )


def columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rows as columns, which name each field once; the page's script makes rows of them.

    A column with few different values is a list of these, and the place of each row's in it.

    Example:
        >>> columns([{"a": "x", "b": 1}, {"a": "x"}, {"a": "x", "b": 2}])
        {'a': {'values': ['x'], 'at': [0, 0, 0]}, 'b': [1, None, 2]}
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _column([row.get(name) for row in rows]) for name in names}


def _column(found: list[Any]) -> list[Any] | dict[str, list[Any]]:
    texts = [json_text(value) for value in found]
    places = {text: n for n, text in enumerate(dict.fromkeys(texts))}
    if 2 * len(places) > len(found):
        return found
    return {"values": [json.loads(text) for text in places], "at": [places[t] for t in texts]}


def _packed(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the specification of a chart with its data as columns."""
    return {**spec, "datasets": {name: columns(rows) for name, rows in spec["datasets"].items()}}


def json_text(content: Any) -> str:
    """Return JSON that is safe in a script of a page."""
    text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


@cache
def library() -> str:
    """Return the JavaScript that draws charts: all of Vega-Lite."""
    from vl_convert import javascript_bundle

    bundle = javascript_bundle()  # type: ignore[call-arg] # its stub asks for more than it does
    return str(bundle).replace("</script", "<\\/script")


def _study(tables: Path) -> dict[str, Any]:
    """Return name, source and main protocol of the study that has these tables."""
    provenance = _read(tables.parent / PROVENANCE)
    content = provenance["study"]
    return {
        "name": content["study"],
        "source": content["source"],
        "protocol": content["validation"]["protocol"],
        "confidence": content["statistics"]["confidence"],
        **{key: provenance[key] for key in ("commit", "dirty", "engine", "processor", "python")},
    }


def _read(provenance: Path) -> dict[str, Any]:
    """Return the source of a study; raise ArtifactError if it is not recorded."""
    try:
        return dict(json.loads(provenance.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{provenance} does not say where tables come from: {error}") from None


def _published(folder: Path | None) -> list[dict[str, Any]]:
    """Return the comparison with published numbers."""
    if folder is None:
        return []
    found = pd.read_csv(folder / "literature.csv", keep_default_na=False)
    return list(found.to_dict("records"))
