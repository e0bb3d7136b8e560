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

// SIMD vectors of as many floats as a register holds, and the few functions that need intrinsics.
//
// Everything is in an unnamed namespace: the units that include this are compiled for different
// instruction sets, and the linker must never merge their functions.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
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

// The first n lanes, 0 < n < kLanes; the others have `rest`.
inline Vec load_part(const float * from, int64_t n, float rest) {
  float lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    lanes[i] = i < n ? from[i] : rest;
  }
  return load(lanes);
}

inline void store_part(float * to, Vec value, int64_t n) {
  float lanes[kLanes];
  store(lanes, value);
  for (int i = 0; i < n; ++i) {
    to[i] = lanes[i];
  }
}

inline Vec splat(float value) {
  return value - Vec{};
}

// kLanes codes as floats. GCC and Clang widen bytes one by one when left to themselves.
inline Vec from_int8(const uint8_t * codes) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)codes)));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)codes)));
#elif defined(__ARM_NEON)
  int32_t four;
  std::memcpy(&four, codes, sizeof four);
  const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(four));
  return (Vec)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
#else
  const int8_t * at = (const int8_t *)codes;
  return Vec{(float)at[0], (float)at[1], (float)at[2], (float)at[3]};
#endif
}

// kLanes bytes, not negative, as integers.
inline Int from_bytes(const uint8_t * bytes) {
#if defined(__AVX512F__)
  return (Int)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)bytes));
#elif defined(__AVX2__)
  return (Int)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)bytes));
#elif defined(__ARM_NEON)
  uint32_t four;
  std::memcpy(&four, bytes, sizeof four);
  const uint8x8_t narrow = vreinterpret_u8_u32(vdup_n_u32(four));
  return (Int)vmovl_u16(vget_low_u16(vmovl_u8(narrow)));
#else
  return Int{bytes[0], bytes[1], bytes[2], bytes[3]};
#endif
}

// kLanes bfloat16 numbers: the upper halves of floats.
inline Vec from_bfloat16(const uint8_t * halves) {
#if defined(__AVX512F__)
  const __m256i narrow = _mm256_loadu_si256((const __m256i *)halves);
  return (Vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16);
#elif defined(__AVX2__)
  const __m128i narrow = _mm_loadu_si128((const __m128i *)halves);
  return (Vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16);
#elif defined(__ARM_NEON)
  uint16_t four[4];
  std::memcpy(four, halves, sizeof four);
  return (Vec)vshll_n_u16(vld1_u16(four), 16);
#else
  uint16_t four[4];
  std::memcpy(four, halves, sizeof four);
  return (Vec)Int{four[0] << 16, four[1] << 16, four[2] << 16, four[3] << 16};
#endif
}

inline Vec to_float(Int value) {
  return __builtin_convertvector(value, Vec);
}

// Horizontal sum of all lanes, in a fixed order.
inline float sum(Vec value) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(value);
#elif defined(__AVX2__)
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
#else
  return (value[0] + value[2]) + (value[1] + value[3]);
#endif
}

// e^x within 2 units in the last place (Cephes expf), 0 below the smallest normal number; NaN
// stays NaN, and what would overflow is the largest power.
inline Vec exp(Vec x) {
  const Vec low = splat(-87.33f), high = splat(88.37f), magic = splat(12582912.0f);
  const Vec bounded = x > high ? high : x < low ? low : x;
  const Vec shifted = bounded * 1.44269504f + magic;  // the integer is in the low bits
  const Vec whole = shifted - magic;
  Vec r = bounded - whole * 0.693359375f;
  r = r + whole * 2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Int exponent = ((Int)shifted << 23) + (127 << 23);
  return x < low ? Vec{} : p * (Vec)exponent;
}

}  // namespace
