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

// Log-mel spectrogram; voxtral_ros/model/mel.py says what it is.
//
// In fp64 without fused multiply-adds, and with an own logarithm: the same to the last bit on every
// processor. Four frames are computed side by side, none of them enters another.

#pragma once

#include "layers.h"
#include "network.h"

namespace {

typedef double Frames __attribute__((vector_size(32), aligned(8)));  // one number of four frames
typedef int64_t Bits __attribute__((vector_size(32), aligned(8)));

struct Complex {
  Frames re, im;
};

inline Complex operator+(Complex a, Complex b) {
  return {a.re + b.re, a.im + b.im};
}

inline Complex operator-(Complex a, Complex b) {
  return {a.re - b.re, a.im - b.im};
}

// times (re + i im)
inline Complex times(Complex a, double re, double im) {
  return {a.re * re - a.im * im, a.re * im + a.im * re};
}

// Fast Fourier transform of any size: out[k] = sum of in[j * stride] e^(-2 pi i j k / n). roots:
// cosine and sine of m / n_roots turns, of which n is a divisor. scratch: [n]
class Fourier {
public:
  Fourier(const double * roots, int64_t n_roots, Complex * scratch)
  : roots_(roots), n_roots_(n_roots), scratch_(scratch) {}

  void transform(const Complex * in, int64_t stride, int64_t n, Complex * out) const {
    if (n == 1) {
      out[0] = in[0];
      return;
    }
    const int64_t p = factor(n), m = n / p;
    for (int64_t j = 0; j < p; ++j) {
      transform(in + j * stride, stride * p, m, out + j * m);
    }
    for (int64_t k = 0; k < m; ++k) {
      for (int64_t j = 0; j < p; ++j) {
        scratch_[j] = j && k ? rotated(out[j * m + k], j * k, n) : out[j * m + k];
      }
      combine(scratch_, p, out + k, m);
    }
  }

private:
  static int64_t factor(int64_t n) {
    int64_t p = n % 4 ? 2 : 4;
    while (n % p && p * p <= n) {
      ++p;
    }
    return n % p ? n : p;
  }

  // a e^(-2 pi i turns / n)
  Complex rotated(Complex a, int64_t turns, int64_t n) const {
    const double * root = roots_ + 2 * (turns % n * (n_roots_ / n));
    return times(a, root[0], -root[1]);
  }

  // The transform of p numbers, to every m-th place.
  void combine(const Complex * part, int64_t p, Complex * out, int64_t m) const {
    if (p == 4) {
      const Complex a = part[0] + part[2], b = part[0] - part[2], c = part[1] + part[3];
      const Complex d = part[1] - part[3], turned = {d.im, -d.re};
      out[0] = a + c;
      out[m] = b + turned;
      out[2 * m] = a - c;
      out[3 * m] = b - turned;
      return;
    }
    for (int64_t q = 0; q < p; ++q) {
      Complex total = part[0];
      for (int64_t j = 1; j < p; ++j) {
        total = total + (q ? rotated(part[j], j * q, p) : part[j]);
      }
      out[q * m] = total;
    }
  }

  const double * roots_;
  int64_t n_roots_;
  Complex * scratch_;
};

// Logarithm to base 10 of normal positive numbers and infinity, by fdlibm's polynomial
// (netlib.org/fdlibm, e_log.c); NaN stays NaN.
inline Frames log10(Frames x) {
  const Bits bits = (Bits)x;
  Bits exponent = (bits >> 52) - 1023;
  Frames f = (Frames)((bits & 0xfffffffffffff) | 0x3ff0000000000000);
  const Bits large = f > 1.4142135623730951;
  f = large ? f * 0.5 : f;
  exponent -= large;  // true is -1
  const Frames s = (f - 1.0) / (f + 1.0), z = s * s;
  Frames r = z * 1.479819860511658591e-01 + 1.531383769920937332e-01;
  r = z * r + 1.818357216161805012e-01;
  r = z * r + 2.222219843214978396e-01;
  r = z * r + 2.857142874366239149e-01;
  r = z * r + 3.999999999940941908e-01;
  r = z * r + 6.666666666666735130e-01;
  const Frames log = s * (z * r + 2.0);
  const Frames whole = __builtin_convertvector(exponent, Frames);
  const Frames out = whole * 0.30102999566398119521 + log * 0.43429448190325182765;
  const Frames infinite = {INFINITY, INFINITY, INFINITY, INFINITY};
  return x < infinite ? out : x;
}

// Power of frames first to first + 3 of one stream, as far as there are so many; the others are
// like the first. Returns [window_size / 2 + 1], in memory.
inline const Frames * power_spectrum(
  const LogMel & mel, const float * samples, int64_t first, int64_t count, Complex * memory)
{
  // A real transform of even size is a complex one of half the size: even samples are its real
  // part, odd ones the imaginary part.
  const int64_t n = mel.window_size, step = n % 2 ? 1 : 2, size = n / step;
  Complex * packed = memory, * spectrum = packed + n;
  Frames * power = (Frames *)packed;
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t frame = 0; frame < 4; ++frame) {
      const float * window = samples + (first + (frame < count ? frame : 0)) * mel.hop_length;
      const int64_t at = i * step;
      packed[i].re[frame] = (double)window[at] * mel.window[at];
      packed[i].im[frame] = step == 2 ? (double)window[at + 1] * mel.window[at + 1] : 0.0;
    }
  }
  Fourier(mel.roots, n, spectrum + n).transform(packed, 1, size, spectrum);
  for (int64_t k = 0; k <= n / 2; ++k) {
    Complex bin = spectrum[k % size];
    if (step == 2) {
      const Complex a = bin, b = spectrum[(size - k) % size];
      const Complex even = {(a.re + b.re) * 0.5, (a.im - b.im) * 0.5};
      const Complex odd = {(a.im + b.im) * 0.5, (b.re - a.re) * 0.5};
      bin = even + times(odd, mel.roots[2 * k], -mel.roots[2 * k + 1]);
    }
    power[k] = bin.re * bin.re + bin.im * bin.im;
  }
  return power;
}

// samples [n_streams, n_samples] to out [n_streams, frames, n_mels], as many frames as there are.
// memory: 3 * window_size complex numbers of four frames
inline void log_mel(
  const LogMel & mel, const float * samples, int64_t n_streams, int64_t n_samples,
  double * memory, float * out)
{
  const int64_t n_frames = (n_samples - mel.window_size) / mel.hop_length + 1;
  const Frames least = Frames{} + 1e-10, floor = Frames{} + mel.floor;
  for (int64_t m = 0; m < n_streams; ++m, samples += n_samples) {
    for (int64_t first = 0; first < n_frames; first += 4) {
      const int64_t count = n_frames - first < 4 ? n_frames - first : 4;
      const Frames * power = power_spectrum(mel, samples, first, count, (Complex *)memory);
      const double * weight = mel.weights;
      for (int64_t band = 0; band < mel.n_mels; ++band) {
        Frames total = {};
        for (int64_t bin = mel.bins[2 * band]; bin < mel.bins[2 * band + 1]; ++bin) {
          total += power[bin] * *weight++;
        }
        Frames log = log10(total < least ? least : total);
        log = ((log < floor ? floor : log) + 4.0) / 4.0;
        for (int64_t frame = 0; frame < count; ++frame) {
          out[((m * n_frames) + first + frame) * mel.n_mels + band] = (float)log[frame];
        }
      }
    }
  }
}

}  // namespace
