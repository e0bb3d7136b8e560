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

// Small matrix products: y[M, N] = x[M, K] W for a few rows x and weights that are read once.
//
// The bytes of W are the cost, so all else is arranged around reading them: a warp streams one
// strip of outputs over its share of K from global memory through registers into the tensor core,
// weights as the 16-row operand, rows of x as the 8-column one. Codes enter the tensor core as
// exact integers; the fp32 sum over a group of 128 inputs is multiplied by its scale once.
//
// K is cut into n_splits x n_warps shares. Which shares there are follows from the shape of W
// alone (see ops/matmul.py), and shares are added up in their order, so a row of y depends neither
// on the other rows nor on the GPU nor on the run.

#include "weights.cuh"

namespace voxtral {
namespace {

// What becomes of the sums.
enum Epilogue : int {
  kStore = 0,    // y = sum (+ bias) (+ residual), in the type of x
  kPartial = 1,  // fp32 [n_splits, M, N]: whoever reads it adds the splits up
  kGated = 2,    // y[M, N / 2] = silu(gate) * up; strips of gate and up alternate
  kLogits = 3,   // fp32 [M, N], and the maximum and sum of exponentials of every strip
};

constexpr int kMaxThreads = 384;

struct MatmulArguments {
  const void* x;         // [M, K], T
  const void* weight;    // see weights.cuh
  const half* scales;    // see weights.cuh
  const void* bias;      // [N], T, or null
  const void* residual;  // [M, N], T, or null
  void* y;
  float* strip_max;      // [M, N / strip]
  float* strip_sum;      // [M, N / strip], of exp(logit - strip_max)
  int m, k, n;
};

// Shared memory holds x as mma wants it: of every 32 inputs the eight of lane r (two tiles of
// {2r, 2r+1, 2r+8, 2r+9}) are neighbours. Rows are 64 bytes longer than a multiple of 128, so that
// the lanes of a quarter warp read from different banks.
__host__ __device__ inline int x_stride(int k) { return k * 2 + 64; }  // bytes

template <typename T>
__device__ void stage(char* shared, const T* x, int rows, int k_total, int k_begin, int k_count) {
  const int chunks = k_count / 8;
  for (int i = threadIdx.x; i < rows * chunks; i += blockDim.x) {
    const int row = i / chunks, k = i % chunks * 8;
    const uint4 v = *reinterpret_cast<const uint4*>(
        x + static_cast<size_t>(row) * k_total + k_begin + k);
    char* to = shared + row * x_stride(k_count) + k / 32 * 64 + k / 16 % 2 * 8 + k / 8 % 2 * 4;
    *reinterpret_cast<uint32_t*>(to) = v.x;
    *reinterpret_cast<uint32_t*>(to + 16) = v.y;
    *reinterpret_cast<uint32_t*>(to + 32) = v.z;
    *reinterpret_cast<uint32_t*>(to + 48) = v.w;
  }
}

__host__ __device__ inline int share_begin(int share, int n_shares, int n_groups) {
  return static_cast<int>(static_cast<int64_t>(share) * n_groups / n_shares);
}

template <class W>
__device__ inline void load_scales(const half* scales, int group, int n, int strip, int lane,
                                   half (&out)[2 * W::kBlocks]) {
  const half* from = scales + static_cast<size_t>(group) * n + strip * W::kBlocks * 16 +
                     lane / 4 * (2 * W::kBlocks);
  if constexpr (W::kBlocks == 4)
    *reinterpret_cast<uint4*>(out) = *reinterpret_cast<const uint4*>(from);
  else
    *reinterpret_cast<uint2*>(out) = *reinterpret_cast<const uint2*>(from);
}

// One block: one strip (two with kGated), one split of K, 8 * kRows rows of x; one warp per share.
template <class W, typename T, int kRows, int kEpilogue>
__global__ __launch_bounds__(kMaxThreads) void matmul_kernel(MatmulArguments p) {
  constexpr int kBlocks = W::kBlocks, kWidth = 16 * kBlocks;
  constexpr int kStrips = kEpilogue == kGated ? 2 : 1;
  extern __shared__ __align__(16) char shared[];

  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int column = lane / 4, quad = lane % 4;
  const int n_warps = blockDim.x / kWarp / kStrips, share = warp % n_warps;
  const int strip = blockIdx.x * kStrips + warp / n_warps, n_strips = p.n / kWidth;
  const int n_groups = p.k / kGroup, n_shares = n_warps * gridDim.y;
  const int split = blockIdx.y;
  const int begin = share_begin(split * n_warps + share, n_shares, n_groups);
  const int end = share_begin(split * n_warps + share + 1, n_shares, n_groups);
  const int block_begin = share_begin(split * n_warps, n_shares, n_groups);
  const int block_end = share_begin((split + 1) * n_warps, n_shares, n_groups);
  const int first_row = blockIdx.z * 8 * kRows;
  const int rows = min(8 * kRows, p.m - first_row);

  // Eight loads of a warp are in flight all the time, the first ones before x is there.
  const uint4* weight = static_cast<const uint4*>(p.weight);
  uint4 ring[kVectors];
  half scale[2 * kBlocks], next_scale[2 * kBlocks];
  if (begin < end) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
      ring[v] = load_once(weight + W::offset(begin, v, strip, n_strips, lane));
    if constexpr (W::kScaled) load_scales<W>(p.scales, begin, p.n, strip, lane, next_scale);
  }
  let_next_start();
  wait_for_previous();
  const int k_count = (block_end - block_begin) * kGroup;
  stage(shared, static_cast<const T*>(p.x) + static_cast<size_t>(first_row) * p.k, rows, p.k,
        block_begin * kGroup, k_count);
  __syncthreads();

