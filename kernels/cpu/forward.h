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

// The functions that there are once per instruction set.

#pragma once

#include "network.h"

struct Streams {
  const int64_t * slots;  // [n], different ones
  int64_t n;
};

struct Passes {
  // Floats of memory that a pass may use.
  int64_t (* workspace)(const Model & model, int64_t n_streams, int64_t n_tokens);
  // n_tokens positions with given tokens [streams, n_tokens]; what the last one predicts.
  // mel: [streams, frames, n_mels]
  void (* prompt)(
    const Model & model, Streams streams, const float * mel, int64_t n_tokens,
    const int64_t * given, float * memory, int64_t * token, float * probability);
  // n_tokens positions, each with the token that the one before has predicted: [streams, n_tokens]
  void (* generate)(
    const Model & model, Streams streams, const float * mel, int64_t n_tokens, float * memory,
    int64_t * token, float * probability);
};

extern const Passes forward_baseline;
#if defined(__x86_64__)
extern const Passes forward_avx2;
extern const Passes forward_avx512;
#endif
