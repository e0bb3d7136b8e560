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

// SIMD vectors, panels of 16 floats, and the few functions that need intrinsics.
//
// Every sum over floats has its 16 lanes in the same places on every processor, and what rounds is
// written out: the compiler contracts nothing. So results are the same to the last bit wherever
// there is a fused multiply-add, which is everywhere but on x86 without AVX2.
//
// Everything is in an unnamed namespace: the units that include this are compiled for different
// instruction sets, and the linker must never merge their functions.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t Int __attribute__((vector_size(4 * kLanes)));

inline Vec load(const float * from) {
  Vec out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

inline void store(float * to, Vec value) {
  std::memcpy(to, &value, sizeof value);
}

inline Vec splat(float value) {
  return value - Vec{};
}

// a * b + c
inline Vec mul_add(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}

#if defined(__x86_64__) && !defined(__AVX2__)
inline Int from_uint16(const uint16_t * from) {
  return (Int)_mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i *)from), _mm_setzero_si128());
}
#endif

// kLanes bfloat16 numbers: the upper halves of floats.
inline Vec from_bfloat16(const uint16_t * from) {
#if defined(__AVX512F__)
  const __m256i narrow = _mm256_loadu_si256((const __m256i *)from);
  return (Vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16);
#elif defined(__AVX2__)
  const __m128i narrow = _mm_loadu_si128((const __m128i *)from);
  return (Vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16);
#elif defined(__aarch64__)
  return (Vec)vshll_n_u16(vld1_u16(from), 16);
#else
  return (Vec)(from_uint16(from) << 16);
#endif
}

// kLanes fp16 numbers.
inline Vec from_half(const uint16_t * from) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
#elif defined(__AVX2__)
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
#elif defined(__aarch64__)
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)));
#else
  const Int bits = from_uint16(from);
  // The exponent of fp16 in that of a float, which a multiplication then puts right.
  Int shifted = (bits & 0x7fff) << 13;
  const Vec scaled = (Vec)shifted * 0x1p112f;
  const Vec value = (bits & 0x7c00) == 0x7c00 ? (Vec)(shifted | 0x7f800000) : scaled;
  return (Vec)((Int)value | (bits & 0x8000) << 16);
#endif
}

// kLanes signed bytes.
inline Vec from_int8(const int8_t * from) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
#else
  int32_t bytes;
  std::memcpy(&bytes, from, sizeof bytes);
#if defined(__aarch64__)
  const int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(bytes)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
#else
  const __m128i narrow = _mm_cvtsi32_si128(bytes);
  const __m128i pairs = _mm_unpacklo_epi8(narrow, narrow);
  return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(pairs, pairs), 24));
#endif
#endif
}

// Rounded to nearest even; what is too large is the largest number of fp16, and NaN stays NaN.
inline uint16_t to_half(float value) {
  value = value > 65504.0f ? 65504.0f : value < -65504.0f ? -65504.0f : value;
#if defined(__AVX2__)
  return (uint16_t)_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__aarch64__)
  const __fp16 half = (__fp16)value;
  uint16_t out;
  std::memcpy(&out, &half, sizeof out);
  return out;
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) {
    return (uint16_t)(sign | 0x7e00);
  }
  if (bits < 0x38800000) {  // too small for a normal number: let an addition round
    float small;
    std::memcpy(&small, &bits, sizeof small);
    small += 0.5f;
    std::memcpy(&bits, &small, sizeof bits);
    return (uint16_t)(sign | (bits - 0x3f000000));
  }
  return (uint16_t)(sign | (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13);
#endif
}

inline Vec to_float(Int value) {
  return __builtin_convertvector(value, Vec);
}

