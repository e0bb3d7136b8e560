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

"""Robot commands, from a small grammar."""

from __future__ import annotations

import random

_ONES = ('zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen '
         'fifteen sixteen seventeen eighteen nineteen').split()
_TENS = 'twenty thirty forty fifty sixty seventy eighty ninety'.split()
_OBJECTS = ('cup bottle ball box book phone remote plate bag tool wrench hammer screwdriver apple '
            'banana can glass pen marker toy towel basket tray key medicine package battery '
            'charger hat shoe pillow blanket cable bowl spoon fork knife').split()
_COLOURS = 'red green blue yellow black white orange purple pink brown grey'.split()
_ROOMS = ('kitchen|living room|bedroom|bathroom|hallway|garage|garden|office|lab|workshop|'
          'entrance|elevator|charging station|dock|meeting room|dining room|front door|'
          'back door|window|'
          'table|shelf|counter|desk|sofa|fridge').split('|')
_NAMES = ('anna ben carla david emma frank grace henry irene jack kate leo maria nick olivia '
          'paul rachel sam tina victor wendy alice tom james mary john robert linda susan '
          'george').split()
_WAYS = 'forward backward left right up down straight back around'.split()
_UNITS = ('meters', 'centimeters', 'steps', 'feet', 'inches')
_PLEASE = ('', '', '', 'please ', 'robot ', 'hey robot ', 'okay robot ', 'could you ', 'can you ',
           'would you please ', 'now ', 'i want you to ')
_PATTERNS = (
    'go {way}', 'go {way} {number} {unit}', 'move {way} {number} {unit}', 'drive {way} slowly',
    'turn {side}', 'turn {side} {number} degrees', 'rotate {number} degrees to the {side}',
    'stop', 'stop right now', 'wait for {number} seconds', 'halt', 'freeze', 'come here',
    'come to the {room}', 'follow me', 'follow {name}', 'stop following me',
    'go to the {room}', 'go to the {room} and wait', 'go back to the {room}',
    'bring me the {thing}', 'bring the {thing} to the {room}', 'bring {name} a {thing}',
    'pick up the {thing}', 'pick up the {thing} and put it on the {room}',
    'put the {thing} in the {thing}', 'put the {thing} next to the {thing}',
    'place the {thing} on the {room}', 'give the {thing} to {name}', 'take the {thing}',
    'find the {thing}', 'look for the {thing} in the {room}', 'where is the {thing}',
    'what do you see', 'what is on the {room}', 'how many {object}s are there',
    'open the gripper', 'close the gripper', 'open the {room}', 'close the door',
    'raise your {side} arm', 'lower your {side} arm', 'lift the {thing} {number} {unit}',
    'set speed to {number} percent', 'set the speed to {number}', 'slow down', 'speed up',
    'faster', 'slower', 'battery status', 'what is your battery level', 'go charge yourself',
    'take a picture', 'take a photo of the {thing}', 'start recording', 'stop recording',
    'start mapping', 'save the map', 'return home', 'return to base', 'dock', 'cancel',
    'cancel that', 'yes', 'no', 'repeat that', 'say that again', 'louder', 'quieter',
    'turn on the lights in the {room}', 'turn off the light', 'clean the {room}',
    'patrol the {room}', 'deliver the {thing} to room {number}',
    'call the elevator to floor {number}',
    'say hello to {name}', 'introduce yourself', 'my name is {name}', 'tell {name} to come here',
    'remember this place as the {room}', 'go {way} {number} {unit} and turn {side}',
    'turn {side} and go {way}', 'point at the {thing}', 'show me the {thing}', 'wave',
    'drop the {thing}', 'hold the {thing}', 'put it down', 'push the {thing} to the {side}',
    'wake me up at {number}', 'set a timer for {number} minutes', 'emergency stop', 'resume',
    'continue', 'pause', 'start', 'undo', 'go up to floor {number}',
    'joint {digit} {number} degrees',
    'the code is {digits}', 'number {digits}', 'call {digits}',
)


def number_words(number: int) -> str:
    """Return a number from 0 to 9999 in words."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        rest = f' {_ONES[number % 10]}' if number % 10 else ''
        return _TENS[number // 10 - 2] + rest
    size, name = (100, 'hundred') if number < 1000 else (1000, 'thousand')
    rest = f' {number_words(number % size)}' if number % size else ''
    return f'{number_words(number // size)} {name}{rest}'


def command() -> str:
    """Return a random robot command in lower case."""
    def thing() -> str:
        colour = f'{random.choice(_COLOURS)} ' if random.random() < 0.4 else ''
        return colour + random.choice(_OBJECTS)

    number = random.choice((random.randint(1, 20), random.randint(1, 100), random.randint(1, 360)))
    digits = ' '.join(random.choices(_ONES[:10], k=random.randint(2, 7)))
    pattern = random.choice(_PATTERNS)
    while '{thing}' in pattern:
        pattern = pattern.replace('{thing}', thing(), 1)
    text = pattern.format(
        way=random.choice(_WAYS), side=random.choice(('left', 'right')),
        number=number_words(number), unit=random.choice(_UNITS), room=random.choice(_ROOMS),
        name=random.choice(_NAMES), object=random.choice(_OBJECTS),
        digit=random.choice(_ONES[1:10]), digits=digits)
    if random.random() < 0.1:
        text += ' please'
    return (random.choice(_PLEASE) + text).strip()
