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

"""Scenes in which somebody interrupts a robot are as asked, and words are counted rightly."""

from dataclasses import replace
import math
from pathlib import Path
import sys

from bench.scripts import BENCH, load
import numpy as np
import pytest

from voxtral_ros.evaluation.manifest import Recording
from voxtral_ros.recognizer.events import Transcript, Turn, TurnKind, Word

with pytest.MonkeyPatch.context() as _patch:
    # As for a script, which puts the repository in the place of its own folder.
    _patch.setattr(sys, 'path', [str(BENCH), *sys.path])
    echo = load('echo')
    echo_rooms = sys.modules['bench.echo_rooms']

DATA = Path(__file__).parents[1] / 'data'
ROOM = echo_rooms.Room(t60_s=0.2, loudspeaker_m=0.2, person_m=1.0, seed=1)
RATE = echo_rooms.RATE


def recording(name, text):
    return Recording(DATA / f'{name}.flac', text, {})


PERSON = recording('go_forward_ten_meters', 'go forward ten meters')
ROBOT = [recording('austen_0870', 'one'), recording('austen_0880', 'two')]


@pytest.fixture(scope='module')
def scene():
    return echo_rooms.scene(ROOM, PERSON, ROBOT, robot_db=6.0, distortion=0.5)


@pytest.mark.parametrize('robot_db', [-3.0, 12.0])
def test_the_robot_is_so_much_louder_than_the_person(robot_db):
    scene = echo_rooms.scene(ROOM, PERSON, ROBOT, robot_db)
    level = {name: echo_rooms.active_db(getattr(scene, name)) for name in ('robot', 'voice')}
    assert level['robot'] - level['voice'] == pytest.approx(robot_db, abs=0.1)
    assert level['voice'] == pytest.approx(echo_rooms.PERSON_DBFS, abs=0.1)


def test_levels_are_those_of_the_active_parts():
    tone = 0.1 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)
    paused = np.concatenate((tone, np.zeros(9 * RATE)))
    assert echo_rooms.active_db(paused) == pytest.approx(echo_rooms.active_db(tone), abs=0.1)
    assert echo_rooms.active_db(tone) == pytest.approx(20 * math.log10(0.1) - 3.01, abs=0.1)


def test_everybody_speaks_when_it_is_said(scene):
    assert len({len(part) for part in (scene.playback, scene.robot, scene.voice,
                                       scene.noise)}) == 1
    assert echo_rooms.sound_s(scene.voice)[0] == pytest.approx(scene.start_s, abs=0.03)
    assert echo_rooms.sound_s(scene.voice)[1] == pytest.approx(scene.end_s, abs=0.15)
    assert scene.start_s - scene.robot_s[0] == pytest.approx(echo_rooms.ROBOT_FIRST_S)
    assert scene.robot_s[1] >= scene.end_s + echo_rooms.ROBOT_LAST_S - 0.01
    assert not scene.playback[round(scene.begin_s * RATE) + 1:round(scene.robot_s[0] * RATE)].any()
    assert scene.playback[:round(scene.begin_s * RATE)].any()
    assert scene.begin_s >= echo_rooms.EARLIER_S
    assert not scene.playback[round(scene.robot_s[1] * RATE) + 1:].any()
    assert scene.said[0] == (scene.robot_s[0], 'one')


def test_the_three_recordings_of_a_scene_differ_in_who_speaks(scene):
    np.testing.assert_allclose(scene.together - scene.robot_alone, scene.voice, atol=1e-6)
    np.testing.assert_allclose(scene.together - scene.person_alone, scene.robot, atol=1e-6)


@pytest.mark.parametrize('t60_s', [0.2, 0.4, pytest.param(0.6, marks=pytest.mark.slow)])
def test_a_room_reverberates_as_long_as_asked(t60_s):
    response = replace(ROOM, t60_s=t60_s).impulse_responses()[1]
    assert echo_rooms.decay_s(response) == pytest.approx(t60_s, rel=0.1)


