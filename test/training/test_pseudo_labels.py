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

"""Whisper's transcripts are trained on where it is sure of them."""

import pytest
from training.pseudo_labels import label, Segment, words


@pytest.mark.parametrize(('text', 'expected'), [
    (" That's the well-known answer, isn\u2019t it?", "that's the well known answer isn't it"),
    ("'Tis \u2013 so \u2026", 'tis so'),
    (' at 7 o\u2019clock', None),  # seven, or seventh?
    (' 50%', None),
    (' caf\u00e9', None),  # no such letter in the sentences of the training
])
def test_words(text, expected):
    assert words(text) == (None if expected is None else expected.split())


@pytest.mark.parametrize(('segments', 'expected'), [
    ([Segment(' Good morning.', -0.2, 0.9), Segment(' Sit down.', -0.5, 0.9)],
     'good morning sit down'),
    ([Segment(' Good morning.', -0.2, 0.9), Segment(' Sit down.', -0.6, 0.9)], ''),  # unsure
    ([Segment(' go go go go go go go go', -0.1, 3.0)], ''),  # repeats itself
    ([Segment(' It is 5.', -0.1, 0.9)], ''),
    ([], ''),
])
def test_a_label_is_what_whisper_is_sure_of(segments, expected):
    assert label(segments) == expected
