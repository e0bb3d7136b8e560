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


// The two formats of the KV cache, as a warp of the attention kernel loads, writes and multiplies
// entries: numbers in the 16-bit type of the activations, or INT8.
//
// A warp takes kPerWarp neighbouring entries in stages of kStage. The keys and values of kStages
// stages lie in its part of shared memory, rows of kPitch bytes, so that ldmatrix of eight rows has
// no bank conflicts. In 16 bits these are all of its entries. In INT8 a warp has more entries, and a
// stage is loaded again when it has been used: a long block spends less of its time on its start and
// its end.
//
// INT8: a code is a byte with 128 added, and an entry has per key head a scale of its key and one of
// its value, the largest magnitude / 127, as a pair of bfloat16: codes [slots, capacity, Hkv, D],
// scales [slots, Hkv, capacity]. Bytes become fp16 numbers without rounding, so both products run
// in fp16. The scale of a key multiplies its score; that of a value its softmax numerator.

#pragma once

#include "attention.cuh"

namespace voxtral {

constexpr int kStage = 16;  // entries: the depth of an mma

template <typename Number, int D, int kEntries, int kRing, int kScaleBytes>
struct EntriesBase {
  static constexpr int kPerWarp = kEntries, kStages = kRing;
  static constexpr int kPerBlock = kWarps * kPerWarp;
  static constexpr int kRowBytes = D * sizeof(Number), kPitch = kRowBytes + 16;
  static constexpr int kPieces = kRowBytes / 16;  // of a row, copied at once
  static constexpr int kValues = kStage * kPitch, kScales = 2 * kValues;  // places in a stage
  static constexpr int kStageBytes = kScales + kStage * kScaleBytes;

  // Of one stream and one key head.
  Number *keys, *values;
  uint32_t* scales;  // a key's in the low half, a value's in the high half
  size_t pitch;      // numbers from an entry to the next

  __device__ EntriesBase(void* all_keys, void* all_values, uint32_t* all_scales, int64_t slot,
                         int head, int n_heads, int capacity)
      : pitch(static_cast<size_t>(n_heads) * D) {
    const size_t first = static_cast<size_t>(slot) * capacity;
    keys = static_cast<Number*>(all_keys) + first * pitch + head * D;
    values = static_cast<Number*>(all_values) + first * pitch + head * D;
    scales = all_scales + first * n_heads + static_cast<size_t>(head) * capacity;
  }
  __device__ Number* key(int entry) const { return keys + entry * pitch; }
  __device__ Number* value(int entry) const { return values + entry * pitch; }

  // Begin to copy the entries from `begin` on into a stage; zeros from kv_len on.
  template <typename Skip>
  __device__ void load(char* stage, int begin, int kv_len, Skip skip) const {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int i = lane; i < kStage * kPieces; i += kWarp) {
      const int row = i / kPieces, place = i % kPieces * 16, entry = begin + row;
      const int bytes = entry < kv_len ? 16 : 0;
      if (bytes && skip(entry)) continue;
      const int there = bytes ? entry : 0;
      const uint32_t to = shared_address(stage + row * kPitch + place);
      cp_async_16(to, reinterpret_cast<const char*>(key(there)) + place, bytes);
      cp_async_16(to + kValues, reinterpret_cast<const char*>(value(there)) + place, bytes);
    }
    if (kScaleBytes && lane < kStage) {
      const int entry = begin + lane, bytes = entry < kv_len ? 4 : 0;
      if (bytes && skip(entry)) return;
      cp_async_4(shared_address(stage + kScales + lane * 4), scales + (bytes ? entry : 0), bytes);
    }
  }

