"""One HTML page with what came out of a study: it opens in any browser, without a network.

All of it comes from a folder of tables; where the study covers published numbers, from those too.
The same tables give the same bytes.
"""

from __future__ import annotations

import json
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

PACKAGES = ("altair", "vl-convert-python", "jinja2", "pandas")
"""The packages on whose version the bytes of the page may depend."""

SOURCES = ("page.html.j2", "page.css", "page.js")

PROVENANCE = "provenance.json"

MADE = "<!-- made from "
"""How the first line of a page begins, which says what it was made from."""


def write(tables: Path, out: Path, literature: Path | None = None) -> Path:
    """Write the page of a study.

    Args:
        tables: Its tables, with their manifest.
        out: The file to write.
        literature: The folder of published numbers beside ours, where the study covers any.

    Returns:
        The file.

    Raises:
        ArtifactError: A table is missing or damaged, or differs from its folder's manifest.
    """
    manifest = manifests.read(tables)
    published = manifests.read(literature)["content"] if literature is not None else ""
    made = spelled(header(manifest["content"], tables.parent / PROVENANCE, published))
    text = page(Tables(tables), manifest, _study(tables), _published(literature))
    write_text(out, f"{MADE}{made} -->\n{text}")
    return out


def header(tables: str, provenance: Path, literature: str) -> Header:
    """Return what the page is made from.

    Args:
        tables: Digest of the content of the tables.
        provenance: Where they come from, which the page says too.
        literature: The same of the published numbers beside ours; "" where there are none.
    """
    modules = [f"{__name__}.{name}" for name in ("board", "findings", "charts")]
    modules += [f"{modules[-1]}.{module.name}" for module in iter_modules([str(HERE / "charts")])]
    others = [(HERE / name).read_text(encoding="utf-8") for name in SOURCES]
    code = digest("".join([code_digest(__name__, *modules), *others]))
    digests = {"tables": tables, "literature": literature}
    digests["provenance"] = digest(json.dumps(_read(provenance), sort_keys=True))
    return made_from("report", {}, code, PACKAGES, **digests)


def read_header(path: Path) -> Header:
    """Return what a page says it was made from; raise ArtifactError where it is none of ours."""
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline()
        return dict(json.loads(first.removeprefix(MADE).removesuffix(" -->\n")))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path} is not a report of metabench: {error}") from None


def page(
    tables: Tables,
    manifest: dict[str, Any],
    study: dict[str, Any],
    published: list[dict[str, Any]],
) -> str:
    """Return the page.

    Args:
        tables: Tables of the study.
        manifest: What they were made from.
        study: Name, source and main protocol of the study.
        published: Rows of published numbers beside ours, often none.
    """
    # The workflow asks for headers each time that it starts, and these take a second to import.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from metabench.analysis.statistics import ROUNDING
    from metabench.views.report import board, charts, findings

    main = study["protocol"]
    protocols = [main, *(name for name in tables.protocols if name != main)]
    try:
        drawn = charts.every(tables, protocols, study["confidence"])
        rows = board.rows(tables, protocols)
    except KeyError as error:
        raise ArtifactError(
            f"{tables.folder} has tables of another version of metabench: they lack {error}"
        ) from None
    template = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, autoescape=True
    ).get_template("page.html.j2")
    return template.render(
        study=study,
        size=tables.size(study["protocol"]),
        protocols=protocols,
        findings=findings.sentences(tables, protocols, study["confidence"]),
        confidence=f"{study['confidence']:.0%}",
        charts=drawn,
        columns=board.COLUMNS,
        published=published,
        files=sorted(manifest["files"].items()),
        manifest=manifest,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        library=library(),
        data=spelled(
            {
                "study": study,
                "board": rows,
                "pairs": board.pairs(tables, protocols),
                "rounding": ROUNDING,
                "charts": {chart.name: chart.spec for chart in drawn},
            }
        ),
    )


def spelled(content: Any) -> str:
    """Return JSON that may stand in a script of a page."""
    text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


@cache
def library() -> str:
    """Return the JavaScript that draws charts: Vega-Lite, whole."""
    from vl_convert import javascript_bundle

    bundle = javascript_bundle()  # type: ignore[call-arg] # its stub asks for more than it does
    return str(bundle).replace("</script", "<\\/script")


def _study(tables: Path) -> dict[str, Any]:
    """Return name, source and main protocol of the study whose tables these are."""
    about = _read(tables.parent / PROVENANCE)
    content = about["study"]
    return {
        "name": content["study"],
        "source": content["source"],
        "protocol": content["validation"]["protocol"],
        "confidence": content["statistics"]["confidence"],
        **{key: about[key] for key in ("commit", "dirty", "engine", "processor", "python")},
    }


def _read(provenance: Path) -> dict[str, Any]:
    """Return where a study comes from; raise ArtifactError where nothing says so."""
    try:
        return dict(json.loads(provenance.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{provenance} does not say where tables come from: {error}") from None


def _published(folder: Path | None) -> list[dict[str, Any]]:
    """Return the published numbers beside ours."""
    if folder is None:
        return []
    found = pd.read_csv(folder / "literature.csv", keep_default_na=False)
    return list(found.to_dict("records"))
