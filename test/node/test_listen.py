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


"""The action ~/listen, asked by real clients: what counts, and that every goal has an end."""

from action_msgs.msg import GoalStatus
from node.conversation import Asking, conversation
from node.driver import ACTIVATE, CONFIGURE, driven
from node.orders import first_orders
import pytest
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from support.scripted import join, PAUSE, Script, silence, voice

from voxtral_ros.action import Listen
from voxtral_ros.recognizer.interface import LinkStatus

R = Listen.Result
SUCCEEDED, CANCELED, ABORTED = (GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_CANCELED,
                                GoalStatus.STATUS_ABORTED)


def ended(asking):
    """Wait for the end and return it."""
    result = asking.finish()
    return asking.status, result.reason, result.text


def test_an_utterance_is_the_result():
    script = Script()
    with conversation(script) as talk:
        asking = talk.ask(phrases=['kitchen', 'living room :4'])
        talk.play(join(silence(1.0), script.say(' the', probability=0.5), script.say(' living'),
                       script.say(' room'), silence(PAUSE)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'the living room')
        result = asking.result
        assert result.phrase == 'living room' and result.message == ''
        talk.wait(lambda: talk.finals)
        final = talk.finals[0]  # the topics have it, too
        assert result.utterance_id == final.utterance_id == 1
        assert result.words == final.words and len(result.words) == 3
        assert result.confidence == final.confidence < 1.0


def test_feedback_is_the_text_as_it_grows():
    script = Script()
    with conversation(script) as talk:
        asking = talk.ask()
        talk.play(join(silence(1.0), script.say(' go'), script.say(' to'), script.say(' bed')))
        talk.play(silence(0.6))
        talk.wait(lambda: asking.feedback)
        talk.play(silence(PAUSE))
        assert ended(asking)[2] == 'go to bed'
        texts = [feedback.text for feedback in asking.feedback]
        assert texts and all('go to bed'.startswith(text) for text in texts)
        assert texts == sorted(texts, key=len)
        assert ''.join(feedback.delta for feedback in asking.feedback) == texts[-1]
        assert asking.result.phrase == ''


def test_an_answer_that_began_before_the_goal_is_not_lost():
    script = Script()
    with conversation(script) as talk:
        client = talk.client()
        talk.play(join(silence(1.0), script.say(' living'), voice(0.1)))
        asking = talk.ask(client)
        talk.play(join(script.say(' room'), silence(PAUSE)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'living room')


def test_what_was_said_before_the_goal_does_not_count():
    script = Script()
    with conversation(script) as talk:
        client = talk.client()
        talk.play(join(silence(1.0), script.say(' stop'), silence(0.2)))
        asking = talk.ask(client)  # before the end of that utterance is known
        talk.play(silence(PAUSE))
        talk.wait(lambda: talk.finals)
        assert talk.finals[0].text == 'stop' and asking.result is None
        talk.play(join(script.say(' kitchen'), silence(PAUSE)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'kitchen')
        assert 'stop' not in ''.join(feedback.delta for feedback in asking.feedback)


@pytest.mark.parametrize(('said', 'phrase'), [
    (' garage', 'garage'), (' Garage!', 'garage'), (' kitten', 'kitchen'), (' banana', '')])
def test_only_these(said, phrase):
    script = Script()
    with conversation(script) as talk:
        asking = talk.ask(phrases=['kitchen', 'garage :5'], only_these=True)
        talk.play(join(silence(1.0), script.say(said), silence(PAUSE)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, said.strip())
        assert asking.result.phrase == phrase


def test_nobody_speaks():
    with conversation() as talk:
        asking = talk.ask(begin_timeout_s=5.0)
        talk.play(silence(1.0))
        talk.pass_time(4.9)
        assert asking.result is None
        talk.pass_time(0.2)
        assert ended(asking) == (ABORTED, R.NO_SPEECH, '')
        assert asking.result.message == 'nobody has spoken for 5 s'
        assert asking.result.confidence != asking.result.confidence  # NaN


def test_limits_of_the_node_hold_where_the_goal_has_none_and_no_audio_comes():
    with conversation(listen__begin_timeout_s=0.0, listen__max_duration_s=20.0) as talk:
        asking = talk.ask()
        talk.pass_time(19.0)
        assert asking.result is None
        talk.pass_time(2.0)
        assert ended(asking) == (ABORTED, R.TIMEOUT, '')
        asking = talk.ask(begin_timeout_s=3.0)
        talk.pass_time(4.0)
        assert ended(asking) == (ABORTED, R.NO_SPEECH, '')


def test_who_has_begun_in_time_is_not_interrupted():
    script = Script()
    with conversation(script) as talk:
        asking = talk.ask(begin_timeout_s=5.0)
        talk.play(join(silence(1.0), voice(1.0)))  # no word is written yet
        talk.pass_time(6.0)
        talk.pass_time(1.0)
        talk.play(join(script.say(' kitchen'), silence(PAUSE)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'kitchen')


def test_a_noise_is_no_beginning():
    with conversation() as talk:
        asking = talk.ask(begin_timeout_s=5.0)
        talk.play(join(silence(1.0), voice(1.0)))
        talk.pass_time(6.0)
        assert asking.result is None
        talk.play(silence(PAUSE))
        talk.pass_time(1.0)
        assert ended(asking) == (ABORTED, R.NO_SPEECH, '')


def test_audio_that_waits_is_recognised_before_it_is_said_that_nobody_spoke():
    script = Script()
    with conversation(script) as talk:
        asking = talk.ask(begin_timeout_s=5.0)
        talk.play(silence(0.5))
        with talk.engine.held():
            talk.play(join(script.say(' kitchen'), silence(PAUSE)), wait=False)
            talk.pass_time(6.0)
            talk.pass_time(6.0)
            assert asking.result is None
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'kitchen')


def test_a_limit_of_the_whole_has_the_text_so_far():
    script = Script()
    with conversation(script) as talk:
        asking = talk.ask(max_duration_s=8.0)
        talk.play(join(silence(1.0), script.say(' once'), script.say(' upon'), voice(2.0)))
        talk.pass_time(8.5)
        assert ended(asking) == (ABORTED, R.TIMEOUT, 'once upon')
        assert [word.text for word in asking.result.words] == ['once', 'upon']
        assert asking.result.message == '8 s are over'
        talk.play(join(script.say(' a'), silence(PAUSE)))
        talk.wait(lambda: talk.finals)
        assert talk.finals[0].text == 'once upon a'  # the topics go on


def test_a_recogniser_that_hangs_holds_nobody_up():
    with conversation() as talk:
        client = talk.client()
        with talk.engine.held():
            talk.play(voice(1.0), wait=False)
            first = Asking(talk, client, max_duration_s=3.0, begin_timeout_s=1.0)
            assert first.accepted
            talk.pass_time(4.0)
            assert ended(first) == (ABORTED, R.TIMEOUT, '')
            second = Asking(talk, client)
            second.cancel()
            assert ended(second) == (CANCELED, R.CANCELED, '')


def test_cancel_ends_it_at_once():
    script = Script()
    with conversation(script) as talk:
        asking = talk.ask()
        talk.play(join(silence(1.0), script.say(' never'), voice(2.0)))
        talk.wait(lambda: asking.feedback)
        answer = asking.cancel()
        assert ended(asking) == (CANCELED, R.CANCELED, 'never')
        talk.wait(answer.done)
        assert len(answer.result().goals_canceling) == 1
        talk.play(join(script.say(' mind'), silence(PAUSE)))
        talk.wait(lambda: talk.finals)
        assert talk.finals[0].text == 'never mind'
        assert not talk.node.listen.active and not talk.node.listen.unfinished


def test_cancelling_twice_or_too_late_changes_nothing():
    script = Script()
    with conversation(script) as talk:
        client = talk.client()
        asking = talk.ask(client)
        answers = [asking.cancel(), asking.cancel()]
        talk.wait(lambda: all(answer.done() for answer in answers))
        assert ended(asking) == (CANCELED, R.CANCELED, '')
        asking = talk.ask(client)
        talk.play(join(silence(1.0), script.say(' done'), silence(PAUSE)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'done')
        answer = asking.cancel()
        talk.wait(answer.done)
        assert not answer.result().goals_canceling


@pytest.mark.parametrize('n_played', range(1, 6))
def test_a_goal_that_is_cancelled_while_it_ends_ends_once(n_played):
    script = Script()
    with conversation(script) as talk:
        asking = talk.ask()
        talk.play(join(silence(1.0), script.say(' done'), silence(0.5)))
        talk.play(silence(0.1 * n_played), wait=False)
        answer = asking.cancel()
        talk.play(silence(PAUSE), wait=False)
        end = ended(asking)
        talk.wait(answer.done)
        if answer.result().goals_canceling:
            assert end[:2] == (CANCELED, R.CANCELED)
        else:
            assert end == (SUCCEEDED, R.SUCCEEDED, 'done')
        talk.settle()
        assert not talk.node.listen.unfinished


def test_a_newer_goal_takes_the_place_of_an_older_one():
    script = Script()
    with conversation(script) as talk:
        first = talk.ask(talk.client(), phrases=['one'])
        talk.play(join(silence(1.0), script.say(' which'), voice(0.3)))
        second = talk.ask(talk.client(), phrases=['two'])
        assert ended(first)[:2] == (ABORTED, R.PREEMPTED)
        assert first.result.message == 'a newer goal has taken its place'
        talk.play(join(script.say(' room'), silence(PAUSE)))
        assert ended(second) == (SUCCEEDED, R.SUCCEEDED, 'which room')


def test_cancel_and_ask_again_at_once():
    script = Script()
    with conversation(script) as talk:
        client = talk.client()
        first = talk.ask(client)
        first.cancel()
        second = Asking(talk, client)
        assert second.accepted
        assert ended(first)[1] in (R.CANCELED, R.PREEMPTED)
        talk.settle()
        talk.play(join(silence(1.0), script.say(' again'), silence(PAUSE)))
        assert ended(second) == (SUCCEEDED, R.SUCCEEDED, 'again')


def test_a_client_that_ends_without_a_word_is_in_nobodys_way():
    script = Script()
    with conversation(script) as talk:
        client = talk.client()
        talk.ask(client, max_duration_s=30.0)
        talk.leave(client)
        talk.play(join(silence(1.0), script.say(' hello'), silence(PAUSE)))
        assert not talk.node.listen.unfinished
        asking = talk.ask()
        talk.play(join(silence(1.0), script.say(' there'), silence(PAUSE)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'there')


@pytest.mark.parametrize('transition', ['deactivate', 'shutdown'])
def test_a_node_that_is_deactivated_aborts_the_goal(transition):
    script = Script()
    with conversation(script) as talk:
        client = talk.client()
        asking = talk.ask(client)
        talk.play(join(silence(1.0), script.say(' once'), script.say(' upon'), voice(2.0)))
        assert talk.do(getattr(talk.node, f'trigger_{transition}')).name == 'SUCCESS'
        assert ended(asking) == (ABORTED, R.ABORTED, 'once upon')
        assert asking.result.message == 'the node is not active any more'
        assert not Asking(talk, client).accepted
        if transition == 'deactivate':
            talk.activate()
            asking = talk.ask(client)
            talk.play(join(silence(1.0), script.say(' a'), script.say(' time'), silence(PAUSE)))
            assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'a time')


def test_a_recogniser_that_breaks_aborts_the_goal(monkeypatch):
    with conversation() as talk:
        asking = talk.ask()

        def broken(*_):
            raise RuntimeError('the GPU has fallen off the bus')

        monkeypatch.setattr(talk.engine, 'step', broken)
        for _ in range(3):
            talk.play(silence(0.5), wait=False)
            talk.wait(lambda: not talk.node.worker or not talk.node.worker.waiting_s)
        assert ended(asking)[:2] == (ABORTED, R.ABORTED)
        assert 'the GPU has fallen off the bus' in asking.result.message


def test_a_stream_that_starts_afresh_goes_on_with_the_goal(monkeypatch):
    """Its seconds begin at 0 again, whatever the goal has noted."""
    script = Script()
    with conversation(script) as talk:
        talk.play(silence(20.0))
        asking = talk.ask()
        failing, step = [True], talk.engine.step

        def fails_once(*only):
            if failing:
                failing.pop()
                raise RuntimeError('one bad step')
            return step(*only)

        monkeypatch.setattr(talk.engine, 'step', fails_once)
        talk.play(silence(0.5))
        talk.play(join(silence(1.0), script.say(' still'), silence(PAUSE)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'still')


def test_a_goal_that_cannot_be_is_rejected_with_the_reason():
    with conversation() as talk:
        client = talk.client()
        asking = talk.ask(client)
        for fields, reason in (
            ({'begin_timeout_s': -1.0}, 'begin_timeout_s is -1, expected seconds'),
            ({'max_duration_s': float('nan')}, 'max_duration_s is nan'),
            ({'max_duration_s': float('inf')}, 'max_duration_s is inf'),
            ({'end_silence_s': 0.01}, 'end_silence_s is 0.01, expected 0 or 0.1 to 10'),
            ({'end_silence_s': 60.0}, 'end_silence_s is 60'),
            ({'only_these': True}, 'only_these is true, and there are no phrases'),
            ({'only_these': True, 'phrases': ['', '# note']}, 'there are no phrases'),
            ({'phrases': ['kitchen', '!?']}, 'phrase 2: '),
            ({'phrases': ['kitchen :very']}, 'is no number'),
            ({'phrases': [f'room {n}' for n in range(1001)]}, 'there are 1001 phrases'),
        ):
            assert not Asking(talk, client, **fields).accepted
            assert talk.warnings[-1].startswith('a goal of ~/listen is rejected: ')
            assert reason in talk.warnings[-1]
        assert asking.result is None  # nobody is pre-empted by it


def test_a_node_that_is_not_active_rejects_goals():
    with conversation(active=False) as talk:
        assert not Asking(talk, talk.client()).accepted
        assert talk.warnings == ['a goal of ~/listen is rejected: the node is not active']


def test_phrases_are_expected_as_long_as_the_goal_is_under_way():
    script = Script()
    with conversation(script) as talk:
        expected = []
        stream = talk.node.worker._stream
        stream.set_phrases = lambda phrases: expected.append(
            [(phrase.text, phrase.boost) for phrase in phrases.phrases])
        first = talk.ask(phrases=['kitchen :2'])
        second = talk.ask(phrases=['garage :4', 'attic :1'])
        talk.play(join(silence(1.0), script.say(' attic'), silence(PAUSE)))
        assert ended(second)[2] == 'attic' and ended(first)[1] == R.PREEMPTED
        talk.play(silence(0.1))
        assert expected == [[('kitchen', 2.0)], [('garage', 4.0), ('attic', 1.0)], []]


def test_a_goal_may_have_a_pause_of_its_own():
    script = Script()
    with conversation(script, endpoint__silence_s=1.5) as talk:
        asking = talk.ask(end_silence_s=0.5)
        talk.play(join(silence(1.0), script.say(' yes'), silence(0.9)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'yes')
        talk.wait(lambda: talk.finals)
        talk.settle()
        talk.play(join(script.say(' no'), silence(0.9), script.say(' way'), silence(2.0)))
        talk.wait(lambda: len(talk.finals) == 2)
        assert talk.finals[1].text == 'no way'  # the pause of the node is back


def test_the_pause_of_a_goal_is_kept_when_parameters_change():
    script = Script()
    with conversation(script, endpoint__silence_s=1.5) as talk:
        asking = talk.ask(end_silence_s=0.5)
        talk.do(lambda: talk.node.set_parameters([
            Parameter('endpoint.silence_s', value=2.5), Parameter('vad.threshold', value=0.4)]))
        talk.play(join(silence(1.0), script.say(' yes'), silence(0.9)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'yes')


def test_what_the_robot_says_itself_does_not_count():
    script = Script()
    with conversation(script, robot_speaking_mode='mark') as talk:
        asking = talk.ask()
        talk.node.robot.doubtful = lambda start_ns, end_ns: start_ns < 1003 * 10 ** 9
        talk.play(join(silence(1.0), script.say(' which'), silence(PAUSE)))
        talk.play(join(script.say(' kitchen'), silence(PAUSE)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'kitchen')


def test_phrases_of_a_goal_come_on_top_of_those_of_the_node():
    with conversation(phrases__list=[f'room {n}' for n in range(600)]) as talk:
        client = talk.client()
        assert not Asking(talk, client, phrases=[f'robot {n}' for n in range(401)]).accepted
        assert 'there are 1001 phrases' in talk.warnings[-1]
        first = talk.ask(client, phrases=[f'robot {n}' for n in range(400)])
        assert len(talk.node.phrases.expected) == 1000
        second = talk.ask(client, phrases=[f'person {n}' for n in range(400)])  # in their place
        assert ended(first)[1] == R.PREEMPTED
        second.cancel()
        assert ended(second)[1] == R.CANCELED
        assert len(talk.node.phrases.expected) == 600


def test_audio_that_stops_while_somebody_speaks_ends_the_utterance():
    """Also when it is asked again and again whether somebody has begun."""
    script = Script()
    with conversation(script, max_gap_s=0.0) as talk:
        asking = talk.ask(begin_timeout_s=1.0)
        talk.play(join(silence(0.5), script.say(' stop'), voice(0.5)))
        while asking.result is None:
            talk.pass_time(0.25)
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'stop')


def test_a_process_that_ends_says_so_to_who_waits(tmp_path):
    with driven(tmp_path, source='file', file=first_orders(tmp_path, 1)) as driver:
        assert driver.change(CONFIGURE)
        feedback, results = [], []
        client = ActionClient(driver.client, Listen, 'asr/listen')
        assert client.wait_for_server(60)
        assert driver.change(ACTIVATE)
        sent = client.send_goal_async(Listen.Goal(), feedback.append)
        driver.wait(sent.done)
        sent.result().get_result_async().add_done_callback(
            lambda future: results.append(future.result()))
        driver.wait(lambda: feedback)
        assert driver.end()[0] == 0
        driver.wait(lambda: results)
        client.destroy()
        assert (results[0].status, results[0].result.reason) == (ABORTED, R.ABORTED)
        assert feedback[0].feedback.text in results[0].result.text


def test_what_a_server_has_still_to_write_may_be_the_answer():
    with conversation() as talk:
        asking = talk.ask(begin_timeout_s=5.0)
        talk.engine.link = LinkStatus('down', waiting_s=1.5)
        talk.pass_time(6.0)
        talk.settle()
        talk.pass_time(1.0)
        talk.settle()
        assert asking.result is None
        talk.engine.link = LinkStatus('connected')
        talk.pass_time(1.0)
        assert ended(asking)[:2] == (ABORTED, R.NO_SPEECH)


def test_topics_that_fail_keep_nobody_from_the_result():
    script = Script()
    with conversation(script) as talk:
        asking = talk.ask()
        talk.node._outputs.publish = lambda *_: 1 / 0
        talk.play(join(silence(1.0), script.say(' stop'), silence(PAUSE)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'stop')


def test_who_is_muted_learns_why_nobody_was_heard():
    with conversation() as talk:
        asking = talk.ask(begin_timeout_s=5.0)
        talk.node.listening = False
        talk.pass_time(6.0)
        asking.finish()
        assert asking.result.message == 'nobody has spoken for 5 s: muted by ~/set_listening'


def test_who_was_asked_something_needs_no_wake_phrase():
    script = Script()
    with conversation(script, wake__phrases=['hey robot']) as talk:
        client = talk.client()
        talk.play(join(silence(1.0), script.say(' hello'), silence(PAUSE)))
        asking = talk.ask(client)
        talk.play(join(script.say(' kitchen'), silence(PAUSE)))
        assert ended(asking) == (SUCCEEDED, R.SUCCEEDED, 'kitchen')
        assert asking.feedback
        talk.play(join(script.say(' hey robot'), script.say(' stop'), silence(PAUSE)))
        talk.wait(lambda: talk.finals)
        assert [final.text for final in talk.finals] == ['stop']  # the topics go on as they do
