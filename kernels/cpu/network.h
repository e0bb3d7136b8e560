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

// The network as the CPU kernels see it: addresses of tensors that live elsewhere.
//
// voxtral_ros/backends/cpu/library.py has the same structures for ctypes; voxtral_cpu_sizes checks
// that a library and that module belong together. Activations and convolution
// states are fp32.

#pragma once

#include <cstdint>

extern "C" {

enum WeightBits : int64_t { kFloat32 = 32, kBfloat16 = 16, kInt8 = 8, kInt4 = 4 };

// A weight of n outputs (rows) and k inputs (columns), in panels of 16 outputs; the last one is
// filled with zeros. Floating point: [panels][k][16]. INT8: [panels][k / 4][16][4], and for every 128
// inputs an fp32 scale of each output, [panels][k / 128][16]. INT4: half as many bytes, of which each
// has, with 8 added, an input in its low half and the one after the next 3 in its high half.
struct Matrix {
  const void * weight;
  const float * scale;  // null for floating point
  const float * bias;  // [n] or null
  int64_t n;
  int64_t k;
  int64_t bits;  // of a weight, WeightBits
};

struct Layer {
  const float * attention_norm;  // [dim]
  Matrix query, key, value, out;
  const float * ffn_norm;  // [dim]
  Matrix gate, up, down;
};

struct Stack {
  int64_t dim, n_layers, n_heads, n_kv_heads, head_dim, hidden_dim;
  int64_t sliding_window;  // positions that a query attends to, itself included
  int64_t per_token;  // positions of this stack per token
  double eps;
  const double * turns;  // [head_dim / 2], RoPE, turns per position
  const Layer * layers;
  const float * norm;  // [dim]
  // KV cache, fp16 or INT8. Keys are [n_layers, slots, n_kv_heads, capacity / 16, head_dim, 16],
  // values are [n_layers, slots, n_kv_heads, panels, capacity, 16] with head_dim in panels of 16.
  void * keys;
  void * values;
  // Of INT8, bfloat16: of keys and of values, [n_layers, slots, n_kv_heads, 2, capacity]; else null.
  uint16_t * scales;
  int64_t capacity;  // a multiple of 16; position p is in entry p % capacity
  int64_t * position;  // [slots], tokens of the stream so far
};

// Tokens that have a bias, in each state of a trie: voxtral_ros/backends/biasing.py, TokenTrie.
struct Phrases {
  const int32_t * begin;  // [n_states + 1]
  const int32_t * token, * next;  // [n_entries]
  const float * bias;  // [n_entries]
  const uint8_t * inside;  // [n_states], of a word
  int64_t first_text;  // tokens below it are special
};

struct Choice {
  int32_t token;
  float probability;
  // What it would be if nothing were expected, and by how much its logit is larger.
  int32_t unbiased;
  float unbiased_probability, cost;
};

struct Model {
  Stack encoder, decoder;
  Matrix conv[2];  // [dim, 3 * channels], floating point
  float * conv_state[2];  // last inputs, [slots, n_mels, 2] and [slots, dim, 1]
  Matrix adapter[2];
  Matrix head;  // LM head, and token embedding (tied)
  const float * delay_scales;  // [n_layers, slots, dim]
  const float * pad_penalty;  // [slots], subtracted from the logit of `pad`
  int64_t * last_token;  // [slots]
  const Phrases * phrases;  // [slots], begin is null where nothing is expected
  int64_t * phrase_state;  // [slots]
  int64_t n_slots, n_mels, pad;
};

struct LogMel {
  int64_t window_size, hop_length, n_mels;
  const double * roots;  // [window_size, 2], see Forward
  const double * window;  // [window_size]
  const int64_t * bins;  // first and last + 1 bin of the spectrum of each filter, [n_mels, 2]
  const double * weights;  // of these bins, one filter after the other
  double floor;  // of log10
};

}  // extern "C"
