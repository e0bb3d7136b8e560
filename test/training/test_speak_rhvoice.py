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

"""RHVoice's C interface, with a stand-in library that synthesizes 100 ms a word."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
from training.synthesis import speak_rhvoice
from training.synthesis.shards import ShardReader
from training.synthesis.speak_rhvoice import RHVoice, VOICES

STAND_IN = r"""
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

struct Init {  // RHVoice_init_params of RHVoice 1.14
  const char *data_path, *config_path, **resource_paths;
  int (*set_sample_rate)(int, void*);
  int (*play_speech)(const short*, unsigned, void*);
  int (*process_mark)(const char*, void*);
  int (*word_starts)(unsigned, unsigned, void*);
  int (*word_ends)(unsigned, unsigned, void*);
  int (*sentence_starts)(unsigned, unsigned, void*);
  int (*sentence_ends)(unsigned, unsigned, void*);
  int (*play_audio)(const char*, void*);
  void (*done)(void*);
  int options;
};
struct Synth {  // RHVoice_synth_params
  const char* voice_profile;
  double absolute_rate, absolute_pitch, absolute_volume;
  double relative_rate, relative_pitch, relative_volume;
  int punctuation_mode;
  const char* punctuation_list;
  int capitals_mode, flags;
};
static Init engine;
static std::string text, voices;
static short loud;

extern "C" {
const char* voices_used() { return voices.c_str(); }
void* RHVoice_new_tts_engine(const Init* init) {
  engine = *init;
  std::string place = init->data_path;
  FILE* file = fopen((place + "/languages").c_str(), "r");
  if (!file) return nullptr;
  fclose(file);
  return &engine;
}
void* RHVoice_new_message(void*, const char* from, unsigned length, int type, const Synth* p,
                          void*) {
  const bool fine = type == 0 && !p->absolute_rate && !p->absolute_pitch && !p->absolute_volume &&
                    p->relative_rate > 0.5 && p->relative_rate < 2 && p->relative_pitch > 0.5 &&
                    p->relative_pitch < 2 && !p->punctuation_mode && !p->punctuation_list &&
                    !p->capitals_mode && !p->flags;
  loud = fine ? 10000 * p->relative_volume : 0;
  text.assign(from, length);
  voices += std::string(p->voice_profile) + " ";
  return &text;
}
int RHVoice_speak(void*) {
  if (engine.process_mark || engine.word_starts || engine.play_audio || engine.done) return 0;
  engine.set_sample_rate(24000, nullptr);
  std::vector<short> block(120, loud);
  for (unsigned at = 0; at < text.size(); at = text.find(' ', at) + 1) {
    for (int i = 0; i < 20; ++i) engine.play_speech(block.data(), block.size(), nullptr);
    const unsigned end = std::min(text.find(' ', at), text.size());
    engine.word_ends(at, end - at, nullptr);
    if (end == text.size()) break;
  }
  return 1;
}
void RHVoice_delete_message(void*) { text.clear(); }
}
"""


@pytest.fixture
def folder(tmp_path):
    compiler = shutil.which('g++')
    if not compiler:
        pytest.skip('no g++ to compile the stand-in for RHVoice')
    source = tmp_path / 'stand_in.cpp'
    source.write_text(STAND_IN, encoding='utf-8')
    subprocess.run([compiler, '-shared', '-fPIC', '-o', tmp_path / 'libRHVoice.so', source],
                   check=True)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'languages').touch()
    return tmp_path


def test_words_end_where_their_samples_do(folder):
    audio, ends = RHVoice(folder).synthesize('find my coffee cup')
    assert ends == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert audio.dtype == np.int16
    assert len(audio) == 6400  # at 16 kHz
    assert np.median(audio) == 10000


def test_each_sentence_is_synthesized_on_its_own_in_any_voice(folder):
    engine = RHVoice(folder)
    assert [len(engine.synthesize('no')[1]) for _ in range(60)] == [1] * 60
    voices_used = engine._rhvoice.voices_used
    voices_used.restype = ctypes.c_char_p
    assert set(voices_used().decode().split()) == set(VOICES)


def test_a_folder_without_voices_is_an_error(folder):
    (folder / 'data' / 'languages').unlink()
    with pytest.raises(OSError, match='found no voices'):
        RHVoice(folder)


def test_each_process_writes_a_shard_of_its_own(folder, monkeypatch):
    (folder / 'sentences.txt').write_text(
        ''.join(f'take cup number {n}\n' for n in range(20)), encoding='utf-8')
    monkeypatch.setattr('sys.argv', [
        'speak_rhvoice', '--root', str(folder), '--folder', str(folder), '--processes', '2',
        '--seconds', '0.2'])
    speak_rhvoice.main()
    first, second = (ShardReader(folder / 'shards' / f'rhvoice{n}') for n in range(2))
    for shard in (first, second):
        shard.refresh()
        assert {clip.sentence for clip in shard.clips} == set(range(20))
        assert all(len(clip.ends) == 4 for clip in shard.clips)
    sentences = [[clip.sentence for clip in shard.clips[:20]] for shard in (first, second)]
    assert sentences[0] != sentences[1]  # each has its own random numbers