def test_a_decay_is_measured():
    times = np.arange(RATE) / RATE
    noise = np.random.default_rng(0).normal(size=RATE)
    assert echo_rooms.decay_s(noise * 10 ** (-3 * times / 0.5)) == pytest.approx(0.5, rel=0.05)


def test_the_loudspeaker_is_nearer_than_the_person():
    robot, person = (int(np.argmax(np.abs(each))) for each in ROOM.impulse_responses())
    assert person - robot == pytest.approx(0.8 / 343 * RATE, abs=1.5)


@pytest.mark.parametrize(('distortion', 'third'), [(0.0, 0.0), (1.0, 0.06)])
def test_a_loudspeaker_distorts(distortion, third):
    tone = np.sin(2 * np.pi * np.arange(1000) / 100)
    spectrum = np.abs(np.fft.rfft(echo_rooms.distorted(tone, distortion)))
    assert spectrum[30] / spectrum[10] == pytest.approx(third, abs=0.02)


def test_conditions_of_rooms_are_equally_frequent():
    rooms = echo.rooms(18)
    assert len({(room.t60_s, room.person_m, room.loudspeaker_m) for room in rooms}) == 18
    assert [sum(room.t60_s == t60_s for room in echo.rooms(36)) for t60_s in echo.T60_S] \
        == [12, 12, 12]
    assert len({room.seed for room in rooms}) == 18


def run_of(*words, turns=()):
    """Return a run in which words come out, each with its time."""
    return echo.Run([Word(text, end_s, 1.0) for text, end_s in words], list(turns))


@pytest.fixture
def dialogue(scene):
    """Return a robot that talks of towels from 0.5 to 9 s, and a person who does from 4 to 6 s."""
    return replace(scene, person=PERSON, begin_s=0.0, said=((0.5, 'The towels are in room ten.'),),
                   start_s=4.0, end_s=6.0, robot_s=(0.5, 9.0))


def run(engine, scene, samples, name):
    """Return what comes out in one way."""
    return echo.run(engine, scene, samples, {name: echo.WAYS[name]})[name]


@pytest.mark.parametrize(('words', 'n_robot', 'errors'), [
    ([('go', 4.3), ('forward', 4.8), ('ten', 5.2), ('meters', 5.9)], 0, 0),
    # While the person is silent, whatever comes out is the robot's; a later word still is theirs.
    ([('the', 1.0), ('trowels', 3.8), ('go', 4.3), ('forward', 4.8), ('ten', 5.2),
      ('meters', 6.5), ('ah', 7.0)], 3, 0),
    # Of what is wrong, those words that the robot has in its text.
    ([('go', 4.3), ('towels', 4.8), ('ten', 5.2), ('metres', 5.9)], 1, 2),
    # A word that both say is the person's where they have said it.
    ([('go', 4.3), ('forward', 4.8), ('room', 5.0), ('ten', 5.2), ('ten', 5.4),
      ('meters', 5.9)], 2, 2),
    ([], 0, 4),
])
def test_words_of_the_robot_and_errors_of_the_person(dialogue, words, n_robot, errors):
    out = run_of(*words)
    assert echo.count_robot(dialogue, out) == n_robot
    assert echo.person_score(dialogue, out).errors == errors


def test_words_of_the_robot_are_counted_by_the_minute_that_it_speaks(dialogue):
    assert echo.per_minute([dialogue] * 6, [0, 0, 0, 0, 0, 17]).startswith('20.00 (')


@pytest.mark.parametrize(('turns', 'delay_s'), [
    ([(4.5, 7.0)], 0.5),
    ([(1.0, 3.0), (5.0, 7.0)], 1.0),
    ([(3.0, 5.0), (5.2, 7.0)], -1.0),  # the robot has opened it
    ([(6.5, 8.0)], 2.5),
    ([(1.0, 3.0)], math.nan),
    ([(8.0, 9.0)], math.nan),  # who spoke has long ended
    ([(4.2, math.inf)], 0.2),
])
def test_how_soon_somebody_interrupts(dialogue, turns, delay_s):
    assert echo.barge_in_s(dialogue, run_of(turns=turns)) \
        == pytest.approx(delay_s, nan_ok=True)


