// Copyright 2026 voxtral_ros maintainers
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

// Biasing of tokens; see voxtral_ros/backends/biasing.py.

#pragma once

#include <algorithm>
#include <cmath>

#include "layers.h"

// The entry of a token in a state, -1 if it has none.
inline int64_t find(const Phrases & p, int64_t state, int64_t token) {
  const int32_t * from = p.token + p.begin[state], * to = p.token + p.begin[state + 1];
  const int32_t * at = std::lower_bound(from, to, token);
  return at != to && *at == token ? at - p.token : -1;
}

inline int64_t next_state(const Phrases & p, int64_t state, int64_t token) {
  if (token < p.first_text) {
    return state;
  }
  int64_t at = find(p, state, token);
  at = at < 0 && state ? find(p, 0, token) : at;
  return at < 0 ? 0 : p.next[at];
}

inline int32_t first_largest(const float * x, int64_t from, int64_t to) {
  int32_t best = from;
  for (int64_t i = from + 1; i < to; ++i) {
    best = x[i] > x[best] ? i : best;
  }
  return best;
}

// The likeliest token; logits [vocabulary] are overwritten.
inline Choice choose(float * logits, int64_t vocabulary) {
  const int32_t token = first_largest(logits, 0, vocabulary);
  const float probability = 1.0f / exp_and_sum(logits, 0, vocabulary);
  return {token, probability, token, probability, 0.0f};
}

// The token that takes the place of the likeliest one because it is expected, or else that one. Where
// no word of a phrase is begun, what tokens with a bias gain all text tokens lose together before
// they are compared with special tokens.
inline Choice choose_biased(const Phrases & p, int64_t state, float * logits, int64_t vocabulary) {
  const int32_t special = first_largest(logits, 0, p.first_text);
  const int32_t text = first_largest(logits, p.first_text, vocabulary);
  const int32_t unbiased = logits[text] > logits[special] ? text : special;
  const float * e = logits;  // from here on exponentials
  const float total = exp_and_sum(logits, 0, vocabulary);
  int32_t token = -1;
  float best = 0, gain = 0;
  const auto add = [&](int64_t i) {
      const float biased = e[p.token[i]] * std::exp(p.bias[i]);
      gain += biased - e[p.token[i]];
      if (biased > best || (biased == best && p.token[i] < token)) {
        best = biased, token = p.token[i];
      }
    };
  for (int64_t i = p.begin[state]; i < p.begin[state + 1]; ++i) {
    add(i);
  }
  float all = total + gain;
  const bool inside = p.inside[state];
  for (int64_t i = inside || !state ? p.begin[1] : 0; i < p.begin[1]; ++i) {
    if (find(p, state, p.token[i]) < 0) {
      add(i);
    }
  }
  const bool is_best_text = unbiased == special || best > e[unbiased] || token == unbiased;
  if (!inside) {
    float sum = total;
    for (int64_t i = 0; i < p.first_text; ++i) {
      sum -= e[i];
    }
    all = total;
    best *= gain > 0 ? sum / (sum + gain) : 1.0f;
  }
  const float probability = e[unbiased] / total;
  if (token >= 0 && is_best_text && best > e[special]) {
    const float cost = token == unbiased ? 0.0f : std::log(e[unbiased] / e[token]);
    return {token, best / all, unbiased, probability, cost};
  }
  return {unbiased, probability, unbiased, probability, 0.0f};
}
