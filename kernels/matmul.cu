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
// K is cut into n_splits x n_warps equal shares. Which shares there are follows from the shape of
// W alone (see ops/matmul.py), and shares are added up in their order, so a row of y depends
// neither on the other rows nor on the GPU nor on the run.

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

constexpr int kMaxThreads = 320;

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

// Rows of x in shared memory are 16 bytes longer than a multiple of 128: eight rows at the same
// place, which ldmatrix reads at once, are in different banks.
__host__ __device__ inline int x_stride(int k) { return k * 2 + 16; }  // bytes

template <typename T>
__device__ void stage(char* shared, const T* x, int rows, int k_total, int k_count) {
  const int chunks = k_count / 8;
  for (int row = 0; row < rows; ++row)
    for (int i = threadIdx.x; i < chunks; i += blockDim.x) {
      const char* place = shared + row * x_stride(k_count) + i * 16;
      const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(place));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(to),
                   "l"(x + static_cast<size_t>(row) * k_total + i * 8));
    }
  asm volatile("cp.async.wait_all;\n" ::: "memory");
}

// b-operands of two tiles of 16 inputs for eight rows; each lane gives the address of 16 bytes.
__device__ inline uint4 load_operands(uint32_t shared) {
  uint4 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(shared));
  return v;
}

// The scales of a lane's outputs in one group: c and c + 8 of every block.
template <int kBlocks>
struct Scales {
  half value[2 * kBlocks];
  __device__ void load(const half* from) {
    if constexpr (kBlocks == 4)
      *reinterpret_cast<uint4*>(value) = *reinterpret_cast<const uint4*>(from);
    else
      *reinterpret_cast<uint2*>(value) = *reinterpret_cast<const uint2*>(from);
  }
};

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
  const int split = blockIdx.y, n_groups = p.k / kGroup / (n_warps * gridDim.y);  // of a share
  const int block_begin = split * n_warps * n_groups;
  const int first_row = blockIdx.z * 8 * kRows;
  const int rows = min(8 * kRows, p.m - first_row);

  // Eight loads of a warp are in flight all the time, the first ones before x is there.
  const int begin = block_begin + share * n_groups;
  const size_t pair_pitch = static_cast<size_t>(n_strips) * 2 * kWarp;
  const int second = W::second(n_strips) * kWarp;
  const uint4* next = static_cast<const uint4*>(p.weight) + begin * (kVectors / 2) * pair_pitch +
                      W::first(strip) * kWarp + lane;
  const half* scale_at = p.scales + static_cast<size_t>(begin) * p.n + strip * kWidth +
                         column * (2 * kBlocks);
  uint4 ring[kVectors];
  Scales<kBlocks> scales;
#pragma unroll
  for (int pair = 0; pair < kVectors / 2; ++pair) {
    ring[2 * pair] = load_once(next);
    ring[2 * pair + 1] = load_once(next + second);
    next += pair_pitch;
  }
  let_next_start();
  wait_for_previous();
  const int k_count = n_warps * n_groups * kGroup;
  stage(shared,
        static_cast<const T*>(p.x) + static_cast<size_t>(first_row) * p.k + block_begin * kGroup,
        rows, p.k, k_count);
  __syncthreads();

  float total[kBlocks][kRows][4] = {};
  // Lane i gives the address of row i % 8 in quarter i / 8 of 32 inputs. Where there is no such
  // row the first one is read: what comes of it is not stored.
  uint32_t x_at[kRows];
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    const int from = row * 8 + lane % 8 < rows ? row * 8 + lane % 8 : 0;
    x_at[row] = static_cast<uint32_t>(__cvta_generic_to_shared(shared)) +
                from * x_stride(k_count) + share * n_groups * 256 + lane / 8 * 16;
  }
  for (int group = 0; group < n_groups; ++group) {
    const bool more = group + 1 < n_groups;
    float sum[kBlocks][kRows][4] = {};
    if constexpr (W::kScaled) {  // needed at the end of the group
      scales.load(scale_at);
      scale_at += p.n;
    }
#pragma unroll
    for (int pair = 0; pair < kVectors / 2; ++pair) {
      uint4 x[kRows];
#pragma unroll
      for (int row = 0; row < kRows; ++row) x[row] = load_operands(x_at[row] + pair * 64);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int f = 0; f < W::kFragments; ++f) {
          uint32_t a[4];
          W::template operand<T>(ring[2 * pair + i], f, a);
          // Its registers are free: the next vector can take them while the products run.
          if (f == W::kFragments - 1 && more)
            ring[2 * pair + i] = load_once(i ? next + second : next);
#pragma unroll
          for (int row = 0; row < kRows; ++row) {
            if (W::tile(i, f) == 0)
              mma<T>(sum[W::block(i, f)][row], a, x[row].x, x[row].y);
            else
              mma<T>(sum[W::block(i, f)][row], a, x[row].z, x[row].w);
          }
        }
      }
      next += pair_pitch;
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row) x_at[row] += 256;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      float low = 1, high = 1;  // of outputs c and c + 8
      if constexpr (W::kScaled)
        low = __half2float(scales.value[2 * block]),
        high = __half2float(scales.value[2 * block + 1]);
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

constexpr int kMaxShared = 99 * 1024;  // of 163 kB on SM87: what is left is L1

template <class W, typename T, int kRows, int kEpilogue>
cudaError_t start(const MatmulArguments& p, int n_warps, int n_splits, cudaStream_t stream) {
  constexpr int kStrips = kEpilogue == kGated ? 2 : 1;
  const int rows = p.m < 8 * kRows ? p.m : 8 * kRows;
  const int x_bytes = rows * x_stride(p.k / n_splits);
  const int sum_bytes = kStrips * n_warps * rows * (16 * W::kBlocks + 4) * 4;
  const int shared = x_bytes > sum_bytes ? x_bytes : sum_bytes;
  const dim3 grid(p.n / (16 * W::kBlocks) / kStrips, n_splits,
                  (p.m + 8 * kRows - 1) / (8 * kRows));
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
  if (p.k / kGroup % (n_warps * n_splits)) return cudaErrorInvalidValue;
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
