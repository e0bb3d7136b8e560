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

// Integer dot products over a group of 128 inputs, for a panel of 16 outputs and R rows: exact, so
// the same on every processor.
//
// Codes lie as [128 / 4][16][4], 4 inputs of each output together. INT8 is one byte, -128 to 127.
// INT4 is half a byte with 8 added: in each 64 bytes, the low halves are 4 inputs and the high
// halves are the next 4. Rows are codes of -127 to 127 and, in `sums`, what the 128 of them sum to.

#pragma once

#include "simd.h"

namespace {

constexpr int kGroup = 128;  // inputs that share a scale
constexpr int kInt4Zero = 8;

// How many rows one call takes, by the number of registers.
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__ARM_FEATURE_DOTPROD)
constexpr int kDotRows = 4;
#elif defined(__AVX2__) || defined(__aarch64__)
constexpr int kDotRows = 2;
#else
constexpr int kDotRows = 1;
#endif

struct IntPanel {
  Int part[kParts];
};

inline int32_t four_codes(const int8_t * x) {
  int32_t out;
  std::memcpy(&out, x, sizeof out);
  return out;
}

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)

// A register has 4 codes of kLanes outputs. The instruction multiplies unsigned by signed bytes:
// INT8 codes get 128 added, and accumulators start with what that adds.
#if defined(__AVX512VNNI__)
typedef __m512i Bytes;
inline Bytes load_bytes(const uint8_t * from) {return _mm512_loadu_si512(from);}
inline Bytes splat_bytes(int8_t value) {return _mm512_set1_epi8(value);}
inline Bytes splat_int(int32_t value) {return _mm512_set1_epi32(value);}
inline Bytes dot4(Bytes sum, Bytes w, Bytes x) {return _mm512_dpbusd_epi32(sum, w, x);}
inline Bytes high_halves(Bytes both) {return _mm512_srli_epi16(both, 4);}
#else
typedef __m256i Bytes;
inline Bytes load_bytes(const uint8_t * from) {return _mm256_loadu_si256((const __m256i *)from);}
inline Bytes splat_bytes(int8_t value) {return _mm256_set1_epi8(value);}
inline Bytes splat_int(int32_t value) {return _mm256_set1_epi32(value);}
inline Bytes dot4(Bytes sum, Bytes w, Bytes x) {return _mm256_dpbusd_avx_epi32(sum, w, x);}
inline Bytes high_halves(Bytes both) {return _mm256_srli_epi16(both, 4);}
#endif

template<int R>
inline void dot_int8(
  const uint8_t * w, const int8_t * x, int64_t stride, const int32_t * sums, IntPanel (&out)[R])
{
  constexpr int kChains = R == 1 ? 4 : 2;  // additions wait for each other
  Bytes total[R][kChains][kParts] = {};
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      total[r][0][p] = splat_int(-128 * sums[r]);
    }
  }
  for (int q = 0; q < kGroup / 4; q += kChains) {
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) {
        const Bytes codes = load_bytes(w + 64 * (q + c) + 4 * kLanes * p) ^ splat_bytes(-128);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const Bytes input = splat_int(four_codes(x + r * stride + 4 * (q + c)));
          total[r][c][p] = dot4(total[r][c][p], codes, input);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      out[r].part[p] = (Int)total[r][0][p];
#pragma GCC unroll 4
      for (int c = 1; c < kChains; ++c) {
        out[r].part[p] += (Int)total[r][c][p];
      }
    }
  }
}

template<int R>
inline void dot_int4(
  const uint8_t * w, const int8_t * x, int64_t stride, const int32_t * sums, IntPanel (&out)[R])
{
  constexpr int kChains = R == 1 ? 2 : 1;
  Bytes total[R][kChains][2][kParts] = {};
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      total[r][0][0][p] = splat_int(-kInt4Zero * sums[r]);
    }
  }
  for (int q = 0; q < kGroup / 4; q += 2 * kChains) {
#pragma GCC unroll 2
    for (int c = 0; c < kChains; ++c) {
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) {
        const Bytes both = load_bytes(w + 32 * (q + 2 * c) + 4 * kLanes * p);
        const Bytes low = both & splat_bytes(15), high = high_halves(both) & splat_bytes(15);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const int8_t * input = x + r * stride + 4 * (q + 2 * c);
          total[r][c][0][p] = dot4(total[r][c][0][p], low, splat_int(four_codes(input)));
          total[r][c][1][p] = dot4(total[r][c][1][p], high, splat_int(four_codes(input + 4)));
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      out[r].part[p] = Int{};
#pragma GCC unroll 2
      for (int c = 0; c < kChains; ++c) {
        out[r].part[p] += (Int)total[r][c][0][p] + (Int)total[r][c][1][p];
      }
    }
  }
}

