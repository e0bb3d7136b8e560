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

"""The vocabulary of the demo model: what the recipe writes is what ships."""

import json

from training.vocabulary import load_pieces, N_SPECIAL, pieces, tekken, train

from voxtral_ros.resources import demo_model


def test_the_shipped_file_is_what_the_recipe_writes_of_its_pieces():
    path = demo_model() / 'tekken.json'
    assert json.loads(path.read_text(encoding='utf-8')) == tekken(load_pieces(path))


def test_special_tokens_are_listed_without_holes():
    content = tekken(pieces(train(['robot go to the kitchen'] * 3)))
    listed = content['special_tokens']
    assert [entry['rank'] for entry in listed] == list(range(N_SPECIAL))
    assert len({entry['token_str'] for entry in listed}) == N_SPECIAL
    assert content['config']['default_num_special_tokens'] == N_SPECIAL
