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

// GEMM (GEMV for one row), out[r][n] = x[r] . w[n] + bias[n], for weights in fp32, bf16, INT8 and
// INT4.
//
// SIMD lanes go along the inputs (K), and the sum of one output has the same order whichever other
// rows and outputs are computed beside it. So a result does not depend on the batch size or on how
// a stream is cut.

#pragma once

#include "network.h"
#include "simd.h"
#include "threads.h"

namespace {

// Multiply-adds that take about 100 us: less is not worth waking other threads for.
constexpr int64_t kMinParallelWork = 4 << 20;

inline void parallel_if_worth(int64_t n_parts, int64_t work, Task task, const void * context) {
  if (work >= kMinParallelWork) {
    return parallel_for(n_parts, task, context);
  }
  for (int64_t part = 0; part < n_parts; ++part) {
    task(context, part);
  }
}

constexpr int kGroup = 128;  // inputs that share a scale
constexpr int kHalf = 16;  // bytes in which INT4 has this many codes, and as many again

// How the codes of one row are converted to fp32: step i gives kVectors vectors, inputs
// at(i, vector).

struct Float32 {
  static constexpr int kVectors = 1;
  static constexpr bool kScaled = false;
  static int64_t bytes(int64_t k) {return 4 * k;}
  static int64_t at(int64_t i, int) {return i * kLanes;}
  static void read(const uint8_t * row, int64_t i, Vec out[1]) {
    std::memcpy(out, row + 4 * kLanes * i, sizeof(Vec));
  }
  static float element(const uint8_t * row, int64_t k) {
    float value;
    std::memcpy(&value, row + 4 * k, sizeof value);
    return value;
  }
};

struct Bfloat16 {
  static constexpr int kVectors = 1;
  static constexpr bool kScaled = false;
  static int64_t bytes(int64_t k) {return 2 * k;}
  static int64_t at(int64_t i, int) {return i * kLanes;}
  static void read(const uint8_t * row, int64_t i, Vec out[1]) {
    out[0] = from_bfloat16(row + 2 * kLanes * i);
  }
  static float element(const uint8_t * row, int64_t k) {
    uint16_t half;
    std::memcpy(&half, row + 2 * k, sizeof half);
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
};

struct Int8 {
  static constexpr int kVectors = 1;
  static constexpr bool kScaled = true;
  static int64_t bytes(int64_t k) {return k;}
  static int64_t at(int64_t i, int) {return i * kLanes;}
  static void read(const uint8_t * row, int64_t i, Vec out[1]) {
    out[0] = from_int8(row + kLanes * i);
  }
  static float element(const uint8_t * row, int64_t k) {return (float)(int8_t)row[k];}
};

struct Int4 {
  static constexpr int kVectors = 2;
  static constexpr bool kScaled = true;
  static int64_t bytes(int64_t k) {return k / 2;}
  static int64_t at(int64_t i, int vector) {
    const int64_t per_half = kHalf / kLanes;
    return i / per_half * 2 * kHalf + i % per_half * kLanes + vector * kHalf;
  }
  static void read(const uint8_t * row, int64_t i, Vec out[2]) {
    const Int both = from_bytes(row + kLanes * i);
    out[0] = to_float((both & 15) - 8);
    out[1] = to_float((both >> 4) - 8);
  }
  static float element(const uint8_t * row, int64_t k) {
    const uint8_t both = row[k / (2 * kHalf) * kHalf + k % kHalf];
    return (float)((k % (2 * kHalf) < kHalf ? both & 15 : both >> 4) - 8);
  }
};

// Rows of a weight, or keys of a KV cache.
struct WeightRows {
  const uint8_t * weight;
  int64_t stride;  // bytes between rows
  const float * scale;
  const float * bias;
  int64_t n, k;
};

struct Target {
  float * out;
  int64_t stride;
  bool add;  // to what is there
};

// Inner loop of a register tile of R rows and C outputs: steps `from` to `to` along K.
template<class Code, int R, int C>
inline void accumulate(
  const uint8_t * weight, int64_t stride, const float * x, int64_t x_stride, int64_t from,
  int64_t to, Vec (&total)[R][C])
{
  for (int64_t i = from; i < to; ++i) {
    Vec codes[C][Code::kVectors];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      Code::read(weight + c * stride, i, codes[c]);
      // Weights of the next outputs: rows are too short for the hardware prefetcher.
      __builtin_prefetch(weight + (c + C) * stride + Code::bytes(Code::at(i, 0)));
    }
#pragma GCC unroll 2
    for (int v = 0; v < Code::kVectors; ++v) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const Vec input = load(x + r * x_stride + Code::at(i, v));
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
          total[r][c] += codes[c][v] * input;
        }
      }
    }
  }
}