#elif defined(__ARM_FEATURE_DOTPROD)

// 16 inputs of a row are in a register, of which an instruction takes 4.
template<int Quad>
inline int32x4_t dot4(int32x4_t sum, int8x16_t w, int8x16_t x) {
  return vdotq_laneq_s32(sum, w, x, Quad);
}

template<int R, int Quad>
inline void dot_int8_quad(const uint8_t * w, const int8x16_t * x, int32x4_t (&total)[R][4]) {
#pragma GCC unroll 4
  for (int p = 0; p < 4; ++p) {
    const int8x16_t codes = vld1q_s8((const int8_t *)w + 64 * Quad + 16 * p);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      total[r][p] = dot4<Quad>(total[r][p], codes, x[r]);
    }
  }
}

template<int R>
inline void dot_int8(
  const uint8_t * w, const int8_t * x, int64_t stride, const int32_t *, IntPanel (&out)[R])
{
  int32x4_t even[R][4] = {}, odd[R][4] = {};  // additions wait for each other
  for (int k = 0; k < kGroup; k += 16, w += 256) {
    int8x16_t input[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      input[r] = vld1q_s8(x + r * stride + k);
    }
    auto & second = R == 1 ? odd : even;
    dot_int8_quad<R, 0>(w, input, even);
    dot_int8_quad<R, 1>(w, input, second);
    dot_int8_quad<R, 2>(w, input, even);
    dot_int8_quad<R, 3>(w, input, second);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      out[r].part[p] = (Int)even[r][p] + (Int)odd[r][p];
    }
  }
}

template<int R, int Quad>
inline void dot_int4_quads(const uint8_t * w, const int8x16_t * x, int32x4_t (&total)[R][4]) {
#pragma GCC unroll 4
  for (int p = 0; p < 4; ++p) {
    const uint8x16_t both = vld1q_u8(w + 32 * Quad + 16 * p);
    const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
    const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      total[r][p] = dot4<Quad>(total[r][p], low, x[r]);
      total[r][p] = dot4<Quad + 1>(total[r][p], high, x[r]);
    }
  }
}

template<int R>
inline void dot_int4(
  const uint8_t * w, const int8_t * x, int64_t stride, const int32_t * sums, IntPanel (&out)[R])
{
  int32x4_t total[R][4];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      total[r][p] = vdupq_n_s32(-kInt4Zero * sums[r]);
    }
  }
  for (int k = 0; k < kGroup; k += 16, w += 128) {
    int8x16_t input[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      input[r] = vld1q_s8(x + r * stride + k);
    }
    dot_int4_quads<R, 0>(w, input, total);
    dot_int4_quads<R, 2>(w, input, total);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    std::memcpy(&out[r], total[r], sizeof out[r]);
  }
}

#else

// Without such an instruction: products of bytes as 16 bits, added in pairs to 32 bits. `Pairs` are
// sums of (0, 1) and (2, 3) of the 4 inputs, of the outputs of one register.
#if defined(__AVX2__)
typedef __m256i Pairs;
typedef __m256i Inputs;
inline Inputs splat_inputs(const int8_t * x) {
  return _mm256_cvtepi8_epi16(_mm_set1_epi32(four_codes(x)));
}
inline Pairs add_products(Pairs sum, const uint8_t * w, Inputs x) {
  const __m256i codes = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(codes, x));
}
// The outputs of two registers in order.
inline Int outputs(Pairs first, Pairs second) {
  return (Int)_mm256_permute4x64_epi64(_mm256_hadd_epi32(first, second), 0xd8);
}
#elif defined(__aarch64__)
typedef int32x4_t Pairs;
typedef int8x8_t Inputs;
inline Inputs splat_inputs(const int8_t * x) {
  return vreinterpret_s8_s32(vdup_n_s32(four_codes(x)));
}
inline Pairs add_products(Pairs sum, const uint8_t * w, Inputs x) {
  return vpadalq_s16(sum, vmull_s8(vld1_s8((const int8_t *)w), x));
}
inline Int outputs(Pairs first, Pairs second) {
  return (Int)vpaddq_s32(first, second);
}
#else
typedef __m128i Pairs;
typedef __m128i Inputs;
inline __m128i widen(__m128i bytes) {
  return _mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
}
inline Inputs splat_inputs(const int8_t * x) {
  return widen(_mm_set1_epi32(four_codes(x)));
}
inline Pairs add_products(Pairs sum, const uint8_t * w, Inputs x) {
  const __m128i codes = widen(_mm_loadl_epi64((const __m128i *)w));
  return _mm_add_epi32(sum, _mm_madd_epi16(codes, x));
}
inline Int outputs(Pairs first, Pairs second) {
  const __m128 a = _mm_castsi128_ps(first), b = _mm_castsi128_ps(second);
  return (Int)_mm_castps_si128(_mm_shuffle_ps(a, b, 0x88)) +
         (Int)_mm_castps_si128(_mm_shuffle_ps(a, b, 0xdd));
}
#endif

