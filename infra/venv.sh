#!/usr/bin/env bash
# Makes .venv with the given python, also where Debian ships python3 without venv.
set -euo pipefail
python=$1
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "PromptLab needs Python 3.11 or newer; '$python' is $("$python" --version 2>&1 || echo missing). Name another: make PYTHON=python3.12 …" >&2
    exit 1
}
[ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 && exit 0
rm -rf .venv
if ! "$python" -m venv .venv 2>/dev/null; then
    rm -rf .venv
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get -qq update && apt-get -qq install -y python3-venv >/dev/null
        "$python" -m venv .venv
    else
        echo "This Python has no venv. On Debian and Ubuntu: sudo apt-get install python3-venv" >&2
        exit 1
    fi
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check 'setuptools==80.9.0' 'wheel==0.45.1'