template<class Code, int R, int C>
inline void tile(
  const WeightRows & w, int64_t n, const float * x, int64_t x_stride, Target target)
{
  constexpr int kStep = kLanes * Code::kVectors;
  const uint8_t * weight = w.weight + n * w.stride;
  Vec total[R][C] = {};
  if constexpr (Code::kScaled) {
    const int64_t n_groups = w.k / kGroup;
    for (int64_t g = 0; g < n_groups; ++g) {
      Vec part[R][C] = {};
      accumulate<Code, R, C>(
        weight, w.stride, x, x_stride, g * kGroup / kStep, (g + 1) * kGroup / kStep, part);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const Vec scale = splat(w.scale[(n + c) * n_groups + g]);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          total[r][c] += part[r][c] * scale;
        }
      }
    }
  } else {
    accumulate<Code, R, C>(weight, w.stride, x, x_stride, 0, w.k / kStep, total);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      float value = sum(total[r][c]);
      if constexpr (!Code::kScaled) {  // scaled ones have whole groups
        for (int64_t k = w.k / kStep * kStep; k < w.k; ++k) {
          value += Code::element(weight + c * w.stride, k) * x[r * x_stride + k];
        }
      }
      if (w.bias) {
        value += w.bias[n + c];
      }
      float & out = target.out[r * target.stride + n + c];
      out = target.add ? out + value : value;
    }
  }
}

template<class Code, int R, int C>
void output_tiles(const WeightRows & w, const float * x, int64_t x_stride, Target target) {
  int64_t n = 0;
  for (; n + C <= w.n; n += C) {
    tile<Code, R, C>(w, n, x, x_stride, target);
  }
  for (; n < w.n; ++n) {
    tile<Code, R, 1>(w, n, x, x_stride, target);
  }
}

// Outputs of a register tile of 1, 2, 3 and 4 rows, by the number of registers.
#if defined(__AVX2__) && !defined(__AVX512F__)
constexpr int kTileOutputs[] = {4, 4, 2, 2};
#else
constexpr int kTileOutputs[] = {8, 4, 4, 4};
#endif

template<class Code>
void gemm_rows(
  const WeightRows & w, const float * x, int64_t x_stride, int64_t n_rows, Target target)
{
  for (int64_t row = 0; row < n_rows; row += 4) {
    switch (n_rows - row) {
      case 1: output_tiles<Code, 1, kTileOutputs[0]>(w, x, x_stride, target); break;
      case 2: output_tiles<Code, 2, kTileOutputs[1]>(w, x, x_stride, target); break;
      case 3: output_tiles<Code, 3, kTileOutputs[2]>(w, x, x_stride, target); break;
      default: output_tiles<Code, 4, kTileOutputs[3]>(w, x, x_stride, target);
    }
    x += 4 * x_stride;
    target.out += 4 * target.stride;
  }
}

// A block of outputs of x [n_rows, k] times m into out [n_rows, n]; the unit of work of a thread.
template<class Code>
struct OutputBlock {
  static constexpr int64_t kSize = 32;  // weights stay in L1 or L2 for all rows

  const Matrix & m;
  const float * x;
  int64_t n_rows;
  float * out;
  bool add;

  static void run(const void * context, int64_t part) {
    const OutputBlock & p = *(const OutputBlock *)context;
    const Matrix & m = p.m;
    const int64_t n = part * kSize, stride = Code::bytes(m.k);
    const WeightRows rows{
      (const uint8_t *)m.weight + n * stride, stride,
      m.scale ? m.scale + n * (m.k / kGroup) : nullptr, m.bias ? m.bias + n : nullptr,
      n + kSize < m.n ? kSize : m.n - n, m.k};
    gemm_rows<Code>(rows, p.x, m.k, p.n_rows, Target{p.out + n, m.n, p.add});
  }
};

template<class Code>
void gemm_as(const Matrix & m, const float * x, int64_t n_rows, float * out, bool add) {
  const OutputBlock<Code> all{m, x, n_rows, out, add};
  const int64_t n_parts = (m.n + OutputBlock<Code>::kSize - 1) / OutputBlock<Code>::kSize;
  parallel_if_worth(n_parts, m.n * m.k * n_rows, OutputBlock<Code>::run, &all);
}

inline void gemm(
  const Matrix & m, const float * x, int64_t n_rows, float * out, bool add = false)
{
  switch (m.bits) {
    case kFloat32: return gemm_as<Float32>(m, x, n_rows, out, add);
    case kBfloat16: return gemm_as<Bfloat16>(m, x, n_rows, out, add);
    case kInt8: return gemm_as<Int8>(m, x, n_rows, out, add);
    case kInt4: return gemm_as<Int4>(m, x, n_rows, out, add);
  }
}

template<class Code>
void add_embedding_as(const Matrix & m, int64_t n, float * out) {
  const uint8_t * row = (const uint8_t *)m.weight + n * Code::bytes(m.k);
  for (int64_t k = 0; k < m.k; ++k) {
    const float code = Code::element(row, k);
    out[k] += Code::kScaled ? code * m.scale[n * (m.k / kGroup) + k / kGroup] : code;
  }
}

// out[k] += w[n][k]: the embedding of token n, as the head is tied to it
inline void add_embedding(const Matrix & m, int64_t n, float * out) {
  switch (m.bits) {
    case kFloat32: return add_embedding_as<Float32>(m, n, out);
    case kBfloat16: return add_embedding_as<Bfloat16>(m, n, out);
    case kInt8: return add_embedding_as<Int8>(m, n, out);
    case kInt4: return add_embedding_as<Int4>(m, n, out);
  }
}

}  // namespace
