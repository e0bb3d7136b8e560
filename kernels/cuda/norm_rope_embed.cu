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

// Between the GEMMs of a step: token embedding, RoPE angles, residual add with RMSNorm, positions.

#include "common.cuh"

namespace voxtral {
namespace {

constexpr int kNormThreads = 1024, kMaxFours = 2;  // rows of up to 2 * 1024 * 4 numbers
constexpr int kLoadsInFlight = 4;  // splits of a sum

template <typename T>
__device__ inline void load_four(const T* from, T (&to)[4]) {
  *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(from);
}

// Residual add, split-K reduction and RMSNorm: h += bias + the partial sums of the GEMM before, in
// their order; x = RMSNorm(h) * weight (* scale). One block per row; the row stays in registers.
template <typename T>
__global__ __launch_bounds__(kNormThreads) void add_rms_norm_kernel(
    float* h, const float* partial, int n_partial, const T* bias, const T* weight, const T* scales,
    const int64_t* slots, int rows_per_slot, T* x, int width, float eps) {
  __shared__ float scratch[kNormThreads / kWarp];
  const size_t row = blockIdx.x, rows = gridDim.x;
  float4* own = reinterpret_cast<float4*>(h + row * width);
  const int n_fours = width / 4;
  // Weights are loaded, and the cache of the arguments warmed, before the kernel before ends.
  asm volatile("" ::"l"(h), "l"(partial), "l"(bias), "l"(scales), "l"(slots), "l"(x));
  T gain[kMaxFours][4];
#pragma unroll
  for (int i = 0; i < kMaxFours; ++i) {
    const int at = i * blockDim.x + threadIdx.x;
    if (at >= n_fours) break;
    load_four(weight + at * 4, gain[i]);
  }
  grid_dependency_wait();
  float4 value[kMaxFours];
  float sum_squares = 0;
#pragma unroll
  for (int i = 0; i < kMaxFours; ++i) {
    const int at = i * blockDim.x + threadIdx.x;
    if (at >= n_fours) break;
    float4 v = own[at];
    // A few loads at a time are in flight; the splits are added in their order.
    for (int s = 0; s < n_partial; s += kLoadsInFlight) {
      float4 part[kLoadsInFlight];
#pragma unroll
      for (int j = 0; j < kLoadsInFlight; ++j)
        if (s + j < n_partial)
          part[j] = reinterpret_cast<const float4*>(partial + ((s + j) * rows + row) * width)[at];
#pragma unroll
      for (int j = 0; j < kLoadsInFlight; ++j)
        if (s + j < n_partial)
          v.x += part[j].x, v.y += part[j].y, v.z += part[j].z, v.w += part[j].w;
    }
    if (bias) {
      T add[4];
      load_four(bias + at * 4, add);
      v.x += to_float(add[0]), v.y += to_float(add[1]);
      v.z += to_float(add[2]), v.w += to_float(add[3]);
    }
    if (n_partial || bias) own[at] = v;
    value[i] = v;
    sum_squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
  }
  launch_dependents();  // not earlier: its loads would compete with these
  const float factor = rsqrtf(block_sum(sum_squares, scratch) / width + eps);
  const T* scale = scales ? scales + slots[row / rows_per_slot] * width : nullptr;
#pragma unroll
  for (int i = 0; i < kMaxFours; ++i) {
    const int at = i * blockDim.x + threadIdx.x;
    if (at >= n_fours) break;
    float y[4] = {value[i].x, value[i].y, value[i].z, value[i].w};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      y[k] *= factor * to_float(gain[i][k]);
      if (scale) y[k] *= to_float(scale[at * 4 + k]);
    }
    *reinterpret_cast<uint2*>(x + row * width + at * 4) =
        make_uint2(pack<T>(y[0], y[1]), pack<T>(y[2], y[3]));
  }
}

// h = audio embedding + embedding of the previous token, fp32.
template <typename T>
__global__ void embed_kernel(const T* audio, const T* table, const int64_t* tokens, float* h,
                             int width) {
  launch_dependents();
  grid_dependency_wait();
  const size_t row = blockIdx.x;
  const T* embedding = table + tokens[row] * width;
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    h[row * width + i] = to_float(audio[row * width + i]) + to_float(embedding[i]);
}

// The same with embeddings that are columns of the LM head in Marlin INT4, [width, n_tokens]: for
// the place of a code see voxtral_ros/quantization/marlin.py. One thread per input.
template <typename T>
__global__ void embed_int4_kernel(const T* audio, const uint32_t* words, const half* scales,
                                  const int64_t* tokens, float* h, int width, int n_tokens) {
  launch_dependents();
  grid_dependency_wait();
  const size_t row = blockIdx.x;
  const int token = static_cast<int>(tokens[row]), strip = token / 64, column = token % 64;
  const int n_lane = column % 8, n_half = column / 8 % 2;
  for (int k = threadIdx.x; k < width; k += blockDim.x) {
    const size_t tile = static_cast<size_t>(k / 16) * (n_tokens / 64) + strip;
    const uint32_t word = words[tile * 128 + (n_lane * 4 + k % 8 / 2) * 4 + column / 16];
    const int nibble = k / 8 % 2 + 2 * n_half + 4 * (k % 2);
    const int code = static_cast<int>(word >> 4 * nibble & 15) - 8;
    const half scale =
        scales[static_cast<size_t>(k / 128) * n_tokens + strip * 64 + n_lane * 8 + column / 8];
    h[row * width + k] = to_float(audio[row * width + k])
        + to_float(from_float<T>(code * to_float(scale)));
  }
}

// cos and sin of the RoPE angles of the next positions. In fp64, as fp32 is off by 0.01 rad after
// hours of frames. No kernel after this one starts before it is done: attention reads positions and
// KV cache as soon as it starts.
__global__ void rope_kernel(const int64_t* slots, const int64_t* position, const double* inv_freq,
                            float* cosine, float* sine, int rows_per_slot, int per_token,
                            int n_pairs) {
  grid_dependency_wait();
  const int row = blockIdx.x;
  const int64_t slot = slots[row / rows_per_slot];
  const int64_t at = position[slot] * per_token + row % rows_per_slot;
  for (int j = threadIdx.x; j < n_pairs; j += blockDim.x) {
    double s, c;
    sincos(static_cast<double>(at) * inv_freq[j], &s, &c);
    cosine[row * n_pairs + j] = static_cast<float>(c);
    sine[row * n_pairs + j] = static_cast<float>(s);
  }
  __threadfence();
  launch_dependents();
}

// position[slot] += n for the streams of this step.
__global__ void advance_kernel(const int64_t* slots, int64_t* position, int m, int n) {
  launch_dependents();
  grid_dependency_wait();
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < m) position[slots[i]] += n;
}

