"""Environment variables that expose servers or secrets."""

import os
from urllib.parse import urlsplit

from sgcldff.doctor.check import Check, ok, warning

TRUE = ("1", "true", "yes", "on")
SWITCHES = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "unset it: a model that holds pickled code could run it",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "unset it: a checkpoint that holds pickled code could run it",
    "MLFLOW_TRACKING_INSECURE_TLS": "unset it: the server's identity is not verified",
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "unset it: the server's identity is not verified",
}
"""Variables that are unsafe when true, with remedies."""
HOSTS = ("PREFECT_SERVER_API_HOST", "MLFLOW_HOST")
SERVERS = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")


def unsafe_variables() -> Check:
    """Check the environment for unsafe variables."""
    remedies = {}
    for name, remedy in SWITCHES.items():
        if (value := os.environ.get(name, "")).lower() in TRUE:
            remedies[f"{name} is {value}"] = remedy
    for name in HOSTS:
        if (value := os.environ.get(name, "")) in ("0.0.0.0", "::"):  # noqa: S104  compared, not bound to
            remedies[f"{name} is {value}"] = f"set {name}=127.0.0.1"
    for name in SERVERS:
        if urlsplit(os.environ.get(name, "")).password:
            remedies[f"{name} contains a password"] = (
                "put user and password into separate variables (MLFLOW_TRACKING_USERNAME, PREFECT_API_AUTH_STRING, ...)"
            )
    if remedies:
        return warning("safety", "; ".join(remedies), "; ".join(dict.fromkeys(remedies.values())))
    return ok("safety", "no unsafe setting; models and checkpoints are read without running code")
