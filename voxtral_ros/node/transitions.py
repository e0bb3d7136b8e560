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

"""What rclpy does not do itself when a lifecycle transition is asked for."""

from __future__ import annotations

from typing import Any

from rclpy.lifecycle import LifecycleNode


def survive_wrong_transitions(node: LifecycleNode) -> None:
    """
    Let a node answer a transition that its state does not allow instead of dying of it.

    Before Kilted, rclpy lets the exception out of the service callback (ros2/rclpy#1209).
    """
    service = getattr(node, '_service_change_state', None)
    if service is None:
        return
    change_state = service.callback

    def guarded(request: Any, response: Any) -> Any:
        try:
            return change_state(request, response)
        except RuntimeError as error:  # RCLError
            wanted = request.transition.label or request.transition.id
            node.get_logger().error(f'transition {wanted} refused: {error}')
            response.success = False
            return response

    service.callback = guarded
