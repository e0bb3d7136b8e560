# Source this for a shell in which voxtral_ros and ROS 2 work. Made by `make setup`.
source '@VENV@/bin/activate'
if [ '@ROS@' = wheels ]; then  # ROS is the virtual environment itself
  export AMENT_PREFIX_PATH='@VENV@'
  export CMAKE_PREFIX_PATH='@VENV@'
  # The wheels do this at every start of Python, in an order of chance. Workspaces that are sourced
  # after this are to come first.
  if [ -z "$_ROS_WHEELS_BOOTSTRAP_COMPLETE" ]; then
    for _folder in "$CMAKE_PREFIX_PATH"/lib{,/python3*/site-packages/ros_*.libs}; do
      LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$_folder"
    done
    unset _folder
    export LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
  fi
fi
if [ '@ROS@' = none ]; then  # nothing is installed: the command `voxtral` runs from the source tree
  export PATH="@SOURCE@/scripts:$PATH" PYTHONPATH="@SOURCE@${PYTHONPATH:+:$PYTHONPATH}"
else
  if [ -f '@INSTALL@/local_setup.bash' ]; then
    source '@INSTALL@/local_setup.bash'
  fi
  export PATH="@INSTALL@/voxtral_ros/lib/voxtral_ros:$PATH"
  if [ -f '@OVERLAYS@/mgonzs13/.built' ] && [ -f '@OVERLAYS@/hri/.built' ]; then
    export VOXTRAL_OVERLAYS='@OVERLAYS@'  # for tests: both packages called audio_common_msgs; hri_msgs
  fi
  # The node listens to a topic by default, and the wheels have no messages for audio.
  if [ -f '@OVERLAYS@/ros_drivers/install/local_setup.bash' ] &&
      ! python -c 'import audio_common_msgs' 2> /dev/null; then
    source '@OVERLAYS@/ros_drivers/install/local_setup.bash'
  fi
fi