  float total[kBlocks][kRows][4] = {};
  for (int group = begin; group < end; ++group) {
    float sum[kBlocks][kRows][4] = {};
    if constexpr (W::kScaled) {
#pragma unroll
      for (int i = 0; i < 2 * kBlocks; ++i) scale[i] = next_scale[i];
      if (group + 1 < end) load_scales<W>(p.scales, group + 1, p.n, strip, lane, next_scale);
    }
#pragma unroll
    for (int pair = 0; pair < kVectors / 2; ++pair) {
      uint4 x[kRows];
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        x[row] = make_uint4(0, 0, 0, 0);
        if (row * 8 + column < rows)
          x[row] = *reinterpret_cast<const uint4*>(
              shared + (row * 8 + column) * x_stride(k_count) +
              ((group - block_begin) * 4 + pair) * 64 + quad * 16);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint4 vector = ring[pair * 2 + i];
        if (group + 1 < end)
          ring[pair * 2 + i] =
              load_once(weight + W::offset(group + 1, pair * 2 + i, strip, n_strips, lane));
#pragma unroll
        for (int f = 0; f < W::kFragments; ++f) {
          uint32_t a[4];
          W::template operand<T>(vector, f, a);
#pragma unroll
          for (int row = 0; row < kRows; ++row) {
            if (W::tile(i, f) == 0)
              mma<T>(sum[W::block(i, f)][row], a, x[row].x, x[row].y);
            else
              mma<T>(sum[W::block(i, f)][row], a, x[row].z, x[row].w);
          }
        }
      }
    }
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      float low = 1, high = 1;  // of outputs c and c + 8
      if constexpr (W::kScaled)
        low = __half2float(scale[2 * block]), high = __half2float(scale[2 * block + 1]);
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        float(&t)[4] = total[block][row];
        const float(&s)[4] = sum[block][row];
        t[0] += low * s[0], t[1] += low * s[1], t[2] += high * s[2], t[3] += high * s[3];
      }
    }
  }

  // [strips, n_warps, rows, kWidth + 4] over the x that is no longer needed.
  __syncthreads();
  float* sums = reinterpret_cast<float*>(shared);
  constexpr int kPitch = kWidth + 4;
#pragma unroll
  for (int block = 0; block < kBlocks; ++block)