class Engine:
    """An engine that gives back one stream, which emits the same events at a moment each."""

    def __init__(self, events=()):
        self.fed = np.zeros(0, np.float32)
        self.events = list(events)  # time, event

    def open(self, delay_ms=None, start_s=0.0):  # noqa: A003
        self.start_s = start_s
        return self

    def feed(self, samples):
        self.fed = np.append(self.fed, samples)

    def poll(self):
        now_s = self.start_s + len(self.fed) / RATE
        due = [event for at_s, event in self.events if at_s <= now_s]
        self.events = [each for each in self.events if each[0] > now_s]
        return due

    def abandon(self):
        pass


def utterance(number, text, start_s, end_s):
    words = (Word(text, end_s, 1.0),)
    return [(end_s + 0.2, Turn(TurnKind.START, number, '', (), start_s, start_s)),
            (end_s + 0.5, Transcript(number, 0, True, text, text, words, start_s, end_s)),
            (end_s + 0.5, Turn(TurnKind.END, number, text, words, start_s, end_s))]


def test_what_is_muted_is_the_robot_and_its_tail(scene):
    engine = Engine()
    run(engine, scene, scene.together, 'mute')
    whole = scene.together[round(scene.begin_s * RATE):]
    begin, end = (round(time_s * RATE) - round(scene.begin_s * RATE)
                  for time_s in (scene.robot_s[0], scene.robot_s[1] + echo.TAIL_S))
    assert not engine.fed[begin:end].any()
    np.testing.assert_array_equal(engine.fed[:begin], whole[:begin])
    np.testing.assert_array_equal(engine.fed[end:], whole[end:])


@pytest.mark.parametrize(('way', 'texts'), [('nothing', ['one', 'stop', 'after']),
                                            ('mark', ['after']),
                                            ('text comparison', ['stop', 'after'])])
def test_which_words_are_left(scene, way, texts):
    first_s, last_s = scene.robot_s
    engine = Engine(utterance(1, 'one', first_s, first_s + 0.5)
                    + utterance(2, 'stop', scene.start_s, scene.start_s + 0.5)
                    + utterance(3, 'after', last_s + 0.5, last_s + 1.0))
    result = run(engine, scene, scene.together, way)
    assert [word.text for word in result.words] == texts
    if way == 'nothing':
        np.testing.assert_allclose(np.array(result.turns_s), [
            (end_s + 0.2, end_s + 0.5) for end_s in (first_s + 0.5, scene.start_s + 0.5,
                                                     last_s + 1.0)], atol=0.041)


def test_the_canceller_takes_the_robot_away_and_leaves_the_times(scene):
    engine = Engine()
    result = run(engine, scene, scene.robot_alone, 'echo cancellation')
    begin = round(scene.begin_s * RATE)
    assert len(engine.fed) == len(scene.robot_alone) - begin
    speech = slice(*(round(time_s * RATE) - begin for time_s in scene.robot_s))
    assert np.square(engine.fed[speech]).mean() \
        < 1e-4 * np.square(scene.robot[begin:][speech]).mean()
    assert result.cpu_s > 0


def test_the_canceller_leaves_who_interrupts_at_the_same_time(scene):
    engine = Engine()
    run(engine, scene, scene.together, 'echo cancellation')
    begin = round(scene.begin_s * RATE)
    speech = slice(*(round(time_s * RATE) - begin for time_s in (scene.start_s, scene.end_s)))
    ours, voice = engine.fed[speech], scene.voice[begin:][speech]
    assert np.corrcoef(ours, voice)[0, 1] > 0.8
    assert np.corrcoef(scene.together[begin:][speech], voice)[0, 1] < 0.6
