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

// GEMM (GEMV for one row), out[r][n] = x[r] . w[n] + bias[n], for weights in fp32, bf16, fp16, INT8
// and INT4.
//
// Weights lie in panels of 16 outputs, one after the other, so they are read in order, and every
// lane has an output of its own. An output is one sum in the order of its inputs, whichever other
// rows and outputs are computed beside it: a result depends neither on the batch size, nor on how
// a stream is cut.
//
// INT8 and INT4 are multiplied as integers: each row of inputs is rounded to INT8 first, with a
// scale for every 128 of them, as the weights have.

#pragma once

#include <type_traits>

#include "int_dot.h"
#include "network.h"
#include "threads.h"

namespace {

// Multiply-adds that take 20 to 100 us: less is not worth waking other threads for.
constexpr int64_t kMinParallelWork = 4 << 20;

inline void parallel_if_worth(int64_t n_parts, int64_t work, Task task, const void * context) {
  if (work >= kMinParallelWork) {
    return parallel_for(n_parts, task, context);
  }
  for (int64_t part = 0; part < n_parts; ++part) {
    task(context, part);
  }
}

// ---- inputs ----

// Rows of inputs rounded to INT8.
struct Inputs8 {
  int8_t * codes;  // [n_rows, k]
  float * scales;  // [n_rows, k / 128]
  int32_t * sums;  // of codes, [n_rows, k / 128]

  // In floats, for rows of up to k inputs.
  static int64_t size(int64_t n_rows, int64_t k) {
    return n_rows * (k / 4 + 1 + 2 * (k / kGroup));
  }
};

// Rounds 128 inputs to INT8: scale = max|x| / 127. NaN or infinity makes the scale NaN.
inline void quantize_group(const float * x, int8_t * codes, float & scale, int32_t & sum) {
  constexpr int kSteps = kGroup / kLanes;
  Int top = {};  // of finite numbers the largest magnitude, as their bits have its order
  for (int i = 0; i < kSteps; ++i) {
    const Int bits = (Int)load(x + i * kLanes) & 0x7fffffff;
    top = bits > top ? bits : top;
  }
  int32_t most = 0;
  for (int i = 0; i < kLanes; ++i) {
    most = top[i] > most ? top[i] : most;
  }
  float magnitude;
  std::memcpy(&magnitude, &most, sizeof magnitude);
  const bool finite = most < 0x7f800000;
  const bool zero = !finite || magnitude < 1e-30f;  // too small for its inverse
  scale = !finite ? NAN : zero ? 0.0f : magnitude / 127.0f;
  const Vec inverse = splat(zero ? 0.0f : 127.0f / magnitude), magic = splat(12582912.0f);
  Int total = {};
  int32_t rounded[kGroup];
  for (int i = 0; i < kSteps; ++i) {
    const Vec input = load(x + i * kLanes);
    const Vec shifted = input * inverse + magic;  // integer in the low bits
    const Int code = zero ? Int{} : (Int)shifted - 0x4b400000;
    std::memcpy(rounded + i * kLanes, &code, sizeof code);
    total += code;
  }
  for (int i = 0; i < kGroup; ++i) {
    codes[i] = (int8_t)rounded[i];
  }
  sum = 0;
  for (int i = 0; i < kLanes; ++i) {
    sum += total[i];
  }
}

// What weights are multiplied by: rows of inputs, rounded once the first weight asks for it.
class Input {
public:
  const float * const x;  // [n_rows, k]
  const int64_t n_rows, k;

  // scratch: Inputs8::size(n_rows, k) floats
  Input(const float * x, int64_t n_rows, int64_t k, float * scratch)
  : x(x), n_rows(n_rows), k(k), scratch_(scratch) {}

