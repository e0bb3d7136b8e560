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

// Forward pass over streams: mel frames to audio embeddings (encoder), those to tokens (decoder).
//
// Compiled once per instruction set; VOXTRAL_FORWARD names the table that library.cpp selects from.

#include "attention.h"
#include "forward.h"
#include "mel.h"
#include "phrases.h"

namespace {

// Activations of one pass, laid out in the workspace.
struct Buffers {
  float * hidden, * normed, * query, * key, * value, * attention_out, * gate, * up;
  float * cosine, * sine;
  float * scratch;  // of attention
  float * rounded;  // inputs of a GEMM
  float * rest;  // the workspace after all these
  int64_t size;  // of all these, in floats
};

int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

Buffers buffers(const Stack & s, int64_t n_streams, int64_t n_tokens, float * memory) {
  const int64_t n = n_tokens * s.per_token, rows = n_streams * n;
  int64_t used = 0;
  const auto take = [&](int64_t size) {
      float * place = memory ? memory + used : nullptr;
      used += (size + 15) / 16 * 16;  // whole cache lines
      return place;
    };
  Buffers b;
  b.hidden = take(rows * s.dim);
  b.normed = take(rows * s.dim);
  b.query = take(rows * s.n_heads * s.head_dim);
  b.key = take(rows * s.n_kv_heads * s.head_dim);
  b.value = take(rows * s.n_kv_heads * s.head_dim);
  b.attention_out = take(rows * s.n_heads * s.head_dim);
  b.gate = take(rows * s.hidden_dim);
  b.up = take(rows * s.hidden_dim);
  b.cosine = take(rows * s.head_dim / 2);
  b.sine = take(rows * s.head_dim / 2);
  b.scratch = take(s.n_kv_heads * Attention::scratch_size(s, n));
  const int64_t widest =
    larger(larger(s.per_token * s.dim, s.n_heads * s.head_dim), s.hidden_dim);
  b.rounded = take(Inputs8::size(rows, widest));
  b.rest = take(0);
  b.size = used;
  return b;
}

// RoPE of the next n positions of each stream, [streams * n, head_dim / 2].
void rope_angles(const Stack & s, Streams streams, int64_t n, const Buffers & b) {
  const int64_t half = s.head_dim / 2;
  for (int64_t row = 0; row < streams.n * n; ++row) {
    const int64_t slot = streams.slots[row / n];
    const int64_t position = s.position[slot] * s.per_token + row % n;
    for (int64_t j = 0; j < half; ++j) {
      double cosine, sine;
      cos_sin((double)position * s.turns[j], cosine, sine);
      b.cosine[row * half + j] = (float)cosine;
      b.sine[row * half + j] = (float)sine;
    }
  }
}

// Attention of stream m: applies RoPE, writes keys and values to the KV cache, and attends.
void attend(
  const Model & model, const Stack & s, int64_t layer, Streams streams, int64_t m, int64_t n,
  const Buffers & b)
{
  const int64_t half = s.head_dim / 2;
  const int64_t q_dim = s.n_heads * s.head_dim, kv_dim = s.n_kv_heads * s.head_dim;
  const int64_t slot = streams.slots[m], first = s.position[slot] * s.per_token;
  const KVCache cache{s, layer * model.n_slots + slot};
  for (int64_t i = 0, row = m * n; i < n; ++i, ++row) {
    const float * cosine = b.cosine + row * half, * sine = b.sine + row * half;
    apply_rope(b.query + row * q_dim, s.n_heads, s.head_dim, cosine, sine);
    apply_rope(b.key + row * kv_dim, s.n_kv_heads, s.head_dim, cosine, sine);
    cache.write(first + i, b.key + row * kv_dim, b.value + row * kv_dim);
  }
  const Attention attention{
    s, cache, first, n, b.query + m * n * q_dim, b.attention_out + m * n * q_dim, b.scratch};
  attention.run();
}

// All transformer layers over n new positions of each stream, b.hidden [streams * n, dim] in place.
void run_layers(
  const Model & model, const Stack & s, Streams streams, int64_t n, const float * delay_scales,
  const Buffers & b)
{
  const int64_t rows = streams.n * n;
  rope_angles(s, streams, n, b);
  for (int64_t index = 0; index < s.n_layers; ++index) {
    const Layer & layer = s.layers[index];
    rms_norm(b.hidden, rows, s.dim, layer.attention_norm, s.eps, b.normed);
    Input normed(b.normed, rows, s.dim, b.rounded);
    gemm(layer.query, normed, b.query);
    gemm(layer.key, normed, b.key);
    gemm(layer.value, normed, b.value);
    for (int64_t m = 0; m < streams.n; ++m) {
      attend(model, s, index, streams, m, n, b);
    }
    Input attended(b.attention_out, rows, s.n_heads * s.head_dim, b.rounded);
    gemm(layer.out, attended, b.hidden, true);
    rms_norm(b.hidden, rows, s.dim, layer.ffn_norm, s.eps, b.normed);
    for (int64_t row = 0; delay_scales && row < rows; ++row) {
      const int64_t slot = streams.slots[row / n];
      const float * scale = delay_scales + (index * model.n_slots + slot) * s.dim;
      for (int64_t i = 0; i < s.dim; ++i) {
        b.normed[row * s.dim + i] *= scale[i];
      }
    }
    Input scaled(b.normed, rows, s.dim, b.rounded);
    gemm(layer.gate, scaled, b.gate);
    gemm(layer.up, scaled, b.up);
    swiglu(b.gate, b.up, rows * s.hidden_dim);
    Input gated(b.gate, rows, s.hidden_dim, b.rounded);
    gemm(layer.down, gated, b.hidden, true);
  }
  for (int64_t m = 0; m < streams.n; ++m) {
    s.position[streams.slots[m]] += n / s.per_token;
  }
}

// Causal convolution of width 3 (im2col and GEMM) and GELU, x [n, channels] to out
// [n / stride, dim]. conv_state, the inputs before x, is [channels, 3 - stride] and becomes the end
// of x. columns: [n / stride, 3 * channels]
void causal_conv1d(
  const Matrix & m, const float * x, int64_t n, int64_t stride, float * conv_state,
  float * columns, float * out)
{
  const int64_t channels = m.k / 3, n_state = 3 - stride, n_out = n / stride;
  for (int64_t t = 0; t < n_out; ++t) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t j = 0; j < 3; ++j) {
        const int64_t from = t * stride + j - n_state;
        columns[t * m.k + 3 * c + j] =
          from < 0 ? conv_state[c * n_state + from + n_state] : x[from * channels + c];
      }
    }
  }
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t j = 0; j < n_state; ++j) {
      conv_state[c * n_state + j] = x[(n - n_state + j) * channels + c];
    }
  }
  Input input(columns, n_out, m.k, nullptr);  // never quantized
  gemm(m, input, out);
  gelu(out, n_out * m.n);
}

