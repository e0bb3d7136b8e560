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

// What lies between the GEMMs: RMSNorm, activations, RoPE, attention over a circular KV cache.

#pragma once

#include "gemm.h"

namespace {

// RMSNorm of rows [n_rows, dim], times weight.
inline void rms_norm(
  const float * x, int64_t n_rows, int64_t dim, const float * weight, double eps, float * out)
{
  const int64_t whole = dim / kLanes * kLanes;
  for (int64_t row = 0; row < n_rows; ++row, x += dim, out += dim) {
    Vec squares = {};
    for (int64_t i = 0; i < whole; i += kLanes) {
      squares += load(x + i) * load(x + i);
    }
    float total = sum(squares);
    for (int64_t i = whole; i < dim; ++i) {
      total += x[i] * x[i];
    }
    const float scale = 1.0f / std::sqrt(total / (float)dim + (float)eps);
    for (int64_t i = 0; i < dim; ++i) {
      out[i] = x[i] * scale * weight[i];
    }
  }
}

// gate = silu(gate) * up
inline void swiglu(float * gate, const float * up, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec x = load(gate + i);
    store(gate + i, x / (exp(-x) + 1.0f) * load(up + i));
  }
  if (i < n) {
    const Vec x = load_part(gate + i, n - i, 0.0f);
    store_part(gate + i, x / (exp(-x) + 1.0f) * load_part(up + i, n - i, 0.0f), n - i);
  }
}

inline void gelu(float * x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    x[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.70710678f));
  }
}

// Softmax without its division: x becomes exp(x - max); returns the sum.
inline float exp_and_sum(float * x, int64_t n) {
  float largest = x[0];
  for (int64_t i = 1; i < n; ++i) {
    largest = x[i] > largest ? x[i] : largest;
  }
  Vec total = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec e = exp(load(x + i) - largest);
    store(x + i, e);
    total += e;
  }
  if (i < n) {
    const Vec e = exp(load_part(x + i, n - i, -INFINITY) - largest);
    store_part(x + i, e, n - i);
    total += e;
  }
  return sum(total);
}

// Applies RoPE to the pairs (2j, 2j + 1) of every head of one row, [n_heads, head_dim].
inline void apply_rope(
  float * x, int64_t n_heads, int64_t head_dim, const float * cosine, const float * sine)
{
  for (int64_t head = 0; head < n_heads; ++head, x += head_dim) {
    for (int64_t j = 0; j < head_dim / 2; ++j) {
      const float a = x[2 * j], b = x[2 * j + 1];
      x[2 * j] = a * cosine[j] - b * sine[j];
      x[2 * j + 1] = a * sine[j] + b * cosine[j];
    }
  }
}

