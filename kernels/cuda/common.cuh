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

// What all kernels share: 16-bit types, mma, cp.async, ldmatrix, reductions, launching.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace voxtral {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// Types of activations, as the Python side numbers them.
enum Dtype : int { kHalf = 0, kBfloat16 = 1 };

__device__ inline float to_float(half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ inline T from_float(float x);
template <>
__device__ inline half from_float<half>(float x) { return __float2half_rn(x); }
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// Two numbers as one register, the first in the low half.
template <typename T>
__device__ inline uint32_t pack(float low, float high);
template <>
__device__ inline uint32_t pack<half>(float low, float high) {
  half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<uint32_t*>(&pair);
}
template <>
__device__ inline uint32_t pack<__nv_bfloat16>(float low, float high) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<uint32_t*>(&pair);
}

// d += a b: a 16 x 16, b 16 x 8, d 16 x 8 in fp32. With c = lane / 4 and r = lane % 4 a lane holds
//   a[0] (c, 2r..2r+1)  a[1] (c+8, 2r..)  a[2] (c, 2r+8..)  a[3] (c+8, 2r+8..)
//   b[0] (2r..2r+1, c)  b[1] (2r+8.., c)
//   d[0] (c, 2r)  d[1] (c, 2r+1)  d[2] (c+8, 2r)  d[3] (c+8, 2r+1)
template <typename T>
__device__ inline void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
__device__ inline void mma<half>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ inline void mma<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                          uint32_t b1) {
  asm(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Asynchronous copy of 16 bytes from global to shared memory, bypassing L1; of fewer `bytes` the
// rest is zero-filled. Complete after cp_async_wait of the same thread.
__device__ inline void cp_async_16(uint32_t shared, const void* from, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared), "l"(from),
               "r"(bytes));
}

// The same of 4 bytes.
__device__ inline void cp_async_4(uint32_t shared, const void* from, int bytes = 4) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared), "l"(from),
               "r"(bytes));
}

// Copies since the last commit of a thread are a group; wait until all but its last kLeft groups
// are complete.
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int kLeft>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kLeft) : "memory");
}

// ldmatrix.x4: four 8 x 8 matrices of 16-bit numbers; lane i gives the address of row i % 8 of
// matrix i / 8.
template <bool kTransposed = false>
__device__ inline uint4 ldmatrix(uint32_t shared) {
  uint4 v;
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(shared));
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(shared));
  return v;
}

// Programmatic dependent launch, from Hopper on: a kernel starts while the one before it ends.
// All that kernels before this one have written is visible after grid_dependency_wait, nothing is
// before; weights, which nobody writes, may be read earlier.
#if __CUDA_ARCH__ >= 900
constexpr bool kDependentLaunch = true;
#else
constexpr bool kDependentLaunch = false;
#endif
__device__ inline void grid_dependency_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}
__device__ inline void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

__device__ inline float warp_max(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2)
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

__device__ inline uint64_t warp_max(uint64_t key) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const uint64_t other = __shfl_xor_sync(kAllLanes, key, step);
    key = other > key ? other : key;
  }
  return key;
}

// Sum over a block in a fixed order; `scratch` holds one float per warp. All threads get it.
__device__ inline float block_sum(float x, float* scratch) {
  x = warp_sum(x);
  const int warp = threadIdx.x / kWarp, n_warps = blockDim.x / kWarp;
  if (threadIdx.x % kWarp == 0) scratch[warp] = x;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < n_warps; ++i) sum += scratch[i];
  __syncthreads();
  return sum;
}

// Launch on `stream`, with programmatic dependent launch if this very code was compiled for it:
// compute_87 PTX that the driver has translated for a newer GPU does not wait.
template <typename... Formal, typename... Actual>
inline cudaError_t launch(void (*kernel)(Formal...), dim3 grid, dim3 block, size_t shared,
                          cudaStream_t stream, Actual... arguments) {
  cudaFuncAttributes attributes;
  cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return error;
  if (shared > 48 * 1024 && attributes.maxDynamicSharedSizeBytes < static_cast<int>(shared)) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared));
    if (error != cudaSuccess) return error;
  }
  // Kernels share an SM only if they divide its memory between L1 and shared in the same way.
  if (attributes.preferredShmemCarveout != cudaSharedmemCarveoutMaxShared) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                 cudaSharedmemCarveoutMaxShared);
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  cudaLaunchAttribute early[1];
  early[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early[0].val.programmaticStreamSerializationAllowed = 1;
  config.attrs = early;
  config.numAttrs = attributes.ptxVersion >= 90 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, Formal(arguments)...);
}

}  // namespace voxtral
