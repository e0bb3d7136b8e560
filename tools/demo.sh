#!/usr/bin/env bash
# Start the node on the demo model and let it transcribe four spoken orders, or with MIC=1 a microphone
# (MIC=NAME: the one with NAME in its name).
set -e
cd "$(dirname "$0")/.."
exec python tools/demo.py "${MIC:-}"
