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

"""ROS: what of it can be imported here, which messages carry audio, and who carries messages."""

from __future__ import annotations

from collections.abc import Iterator

from voxtral_ros.doctor.finding import Finding, look, ok, wrong
from voxtral_ros.doctor.machine import Machine, Probe

_PATIENCE_S = 30.0


def check_ros(machine: Machine) -> Iterator[Finding]:
    """Try to import what the node needs; the commands need none of it."""
    probe = machine.probe('doctor.ros_probe', timeout_s=_PATIENCE_S)
    found, distro = probe.found, machine.environ.get('ROS_DISTRO', '')
    problem = found.get('rclpy', probe.error or 'not known')
    if problem:
        yield _no_rclpy(machine, distro, problem)
        return
    yield ok('ROS', f'{distro}, rclpy' if distro else 'rclpy, but ROS_DISTRO is not set')
    yield _own(found.get('voxtral_ros.msg', probe.error or 'not known'))
    yield _audio(found)
    yield ok('hri_msgs', 'not found, and only needed to publish by REP-155'
             if found.get('hri_msgs.msg', 'not known') else 'found')
    yield _middleware(machine, probe)


def _no_rclpy(machine: Machine, distro: str, problem: str) -> Finding:
    installed = ', '.join(path.name for path in machine.glob('/opt/ros/*'))
    text = f'the node cannot run: rclpy {problem}'
    if distro and problem != 'not found':
        return wrong('ROS', f'{distro}; {text}',
                     'it was built for another Python: use the python3 of this system')
    if distro:
        return wrong('ROS', f'{distro} is sourced; {text}', 'in a virtual environment, make it '
                     'with python3 -m venv --system-site-packages')
    if installed:
        setup = f'/opt/ros/{installed.partition(",")[0]}/setup.bash'
        return look('ROS', f'{text}; installed: {installed}', f'source {setup}')
    return look('ROS', text, 'for the node, install ROS 2 (docs.ros.org); the commands need none')


def _own(problem: str) -> Finding:
    name = 'interfaces'
    if problem:
        return wrong(name, f'voxtral_ros.msg {problem}: the node cannot run', 'build the package '
                     'with colcon, and source its install/setup.bash')
    return ok(name, 'voxtral_ros.msg')


def _audio(found: dict[str, str]) -> Finding:
    name = 'audio topic'
    if found.get('audio_common_msgs.msg', 'not known'):
        return look(name, f'audio_common_msgs {found.get("audio_common_msgs.msg", "not known")}',
                    'install ros-$ROS_DISTRO-audio-common-msgs, or set source to microphone')
    return ok(name, f'audio_common_msgs of {found.get("audio_kind", "unknown origin")}')


def _middleware(machine: Machine, probe: Probe) -> Finding:
    name = 'middleware'
    wanted = machine.environ.get('RMW_IMPLEMENTATION', '')
    if 'rmw' not in probe.found:
        problem = probe.found.get('rmw_error') or probe.error or 'not known'
        return wrong(name, f'does not load: {problem}',
                     f'install it, or unset RMW_IMPLEMENTATION ({wanted})' if wanted
                     else 'install ROS again')
    text = probe.found['rmw']
    domain = machine.environ.get('ROS_DOMAIN_ID')
    return ok(name, f'{text}, domain {domain}' if domain else str(text))