  const Inputs8 & quantized() {
    if (!rounded_.codes) {
      const int64_t n_groups = k / kGroup;
      rounded_.scales = scratch_;
      rounded_.sums = (int32_t *)(scratch_ + n_rows * n_groups);
      rounded_.codes = (int8_t *)(scratch_ + 2 * n_rows * n_groups);
      for (int64_t g = 0; g < n_rows * n_groups; ++g) {
        quantize_group(
          x + g * kGroup, rounded_.codes + g * kGroup, rounded_.scales[g], rounded_.sums[g]);
      }
    }
    return rounded_;
  }

private:
  float * scratch_;
  Inputs8 rounded_ = {};
};

struct Output {
  float * out;
  int64_t stride;  // between rows
  bool add;  // to what is there
};

inline Panel begin_panel(const Output & to, int64_t r, int64_t n, int64_t width) {
  return to.add ? load_panel(to.out + r * to.stride + n, width) : Panel{};
}

inline void end_panel(
  const Output & to, int64_t r, int64_t n, int64_t width, Panel total, const float * bias)
{
  if (bias) {
    total = total + load_panel(bias + n, width);
  }
  store_panel(to.out + r * to.stride + n, total, width);
}

// ---- floating point: panels [k][16] ----

struct Float32 {
  typedef float Code;
  static Vec read(const float * codes) {return load(codes);}
  static float value(float code) {return code;}
};

struct Bfloat16 {
  typedef uint16_t Code;
  static Vec read(const uint16_t * codes) {return from_bfloat16(codes);}
  static float value(uint16_t code) {
    const uint32_t bits = (uint32_t)code << 16;
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
  }
};

struct Float16 {
  typedef uint16_t Code;
  static Vec read(const uint16_t * codes) {return from_half(codes);}
};

struct SignedBytes {
  typedef int8_t Code;
  static Vec read(const int8_t * codes) {return from_int8(codes);}
};

// Panels of a weight, or of a KV cache.
template<class Type>
struct FloatPanels {
  const typename Type::Code * codes;
  int64_t stride;  // between panels, in codes
  int64_t n, k;
  const float * bias;
};

// A register tile of R rows and C panels.
template<class Type, int R, int C>
inline void float_tile(
  const FloatPanels<Type> & w, int64_t panel, const float * x, int64_t x_stride,
  const Output & to)
{
  const typename Type::Code * codes = w.codes + panel * w.stride;
  Panel total[R][C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const int64_t n = (panel + c) * kPanel;
      total[r][c] = begin_panel(to, r, n, w.n - n);
    }
  }
  for (int64_t k = 0; k < w.k; ++k, codes += kPanel) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) {
        const Vec weight = Type::read(codes + c * w.stride + p * kLanes);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          total[r][c].part[p] =
            mul_add(weight, splat(x[r * x_stride + k]), total[r][c].part[p]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const int64_t n = (panel + c) * kPanel;
      end_panel(to, r, n, w.n - n, total[r][c], w.bias);
    }
  }
}

template<class Type, int R>
void float_rows(
  const FloatPanels<Type> & w, const float * x, int64_t x_stride, const Output & to)
{
  constexpr int kAll = 8 / (R * kParts), kTogether = kAll < 1 ? 1 : kAll > 4 ? 4 : kAll;
  int64_t panel = 0;
  for (; panel + kTogether <= panels(w.n); panel += kTogether) {
    float_tile<Type, R, kTogether>(w, panel, x, x_stride, to);
  }
  for (; panel < panels(w.n); ++panel) {
    float_tile<Type, R, 1>(w, panel, x, x_stride, to);
  }
}

template<class Type>
void float_gemm(
  const FloatPanels<Type> & w, const float * x, int64_t x_stride, int64_t n_rows, Output to)
{
  for (; n_rows >= 4; n_rows -= 4, x += 4 * x_stride, to.out += 4 * to.stride) {
    float_rows<Type, 4>(w, x, x_stride, to);
  }
  if (n_rows >= 2) {
    float_rows<Type, 2>(w, x, x_stride, to);
    n_rows -= 2, x += 2 * x_stride, to.out += 2 * to.stride;
  }
  if (n_rows) {
    float_rows<Type, 1>(w, x, x_stride, to);
  }
}

// ---- integers: panels of groups of 128, with scales [groups][16] ----

struct Int8 {
  static constexpr int kBytes = kPanel * kGroup;  // of a group of a panel
  static float code(const uint8_t * group, int64_t n, int64_t k) {
    return (float)(int8_t)group[k / 4 * 64 + n * 4 + k % 4];
  }
};

struct Int4 {
  static constexpr int kBytes = kPanel * kGroup / 2;
  static float code(const uint8_t * group, int64_t n, int64_t k) {
    const uint8_t both = group[k / 8 * 64 + n * 4 + k % 4];
    return (float)((k % 8 < 4 ? both & 15 : both >> 4) - kInt4Zero);
  }
};

