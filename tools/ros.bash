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
export VOXTRAL_OVERLAYS='@OVERLAYS@'  # both packages called audio_common_msgs; hri_msgs
# The node listens to a topic by default, and the wheels have no messages for audio.
if [ -f "$VOXTRAL_OVERLAYS/ros_drivers/install/local_setup.bash" ] &&
    ! python -c 'import audio_common_msgs' 2> /dev/null; then
  source "$VOXTRAL_OVERLAYS/ros_drivers/install/local_setup.bash"
fi
