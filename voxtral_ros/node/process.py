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

"""The process of the node: signals, imports, the executor, and starting anew when it hangs."""

from __future__ import annotations

from contextlib import suppress
import os
import signal
import sys
import threading
from typing import Any

_SPINS = 20  # at the end: a result takes three, and a timer may be due
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(args: list[str] | None = None) -> int:
    """
    Run the node until SIGINT or SIGTERM; the open utterance is published first.

    When a step of the recogniser never returns, nothing in this process can end it: the process
    is replaced by a new one, with the same arguments and the same id.
    """
    stop = threading.Event()
    node: Any = None

    def end(number: int, frame: Any) -> None:
        stop.set()
        if node is None or node.loading:  # for seconds, and there is nothing to lose yet
            os._exit(0)

    for number in _SIGNALS:
        signal.signal(number, end)

    # Not before: these take a second, in which a signal would print a traceback.
    import traceback

    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from voxtral_ros.node.asr import AsrNode

    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # such as a parameter file that is no YAML
        print(f'asr_node: {error}', file=sys.stderr)
        return 1
    node = AsrNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.get_parameter('autostart').value:
            node.start()
        while not stop.is_set() and not node.hung:
            try:
                executor.spin_once(timeout_sec=1.0)
            except Exception:  # of a callback
                node.get_logger().error(f'a callback failed:\n{traceback.format_exc()}')
                stop.wait(0.1)
        if node.hung:
            node.get_logger().error('starting the process anew')
            node.let_go()
        else:
            node.finish()
        _send_results(node, executor)
    finally:
        # Launch repeats the SIGINT of a terminal; one that comes while Python ends would kill it.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()
    if node.hung and not stop.is_set():
        _start_anew()
    return 0


def _send_results(node: Any, executor: Any) -> None:
    """Let the clients of an action know that nothing comes any more."""
    if node.listen.unfinished:
        for _ in range(_SPINS):
            with suppress(Exception):  # of a callback
                executor.spin_once(timeout_sec=0.0)


def _start_anew() -> None:
    """Replace this process by one that is called in the same way."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    # Sockets of the middleware and files of a GPU's driver must not come along.
    for descriptor in map(int, os.listdir('/proc/self/fd')):
        if descriptor > 2:
            with suppress(OSError):
                os.close(descriptor)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
