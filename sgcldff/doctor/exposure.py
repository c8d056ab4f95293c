"""Settings that let strangers in, or secrets out."""

import os
from urllib.parse import urlsplit

from sgcldff.doctor.check import Check, ok, warning

TRUE = ("1", "true", "yes", "on")
SWITCHES = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "unset it: a model that holds pickled code could run it",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "unset it: a checkpoint that holds pickled code could run it",
    "MLFLOW_TRACKING_INSECURE_TLS": "unset it: anybody on the way could pass for the server",
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "unset it: anybody on the way could pass for the server",
}
"""Variables that are unsafe when they are true, with what to do."""
HOSTS = ("PREFECT_SERVER_API_HOST", "MLFLOW_HOST")
SERVERS = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")


def settings() -> Check:
    """Look for unsafe settings in the environment."""
    found = dict(_switches() + _hosts() + _passwords())
    if found:
        return warning("safety", "; ".join(found), "; ".join(dict.fromkeys(found.values())))
    return ok("safety", "no unsafe setting; models and checkpoints are read without running code")


def _switches() -> list[tuple[str, str]]:
    on = [(name, todo) for name, todo in SWITCHES.items() if os.environ.get(name, "").lower() in TRUE]
    return [(f"{name} is {os.environ[name]}", todo) for name, todo in on]


def _hosts() -> list[tuple[str, str]]:
    open_to_all = [name for name in HOSTS if os.environ.get(name) in ("0.0.0.0", "::")]  # noqa: S104  looked for
    return [(f"{name} is {os.environ[name]}", f"set {name}=127.0.0.1") for name in open_to_all]


def _passwords() -> list[tuple[str, str]]:
    held = [name for name in SERVERS if urlsplit(os.environ.get(name, "")).password]
    remedy = "give user and password in variables of their own (MLFLOW_TRACKING_USERNAME, PREFECT_API_AUTH_STRING, ...)"
    return [(f"{name} holds a password", remedy) for name in held]
