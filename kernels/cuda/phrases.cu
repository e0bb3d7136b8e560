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

// Tokens of phrases that a stream expects: what argmax has chosen is chosen once more, with a bias.
//
// Each slot has a trie, or none: voxtral_ros/backends/biasing.py, where the choice is written down.
// One block per row. The biases are added to the screened logits; of the kTop tokens with the
// largest sums, the token that argmax has found and the special ones the exact logits decide.

#include "logits.cuh"

namespace voxtral {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp, kTop = kWarps, kMaxSpecial = 32;
constexpr int kKept = 4;  // entries of a thread

struct Trie {
  const int32_t* begin;  // [n_states + 1], of the entries of each state; null: nothing is expected
  const int32_t* token;  // [n_entries], ascending in each state
  const int32_t* next;   // [n_entries], states
  const float* bias;     // [n_entries]
  const bool* inside;    // [n_states], whether a word is begun
  int64_t first_text;    // tokens below are special
};

struct PhraseArguments {
  const float* logits;       // [M, V], screened
  const void* hidden;        // [M, D], T
  const void* table;         // [V, D], T, or null: the screened logits are all there is
  const int* special;        // [n_special], whose logits are computed exactly
  const float* pad_penalty;  // [slots], subtracted from the logit of `pad`
  const int64_t* slots;      // [M / rows_per_slot]
  const Trie* tries;         // [slots]
  int64_t* state;            // [slots]
  int64_t* last_token;       // [slots], or null: neither is this written, nor `state`
  int64_t* ids;              // [3, M]: token, token without phrases, state after the token
  float* values;             // [3, M]: their probabilities, and how much less likely the first is
  int n_special, pad, rows_per_slot, vocabulary, width, m;
};

// The entry of a token in a state, -1 if it has none.
__device__ int find(const Trie& trie, int64_t state, int token) {
  int low = trie.begin[state], high = trie.begin[state + 1];
  const int end = high;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (trie.token[middle] < token)
      low = middle + 1;
    else
      high = middle;
  }
  return low < end && trie.token[low] == token ? low : -1;
}

// The entry of a token in a state, or else where no phrase is begun; -1 if it has none.
__device__ int find_any(const Trie& trie, int64_t state, int token) {
  const int at = find(trie, state, token);
  return at < 0 && state ? find(trie, 0, token) : at;
}

__device__ uint64_t block_max(uint64_t key, uint64_t* scratch) {
  key = warp_max(key);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = key;
  __syncthreads();
  key = scratch[0];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) key = scratch[i] > key ? scratch[i] : key;
  __syncthreads();
  return key;
}

