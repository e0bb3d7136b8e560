# Copyright 2026 voxtral_ros maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""
Move when somebody says so: subscribe to final transcripts, and act on them.

    ros2 launch voxtral_ros asr.launch.py source:=microphone    # in another shell
    python3 examples/subscribe_and_act.py
    ros2 topic echo /cmd_vel                                    # and say "turn left"
"""

from contextlib import suppress
import re

from geometry_msgs.msg import Twist
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from voxtral_ros.msg import Transcript

# What may be said: forward in m/s, turning left in rad/s. The first that is found counts.
ORDERS = {
    'stop': (0.0, 0.0),
    'turn left': (0.0, 0.5),
    'turn right': (0.0, -0.5),
    'go forward': (0.2, 0.0),
}


class Mover(Node):
    """Publishes a speed for every order."""

    def __init__(self):
        super().__init__('mover')
        self.cmd_vel = self.create_publisher(Twist, 'cmd_vel', 10)
        # Whole utterances. The topic `turn` has them half a second sooner, as a guess.
        self.create_subscription(Transcript, 'transcript/final', self.on_final, 10)

    def on_final(self, transcript):
        """Act on what was said."""
        if transcript.robot_speaking:  # it may have been the robot itself
            return
        words = ' '.join(re.findall(r"[\w']+", transcript.text.lower()))  # "Stop!" is "stop"
        order = next((order for order in ORDERS if f' {order} ' in f' {words} '), None)
        if order is None:
            self.get_logger().info(f'no order: {transcript.text}')
        elif order != 'stop' and transcript.confidence < 0.5:
            self.get_logger().info(f'not sure enough: {transcript.text}')
        else:
            self.get_logger().info(order)
            speed = Twist()
            speed.linear.x, speed.angular.z = ORDERS[order]
            self.cmd_vel.publish(speed)


rclpy.init()
with suppress(KeyboardInterrupt, ExternalShutdownException):  # Ctrl-C
    rclpy.spin(Mover())
