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
Sentences from the templates of Home Assistant's intents.

Templates hold (a|b) alternatives, [optional] parts, <rules> and {slots}.
"""

from __future__ import annotations

import json
from pathlib import Path
import random
import re
from typing import Any

_SLOTS = {
    'area': ['kitchen', 'living room', 'bedroom', 'garage', 'hallway', 'office', 'garden'],
    'name': ['lamp', 'fan', 'heater', 'television', 'front door', 'vacuum', 'radio', 'curtain'],
    'floor': ['ground floor', 'first floor', 'basement', 'attic'],
    'message': ['dinner is ready', 'we are leaving', 'good night everyone', 'time to go'],
    'shopping_list_item': ['milk', 'bread', 'eggs', 'apples', 'coffee', 'rice'],
    'todo_list_item': ['call the doctor', 'water the plants', 'pay the rent'],
    'timer_name': ['pizza', 'laundry', 'tea'],
    'search_query': ['jazz', 'the news', 'classical music'],
}
_TOKEN = re.compile(r'[()\[\]|]|<[^>]*>|\{[^}]*\}|[^()\[\]|<{]+')


class Grammar:
    """Expands templates at random."""

    def __init__(self, rules: dict[str, list[str]], lists: dict[str, Any]) -> None:
        """Take the templates of each <rule>, and lists: the `values` or the `range` of {slots}."""
        self.rules, self.lists = rules, lists

    def expand(self, template: str) -> str:
        """Return one of the sentences of a template."""
        tokens = _TOKEN.findall(template)
        text, end = self._alternatives(tokens, 0)
        assert end == len(tokens), template
        return re.sub(r'\s+', ' ', text).strip()

    def _alternatives(self, tokens: list[str], at: int) -> tuple[str, int]:
        """Return one of the alternatives from `at` to the closing bracket, and where that is."""
        choices, text = [], ''
        while at < len(tokens) and tokens[at] not in ')]':
            token = tokens[at]
            at += 1
            if token == '|':
                choices.append(text)
                text = ''
            elif token in '([':
                inner, at = self._alternatives(tokens, at)
                text += inner if token == '(' or random.random() < 0.5 else ''
                at += 1
            elif token[0] == '<':
                text += self.expand(random.choice(self.rules.get(token[1:-1], [''])))
            elif token[0] == '{':
                text += self._slot(token[1:-1].split(':')[0])
            else:
                text += token
        return random.choice([*choices, text]), at

    def _slot(self, name: str) -> str:
        entry = self.lists.get(name, {})
        values = [value if isinstance(value, str) else value['in']
                  for value in entry.get('values', [])]
        if values:
            return self.expand(random.choice(values))
        if 'range' in entry:
            return str(random.randint(entry['range']['from'], entry['range']['to']))
        return 'it'


def expand_intents(path: Path, count: int) -> list[str]:
    """Return `count` random sentences of a language file of home-assistant-intents."""
    content = json.loads(path.read_text(encoding='utf-8'))
    rules = {name: [rule] for name, rule in content['expansion_rules'].items()}
    slots = {name: {'values': values} for name, values in _SLOTS.items()}
    grammar = Grammar(rules, content['lists'] | slots)
    templates = [sentence for intent in content['intents'].values()
                 for group in intent['data'] for sentence in group['sentences']]
    return [grammar.expand(random.choice(templates)) for _ in range(count)]