#pragma unroll
    for (int row = 0; row < kRows; ++row)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int m = row * 8 + quad * 2 + i % 2, n = block * 16 + column + i / 2 * 8;
        if (m < rows) sums[(warp * rows + m) * kPitch + n] = total[block][row][i];
      }
  __syncthreads();

  auto add_up = [&](int which, int m, int n) {
    float sum = 0;
    for (int i = 0; i < n_warps; ++i)
      sum += sums[((which * n_warps + i) * rows + m) * kPitch + n];
    return sum;
  };
  if constexpr (kEpilogue == kLogits) {
    // A warp per row: the strip's logits, their maximum and sum of exponentials.
    for (int m = warp; m < rows; m += blockDim.x / kWarp) {
      float value[(kWidth + kWarp - 1) / kWarp], top = -INFINITY, total_exp = 0;
      const size_t out = static_cast<size_t>(first_row + m);
#pragma unroll
      for (int i = 0; i < kWidth / kWarp; ++i) {
        const int n = i * kWarp + lane;
        value[i] = add_up(0, m, n);
        static_cast<float*>(p.y)[out * p.n + blockIdx.x * kWidth + n] = value[i];
        top = fmaxf(top, value[i]);
      }
#pragma unroll
      for (int step = kWarp / 2; step > 0; step /= 2)
        top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, step));
#pragma unroll
      for (int i = 0; i < kWidth / kWarp; ++i) total_exp += expf(value[i] - top);
      total_exp = warp_sum(total_exp);
      if (lane == 0) {
        p.strip_max[out * n_strips + blockIdx.x] = top;
        p.strip_sum[out * n_strips + blockIdx.x] = total_exp;
      }
    }
  } else {
    for (int i = threadIdx.x; i < rows * kWidth; i += blockDim.x) {
      const int m = i / kWidth, n = i % kWidth, at = blockIdx.x * kWidth + n;
      const size_t row = first_row + m;
      float sum = add_up(0, m, n);
      if constexpr (kEpilogue == kGated) {
        const float up = add_up(1, m, n);
        static_cast<T*>(p.y)[row * (p.n / 2) + at] = from_float<T>(sum / (1 + expf(-sum)) * up);
      } else if constexpr (kEpilogue == kPartial) {
        static_cast<float*>(p.y)[(split * static_cast<size_t>(p.m) + row) * p.n + at] = sum;
      } else {
        if (p.bias) sum += to_float(static_cast<const T*>(p.bias)[at]);
        if (p.residual) sum += to_float(static_cast<const T*>(p.residual)[row * p.n + at]);
        static_cast<T*>(p.y)[row * p.n + at] = from_float<T>(sum);
      }
    }
  }
}

// y = sum over splits (+ bias) (+ residual), in their order.
template <typename T>
__global__ void add_splits_kernel(const float* partial, int n_splits, MatmulArguments p) {
  let_next_start();
  wait_for_previous();
  const size_t size = static_cast<size_t>(p.m) * p.n;
  const size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= size) return;
  float sum = 0;
  for (int s = 0; s < n_splits; ++s) sum += partial[s * size + i];
  if (p.bias) sum += to_float(static_cast<const T*>(p.bias)[i % p.n]);
  if (p.residual) sum += to_float(static_cast<const T*>(p.residual)[i]);
  static_cast<T*>(p.y)[i] = from_float<T>(sum);
}

constexpr int kMaxShared = 99 * 1024;  // of 163 kB on SM87: what is left is L1

template <class W, typename T, int kRows, int kEpilogue>
cudaError_t start(const MatmulArguments& p, int n_warps, int n_splits, cudaStream_t stream) {
  constexpr int kStrips = kEpilogue == kGated ? 2 : 1;
  const int n_groups = p.k / kGroup, n_shares = n_warps * n_splits;
  int most = 0;  // groups of the largest split
  for (int s = 0; s < n_splits; ++s)
    most = max(most, share_begin((s + 1) * n_warps, n_shares, n_groups) -
                         share_begin(s * n_warps, n_shares, n_groups));
  const int rows = p.m < 8 * kRows ? p.m : 8 * kRows;
  const int x_bytes = rows * x_stride(most * kGroup);
  const int sum_bytes = kStrips * n_warps * rows * (16 * W::kBlocks + 4) * 4;
  const int shared = x_bytes > sum_bytes ? x_bytes : sum_bytes;
  const dim3 grid(p.n / (16 * W::kBlocks) / kStrips, n_splits, (p.m + 8 * kRows - 1) / (8 * kRows));
  if constexpr (kRows > 1)
    if (shared > kMaxShared)
      return start<W, T, kRows / 2, kEpilogue>(p, n_warps, n_splits, stream);
  return launch(matmul_kernel<W, T, kRows, kEpilogue>, grid, dim3(kWarp * n_warps * kStrips),
                shared, stream, p);
}

