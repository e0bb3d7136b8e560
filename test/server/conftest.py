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

"""What the tests of the server share."""

from types import SimpleNamespace

import pytest
from support.realtime import running, ServedScript
from support.scripted import join, PAUSE, Script, scripted_voice, silence

from voxtral_ros.server.limits import Limits


@pytest.fixture(scope='module')
def scripted():
    """
    Serve an engine that writes what the audio says.

    `order` says "go to the kitchen", `two` says "stop" and then "turn left".
    """
    script = Script()
    order = join(silence(1.0), script.say(' go', ' to', ' the', ' kitchen'), silence(PAUSE))
    two = join(silence(1.0), script.say(' stop'), silence(PAUSE),
               script.say(' turn', ' left', probability=0.5), silence(PAUSE))
    with scripted_voice(), running(ServedScript(script, max_streams=4)) as server:
        yield SimpleNamespace(server=server, script=script, order=order, two=two)


@pytest.fixture
def limited():
    """Return a function that serves with limits, and an order that it understands."""
    script = Script()
    order = join(silence(1.0), script.say(' go', ' left'), silence(PAUSE))

    def serve(**limits):
        return running(ServedScript(script), Limits(**limits))
    with scripted_voice():
        yield serve, order


@pytest.fixture
def engine_has_passed(scripted):
    """Return a function that waits until what others sent before it would be transcribed."""
    def wait():
        with scripted.server.client() as other:
            other.update()
            other.append(join(scripted.two, scripted.two))
            other.commit()
            other.until('transcription.done')
    return wait


@pytest.fixture
def client(scripted):
    """Connect to it."""
    with scripted.server.client() as connection:
        yield connection