// Floats of im2col columns and output frames of the first convolution of one stream; the second
// needs no more.
int64_t conv_stem_size(const Model & model, int64_t n_tokens) {
  const int64_t frames = 2 * n_tokens * model.encoder.per_token;
  return frames * (larger(3 * model.n_mels, 3 * model.encoder.dim) + model.encoder.dim);
}

int64_t workspace(const Model & model, int64_t n_streams, int64_t n_tokens) {
  const int64_t encoder = buffers(model.encoder, n_streams, n_tokens, nullptr).size;
  const int64_t decoder = buffers(model.decoder, n_streams, n_tokens, nullptr).size;
  const int64_t dim = model.decoder.dim, rows = n_streams * n_tokens;
  return rows * dim + larger(
    encoder + conv_stem_size(model, n_tokens) + rows * dim + Inputs8::size(rows, dim),
    decoder + n_streams * (panels(model.head.n) * kPanel + dim));
}

void run_encoder(
  const Model & model, Streams streams, const float * mel, int64_t n_tokens, float * memory,
  float * audio)
{
  const Stack & s = model.encoder;
  const Buffers b = buffers(s, streams.n, n_tokens, memory);
  const int64_t n = n_tokens * s.per_token;
  float * frames = b.rest, * columns = frames + 2 * n * s.dim;
  for (int64_t m = 0; m < streams.n; ++m) {
    const int64_t slot = streams.slots[m];
    float * conv_state = model.conv_state[0] + slot * 2 * model.n_mels;
    causal_conv1d(
      model.conv[0], mel + m * 2 * n * model.n_mels, 2 * n, 1, conv_state, columns, frames);
    conv_state = model.conv_state[1] + slot * s.dim;
    causal_conv1d(model.conv[1], frames, 2 * n, 2, conv_state, columns, b.hidden + m * n * s.dim);
  }
  run_layers(model, s, streams, n, nullptr, b);
  const int64_t rows = streams.n * n_tokens;
  rms_norm(b.hidden, streams.n * n, s.dim, s.norm, s.eps, b.normed);
  // The frames of a token are adjacent: [rows, per_token * dim]
  float * hidden = columns + conv_stem_size(model, n_tokens) - 2 * n * s.dim;
  Input frames_of_tokens(b.normed, rows, s.per_token * s.dim, b.rounded);
  gemm(model.adapter[0], frames_of_tokens, hidden);
  gelu(hidden, rows * model.adapter[0].n);
  Input activated(hidden, rows, model.adapter[0].n, hidden + rows * model.adapter[0].n);
  gemm(model.adapter[1], activated, audio);
}