template <typename T>
cudaError_t add_rms_norm(void* h, const void* partial, int n_partial, const void* bias,
                         const void* weight, const void* scales, const void* slots,
                         int rows_per_slot, void* x, int rows, int width, float eps,
                         cudaStream_t stream) {
  int threads = (width / 4 + kWarp - 1) / kWarp * kWarp;
  if (threads > kNormThreads) threads = kNormThreads;
  return launch(add_rms_norm_kernel<T>, dim3(rows), dim3(threads), 0, stream,
                static_cast<float*>(h), static_cast<const float*>(partial), n_partial,
                static_cast<const T*>(bias), static_cast<const T*>(weight),
                static_cast<const T*>(scales), static_cast<const int64_t*>(slots), rows_per_slot,
                static_cast<T*>(x), width, eps);
}

template <typename T>
cudaError_t embed(const void* audio, const void* table, const void* tokens, void* h, int rows,
                  int width, cudaStream_t stream) {
  return launch(embed_kernel<T>, dim3(rows), dim3(256), 0, stream, static_cast<const T*>(audio),
                static_cast<const T*>(table), static_cast<const int64_t*>(tokens),
                static_cast<float*>(h), width);
}

template <typename T>
cudaError_t embed_int4(const void* audio, const void* words, const void* scales,
                       const void* tokens, void* h, int rows, int width, int n_tokens,
                       cudaStream_t stream) {
  return launch(embed_int4_kernel<T>, dim3(rows), dim3(512), 0, stream,
                static_cast<const T*>(audio), static_cast<const uint32_t*>(words),
                static_cast<const half*>(scales), static_cast<const int64_t*>(tokens),
                static_cast<float*>(h), width, n_tokens);
}

}  // namespace
}  // namespace voxtral