  // The same where all of them are there: few instructions.
  __device__ void load(char* stage, int begin) const {
    constexpr int kRowsAtOnce = kWarp / kPieces;
    const int lane = threadIdx.x % kWarp, row = lane / kPieces, place = lane % kPieces * 16;
    const size_t step = kRowsAtOnce * pitch * sizeof(Number);
    const char* from_keys = reinterpret_cast<const char*>(key(begin + row)) + place;
    const char* from_values = reinterpret_cast<const char*>(value(begin + row)) + place;
    const uint32_t to = shared_address(stage + row * kPitch + place);
#pragma unroll
    for (int i = 0; i < kStage / kRowsAtOnce; ++i) {
      cp_async_16(to + i * kRowsAtOnce * kPitch, from_keys);
      cp_async_16(to + kValues + i * kRowsAtOnce * kPitch, from_values);
      from_keys += step, from_values += step;
    }
    if (kScaleBytes && lane < kStage)
      cp_async_4(shared_address(stage + kScales + lane * 4), scales + begin + lane);
  }
};

// In the type of the activations.
template <typename T, int D>
struct Entries16 : EntriesBase<T, D, 2048 / D, 2048 / D / kStage, 0> {
  using Base = EntriesBase<T, D, 2048 / D, 2048 / D / kStage, 0>;
  using Base::Base;
  using Operand = T;

  // Pairs j..j + 3 of a query.
  static __device__ void store_query(T* to, const RopePairs<T, D>& pairs, int j, bool half_split) {
    pairs.store(to, j, half_split);
  }

  // Pairs j..j + 3 of a new key and numbers 2 j..2 j + 7 of a new value, into the cache and, if it
  // is not null, into a row of a stage.
  __device__ void write(int entry, char* stage, int row, const RopePairs<T, D>& pairs,
                        const uint4& numbers, int j, bool half_split) const {
    if (stage) {
      char* staged = stage + row * Base::kPitch;
      pairs.store(reinterpret_cast<T*>(staged), j, half_split);
      *reinterpret_cast<uint4*>(staged + Base::kValues + j * 4) = numbers;
    }
    pairs.store(this->key(entry), j, half_split);
    *reinterpret_cast<uint4*>(this->value(entry) + j * 2) = numbers;
  }

  // score[half] = queries x keys of entries half * 8..half * 8 + 7 of a stage, in base 2.
  static __device__ void scores(const char* stage, const T* query, float (&score)[2][4]) {
    const int lane = threadIdx.x % kWarp;
    const char* keys = stage + (lane / 16 * 8 + lane % 8) * Base::kPitch + lane / 8 % 2 * 16;
    const T* q_row = query + lane % 16 * (D + 8) + lane / 16 * 8;
#pragma unroll
    for (int d = 0; d < D / 16; ++d) {
      const uint4 k = ldmatrix(shared_address(keys + d * 32));
      const uint4 q = ldmatrix(shared_address(q_row + d * 16));
      const uint32_t a[4] = {q.x, q.y, q.z, q.w};
      mma<T>(score[0], a, k.x, k.y);
      mma<T>(score[1], a, k.z, k.w);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) score[i / 4][i % 4] *= softmax_scale(D);
  }

  // out += softmax numerators x values of a stage.
  static __device__ void add_values(const char* stage, const float (&p)[2][4],
                                    float (&out)[D / 8][4]) {
    const uint32_t a[4] = {pack<T>(p[0][0], p[0][1]), pack<T>(p[0][2], p[0][3]),
                           pack<T>(p[1][0], p[1][1]), pack<T>(p[1][2], p[1][3])};
    const int lane = threadIdx.x % kWarp;
    const char* values = stage + Base::kValues + lane % 16 * Base::kPitch + lane / 16 * 16;
#pragma unroll
    for (int d = 0; d < D / 16; ++d) {
      const uint4 v = ldmatrix<true>(shared_address(values + d * 32));
      mma<T>(out[2 * d], a, v.x, v.y);
      mma<T>(out[2 * d + 1], a, v.z, v.w);
    }
  }

  // The sums of one row of an accumulator (half i of it) times a factor.
  static __device__ void store_sums(float* row, const float (&out)[D / 8][4], int i, float factor) {
    const int quad = threadIdx.x % 4;
#pragma unroll
    for (int o = 0; o < D / 8; ++o)
      *reinterpret_cast<float2*>(row + o * 8 + quad * 2) =
          make_float2(factor * out[o][2 * i], factor * out[o][2 * i + 1]);
  }
};

