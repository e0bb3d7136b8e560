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

// Sliding-window attention with grouped queries over a circular KV cache in fp16 or INT8.
//
// Both caches are panels that gemm.h multiplies: keys of 16 positions lie side by side, and values
// of 16 dimensions. So both products are GEMMs, and an output is a sum in the order of positions.
// In INT8 the scale of a key multiplies its scores, and that of a value its softmax numerators.

#pragma once

#include "gemm.h"
#include "layers.h"

namespace {

// Positions first to last - 1 of a circular KV cache, in at most two contiguous parts.
template<class Part>
inline void over_kv_cache(int64_t capacity, int64_t first, int64_t last, Part part) {
  while (first < last) {
    const int64_t entry = first % capacity, left = capacity - entry;
    const int64_t n = last - first < left ? last - first : left;
    part(entry, first, n);
    first += n;
  }
}

// Rounds a key or value of one head to INT8, dimension d to place(d), and returns its scale, the
// largest magnitude / 127 as bfloat16, rounded up. NaN or infinity makes the scale NaN.
template<class Place>
inline uint16_t quantize_head(const float * x, int64_t dim, Place place) {
  float magnitude = 0.0f;
  bool finite = true;
  for (int64_t d = 0; d < dim; ++d) {
    const float size = std::fabs(x[d]);
    finite = finite && size < INFINITY;
    magnitude = size > magnitude ? size : magnitude;
  }
  uint32_t bits;
  const float exact = magnitude < 1e-30f ? 0.0f : magnitude / 127.0f;  // else without an inverse
  std::memcpy(&bits, &exact, sizeof bits);
  const uint16_t scale = finite ? (uint16_t)((bits + 0xffff) >> 16) : 0x7fc0;
  const float inverse = finite && scale ? 1.0f / Bfloat16::value(scale) : 0.0f;
  for (int64_t d = 0; d < dim; ++d) {
    *place(d) = finite ? (int8_t)std::nearbyint(x[d] * inverse) : 0;
  }
  return scale;
}

// KV cache of one stream in one layer.
struct KVCache {
  const Stack & s;
  int64_t index;  // of layer and slot

  // Codes of a head.
  static int64_t keys_size(const Stack & s) {return s.capacity * s.head_dim;}
  static int64_t values_size(const Stack & s) {return s.capacity * panels(s.head_dim) * kPanel;}

  template<class Code>
  Code * keys(int64_t head) const {
    return (Code *)s.keys + (index * s.n_kv_heads + head) * keys_size(s);
  }
  template<class Code>
  Code * values(int64_t head) const {
    return (Code *)s.values + (index * s.n_kv_heads + head) * values_size(s);
  }
  // Of keys, then of values: [2, capacity]
  uint16_t * scales(int64_t head) const {
    return s.scales + (index * s.n_kv_heads + head) * 2 * s.capacity;
  }

  // key, value: [n_kv_heads, head_dim]
  void write(int64_t position, const float * key, const float * value) const {
    const int64_t entry = position % s.capacity;
    for (int64_t head = 0; head < s.n_kv_heads; ++head) {
      if (s.scales) {
        scales(head)[entry] = quantize_head(
          key, s.head_dim, [&](int64_t d) {return keys<int8_t>(head) + key_place(entry, d);});
        scales(head)[s.capacity + entry] = quantize_head(
          value, s.head_dim, [&](int64_t d) {return values<int8_t>(head) + value_place(entry, d);});
      } else {
        for (int64_t d = 0; d < s.head_dim; ++d) {
          keys<uint16_t>(head)[key_place(entry, d)] = to_half(key[d]);
          values<uint16_t>(head)[value_place(entry, d)] = to_half(value[d]);
        }
      }
      key += s.head_dim;
      value += s.head_dim;
    }
  }

private:
  int64_t key_place(int64_t entry, int64_t d) const {
    return (entry / kPanel * s.head_dim + d) * kPanel + entry % kPanel;
  }
  int64_t value_place(int64_t entry, int64_t d) const {
    return (d / kPanel * s.capacity + entry) * kPanel + d % kPanel;
  }
};

// Attention of n new positions of one stream, the first of which is `first`; their keys and values
// are in the KV cache already. Rows are the queries that share a key head:
// [n, n_heads / n_kv_heads].
struct Attention {
  const Stack & s;
  KVCache cache;
  int64_t first, n;
  const float * query;  // [n, n_heads, head_dim]
  float * out;  // the same
  float * scratch;  // [n_kv_heads, scratch_size]

