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

// The functions that are compiled once per instruction set.

#pragma once

#include "network.h"

struct Streams {
  const int64_t * slots;  // [n], different ones
  int64_t n;
};

// What is computed with one instruction set.
struct Forward {
  // Cosine and sine of 0, 1 / n, ... (n - 1) / n turns, [n, 2].
  void (* roots)(int64_t n, double * out);
  // samples [n_streams, n_samples] to out [n_streams, frames, n_mels], as many as there are; memory:
  // 24 * window_size numbers
  void (* log_mel)(
    const LogMel & mel, const float * samples, int64_t n_streams, int64_t n_samples,
    double * memory, float * out);
  // out [n_rows, n] = x [n_rows, k] times a weight, by itself, for tests and benchmarks. memory:
  // n_rows * k floats
  void (* gemm)(const Matrix & m, const float * x, int64_t n_rows, float * memory, float * out);
  // Size of `memory`, in floats.
  int64_t (* workspace)(const Model & model, int64_t n_streams, int64_t n_tokens);
  // n_tokens positions with prompt_tokens [streams, n_tokens]; choices [streams] are what the last
  // position predicts. mel: [streams, frames, n_mels]
  void (* prefill)(
    const Model & model, Streams streams, const float * mel, int64_t n_tokens,
    const int64_t * prompt_tokens, float * memory, Choice * choices);
  // n_tokens positions one by one, each with the token that the one before has predicted; choices:
  // [streams, n_tokens]
  void (* decode)(
    const Model & model, Streams streams, const float * mel, int64_t n_tokens, float * memory,
    Choice * choices);
};

extern const Forward forward_baseline;
#if defined(__x86_64__)
extern const Forward forward_avx2;
extern const Forward forward_avxvnni;
extern const Forward forward_avx512;
#elif defined(__aarch64__)
extern const Forward forward_dotprod;
#endif