// Register tile of pv_gemm: out[r][d] += sum over n of p[r][n] * v[n][d], R rows, D vectors.
template<int R, int D>
inline void pv_gemm_tile(
  const float * p, int64_t p_stride, const float * v, int64_t v_stride, int64_t n, float * out,
  int64_t out_stride)
{
  Vec total[R][D];
  for (int r = 0; r < R; ++r) {
    for (int d = 0; d < D; ++d) {
      total[r][d] = load(out + r * out_stride + d * kLanes);
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    Vec value[D];
#pragma GCC unroll 4
    for (int d = 0; d < D; ++d) {
      value[d] = load(v + i * v_stride + d * kLanes);
      __builtin_prefetch(v + (i + 8) * v_stride + d * kLanes);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int d = 0; d < D; ++d) {
        total[r][d] += value[d] * p[r * p_stride + i];
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int d = 0; d < D; ++d) {
      store(out + r * out_stride + d * kLanes, total[r][d]);
    }
  }
}

template<int R>
inline void pv_gemm_rows(
  const float * p, int64_t p_stride, const float * v, int64_t v_stride, int64_t n, float * out,
  int64_t dim)
{
  int64_t d = 0;
  for (; d + 4 * kLanes <= dim; d += 4 * kLanes) {
    pv_gemm_tile<R, 4>(p, p_stride, v + d, v_stride, n, out + d, dim);
  }
  for (; d + kLanes <= dim; d += kLanes) {
    pv_gemm_tile<R, 1>(p, p_stride, v + d, v_stride, n, out + d, dim);
  }
  for (; d < dim; ++d) {
    for (int r = 0; r < R; ++r) {
      for (int64_t i = 0; i < n; ++i) {
        out[r * dim + d] += v[i * v_stride + d] * p[r * p_stride + i];
      }
    }
  }
}

// Weighted sum of values, out += p v. p: [n_rows, n], v: [n, dim], out: [n_rows, dim]
inline void pv_gemm(
  const float * p, int64_t p_stride, int64_t n_rows, const float * v, int64_t v_stride, int64_t n,
  float * out, int64_t dim)
{
  int64_t row = 0;
  for (; row + 4 <= n_rows; row += 4) {
    pv_gemm_rows<4>(p + row * p_stride, p_stride, v, v_stride, n, out + row * dim, dim);
  }
  for (; row < n_rows; ++row) {
    pv_gemm_rows<1>(p + row * p_stride, p_stride, v, v_stride, n, out + row * dim, dim);
  }
}

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

// Sliding-window GQA of n new positions of one stream, the first of which is `first`; their keys
// and values are in the KV cache already. Rows are the queries that share a key head:
// [n, n_heads / n_kv_heads].
struct Attention {
  const Stack & s;
  const float * keys, * values;  // of the stream, [capacity, n_kv_heads, head_dim]
  int64_t first, n;
  const float * query;  // [n, n_heads, head_dim]
  float * out;  // the same
  float * scratch;  // [n_kv_heads, scratch_size]

  static int64_t n_rows(const Stack & s, int64_t n) {
    return n * (s.n_heads / s.n_kv_heads);
  }

  // Softmax sums, queries, weighted values and scores of all rows of a key head.
  static int64_t scratch_size(const Stack & s, int64_t n) {
    return n_rows(s, n) * (1 + 2 * s.head_dim + s.sliding_window - 1 + n);
  }

  void run() const {
    const int64_t work = n * s.n_heads * s.head_dim * (first + n - oldest(first));
    parallel_if_worth(s.n_kv_heads, work, head, this);
  }

private:
  int64_t oldest(int64_t position) const {
    return position < s.sliding_window ? 0 : position - s.sliding_window + 1;
  }

  static void head(const void * context, int64_t index) {
    ((const Attention *)context)->attend(index);
  }

  void attend(int64_t head) const {
    const int64_t dim = s.head_dim, group = s.n_heads / s.n_kv_heads, rows = n_rows(s, n);
    const int64_t entry_size = s.n_kv_heads * dim, stride = s.sliding_window - 1 + n;
    const int64_t begin = oldest(first), end = first + n;
    float * sums = scratch + head * scratch_size(s, n), * q = sums + rows;
    float * pv = q + rows * dim, * scores = pv + rows * dim;
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
    over_kv_cache(s.capacity, begin, end, [&](int64_t entry, int64_t position, int64_t length) {
        const float * key = keys + entry * entry_size + head * dim;
        const WeightRows weight{
          (const uint8_t *)key, 4 * entry_size, nullptr, nullptr, length, dim};
        gemm_rows<Float32>(weight, q, dim, rows, Target{scores + position - begin, stride, false});
      });
    for (int64_t row = 0; row < rows; ++row) {
      float * score = scores + row * stride;
      const int64_t position = first + row / group;
      const int64_t from = oldest(position) - begin, to = position + 1 - begin;
      sums[row] = exp_and_sum(score + from, to - from);
      for (int64_t i = 0; i < from; ++i) {
        score[i] = 0.0f;
      }
      for (int64_t i = to; i < end - begin; ++i) {
        score[i] = 0.0f;
      }
    }
    over_kv_cache(s.capacity, begin, end, [&](int64_t entry, int64_t position, int64_t length) {
        pv_gemm(
          scores + position - begin, stride, rows, values + entry * entry_size + head * dim,
          entry_size, length, pv, dim);
      });
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t d = 0; d < dim; ++d) {
        out[at(row) + d] = pv[row * dim + d] / sums[row];
      }
    }
  }
};

}  // namespace