template <class W, typename T, int kEpilogue>
cudaError_t start(const MatmulArguments& p, int n_warps, int n_splits, cudaStream_t stream) {
  if (p.m <= 8) return start<W, T, 1, kEpilogue>(p, n_warps, n_splits, stream);
  if (p.m <= 16) return start<W, T, 2, kEpilogue>(p, n_warps, n_splits, stream);
  return start<W, T, W::kMaxRows, kEpilogue>(p, n_warps, n_splits, stream);
}

template <class W, typename T>
cudaError_t start(const MatmulArguments& p, int epilogue, int n_warps, int n_splits,
                  cudaStream_t stream) {
  if (p.m == 0) return cudaSuccess;
  if (p.m < 0 || p.k % kGroup || n_splits < 1 || n_warps < 1 ||
      n_warps * kWarp * (epilogue == kGated ? 2 : 1) > kMaxThreads ||
      p.n % (16 * W::kBlocks * (epilogue == kGated ? 2 : 1)))
    return cudaErrorInvalidValue;
  if (epilogue != kPartial && n_splits > 1) return cudaErrorInvalidValue;
  switch (epilogue) {
    case kStore: return start<W, T, kStore>(p, n_warps, n_splits, stream);
    case kPartial: return start<W, T, kPartial>(p, n_warps, n_splits, stream);
    case kGated: return start<W, T, kGated>(p, n_warps, n_splits, stream);
    case kLogits:
      if constexpr (W::kBlocks >= 2) return start<W, T, kLogits>(p, n_warps, n_splits, stream);
  }
  return cudaErrorInvalidValue;
}

template <class W>
cudaError_t start(const MatmulArguments& p, int dtype, int epilogue, int n_warps, int n_splits,
                  cudaStream_t stream) {
  return dtype == kHalf
             ? start<W, half>(p, epilogue, n_warps, n_splits, stream)
             : start<W, __nv_bfloat16>(p, epilogue, n_warps, n_splits, stream);
}

}  // namespace
}  // namespace voxtral

using namespace voxtral;

// bits: 4, 8 or 16. Returns a cudaError_t, as all entries do.
extern "C" int voxtral_matmul(int bits, int dtype, int epilogue, const void* x, const void* weight,
                              const void* scales, const void* bias, const void* residual, void* y,
                              void* strip_max, void* strip_sum, int m, int k, int n, int n_warps,
                              int n_splits, cudaStream_t stream) {
  const MatmulArguments p{x,        weight, static_cast<const half*>(scales),
                          bias,     residual, y,
                          static_cast<float*>(strip_max), static_cast<float*>(strip_sum),
                          m,        k,      n};
  switch (bits) {
    case 4: return start<Int4>(p, dtype, epilogue, n_warps, n_splits, stream);
    case 8: return start<Int8>(p, dtype, epilogue, n_warps, n_splits, stream);
    case 16: return start<Dense>(p, dtype, epilogue, n_warps, n_splits, stream);
  }
  return cudaErrorInvalidValue;
}

extern "C" int voxtral_add_splits(int dtype, const void* partial, int n_splits, const void* bias,
                                  const void* residual, void* y, int m, int n,
                                  cudaStream_t stream) {
  MatmulArguments p{};
  p.bias = bias, p.residual = residual, p.y = y, p.m = m, p.n = n;
  const int threads = 256;
  const dim3 grid(static_cast<unsigned>((static_cast<size_t>(m) * n + threads - 1) / threads));
  const float* from = static_cast<const float*>(partial);
  return dtype == kHalf
             ? launch(add_splits_kernel<half>, grid, dim3(threads), 0, stream, from, n_splits, p)
             : launch(add_splits_kernel<__nv_bfloat16>, grid, dim3(threads), 0, stream, from,
                      n_splits, p);
}