template <typename T>
__global__ __launch_bounds__(kThreads) void expect_kernel(PhraseArguments p) {
  __shared__ float sums[kWarps], exact[1 + kMaxSpecial], top_logit[kTop], top_bias[kTop];
  __shared__ uint64_t keys[kWarps];
  __shared__ int top_token[kTop];
  launch_dependents();
  grid_dependency_wait();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, row = blockIdx.x;
  const int64_t slot = p.slots[row / p.rows_per_slot];
  const Trie trie = p.tries[slot];
  const int unbiased = p.ids[row];
  const float probability = p.values[row];
  if (!trie.begin) {
    if (threadIdx.x == 0) {
      p.ids[p.m + row] = unbiased, p.ids[2 * p.m + row] = 0;
      p.values[p.m + row] = probability, p.values[2 * p.m + row] = 0;
    }
    return;
  }
  const int64_t state = p.state[slot];
  const bool inside = trie.inside[state];
  const float* logits = p.logits + static_cast<size_t>(row) * p.vocabulary;
  const float penalty = p.pad_penalty[slot];
  auto penalised = [&](int id, float logit) { return id == p.pad ? logit - penalty : logit; };
  // Of a whole warp.
  auto exact_logit = [&](int id) {
    if (!p.table) return penalised(id, logits[id]);
    return penalised(id, dot(static_cast<const T*>(p.hidden) + static_cast<size_t>(row) * p.width,
                             static_cast<const T*>(p.table) + static_cast<size_t>(id) * p.width,
                             p.width, lane));
  };
  for (int i = warp; i < 1 + p.n_special; i += kWarps) {
    const float logit = exact_logit(i ? p.special[i - 1] : unbiased);
    if (lane == 0) exact[i] = logit;
  }
  __syncthreads();

  // All that follows is relative to the logit of the token that argmax has found.
  const float base = exact[0];
  float special_sum = 0;
  uint64_t best_special = 0;
  auto add_special = [&](int id, float logit) {
    special_sum += expf(logit - base);
    const uint64_t key = make_key(logit, id);
    best_special = key > best_special ? key : best_special;
  };
  for (int id = threadIdx.x; id < trie.first_text; id += kThreads) {
    bool listed = id == unbiased;
    for (int i = 0; i < p.n_special; ++i) listed |= p.special[i] == id;
    if (!listed) add_special(id, penalised(id, logits[id]));
  }
  if (threadIdx.x < p.n_special && p.special[threadIdx.x] < trie.first_text)
    add_special(p.special[threadIdx.x], exact[1 + threadIdx.x]);
  if (threadIdx.x == kThreads - 1 && unbiased < trie.first_text) {
    bool listed = false;
    for (int i = 0; i < p.n_special; ++i) listed |= p.special[i] == unbiased;
    if (!listed) add_special(unbiased, base);
  }
  special_sum = block_sum(special_sum, sums);
  best_special = block_max(best_special, keys);

  // The entries of the state, then those of state 0 that it does not have itself.
  const int own = trie.begin[state + 1] - trie.begin[state];
  const int n_entries = own + (inside || !state ? 0 : trie.begin[1]);
  auto entry = [&](int i) {
    if (i < own) return trie.begin[state] + i;
    return find(trie, state, trie.token[i - own]) < 0 ? i - own : -1;
  };
  auto key_of = [&](int i) -> uint64_t {
    const int at = i < n_entries ? entry(i) : -1;
    return at < 0 ? 0 : make_key(logits[trie.token[at]] + trie.bias[at], trie.token[at]);
  };
  float gain = 0;
  for (int i = threadIdx.x; i < n_entries; i += kThreads) {
    const int at = entry(i);
    if (at >= 0) gain += expm1f(trie.bias[at]) * expf(logits[trie.token[at]] - base);
  }
  gain = block_sum(gain, sums);
  uint64_t key[kKept];  // of the first entries of a thread; those of longer lists are found anew
#pragma unroll
  for (int k = 0; k < kKept; ++k) key[k] = key_of(threadIdx.x + k * kThreads);
  uint64_t last = ~0ull;
  for (int n = 0; n < kTop; ++n) {
    uint64_t best = 0;
#pragma unroll
    for (int k = 0; k < kKept; ++k)
      if (key[k] < last && key[k] > best) best = key[k];
    for (int i = threadIdx.x + kKept * kThreads; i < n_entries; i += kThreads) {
      const uint64_t more = key_of(i);
      if (more < last && more > best) best = more;
    }
    last = block_max(best, keys);
    if (threadIdx.x == 0) top_token[n] = last ? static_cast<int>(key_id(last)) : -1;
  }
  __syncthreads();
  if (threadIdx.x < kTop && top_token[threadIdx.x] >= 0)
    top_bias[threadIdx.x] = trie.bias[find_any(trie, state, top_token[threadIdx.x])];
  if (top_token[warp] >= 0) {
    const float logit = exact_logit(top_token[warp]);
    if (lane == 0) top_logit[warp] = logit;
  }
  __syncthreads();
  if (threadIdx.x > 0) return;

  const int special = key_id(best_special);
  float special_logit = penalised(special, logits[special]);
  for (int i = 0; i < p.n_special; ++i)
    special_logit = p.special[i] == special ? exact[1 + i] : special_logit;
  int token = -1;
  float logit = -INFINITY, best = -INFINITY;
  for (int n = 0; n < kTop; ++n) {
    if (top_token[n] < 0) continue;
    gain += expm1f(top_bias[n]) * (expf(top_logit[n] - base) - expf(logits[top_token[n]] - base));
    const float biased = top_logit[n] + top_bias[n];
    if (biased > best || (biased == best && top_token[n] < token))
      token = top_token[n], logit = top_logit[n], best = biased;
  }
  gain = fmaxf(gain, 0.f);
  const float all = 1 / probability, text = fmaxf(all - special_sum, 1e-30f);
  float likelihood = expf(best - base);
  if (!inside && gain > 0) likelihood *= text / (text + gain);
  const bool is_best_text = unbiased < trie.first_text || best > base || token == unbiased;
  float token_probability = likelihood / (inside ? all + gain : all);
  const float rival = unbiased < trie.first_text ? 1.f : expf(special_logit - base);
  if (token < 0 || !is_best_text || !(likelihood > rival))
    token = unbiased, logit = base, token_probability = probability;
  int64_t next = state;
  if (token >= trie.first_text) {
    const int at = find_any(trie, state, token);
    next = at < 0 ? 0 : trie.next[at];
  }
  p.ids[row] = token, p.ids[p.m + row] = unbiased, p.ids[2 * p.m + row] = next;
  p.values[row] = token_probability, p.values[p.m + row] = probability;
  p.values[2 * p.m + row] = token == unbiased ? 0.f : base - logit;
  if (p.last_token && row % p.rows_per_slot == p.rows_per_slot - 1)
    p.last_token[slot] = token, p.state[slot] = next;
}

}  // namespace
}  // namespace voxtral

using namespace voxtral;

// ids int64 [3, m] and values fp32 [3, m], of which the first rows are those of voxtral_argmax;
// tries int64 [n_slots, 6], as in the structure Trie.
extern "C" int voxtral_expect(int dtype, const void* logits, const void* hidden, const void* table,
                              const void* special, int n_special, int pad,
                              const void* pad_penalty, const void* slots, int rows_per_slot,
                              const void* tries, void* state, void* last_token, void* ids,
                              void* values, int m, int vocabulary, int width,
                              cudaStream_t stream) {
  if (m == 0) return cudaSuccess;
  if (n_special > kMaxSpecial || width % 8) return cudaErrorInvalidValue;
  const PhraseArguments p{static_cast<const float*>(logits),
                          hidden,
                          table,
                          static_cast<const int*>(special),
                          static_cast<const float*>(pad_penalty),
                          static_cast<const int64_t*>(slots),
                          static_cast<const Trie*>(tries),
                          static_cast<int64_t*>(state),
                          static_cast<int64_t*>(last_token),
                          static_cast<int64_t*>(ids),
                          static_cast<float*>(values),
                          n_special,
                          pad,
                          rows_per_slot,
                          vocabulary,
                          width,
                          m};
  return dtype == kHalf
             ? launch(expect_kernel<half>, dim3(m), dim3(kThreads), 0, stream, p)
             : launch(expect_kernel<__nv_bfloat16>, dim3(m), dim3(kThreads), 0, stream, p);
}
