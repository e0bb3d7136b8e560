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
Expect the rooms of a map: read their names, and let the recogniser know them.

    ros2 launch voxtral_ros asr.launch.py source:=microphone    # in another shell
    python3 examples/phrases_from_map.py examples/rooms.yaml

From the next utterance on these names are recognised more often. Call it again with another file
when the robot comes to another house: the list is replaced.
"""

import sys

import rclpy
from voxtral_ros.srv import SetPhrases
import yaml


def rooms(file):
    """Return the names of the rooms; change this if your map keeps them elsewhere."""
    with open(file, encoding='utf-8') as annotations:
        return [room['name'] for room in yaml.safe_load(annotations)['rooms']]


rclpy.init()
node = rclpy.create_node('phrases_from_map')
client = node.create_client(SetPhrases, '/asr/set_phrases')
request = SetPhrases.Request(phrases=rooms(sys.argv[1]))

client.wait_for_service()
answer = client.call_async(request)
rclpy.spin_until_future_complete(node, answer, timeout_sec=5.0)
while not answer.done():  # it is lost if the other side has not discovered us yet: ask again
    answer = client.call_async(request)
    rclpy.spin_until_future_complete(node, answer, timeout_sec=5.0)

print(answer.result().message)
sys.exit(not answer.result().success)
