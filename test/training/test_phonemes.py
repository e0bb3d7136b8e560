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

"""Phonemes stand line by line beside the sentences, repeated ones too."""

import sys

from training import phonemes

HIBARI = """
class Hibari:
    def __init__(self, threads):
        pass

    def phonemize(self, text):
        return ['oneword'] if text == 'joined up' else [text.upper() + ' ']
"""


def test_lines_stay_in_order_and_misfits_are_empty(tmp_path, monkeypatch):
    (tmp_path / 'hibari.py').write_text(HIBARI)
    (tmp_path / 'sentences.txt').write_text('turn left\njoined up\ngo home\nturn left\n')
    (tmp_path / 'heldout.txt').write_text('come here\n')
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.delitem(sys.modules, 'hibari', raising=False)
    monkeypatch.setattr(sys, 'argv', [
        'phonemes', '--sources', str(tmp_path), '--out', str(tmp_path), '--processes', '2'])
    phonemes.main()
    assert (tmp_path / 'sentences.phonemes.txt').read_text() == 'TURN LEFT\n\nGO HOME\nTURN LEFT\n'
    assert (tmp_path / 'heldout.phonemes.txt').read_text() == 'COME HERE\n'
