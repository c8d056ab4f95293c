#!/usr/bin/env bash
# install.sh VENV: puts the locked packages and this checkout into a virtual environment, with uv, which is one of them.
# uv checks the same hashes in a fraction of pip's time. Where it cannot be had, or cannot reach what pip can, pip does it.
set -euo pipefail
bin=$(cd "$1/bin" && pwd)
cd "$(dirname "$0")/.."

# What pip is configured with, which uv does not read: the environment's value, or else that of a file.
pip_setting() {
    local value
    value=$("$bin/pip" config list | sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" | head -n 1)
    printf '%s' "${value//'\n'/ }"
}

# With a second index uv would take a package from the first that knows its name; the hashes decide which file is right.
configure_uv() {
    local index extra cert
    index=$(pip_setting index-url) extra=$(pip_setting extra-index-url) cert=$(pip_setting cert)
    [[ -z $index ]] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
    [[ -z $extra ]] || export UV_INDEX="${UV_INDEX:-$extra}" UV_INDEX_STRATEGY=unsafe-best-match
    [[ -z $cert ]] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$cert}"
}

install_with_uv() {
    sed -n '/^uv==/,/[^\\]$/p' requirements.lock > "$bin/../uv.txt" \
        && "$bin/pip" install --quiet --require-hashes -r "$bin/../uv.txt" \
        && configure_uv \
        && "$bin/uv" pip install --quiet --python "$bin/python" --require-hashes --compile-bytecode -r requirements.lock
}

if ! install_with_uv; then
    echo "uv cannot install the packages: pip does, which takes some minutes" >&2
    "$bin/pip" install --quiet --require-hashes -r requirements.lock
fi
"$bin/pip" install --quiet --no-deps --no-build-isolation --editable .