constexpr int kRegisters = 2 * kParts;  // of pairs of 16 outputs

template<int R>
inline void all_outputs(const Pairs (&total)[R][kRegisters], IntPanel (&out)[R]) {
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      out[r].part[p] = outputs(total[r][2 * p], total[r][2 * p + 1]);
    }
  }
}

template<int R>
inline void dot_int8(
  const uint8_t * w, const int8_t * x, int64_t stride, const int32_t *, IntPanel (&out)[R])
{
  Pairs total[R][kRegisters] = {};
  for (int q = 0; q < kGroup / 4; ++q, w += 64) {
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
      const Inputs input = splat_inputs(x + r * stride + 4 * q);
#pragma GCC unroll 8
      for (int i = 0; i < kRegisters; ++i) {
        total[r][i] = add_products(total[r][i], w + 64 / kRegisters * i, input);
      }
    }
  }
  all_outputs<R>(total, out);
}

#if defined(__AVX2__)

// Products of half bytes are small enough to add 16 of them in 16 bits.
template<int R>
inline void dot_int4(
  const uint8_t * w, const int8_t * x, int64_t stride, const int32_t * sums, IntPanel (&out)[R])
{
  const __m256i low_half = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);
  __m256i total[R][2];
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
    total[r][0] = total[r][1] = _mm256_set1_epi32(-kInt4Zero * sums[r]);
  }
  for (int q = 0; q < kGroup / 4; q += 8) {
    __m256i part[R][2] = {};
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i, w += 64) {
#pragma GCC unroll 2
      for (int p = 0; p < 2; ++p) {
        const __m256i both = _mm256_loadu_si256((const __m256i *)(w + 32 * p));
        const __m256i low = both & low_half, high = _mm256_srli_epi16(both, 4) & low_half;
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
          const int8_t * input = x + r * stride + 4 * q + 8 * i;
          const __m256i first = _mm256_set1_epi32(four_codes(input));
          const __m256i second = _mm256_set1_epi32(four_codes(input + 4));
          part[r][p] = _mm256_add_epi16(part[r][p], _mm256_maddubs_epi16(low, first));
          part[r][p] = _mm256_add_epi16(part[r][p], _mm256_maddubs_epi16(high, second));
        }
      }
    }
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int p = 0; p < 2; ++p) {
        total[r][p] = _mm256_add_epi32(total[r][p], _mm256_madd_epi16(part[r][p], one));
      }
    }
  }
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
    std::memcpy(&out[r], total[r], sizeof out[r]);
  }
}

#else

template<int R>
inline void dot_int4(
  const uint8_t * w, const int8_t * x, int64_t stride, const int32_t * sums, IntPanel (&out)[R])
{
  uint8_t codes[16 * kGroup];  // as INT8
  for (int q = 0; q < kGroup / 4; q += 2, w += 64) {
    for (int i = 0; i < 64; ++i) {
      codes[64 * q + i] = w[i] & 15;
      codes[64 * q + 64 + i] = w[i] >> 4;
    }
  }
  dot_int8<R>(codes, x, stride, sums, out);
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < kParts; ++p) {
      out[r].part[p] -= kInt4Zero * sums[r];
    }
  }
}

#endif
#endif

}  // namespace
