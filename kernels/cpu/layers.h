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

// What lies between the GEMMs: RMSNorm, activations, softmax, RoPE.

#pragma once

#include "simd.h"

namespace {

// RMSNorm of rows [n_rows, dim], times weight.
inline void rms_norm(
  const float * x, int64_t n_rows, int64_t dim, const float * weight, double eps, float * out)
{
  for (int64_t row = 0; row < n_rows; ++row, x += dim, out += dim) {
    Panel squares = {};
    for (int64_t i = 0; i < dim; i += kPanel) {
      const Panel part = load_panel(x + i, dim - i);
      squares = squares + part * part;
    }
    const float scale = 1.0f / std::sqrt(sum(squares) / (float)dim + (float)eps);
    for (int64_t i = 0; i < dim; ++i) {
      out[i] = x[i] * scale * weight[i];
    }
  }
}

// gate = silu(gate) * up
inline void swiglu(float * gate, const float * up, int64_t n) {
  for (int64_t i = 0; i < n; i += kPanel) {
    const Panel silu = each(load_panel(gate + i, n - i), [](Vec x) {
          return x / (exp(-x) + 1.0f);
        });
    store_panel(gate + i, silu * load_panel(up + i, n - i), n - i);
  }
}

inline void gelu(float * x, int64_t n) {
  for (int64_t i = 0; i < n; i += kPanel) {
    const Panel out = each(load_panel(x + i, n - i), [](Vec v) {
          return 0.5f * v * (erf(v * 0.70710678f) + 1.0f);
        });
    store_panel(x + i, out, n - i);
  }
}

// Softmax without its division: the panels of x from `from` to `to` - 1 become exp(x - max), and 0
// where they begin earlier or end later; returns the sum.
inline float exp_and_sum(float * x, int64_t from, int64_t to) {
  const int64_t first = from / kPanel * kPanel, last = panels(to) * kPanel;
  for (int64_t i = first; i < from; ++i) {
    x[i] = -INFINITY;
  }
  for (int64_t i = to; i < last; ++i) {
    x[i] = -INFINITY;
  }
  Panel most = splat_panel(-INFINITY);
  for (int64_t i = first; i < last; i += kPanel) {
    most = each(load_panel(x + i), most, [](Vec a, Vec b) {return a > b ? a : b;});
  }
  const Vec top = splat(largest(most));
  Panel total = {};
  for (int64_t i = first; i < last; i += kPanel) {
    const Panel e = each(load_panel(x + i), [&](Vec a) {return exp(a - top);});
    store_panel(x + i, e);
    total = total + e;
  }
  return sum(total);
}

// Cosine and sine of a number of turns, whatever their number, by fdlibm's polynomials
// (netlib.org/fdlibm, k_sin.c and k_cos.c). In fp64: in fp32, angles would be wrong after hours.
inline void cos_sin(double turns, double & cosine, double & sine) {
  const double quarters = std::nearbyint(4.0 * turns);
  const double x = (turns - 0.25 * quarters) * 6.283185307179586477;  // -pi/4 to pi/4
  const double z = x * x;
  const double s = x + x * z * (-1.66666666666666324348e-01 + z * (8.33333333332248946124e-03 +
    z * (-1.98412698298579493134e-04 + z * (2.75573137070700676789e-06 +
    z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
  const double c = 1.0 - 0.5 * z + z * z * (4.16666666666666019037e-02 +
    z * (-1.38888888888741095749e-03 + z * (2.48015872894767294178e-05 +
    z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 -
    z * 1.13596475577881948265e-11)))));
  const int64_t quarter = (int64_t)quarters & 3;
  cosine = quarter == 0 ? c : quarter == 1 ? -s : quarter == 2 ? -c : s;
  sine = quarter == 0 ? s : quarter == 1 ? c : quarter == 2 ? -s : -c;
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

}  // namespace
