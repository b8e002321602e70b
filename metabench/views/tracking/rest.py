"""Ask an MLflow server about a study, as MLflow's own client would, but without importing MLflow.

A user name and a password come from the URI, from the variables MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD, or from the file ~/.mlflow/credentials. No message repeats them.
"""

from __future__ import annotations

import base64
import configparser
import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

# Snakemake asks the store at every start, so a dead server must not cost more than moments.
SECONDS = 3.0
"""Seconds to wait for an answer when only reading."""

REJECTED = (
    "it rejects the user name or the password; "
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD and run again"
)
FORBIDDEN = (
    "this user may not change the study's experiment, which belongs to another user; give the "
    "study a different name, or let its owner grant you the permission MANAGE, and run again"
)
ADVICE = {401: REJECTED, 403: FORBIDDEN}
"""Advice by the status of an answer."""

CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
"""Variables of the environment, and in lower case the keys of the file of credentials."""


class StoreError(ConnectionError):
    """A store that cannot be read or written."""


def is_server(uri: str) -> bool:
    """Return whether a URI is that of a server, which has its own pages."""
    return uri.startswith(("http://", "https://"))


def hidden(text: str) -> str:
    """Return a text without the user names and passwords of the URIs in it.

    Example:
        >>> hidden("no answer from http://me:secret@127.0.0.1:5000/api")
        'no answer from http://127.0.0.1:5000/api'
    """
    # A password may contain "@" and, if it was not encoded, "/". So all up to the last "@" is left
    # out. The URI of a sqlite file has no host: "/" follows.
    return re.sub(r"(?<=://)[^\s/]\S*@", "", text)


def experiment(uri: str, study: str, seconds: float = SECONDS) -> dict[str, Any]:
    """Return a server's information on a study's experiment, empty if there is none.

    Args:
        uri: The server's.
        study: Name of the study, and of the experiment.
        seconds: How long to wait for the answer.

    Raises:
        StoreError: Nobody answers, or the user is not accepted.
    """
    method = f"{hidden(uri).rstrip('/')}/api/2.0/mlflow/experiments/get-by-name"
    address = f"{method}?{urlencode({'experiment_name': study})}"
    request = urllib.request.Request(address, headers=_authorization(uri))
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            found = dict(json.load(answer)["experiment"])
    except urllib.error.HTTPError as error:
        with error:
            # A proxy or a wrong address answers 404 as well, without the words of MLflow.
            if error.code == 404 and b"RESOURCE_DOES_NOT_EXIST" in error.read():
                return {}
        raise StoreError(ADVICE.get(error.code, error)) from None
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"no answer from an MLflow server: {error}") from None
    # MLflow still finds a deleted experiment by its name.
    return found if found.get("lifecycle_stage", "active") == "active" else {}


def _authorization(uri: str) -> dict[str, str]:
    """Return the header that MLflow's own client would send."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    parts = urlsplit(uri)
    in_uri = (unquote(parts.username or ""), unquote(parts.password or ""))
    user, password = (
        given or os.environ.get(name) or _in_file(name)
        for given, name in zip(in_uri, CREDENTIALS, strict=True)
    )
    if not user:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def _in_file(name: str) -> str:
    """Return an entry of MLflow's file of credentials, empty if there is none."""
    file, entries = Path("~/.mlflow/credentials").expanduser(), configparser.ConfigParser()
    try:
        entries.read(file, encoding="utf-8")
        return entries.get("mlflow", name.lower(), fallback="")
    except configparser.Error:
        # The error would quote the line with the password.
        raise StoreError(f"{file} cannot be read; write % as %%") from None