using namespace voxtral;

// h fp32 [rows, width]; partial fp32 [n_partial, rows, width]; bias, weight [width];
// scales [n_slots, width] or null, of the slots [rows / rows_per_slot]; x [rows, width].
extern "C" int voxtral_add_rms_norm(int dtype, void* h, const void* partial, int n_partial,
                                    const void* bias, const void* weight, const void* scales,
                                    const void* slots, int rows_per_slot, void* x, int rows,
                                    int width, float eps, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  if (width % 4 || width > 4 * kNormThreads * kMaxFours) return cudaErrorInvalidValue;
  return dtype == kHalf
             ? add_rms_norm<half>(h, partial, n_partial, bias, weight, scales, slots,
                                  rows_per_slot, x, rows, width, eps, stream)
             : add_rms_norm<__nv_bfloat16>(h, partial, n_partial, bias, weight, scales, slots,
                                           rows_per_slot, x, rows, width, eps, stream);
}

// audio [rows, width], table [n_tokens, width], tokens int64 [rows], h fp32 [rows, width].
extern "C" int voxtral_embed(int dtype, const void* audio, const void* table, const void* tokens,
                             void* h, int rows, int width, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dtype == kHalf ? embed<half>(audio, table, tokens, h, rows, width, stream)
                        : embed<__nv_bfloat16>(audio, table, tokens, h, rows, width, stream);
}

// words int32 [width / 16, 2 n_tokens], scales fp16 [width / 128, n_tokens]; the LM head in INT4.
extern "C" int voxtral_embed_int4(int dtype, const void* audio, const void* words,
                                  const void* scales, const void* tokens, void* h, int rows,
                                  int width, int n_tokens, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  if (width % 128 || n_tokens % 64) return cudaErrorInvalidValue;
  return dtype == kHalf ? embed_int4<half>(audio, words, scales, tokens, h, rows, width, n_tokens,
                                           stream)
                        : embed_int4<__nv_bfloat16>(audio, words, scales, tokens, h, rows, width,
                                                    n_tokens, stream);
}

// cosine, sine fp32 [rows, n_pairs]; position int64 [slots], tokens; inv_freq fp64 [n_pairs].
extern "C" int voxtral_rope(const void* slots, const void* position, const void* inv_freq,
                            void* cosine, void* sine, int rows, int rows_per_slot, int per_token,
                            int n_pairs, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return launch(rope_kernel, dim3(rows), dim3(64), 0, stream,
                static_cast<const int64_t*>(slots), static_cast<const int64_t*>(position),
                static_cast<const double*>(inv_freq), static_cast<float*>(cosine),
                static_cast<float*>(sine), rows_per_slot, per_token, n_pairs);
}

// slots int64 [m], position int64 [n_slots], of which those of the slots go on by n.
extern "C" int voxtral_advance(const void* slots, void* position, int m, int n,
                               cudaStream_t stream) {
  if (m == 0) return cudaSuccess;
  return launch(advance_kernel, dim3((m + 127) / 128), dim3(128), 0, stream,
                static_cast<const int64_t*>(slots), static_cast<int64_t*>(position), m, n);
}
