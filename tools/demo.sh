#!/usr/bin/env bash
# Start the node on the demo model and let it transcribe four spoken orders, or with MIC=1 a microphone
# (MIC=NAME: the one with NAME in its name).
set -e
cd "$(dirname "$0")/.."
if ! python -c 'import audio_common_msgs' 2> /dev/null; then  # no ROS from apt that has it
  source "$VOXTRAL_OVERLAYS/ros_drivers/install/local_setup.bash"
fi
exec python tools/demo.py "${MIC:-}"
