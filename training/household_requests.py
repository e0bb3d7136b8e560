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

"""Household requests: templates filled with food, drinks and objects of WordNet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
import random
import re

# kind -> the words of WordNet whose hyponyms belong to it, and their lexicographer file
_ROOTS = {
    'drink': (('beverage',), 13),
    'food': (('solid_food', 'dish', 'baked_goods', 'edible_fruit', 'condiment', 'sweetening',
              'dessert', 'dairy_product'), 13),
    'object': (('utensil', 'tableware', 'tool', 'container', 'furniture', 'clothing', 'linen',
                'plaything', 'electronic_equipment', 'stationery'), 6),
}
_PLACES = ('kitchen', 'fridge', 'pantry', 'cupboard', 'top drawer', 'dining room', 'cellar',
           'garage', 'office', 'hall', 'bathroom', 'shelf', 'counter', 'table', 'tray')
_SIZES = ('small', 'medium', 'large', 'big', 'little', 'half', 'double', 'fresh', 'cold', 'hot',
          'warm', 'new', 'clean', 'empty', 'full', 'dark', 'light', 'plain', 'extra')
_AMOUNTS = ('a cup of', 'a glass of', 'a bottle of', 'a bit of', 'a lot of', 'some',
            'two ounces of', 'half a pint of', 'a spoon of', 'a slice of', 'a bag of', 'a box of',
            'three pounds of')
_PATTERNS = (
    'bring me {a drink}', 'bring us {a drink} and {a food}', "i'd like {a drink} please",
    "i'll take {a food} with {food}", 'may i have {amount} {drink}', 'can we get {a food}',
    'could you pour me {amount} {drink}', 'do you have any {food} left', 'we are out of {food}',
    'put {food} and {drink} on the shopping list', 'is there {food} in the {place}',
    'how much is {a food}', 'i would rather have {drink} than {drink}', 'no {food} for me thanks',
    'make me {a drink} with {food}', 'mix the {food} with {amount} {food}', 'warm up the {food}',
    'serve the {food} with {food}', 'take the {drink} to the {place}', 'what goes into {a food}',
    'find my {object}', 'hand me the {object}', 'where did you put the {object}',
    'there is {a object} in the {place}', 'pick up the {object} and the {object}',
    'put the {object} back in the {place}', 'wash the {object} first', 'whose {object} is this',
    'we need {a object} and {a object}', 'get rid of that {object}', 'is this {a object}',
    'carry {a object} to the {place}', 'what is {a object} for', 'i cannot find the {object}',
)
_NAME = re.compile(r'[a-z]+(_[a-z]+){0,2}')


def things(folder: Path) -> dict[str, list[str]]:
    """Return the names of each kind of thing, at most three words each: hyponyms in WordNet."""
    names: dict[str, list[str]] = {}
    files: dict[str, int] = {}
    below: dict[str, list[str]] = defaultdict(list)
    for line in (folder / 'data.noun').read_text(encoding='utf-8').splitlines():
        if line.startswith(' '):  # the licence
            continue
        place, file, _, n_words, *rest = line.split(' | ')[0].split()
        n = 2 * int(n_words, 16)
        names[place], files[place] = rest[:n:2], int(file)
        pointers = rest[n + 1:n + 1 + 4 * int(rest[n])]
        for sign, above, part in zip(pointers[::4], pointers[1::4], pointers[2::4], strict=True):
            if sign == '@' and part == 'n':
                below[above].append(place)
    found = {}
    for kind, (roots, in_file) in _ROOTS.items():
        waiting = [place for place, words in names.items()
                   if files[place] == in_file and not set(roots).isdisjoint(words)]
        seen: set[str] = set()
        while waiting:
            place = waiting.pop()
            if place not in seen:
                seen.add(place)
                waiting += below[place]
        found[kind] = sorted({word.replace('_', ' ') for place in seen for word in names[place]
                              if _NAME.fullmatch(word)})
    return found


def requests(folder: Path, known: set[str], count: int, seed: int = 0) -> Iterator[str]:
    """
    Yield random requests in lower case.

    :param folder: of WordNet
    :param known: words in the lexicon; names with other words are left out
    """
    chance = random.Random(seed)
    kinds = {kind: [name for name in names if known.issuperset(name.split())]
             for kind, names in things(folder).items()}

    def fill(match: re.Match[str]) -> str:
        article, kind = match.groups()
        if kind == 'place':
            return chance.choice(_PLACES)
        if kind == 'amount':
            return chance.choice(_AMOUNTS)
        name = chance.choice(kinds[kind])
        if chance.random() < 0.3:
            name = f'{chance.choice(_SIZES)} {name}'
        return f'{"an" if name[0] in "aeiou" else "a"} {name}' if article else name

    for _ in range(count):
        yield re.sub(r'\{(a )?(\w+)\}', fill, chance.choice(_PATTERNS))
