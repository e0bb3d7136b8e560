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

// Weight formats: how 512 bytes that a warp has loaded become operands of mma, in registers.
//
// A strip is the 16 * kBlocks outputs (N) that one warp computes. Of 128 inputs (K; a group, which
// shares a scale) a strip has eight vectors of 16 bytes per lane, whatever the format; a pair of
// them covers 32 inputs, and is 2 * n_strips * 512 bytes after the pair before it. A vector holds
// kFragments A fragments of mma (`operand`; see common.cuh), each for `block` of 16 outputs of the
// strip and for `tile` of 16 inputs of the pair. Registers allow kMaxRows times eight rows of x.

#pragma once

#include "common.cuh"

namespace voxtral {

constexpr int kGroup = 128;  // inputs that share a scale
constexpr int kVectors = 8;  // 16-byte loads per lane and group

// (word & mask) | bits in one lop3, which the compiler does not find by itself.
template <uint32_t kMask, uint32_t kBits>
__device__ inline uint32_t and_or(uint32_t word) {
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;\n" : "=r"(result) : "r"(word), "n"(kMask), "r"(kBits));
  return result;
}
template <typename Pair>
__device__ inline Pair as(uint32_t bits) {
  return *reinterpret_cast<const Pair*>(&bits);
}
template <typename Pair>
__device__ inline uint32_t bits_of(Pair pair) {
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// What an operand stands for: (code + zero point) / kFactor, where an mma with the constants kLow
// (inputs 0 to 7 of a tile) and kHigh (8 to 15) subtracts the zero point. With kScaleHigh, x of the
// upper inputs has to be divided by 16.
template <class W, typename T>
struct Coding {
  static constexpr bool kZeroPoint = false, kScaleHigh = false;
  static constexpr float kFactor = 1;
};

// Two weights from nibbles 0 and 4, and two from nibbles 1 and 5.
template <typename T>
__device__ inline void nibble_pairs(uint32_t word, uint32_t& low, uint32_t& high);
template <>
__device__ inline void nibble_pairs<half>(uint32_t word, uint32_t& low, uint32_t& high) {
  // As they are: subnormal numbers, q 2^-24 and, four places higher, q 2^-20.
  low = word & 0x000f000f;
  high = word & 0x00f000f0;
}
template <>
__device__ inline void nibble_pairs<__nv_bfloat16>(uint32_t word, uint32_t& low, uint32_t& high) {
  // As the mantissa of 128 a nibble is 128 + q.
  using Pair = __nv_bfloat162;
  const Pair l = as<Pair>(and_or<0x000f000f, 0x43004300>(word));
  const Pair h = as<Pair>(and_or<0x000f000f, 0x43004300>(word >> 4));
  low = bits_of(__hadd2(l, as<Pair>(0xc308c308)));  // - 136
  high = bits_of(__hadd2(h, as<Pair>(0xc308c308)));
}

// Codes of 4 bits in the Marlin layout: int32 [K / 16, 2 N], one vector is 16 inputs x 64 outputs.
// Scales fp16 [K / 128, N], permuted so that the eight of a lane are neighbours.
struct Int4 {
  static constexpr int kBlocks = 4, kFragments = 4, kMaxRows = 2;
  static constexpr bool kScaled = true;

  // Where a strip begins, and how far the second vector of a pair is, in vectors of the warp.
  __device__ static int first(int strip) { return strip; }
  __device__ static int second(int n_strips) { return n_strips; }
  __device__ static constexpr int block(int, int fragment) { return fragment; }
  __device__ static constexpr int tile(int i, int) { return i; }

  template <typename T>
  __device__ static void operand(const uint4& vector, int fragment, uint32_t (&a)[4]) {
    const uint32_t word = fragment == 0   ? vector.x
                          : fragment == 1 ? vector.y
                          : fragment == 2 ? vector.z
                                          : vector.w;
    // From bit 0, for the lane's columns c and c + 8: (2r, c), (2r+8, c), (2r, c+8), (2r+8, c+8).
    nibble_pairs<T>(word, a[0], a[2]);
    nibble_pairs<T>(word >> 8, a[1], a[3]);
  }
};

// Codes of 8 bits plus 128: uint8 [K / 32, N / 16, 32 lanes, 16], one vector is 32 inputs x 16
// outputs: two fragments, each (2r..2r+1, c), (2r.., c+8), (2r+8.., c), (2r+8.., c+8).
// Scales fp16 [K / 128, N], in every 32 outputs n at 4 (n % 8) + n / 8.
struct Int8 {
  static constexpr int kBlocks = 2, kFragments = 2, kMaxRows = 4;
  static constexpr bool kScaled = true;

  __device__ static int first(int strip) { return 2 * strip; }
  __device__ static int second(int) { return 1; }
  __device__ static constexpr int block(int i, int) { return i; }
  __device__ static constexpr int tile(int, int fragment) { return fragment; }

  template <typename T>
  __device__ static void operand(const uint4& vector, int fragment, uint32_t (&a)[4]) {
    const uint32_t first = fragment ? vector.z : vector.x, second = fragment ? vector.w : vector.y;
    pairs<T>(first, a[0], a[1]);
    pairs<T>(second, a[2], a[3]);
  }

 private:
  template <typename T>
  __device__ static void pairs(uint32_t word, uint32_t& low, uint32_t& high);
};

template <>
__device__ inline void Int8::pairs<half>(uint32_t word, uint32_t& low, uint32_t& high) {
  low = __byte_perm(word, 0, 0x4140);  // subnormal numbers, q 2^-24
  high = __byte_perm(word, 0, 0x4342);
}
template <>
__device__ inline void Int8::pairs<__nv_bfloat16>(uint32_t word, uint32_t& low, uint32_t& high) {
  // The mantissa of a bfloat16 is too short for 8 bits and an offset: by way of fp32, 2^23 + q.
  float f[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    f[i] = __uint_as_float(__byte_perm(word, 0x4b000000, 0x7540 + i)) - (8388608.f + 128.f);
  low = pack<__nv_bfloat16>(f[0], f[1]);
  high = pack<__nv_bfloat16>(f[2], f[3]);
}

template <>
struct Coding<Int4, half> {
  static constexpr bool kZeroPoint = true, kScaleHigh = true;
  static constexpr uint32_t kLow = 0x80088008, kHigh = 0x80808080;  // -8 2^-24, -8 2^-20
  static constexpr float kFactor = 1 << 24;
};
template <>
struct Coding<Int8, half> {
  static constexpr bool kZeroPoint = true, kScaleHigh = false;
  static constexpr uint32_t kLow = 0x80808080, kHigh = 0x80808080;  // -128 2^-24
  static constexpr float kFactor = 1 << 24;
};

// 16-bit weights in the order of operands: [K / 16, N / 16, 32 lanes, 8], no scales.
struct Dense {
  static constexpr int kBlocks = 1, kFragments = 1, kMaxRows = 4;
  static constexpr bool kScaled = false;

  __device__ static int first(int strip) { return strip; }
  __device__ static int second(int n_strips) { return n_strips; }
  __device__ static constexpr int block(int, int) { return 0; }
  __device__ static constexpr int tile(int i, int) { return i; }

  template <typename T>
  __device__ static void operand(const uint4& vector, int, uint32_t (&a)[4]) {
    a[0] = vector.x, a[1] = vector.y, a[2] = vector.z, a[3] = vector.w;
  }
};

}  // namespace voxtral
