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


"""Ask which room: wait for one utterance, and print the room that was said."""

import sys

import rclpy
from rclpy.action import ActionClient

from voxtral_ros.action import Listen

rclpy.init()
node = rclpy.create_node('which_room')
listen = ActionClient(node, Listen, '/asr/listen')
listen.wait_for_server()

goal = Listen.Goal(phrases=['kitchen', 'garage'], only_these=True, begin_timeout_s=5.0)
sent = listen.send_goal_async(goal, lambda message: print('...', message.feedback.text))
rclpy.spin_until_future_complete(node, sent)
if not sent.result().accepted:
    sys.exit('rejected: the log of the node says why')

ended = sent.result().get_result_async()
rclpy.spin_until_future_complete(node, ended)
result = ended.result().result
if result.reason == Listen.Result.SUCCEEDED:
    print(result.phrase or f'none of these rooms: {result.text}')
else:
    print(result.message)