template<class Type, int R>
inline void int_tile(
  const Matrix & m, int64_t panel, const Inputs8 & x, int64_t row, const Output & to)
{
  const int64_t n_groups = m.k / kGroup, n = panel * kPanel;
  const uint8_t * codes = (const uint8_t *)m.weight + panel * n_groups * Type::kBytes;
  const float * scales = m.scale + panel * n_groups * kPanel;
  Panel total[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    total[r] = begin_panel(to, row + r, n, m.n - n);
  }
  for (int64_t g = 0; g < n_groups; ++g, codes += Type::kBytes, scales += kPanel) {
    IntPanel dots[R];
    int32_t sums[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      sums[r] = x.sums[(row + r) * n_groups + g];
    }
    const int8_t * inputs = x.codes + row * m.k + g * kGroup;
    if constexpr (std::is_same<Type, Int8>::value) {
      dot_int8<R>(codes, inputs, m.k, sums, dots);
    } else {
      dot_int4<R>(codes, inputs, m.k, sums, dots);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec scale = splat(x.scales[(row + r) * n_groups + g]);
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) {
        const Vec value = to_float(dots[r].part[p]) * load(scales + p * kLanes);
        total[r].part[p] += value * scale;  // not fused: the same everywhere
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    end_panel(to, row + r, n, m.n - n, total[r], m.bias);
  }
}

template<class Type>
void int_panel(
  const Matrix & m, int64_t panel, const Inputs8 & x, int64_t n_rows, const Output & to)
{
  int64_t row = 0;
  for (; row + kDotRows <= n_rows; row += kDotRows) {
    int_tile<Type, kDotRows>(m, panel, x, row, to);
  }
  if constexpr (kDotRows > 2) {
    for (; row + 2 <= n_rows; row += 2) {
      int_tile<Type, 2>(m, panel, x, row, to);
    }
  }
  for (; row < n_rows; ++row) {
    int_tile<Type, 1>(m, panel, x, row, to);
  }
}

// ---- any weight ----

// Some panels of x times m; the unit of work of a thread.
struct PanelBlock {
  static constexpr int64_t kPanels = 4;

  const Matrix & m;
  Input & input;
  Output to;

  template<class Type>
  void as_float(int64_t first) const {
    const int64_t n = first * kPanel, left = m.n - n, most = kPanels * kPanel;
    const FloatPanels<Type> w{
      (const typename Type::Code *)m.weight + n * m.k, m.k * kPanel, left < most ? left : most,
      m.k, m.bias ? m.bias + n : nullptr};
    float_gemm<Type>(w, input.x, m.k, input.n_rows, Output{to.out + n, to.stride, to.add});
  }

  template<class Type>
  void as_integers(int64_t first) const {
    const int64_t end = first + kPanels, last = end < panels(m.n) ? end : panels(m.n);
    for (int64_t panel = first; panel < last; ++panel) {
      int_panel<Type>(m, panel, input.quantized(), input.n_rows, to);
    }
  }

  static void run(const void * context, int64_t part) {
    const PanelBlock & p = *(const PanelBlock *)context;
    switch (p.m.bits) {
      case kFloat32: return p.as_float<Float32>(part * kPanels);
      case kBfloat16: return p.as_float<Bfloat16>(part * kPanels);
      case kInt8: return p.as_integers<Int8>(part * kPanels);
      case kInt4: return p.as_integers<Int4>(part * kPanels);
    }
  }
};

inline void gemm(const Matrix & m, Input & input, const Output & to) {
  if (m.scale) {
    input.quantized();  // before threads ask for it
  }
  const PanelBlock all{m, input, to};
  const int64_t n_parts = (panels(m.n) + PanelBlock::kPanels - 1) / PanelBlock::kPanels;
  parallel_if_worth(n_parts, m.n * m.k * input.n_rows, PanelBlock::run, &all);
}

// The same with rows of the output one after the other.
inline void gemm(const Matrix & m, Input & input, float * out, bool add = false) {
  gemm(m, input, Output{out, m.n, add});
}

template<class Type>
void add_float_row(const Matrix & m, int64_t n, float * out) {
  const auto * codes =
    (const typename Type::Code *)m.weight + n / kPanel * kPanel * m.k + n % kPanel;
  for (int64_t k = 0; k < m.k; ++k) {
    out[k] += Type::value(codes[k * kPanel]);
  }
}

template<class Type>
void add_int_row(const Matrix & m, int64_t n, float * out) {
  for (int64_t k = 0; k < m.k; ++k) {
    const int64_t group = n / kPanel * (m.k / kGroup) + k / kGroup;
    const uint8_t * codes = (const uint8_t *)m.weight + group * Type::kBytes;
    const float code = Type::code(codes, n % kPanel, k % kGroup);
    out[k] += code * m.scale[group * kPanel + n % kPanel];
  }
}

// out[k] += w[n][k]: the embedding of token n, as the head is tied to it
inline void add_embedding(const Matrix & m, int64_t n, float * out) {
  switch (m.bits) {
    case kFloat32: return add_float_row<Float32>(m, n, out);
    case kBfloat16: return add_float_row<Bfloat16>(m, n, out);
    case kInt8: return add_int_row<Int8>(m, n, out);
    case kInt4: return add_int_row<Int4>(m, n, out);
  }
}

}  // namespace
