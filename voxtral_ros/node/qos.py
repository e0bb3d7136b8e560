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
What the node asks of the quality of service: what its counterparts offer, and no events.

A subscription that asks for more than a publisher offers receives nothing. So the node takes
whatever is offered, and as good as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


def no_events() -> PublisherEventCallbacks:
    """
    Return callbacks for a publisher that reports no QoS events.

    The executor looks at the event handlers of every publisher for every message that comes in,
    fifty times a second. A subscriber with incompatible QoS gets its own event as well.
    """
    return PublisherEventCallbacks(use_default_callbacks=False)


def no_subscription_events() -> SubscriptionEventCallbacks:
    """
    Return callbacks for a subscription that reports no QoS events.

    An event that nobody takes wakes whoever waits for the subscription, at once and for ever.
    """
    return SubscriptionEventCallbacks(use_default_callbacks=False)


def offered_reliability(publishers: list[Any]) -> ReliabilityPolicy:
    """Return the best reliability that all publishers offer; best effort where there are none."""
    offers = [publisher.qos_profile.reliability for publisher in publishers]
    return RELIABLE if offers and all(offer == RELIABLE for offer in offers) else BEST_EFFORT


def subscribe_to_any(node: Node, message: Any, topic: str, callback: Callable[[Any], None],
                     depth: int) -> list[Any]:
    """
    Subscribe to a topic whatever its publishers offer, and return the subscriptions.

    One for each offer, side by side: a latched message is had by who comes later, a reliable one
    is not lost, and best effort is received as well. A message may come several times, so it must
    be one that says how something is, not that something happens.
    """
    profiles = [QoSProfile(depth=depth, reliability=reliability, durability=durability)
                for reliability, durability in (
                    (RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL),
                    (RELIABLE, DurabilityPolicy.VOLATILE),
                    (BEST_EFFORT, DurabilityPolicy.VOLATILE))]
    return [node.create_subscription(message, topic, callback, profile,
                                     event_callbacks=no_subscription_events())
            for profile in profiles]


def mismatch(node: Node, topic: str, expected: str) -> str:
    """Return who publishes another type on a topic, so that nothing comes of it; or ''."""
    for publisher in node.get_publishers_info_by_topic(topic):
        if publisher.topic_type != expected:
            return (f'{publisher.node_name} publishes {publisher.topic_type} on {topic}, expected '
                    f'{expected}: nothing of it is received')
    return ''