// e^x within 2 units in the last place (Cephes expf), 0 below the smallest normal number; NaN
// stays NaN, and what would overflow is the largest power.
inline Vec exp(Vec x) {
  const Vec low = splat(-87.33f), high = splat(88.37f), magic = splat(12582912.0f);
  const Vec bounded = x > high ? high : x < low ? low : x;
  const Vec shifted = mul_add(bounded, splat(1.44269504f), magic);  // integer in the low bits
  const Vec whole = shifted - magic;
  Vec r = mul_add(whole, splat(-0.693359375f), bounded);
  r = mul_add(whole, splat(2.12194440e-4f), r);
  Vec p = splat(1.9875691500e-4f);
  p = mul_add(p, r, splat(1.3981999507e-3f));
  p = mul_add(p, r, splat(8.3334519073e-3f));
  p = mul_add(p, r, splat(4.1665795894e-2f));
  p = mul_add(p, r, splat(1.6666665459e-1f));
  p = mul_add(p, r, splat(5.0000001201e-1f));
  p = mul_add(p * r, r, r) + 1.0f;
  const Int exponent = ((Int)shifted << 23) + (127 << 23);
  return x < low ? Vec{} : p * (Vec)exponent;
}

// The error function within a few units in the last place; rational, from Eigen
// (gitlab.com/libeigen/eigen, MathFunctionsImpl.h).
inline Vec erf(Vec x) {
  const Vec four = splat(4.0f);
  x = x > four ? four : x < -four ? -four : x;
  const Vec x2 = x * x;
  Vec p = splat(-2.72614225801306e-10f);
  p = mul_add(p, x2, splat(2.77068142495902e-08f));
  p = mul_add(p, x2, splat(-2.10102402082508e-06f));
  p = mul_add(p, x2, splat(-5.69250639462346e-05f));
  p = mul_add(p, x2, splat(-7.34990630326855e-04f));
  p = mul_add(p, x2, splat(-2.95459980854025e-03f));
  p = mul_add(p, x2, splat(-1.60960333262415e-02f));
  Vec q = splat(-1.45660718464996e-05f);
  q = mul_add(q, x2, splat(-2.13374055278905e-04f));
  q = mul_add(q, x2, splat(-1.68282697438203e-03f));
  q = mul_add(q, x2, splat(-7.37332916720468e-03f));
  q = mul_add(q, x2, splat(-1.42647390514189e-02f));
  return x * p / q;
}

// ---- panels: 16 floats, in as many vectors as they take ----

constexpr int kPanel = 16;
constexpr int kParts = kPanel / kLanes;

struct Panel {
  Vec part[kParts];
};

inline int64_t panels(int64_t n) {
  return (n + kPanel - 1) / kPanel;
}

inline Panel splat_panel(float value) {
  Panel out;
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) {
    out.part[i] = splat(value);
  }
  return out;
}

inline Panel load_panel(const float * from) {
  Panel out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

// The first n floats, 0 < n <= 16; the others are 0.
inline Panel load_panel(const float * from, int64_t n) {
  float lanes[kPanel] = {};
  std::memcpy(lanes, from, 4 * (n < kPanel ? n : kPanel));
  return load_panel(lanes);
}

inline void store_panel(float * to, const Panel & value, int64_t n = kPanel) {
  std::memcpy(to, &value, 4 * (n < kPanel ? n : kPanel));
}

template<class Function>
inline Panel each(const Panel & x, Function function) {
  Panel out;
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) {
    out.part[i] = function(x.part[i]);
  }
  return out;
}

template<class Function>
inline Panel each(const Panel & x, const Panel & y, Function function) {
  Panel out;
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) {
    out.part[i] = function(x.part[i], y.part[i]);
  }
  return out;
}

inline Panel operator+(const Panel & x, const Panel & y) {
  return each(x, y, [](Vec a, Vec b) {return a + b;});
}

inline Panel operator*(const Panel & x, const Panel & y) {
  return each(x, y, [](Vec a, Vec b) {return a * b;});
}

// Sum of all lanes: those 8 apart, then 4, 2 and 1.
inline float sum(const Panel & x) {
  float lanes[kPanel];
  store_panel(lanes, x);
  for (int half = kPanel / 2; half; half /= 2) {
    for (int i = 0; i < half; ++i) {
      lanes[i] += lanes[i + half];
    }
  }
  return lanes[0];
}

// The largest lane that is a number, -inf if none is.
inline float largest(const Panel & x) {
  float lanes[kPanel], out = -INFINITY;
  store_panel(lanes, x);
  for (const float lane : lanes) {
    out = lane > out ? lane : out;
  }
  return out;
}

}  // namespace
