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

"""What the utterances and sequences of the training are drawn from, and how often."""

from __future__ import annotations

# (shards, sentences, spliced fraction) -> sampling weight among the sources of its kind
SYNTHETIC_SPEECH = {
    ('kokoro', 'sentences.txt', 0.05): 18,
    ('hibari', 'sentences.txt', 0.05): 12,
    ('flite', 'sentences.txt', 0.0): 5,
    ('espeak', 'sentences.txt', 0.0): 3,
}
REAL_SPEECH = {
    ('common-voice', 'common-voice.txt', 0.3): 34,
    ('dev-clean', 'dev-clean.txt', 0.7): 14,
    ('clean-100', 'clean-100.txt', 0.9): 7,
    ('talks', 'talks.txt', 0.3): 10,  # transcribed by Whisper (training.pseudo_labels)
    ('wuw', 'wuw.txt', 0.3): 12,
    ('speechocean', 'speechocean.txt', 0.3): 8,
    ('an4', 'an4.txt', 0.0): 4,
    ('gsc', 'gsc.txt', 0.5): 3,
    ('wake-words', 'wake-words.txt', 0.3): 2,
    ('more', 'more.txt', 0.3): 2,
    ('asterisk-en', 'asterisk-en.txt', 0.4): 1,
}
# speech in other languages, of which nothing is to be written
FOREIGN_SPEECH = {('foreign', 'foreign.txt', 0.0): 1}
_FOREIGN_SPEECH = 0.04  # of the utterances
# speech without transcripts, from which the encoder alone learns; fraction of the sequences
UNTRANSCRIBED = ('untranscribed', 0.15)


def sources(real_speech: float) -> dict[tuple[str, str, float], float]:
    """Return the sampling weights: a fraction of real speech, the rest synthetic and foreign."""
    kinds = ((REAL_SPEECH, real_speech), (FOREIGN_SPEECH, _FOREIGN_SPEECH),
             (SYNTHETIC_SPEECH, 1 - real_speech - _FOREIGN_SPEECH))
    return {source: fraction * weight / sum(kind.values())
            for kind, fraction in kinds for source, weight in kind.items()}
