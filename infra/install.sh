#!/usr/bin/env bash
# install.sh VENV: puts the locked packages and this checkout into a virtual environment, with uv, which is one of them.
# uv checks the same hashes in a fraction of pip's time. Where it cannot be had, or cannot reach what pip can, pip does it.
set -euo pipefail
bin=$(cd "$1/bin" && pwd)
cd "$(dirname "$0")/.."

# uv does not read what pip is configured with: an index, further ones and certificates. With several indexes it would take
# a package from the first that knows its name; here the hashes decide which file is right.
configure_uv() {
    local config index extra cert
    config=$("$bin/pip" config list)
    index=$(setting index-url) extra=$(setting extra-index-url) cert=$(setting cert)
    [[ -z $index ]] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
    [[ -z $extra ]] || export UV_INDEX="${UV_INDEX:-${extra//'\n'/ }}" UV_INDEX_STRATEGY=unsafe-best-match
    [[ -z $cert ]] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$cert}"
}

# Value of a setting in `config`: that of the environment, which comes first, or else that of a file.
setting() { sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" <<< "$config" | head -n 1; }

install_with_uv() {
    sed -n '/^uv==/,/[^\\]$/p' requirements.lock > "$bin/../uv.txt" \
        && "$bin/pip" install --quiet --require-hashes -r "$bin/../uv.txt" \
        && configure_uv \
        && "$bin/uv" pip install --quiet --python "$bin/python" --require-hashes --compile-bytecode -r requirements.lock
}

if install_with_uv; then
    "$bin/uv" pip install --quiet --python "$bin/python" --no-deps --no-build-isolation --editable .
else
    echo "uv cannot install the packages: pip does, which takes some minutes" >&2
    "$bin/pip" install --quiet --require-hashes -r requirements.lock
    "$bin/pip" install --quiet --no-deps --no-build-isolation --editable .
fi
