"""MLflow as a view of finished records.

Delete the store and it is rebuilt; track twice and nothing doubles.

`store` knows which store is meant and whether it still holds the study; `contents` says what a run
shows; `mirror` is the one module that imports MLflow and writes.
"""

import os

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # an error that it logs it also raises, and then it is said in one line
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is down is said in seconds, not minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""What MLflow finds in the environment when `mirror` imports it, unless the user has said
otherwise.
"""

os.environ |= QUIET | dict(os.environ)