// Final norm, LM head and the choice of a token at the last position of each stream.
void choose_tokens(
  const Model & model, Streams streams, int64_t n, const Buffers & b, Choice * choices,
  int64_t out_stride)
{
  const Stack & s = model.decoder;
  float * normed = b.rest, * logits = normed + streams.n * s.dim;
  for (int64_t m = 0; m < streams.n; ++m) {
    const float * last = b.hidden + ((m + 1) * n - 1) * s.dim;
    rms_norm(last, 1, s.dim, s.norm, s.eps, normed + m * s.dim);
  }
  const int64_t vocabulary = model.head.n, stride = panels(vocabulary) * kPanel;
  Input input(normed, streams.n, s.dim, b.rounded);
  gemm(model.head, input, Output{logits, stride, false});
  for (int64_t m = 0; m < streams.n; ++m, logits += stride) {
    const int64_t slot = streams.slots[m];
    logits[model.pad] -= model.pad_penalty[slot];
    const Phrases & phrases = model.phrases[slot];
    Choice & choice = choices[m * out_stride];
    if (phrases.begin) {
      int64_t & state = model.phrase_state[slot];
      choice = choose_biased(phrases, state, logits, vocabulary);
      state = next_state(phrases, state, choice.token);
    } else {
      choice = choose(logits, vocabulary);
    }
    model.last_token[slot] = choice.token;
  }
}

// Decoder over positions `from` to from + n - 1 of audio [streams, n_tokens, dim]; tokens:
// [streams, n], or null for the last token of each stream.
void run_decoder(
  const Model & model, Streams streams, const float * audio, int64_t n_tokens, int64_t from,
  const int64_t * tokens, int64_t n, const Buffers & b)
{
  const Stack & s = model.decoder;
  for (int64_t row = 0; row < streams.n * n; ++row) {
    const int64_t m = row / n;
    float * hidden = b.hidden + row * s.dim;
    std::memcpy(hidden, audio + (m * n_tokens + from + row % n) * s.dim, 4 * s.dim);
    add_embedding(model.head, tokens ? tokens[row] : model.last_token[streams.slots[m]], hidden);
  }
  run_layers(model, s, streams, n, model.delay_scales, b);
}

void prefill(
  const Model & model, Streams streams, const float * mel, int64_t n_tokens,
  const int64_t * prompt_tokens, float * memory, Choice * choices)
{
  float * audio = memory, * rest = audio + streams.n * n_tokens * model.decoder.dim;
  run_encoder(model, streams, mel, n_tokens, rest, audio);
  const Buffers b = buffers(model.decoder, streams.n, n_tokens, rest);
  run_decoder(model, streams, audio, n_tokens, 0, prompt_tokens, n_tokens, b);
  for (int64_t m = 0; m < streams.n; ++m) {
    model.phrase_state[streams.slots[m]] = 0;  // whatever earlier positions have predicted
  }
  choose_tokens(model, streams, n_tokens, b, choices, 1);
}

void decode(
  const Model & model, Streams streams, const float * mel, int64_t n_tokens, float * memory,
  Choice * choices)
{
  float * audio = memory, * rest = audio + streams.n * n_tokens * model.decoder.dim;
  run_encoder(model, streams, mel, n_tokens, rest, audio);
  const Buffers b = buffers(model.decoder, streams.n, 1, rest);
  for (int64_t i = 0; i < n_tokens; ++i) {
    run_decoder(model, streams, audio, n_tokens, i, nullptr, 1, b);
    choose_tokens(model, streams, 1, b, choices + i, n_tokens);
  }
}

void roots(int64_t n, double * out) {
  for (int64_t i = 0; i < n; ++i) {
    cos_sin((double)i / (double)n, out[2 * i], out[2 * i + 1]);
  }
}

void gemm_alone(
  const Matrix & m, const float * x, int64_t n_rows, float * memory, float * out)
{
  Input input(x, n_rows, m.k, memory);
  gemm(m, input, out);
}

}  // namespace

extern const Forward VOXTRAL_FORWARD = {roots, log_mel, gemm_alone, workspace, prefill, decode};
