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
Sentences for robots with names, rooms and objects in them, and sentences that sound like those.

The phrases are those of a list nearly twice as long that the demo model did not write when piper
said each of them once, in another sentence than these.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
import random
from typing import NamedTuple

from training.commands import command


def _entries(text: str) -> list[str]:
    return [' '.join(entry.split()) for entry in text.split(',')]


PHRASES = {
    'person': _entries("""
        Kowalski, Magdalena, Anastasia, Rajesh, Hiroshi, Yamamoto, Svetlana, Okonkwo, Fernandez,
        Gonzalez, Papadopoulos, Dimitri, Ingrid, Lindqvist, Nakamura, Guinevere, Cordelia,
        Bartholomew, Montgomery, Horvath, Ibrahim, Fatima, Beatriz, Thaddeus, Octavia, Evangeline,
        Mackenzie, Fitzgerald, Giovanni, Francesca, Esmeralda, Rodriguez, doctor Mukherjee,
        nurse Delgado, professor Hawthorne, missus Abernathy"""),
    'room': _entries("""
        scullery, mezzanine, atrium, mudroom, larder, foyer, cloakroom, sunroom, cold storage,
        paint booth, apothecary, auditorium, rotunda, alcove, veranda, gazebo, orangery,
        boiler room, helipad, dispensary, triage, oncology, planetarium, laundry chute"""),
    'object': _entries("""
        spatula, colander, ladle, oscilloscope, soldering iron, caliper, zip ties, stapler,
        clipboard, stethoscope, defibrillator, catheter, syringe, ibuprofen, amoxicillin,
        insulin pump, kombucha, macchiato, tiramisu, guacamole, quinoa, zucchini, chamomile tea,
        baguette, trivet, corkscrew, ottoman, humidifier, gyroscope, lidar, pallet jack, forklift,
        tourniquet, pipette, centrifuge, petri dish, oregano, paprika, mozzarella, croissant,
        duct tape, squeegee, binoculars, xylophone"""),
    'robot': _entries("""
        Roomba, Optimus, Biscuit, Zephyr, Turtlebot, Clearpath, Nemo, Jarvis, Marvin, Gizmo,
        Pinocchio, Baxter, Cerberus, Wolfgang, Kestrel, Galileo"""),
}
PATTERNS = {
    'person': ('where is {}', 'bring the blue cup to {}', 'follow {} to the front door',
               'tell {} that dinner is ready', 'please call {} for me', 'say hello to {}',
               'my name is {}', 'take this letter to {} and come back', 'wait for {} at the desk',
               '{} is not at home today'),
    'room': ('go to the {}', 'clean the {} after lunch', 'is anybody in the {}',
             'take the box to the {} please', 'the charging station is next to the {}',
             'turn off the lights in the {}', 'show me the way to the {}',
             'patrol the {} every hour'),
    'object': ('bring me the {}', 'where did you put the {}', 'pick up the {} and follow me',
               'is there another {} on the table', 'we need the {} in the kitchen',
               'put the {} back on the shelf', 'can you find the {} for me',
               'give the {} to anna'),
    'robot': ('{} come here', 'send {} to the garage', '{} stop right now',
              'is {} still charging', 'tell {} to clean the floor', 'start {} at seven'),
}
# One list sounds like phrases of the first half, the other like those of the second.
SOUND_ALIKES = (
    _entries("""
        the cow was skiing down the hill, my mother got lean last summer, he put all the pages
        in order, hero she said and laughed, we swept the land behind the house, her hand is on
        the table, the angry grid went dark, the lint quit sticking to my coat, naked moor
        under a grey sky, the court deal is done, month after month the gallery is empty, i
        brought him the red book, the beat of the trees in the wind, give me the key of the old
        cellar, the school is very near the river, a tree fell on the road, lighter than a
        feather, the clock in the room has stopped, he told the story again, the abbot carried
        a torch, round and round it went, the van and the truck were late, an orange tree by
        the wall, she found help at last, a tree age of fifty years, plan the museum visit, the
        special law was passed, the lady poured the soup, solid iron bars, the stable door,
        deaf people later joined, sir in june we leave, a mocking cello player, the tired miss
        sue went home, keen on water sports, a camel might drink tea, the travel agent called,
        the autumn leaves are falling, the guy wrote a scope note, pal and jack went fishing"""),
    _entries("""
        call off the ski race, mad dalliance of youth, the stage is on fire, yes i am a
        motorist, we can go home now, for none of them is this, papa dropped the pulp, dim the
        tree lights, one of her cats is grey, the bar tells a mean story, the storm hit
        gerald's farm, i have a book on her, the front desk called, is the moral clear, the
        doctor made cherry pie, the professor has gone home, the magazine is on the chair, mud
        covered the broom, the boy ate all of it, some room is left in the car, the point of
        both stories, the audience was tired, all coves are dry, the branded goods are cheap,
        the boy left the room, this pen is very light, the colonel and her friend, the oil
        escaped from the ship, call a purse a bag, the clip was bored into wood, the cat ate
        her fish, i bought a broken chair, in full in june, the combed hair was shiny, quite a
        mouldy room, the big hat is mine, the cork is crooked, the human defied the law, the
        fork lifted the meat, the turn is quite sharp"""))
WAKE_PHRASES = ('hey robot', 'okay jarvis', 'hello turtlebot')


class Sentence(NamedTuple):
    """A sentence of a test set."""

    text: str  # lower case
    phrase: str  # lower case, or empty


def halves() -> Iterator[dict[str, list[str]]]:
    """Yield every second phrase of each kind, then the others."""
    for first in (0, 1):
        yield {kind: phrases[first::2] for kind, phrases in PHRASES.items()}


def sentences(half: int, n_commands: int = 80) -> list[list[Sentence]]:
    """Return two lists: each phrase of a half in one sentence of each, other sentences in both."""
    chance = random.Random(half)
    random.seed(half)  # of command()
    phrases = list(halves())[half]
    others = [Sentence(text, '') for text in SOUND_ALIKES[half]]
    others += [Sentence(command(), '') for _ in range(n_commands)]
    chance.shuffle(others)
    lists: list[list[Sentence]] = [[], []]
    for kind, listed in phrases.items():
        patterns = cycle(chance.sample(PATTERNS[kind], len(PATTERNS[kind])))
        for phrase in listed:
            lower = phrase.lower()
            for sentence_list in lists:
                sentence_list.append(Sentence(next(patterns).format(lower), lower))
    for n, sentence_list in enumerate(lists):
        sentence_list += others[n::2]
        chance.shuffle(sentence_list)
    return lists


def wake_sentences(count: int = 20) -> list[Sentence]:
    """Return so many commands after each wake phrase, in random order; none names a robot."""
    random.seed(2)  # of command()
    found = []
    for phrase in WAKE_PHRASES:
        for _ in range(count):
            text = command()
            while 'robot' in text:
                text = command()
            found.append(Sentence(f'{phrase} {text}', phrase))
    return random.Random(2).sample(found, len(found))
