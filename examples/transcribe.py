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
Print what is said in a recording, word by word: the recogniser in ten lines, without ROS.

    python3 examples/transcribe.py test/data/orders.flac
"""

import sys

from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.resources import demo_model

engine = Engine.load(demo_model())  # or the folder of another model
stream = engine.open(delay_ms=480)  # how far the text may lag behind the audio


def show(events):
    for event in events:  # also: Turn, SpeechActivity
        if isinstance(event, Transcript):
            print(event.delta, end='\n' if event.is_final else '', flush=True)


for samples in resampled(read_file(sys.argv[1])):  # float32, 16 kHz; a microphone will do as well
    stream.feed(samples)
    show(stream.poll())
show(stream.close())  # the last words
