"""MLflow as a view of finished records.

If the store is deleted it is rebuilt; tracking twice duplicates nothing.

`store` determines the store and whether it still has the study; `contents` defines what a run
shows; `mirror` and `runs` are the only modules that import MLflow, and they write.
"""

import os

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # An error that it logs is also raised, and then reported in one line.
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    # Two lines for each run of a server, and a request for each run to name it.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A server that is down is reported in seconds, not minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Environment variables for MLflow when `mirror` imports it, unless the user has set them."""

os.environ |= QUIET | dict(os.environ)