// Bytes i and j of a word, kSelector 0x4 j 4 i, as two fp16 numbers without the offset of 128.
template <uint32_t kSelector>
__device__ inline uint32_t widen(uint32_t word) {
  uint32_t pair;
  // 0x64 before a byte is 1024 + byte.
  asm("prmt.b32 %0, %1, 0x64646464, %2;\n" : "=r"(pair) : "r"(word), "n"(kSelector));
  asm("sub.f16x2 %0, %0, %1;\n" : "+r"(pair) : "r"(0x64806480u));
  return pair;
}

// The larger magnitude; NaN if either is NaN.
__device__ inline float larger(float x, float y) {
  asm("max.NaN.f32 %0, %0, %1;\n" : "+f"(x) : "f"(fabsf(y)));
  return x;
}
// The scale for numbers up to `largest`: bfloat16 in the high half, rounded up; NaN stays NaN.
__device__ inline uint32_t int8_scale(float largest) {
  if (largest < 1e-30f) return 0;  // too small for an inverse
  const uint32_t bits = __float_as_uint(largest / 127.f);
  return bits > 0x7f800000u ? 0x7fc00000u : (bits + 0xffffu) & 0xffff0000u;
}
// Four numbers over a scale as it is in the high half, as codes.
template <typename T>
__device__ inline uint32_t int8_codes(const T* numbers, uint32_t scale) {
  const float inverse = scale ? 1.f / __uint_as_float(scale) : 0.f;
  uint32_t codes = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    codes |= ((__float2int_rn(to_float(numbers[i]) * inverse) + 128) & 255) << 8 * i;
  return codes;
}

// In INT8. Neighbouring bytes of a word are dimensions that a lane multiplies: the inputs of the
// first product, and the outputs of the second, are in an order that makes this so.
template <typename T, int D>
struct Entries8 : EntriesBase<uint8_t, D, 128, 2, 4> {
  using Base = EntriesBase<uint8_t, D, 128, 2, 4>;
  using Base::Base;
  using Operand = half;
  // Of softmax numerators times scales: keeps them normal fp16 numbers.
  static constexpr float kUnit = 64;

  // Of 16 dimensions of a query, pairs 0, 2, 4, 6 come first: then an mma takes from lane r the
  // dimensions 4 r..4 r + 3, of which a lane gets the keys as one word.
  static __device__ void store_four(half* query, int dim, const T* numbers) {
    uint32_t* to = reinterpret_cast<uint32_t*>(query + dim / 16 * 16 + dim % 16 / 2);
    const float scale = softmax_scale(D);
    to[0] = pack<half>(to_float(numbers[0]) * scale, to_float(numbers[1]) * scale);
    to[4] = pack<half>(to_float(numbers[2]) * scale, to_float(numbers[3]) * scale);
  }
  static __device__ void store_query(half* to, const RopePairs<T, D>& pairs, int j,
                                     bool half_split) {
    store_four(to, half_split ? j : 2 * j, pairs.value);
    store_four(to, half_split ? j + D / 2 : 2 * j + 4, pairs.value + 4);
  }

  // A head's lanes are neighbours, and all of them come here together.
  __device__ void write(int entry, char* stage, int row, const RopePairs<T, D>& pairs,
                        const uint4& numbers, int j, bool half_split) const {
    constexpr int kLanes = D / 8;
    const T* value = reinterpret_cast<const T*>(&numbers);
    const int lane = threadIdx.x % kWarp;
    const unsigned mask = ((1u << kLanes) - 1) << lane / kLanes * kLanes;
    float largest[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      largest[0] = larger(largest[0], to_float(pairs.value[i]));
      largest[1] = larger(largest[1], to_float(value[i]));
    }
#pragma unroll
    for (int step = kLanes / 2; step > 0; step /= 2)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        largest[i] = larger(largest[i], __shfl_xor_sync(mask, largest[i], step));
    const uint32_t key_scale = int8_scale(largest[0]), value_scale = int8_scale(largest[1]);
    const uint32_t first = int8_codes(pairs.value, key_scale);
    const uint32_t second = int8_codes(pairs.value + 4, key_scale);
    const uint2 codes =
        make_uint2(int8_codes(value, value_scale), int8_codes(value + 4, value_scale));
    auto store = [&](uint8_t* keys, uint8_t* values, uint32_t* scales) {
      *reinterpret_cast<uint32_t*>(keys + (half_split ? j : 2 * j)) = first;
      *reinterpret_cast<uint32_t*>(keys + (half_split ? j + D / 2 : 2 * j + 4)) = second;
      *reinterpret_cast<uint2*>(values + 2 * j) = codes;
      if (lane % kLanes == 0) *scales = key_scale >> 16 | value_scale;
    };
    store(this->key(entry), this->value(entry), this->scales + entry);
    if (!stage) return;
    uint8_t* staged = reinterpret_cast<uint8_t*>(stage) + row * Base::kPitch;
    store(staged, staged + Base::kValues,
          reinterpret_cast<uint32_t*>(stage + Base::kScales) + row);
  }

