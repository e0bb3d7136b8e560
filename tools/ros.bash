# Source this for a shell in which voxtral_ros and ROS 2 work. Made by `make setup`.
source '@VENV@/bin/activate'
if [ -z '@SOURCED@' ]; then  # ROS is the virtual environment itself
  export AMENT_PREFIX_PATH='@VENV@'
  export CMAKE_PREFIX_PATH='@VENV@'
fi
if [ -f '@INSTALL@/local_setup.bash' ]; then
  source '@INSTALL@/local_setup.bash'
fi
export PATH="@INSTALL@/voxtral_ros/lib/voxtral_ros:$PATH"
export VOXTRAL_OVERLAYS='@OVERLAYS@'  # for the tests: both packages called audio_common_msgs