  static int64_t n_rows(const Stack & s, int64_t n) {
    return n * (s.n_heads / s.n_kv_heads);
  }

  // Queries, weighted values and scores of all rows of a key head, and their softmax sums.
  static int64_t scratch_size(const Stack & s, int64_t n) {
    return n_rows(s, n) * (2 * s.head_dim + scores_size(s, n) + 1);
  }

  void run() const {
    const int64_t work = n * s.n_heads * s.head_dim * (first + n - oldest(first));
    parallel_if_worth(s.n_kv_heads, work, head, this);
  }

private:
  // Whole panels that a pass attends to.
  static int64_t scores_size(const Stack & s, int64_t n) {
    return (panels(s.sliding_window - 1 + n) + 1) * kPanel;
  }

  int64_t oldest(int64_t position) const {
    return position < s.sliding_window ? 0 : position - s.sliding_window + 1;
  }

  static void head(const void * context, int64_t index) {
    const Attention & attention = *(const Attention *)context;
    attention.s.scales ? attention.attend<SignedBytes>(index) : attention.attend<Float16>(index);
  }

  template<class Codes>
  void attend(int64_t head) const {
    typedef typename Codes::Code Code;
    const int64_t dim = s.head_dim, group = s.n_heads / s.n_kv_heads, rows = n_rows(s, n);
    const int64_t stride = scores_size(s, n);
    const int64_t begin = oldest(first), end = first + n, origin = begin / kPanel * kPanel;
    float * q = scratch + head * scratch_size(s, n), * pv = q + rows * dim;
    float * scores = pv + rows * dim, * sums = scores + rows * stride;
    const auto at = [&](int64_t row) {
        return (row / group * s.n_heads + head * group + row % group) * dim;
      };
    const float scale = 1.0f / std::sqrt((float)dim);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t d = 0; d < dim; ++d) {
        q[row * dim + d] = query[at(row) + d] * scale;
        pv[row * dim + d] = 0.0f;
      }
    }
    const Code * keys = cache.keys<Code>(head);
    const int64_t whole = origin + panels(end - origin) * kPanel;
    over_kv_cache(s.capacity, origin, whole, [&](int64_t entry, int64_t position, int64_t length) {
        const FloatPanels<Codes> w{keys + entry * dim, dim * kPanel, length, dim, nullptr};
        float_gemm(w, q, dim, rows, Output{scores + position - origin, stride, false});
        multiply_by_scales(head, 0, scores + position - origin, entry, length);
      });
    for (int64_t row = 0; row < rows; ++row) {
      float * score = scores + row * stride;
      const int64_t position = first + row / group;
      const int64_t from = oldest(position) - origin, to = position + 1 - origin;
      sums[row] = exp_and_sum(score, from, to);
      for (int64_t i = begin - origin; i < from; ++i) {
        score[i] = 0.0f;
      }
      for (int64_t i = to; i < end - origin; ++i) {
        score[i] = 0.0f;
      }
    }
    // What lies in the cache outside of begin to end may be anything.
    const Code * values = cache.values<Code>(head);
    over_kv_cache(s.capacity, begin, end, [&](int64_t entry, int64_t position, int64_t length) {
        multiply_by_scales(head, 1, scores + position - origin, entry, length);
        const FloatPanels<Codes> w{
          values + entry * kPanel, s.capacity * kPanel, dim, length, nullptr};
        float_gemm(w, scores + position - origin, stride, rows, Output{pv, dim, true});
      });
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t d = 0; d < dim; ++d) {
        out[at(row) + d] = pv[row * dim + d] / sums[row];
      }
    }
  }

  // All rows of scores of `length` entries, by the scales of their keys (0) or values (1).
  void multiply_by_scales(
    int64_t head, int64_t which, float * scores, int64_t entry, int64_t length) const
  {
    if (!s.scales) {
      return;
    }
    const uint16_t * scale = cache.scales(head) + which * s.capacity + entry;
    for (int64_t row = 0; row < n_rows(s, n); ++row, scores += scores_size(s, n)) {
      for (int64_t i = 0; i < length; ++i) {
        scores[i] *= Bfloat16::value(scale[i]);
      }
    }
  }
};

}  // namespace