  // The scales of the four entries of a stage that a lane has scores of, as in score[half][i].
  static __device__ uint32_t scale_pair(const char* stage, int upper, int i) {
    const int quad = threadIdx.x % 4;
    return reinterpret_cast<const uint32_t*>(stage + Base::kScales)[upper * 8 + quad * 2 + i % 2];
  }

  static __device__ void scores(const char* stage, const half* query, float (&score)[2][4]) {
    const int lane = threadIdx.x % kWarp;
    const char* keys = stage + lane % 16 * Base::kPitch + lane / 16 * 16;
    const half* q_row = query + lane % 16 * (D + 8) + lane / 16 * 8;
#pragma unroll
    for (int d = 0; d < D / 32; ++d) {
      const uint4 k = ldmatrix(shared_address(keys + d * 32));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint4 q = ldmatrix(shared_address(q_row + d * 32 + i * 16));
        const uint32_t a[4] = {q.x, q.y, q.z, q.w};
        const uint32_t lower = i ? k.z : k.x, upper = i ? k.w : k.y;  // entries 0..7, 8..15
        mma<half>(score[0], a, widen<0x4140>(lower), widen<0x4342>(lower));
        mma<half>(score[1], a, widen<0x4140>(upper), widen<0x4342>(upper));
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i)
      score[i / 4][i % 4] *= __uint_as_float(scale_pair(stage, i / 4, i) << 16);
  }

  static __device__ void add_values(const char* stage, const float (&p)[2][4],
                                    float (&out)[D / 8][4]) {
    float weight[2][4];
#pragma unroll
    for (int i = 0; i < 8; ++i)
      weight[i / 4][i % 4] =
          p[i / 4][i % 4] * kUnit *
          __uint_as_float(scale_pair(stage, i / 4, i) & 0xffff0000u);
    const uint32_t a[4] = {pack<half>(weight[0][0], weight[0][1]),
                           pack<half>(weight[0][2], weight[0][3]),
                           pack<half>(weight[1][0], weight[1][1]),
                           pack<half>(weight[1][2], weight[1][3])};
    const int lane = threadIdx.x % kWarp;
    const char* values = stage + Base::kValues + lane % 16 * Base::kPitch + lane / 16 * 16;
#pragma unroll
    for (int d = 0; d < D / 32; ++d) {
      const uint4 v = ldmatrix<true>(shared_address(values + d * 32));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t lower = i ? v.z : v.x, upper = i ? v.w : v.y;
        const int o = 2 * (2 * d + i);  // even dimensions, then odd ones
        mma<half>(out[o], a, widen<0x4240>(lower), widen<0x4240>(upper));
        mma<half>(out[o + 1], a, widen<0x4341>(lower), widen<0x4341>(upper));
      }
    }
  }

  static __device__ void store_sums(float* row, const float (&out)[D / 8][4], int i, float factor) {
    factor /= kUnit;
    const int quad = threadIdx.x % 4;
#pragma unroll
    for (int o = 0; o < D / 8; o += 2)
      *reinterpret_cast<float4*>(row + o * 8 + quad * 4) =
          make_float4(factor * out[o][2 * i], factor * out[o + 1][2 * i],
                      factor * out[o][2 * i + 1], factor * out[o + 1][2 * i + 1]);
  }
};

}  // namespace voxtral
