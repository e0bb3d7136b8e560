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
The node with a model of full size in 7.4 GB without swap: what an 8 GB board has to give.

    source .venv/ros.bash && source $VOXTRAL_OVERLAYS/ros_drivers/install/local_setup.bash
    PYTHONPATH=.:$PYTHONPATH python bench/memory_cgroup.py --folder DIR [--plot docs/memory.svg]

For root on Linux. The node runs on the CPU, slowly, in a control group of its own whose memory is
limited, page cache included: what it takes more ends it. It is configured, activated, fed by a
topic until words come, deactivated and cleaned up. The model is random and so are its words; the
checkpoints, 2.8 and 4.4 GB, are written to the folder, or found there. Memory is sampled on the
way. --plot draws it; for that, matplotlib is needed.
"""

import argparse
from contextlib import contextmanager
import os
from pathlib import Path
import platform
import sys
import time

sys.path[0] = str(Path(__file__).resolve().parents[1])  # instead of bench/

from bench.asr_process import AsrProcess, local_ros  # noqa: E402
from bench.machine import processor  # noqa: E402
from bench.memory_use import Samples  # noqa: E402
from bench.random_checkpoints import real_params, write_large_checkpoint  # noqa: E402
import numpy as np  # noqa: E402
import soundfile  # noqa: E402

from voxtral_ros.quantization.format import Recipe  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
LAYOUTS = {'original': Recipe(), 'compact': Recipe(encoder_bits=8, head_bits=4)}
RATE = 16000  # Hz
WORD_S = 600  # to wait for a word: two slow cores take seconds for every 80 ms of audio
PAUSE_S = 15
COLOURS = {'anon': '#b96a00', 'cache': '#5b7ba8'}
LABELS = {'anon': 'anonymous memory', 'cache': 'page cache'}


class Group:
    """A control group whose processes have so many bytes of memory, page cache and all."""

    def __init__(self, limit):
        root = Path('/sys/fs/cgroup')
        self._v1 = (root / 'memory').is_dir()
        self.folder = (root / 'memory' if self._v1 else root) / f'voxtral_{os.getpid()}'
        self.folder.mkdir()
        # With memory.memsw (v1) at the same limit, and swap.max (v2) at 0, there is no swap.
        names = ('memory.limit_in_bytes', 'memory.memsw.limit_in_bytes') if self._v1 \
            else ('memory.max', 'memory.swap.max')
        for name, value in zip(names, (limit, limit if self._v1 else 0), strict=True):
            (self.folder / name).write_text(str(value))

    @property
    def command(self):
        """Return what starts a program in the group: put its own command behind."""
        return 'sh', '-c', f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', 'sh'

    def read(self):
        """Return bytes by name: anonymous memory, and page cache with mapped files."""
        lines = dict(line.split() for line in
                     (self.folder / 'memory.stat').read_text().splitlines())
        names = ('rss', 'cache') if self._v1 else ('anon', 'file')
        return {'anon': int(lines[names[0]]), 'cache': int(lines[names[1]])}

    @property
    def times_full(self):
        """Return how often the limit was met, and page cache had to go."""
        if self._v1:
            return int((self.folder / 'memory.failcnt').read_text())
        lines = (self.folder / 'memory.events').read_text().splitlines()
        return int(dict(line.split() for line in lines)['max'])

    def remove(self):
        while (self.folder / 'cgroup.procs').read_text():
            time.sleep(0.1)
        self.folder.rmdir()


@contextmanager
def group(limit):
    """Give a group, and remove it when its processes have ended."""
    made = Group(limit)
    try:
        yield made
    finally:
        made.remove()


def forget(path):
    """Drop a file from the page cache, so that who reads it next pays for it."""
    with path.open('rb') as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(folder, window, arguments):
    """Take the node through its states; return samples and a row of the table."""
    forget(folder / 'consolidated.safetensors')
    audio = soundfile.read(ROOT / 'test' / 'data' / 'orders.flac', dtype='float32')[0]
    audio = np.concatenate((audio[:round(arguments.seconds * RATE)],
                            np.zeros(2 * RATE, np.float32)))
    with group(int(arguments.limit_gb * 1e9)) as limited, \
            AsrProcess(limited.command, model=folder, device='cpu', audio_queue_s=600.0,
                       threads=os.cpu_count(), engine__window=window,
                       engine__kv_cache='16') as node:
        samples = Samples(limited.read, period_s=0.1)
        samples.mark('configure')
        with samples.peak() as loading:
            configure_s = node.change('configure', timeout_s=WORD_S)
        loaded = samples.now()['anon']
        samples.mark('audio')
        with samples.peak() as working:
            node.change('activate')
            since_s = node.play(audio)
            word_s = node.first_word_s(since_s, WORD_S)
            node.wait_for_final(WORD_S)
            time.sleep(PAUSE_S)  # what is left of the silence: deactivating has little patience
            node.change('deactivate', timeout_s=WORD_S)
        samples.mark('cleanup')
        node.change('cleanup')
        time.sleep(10.0)
        after = samples.now()['anon']
        samples.mark('')
        samples.close()
        return samples, {
            'weights': (folder / 'consolidated.safetensors').stat().st_size, 'loading': loading,
            'loaded': loaded, 'working': working, 'after': after, 'configure_s': configure_s,
            'word_s': word_s, 'words': ' '.join(node.finals), 'full': limited.times_full}


def draw(path, runs, limit_gb):
    """Draw the samples of every run."""
    import matplotlib
    matplotlib.use('Agg')
    matplotlib.rcParams['svg.hashsalt'] = 'voxtral_ros'  # the same picture of the same samples
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(len(runs), 1, figsize=(8.5, 2.6 * len(runs)), squeeze=False,
                                   layout='constrained', sharey=True)
    for (name, samples), (panel,) in zip(runs.items(), axes, strict=True):
        rows = samples.rows[::max(1, len(samples.rows) // 400)]
        times = [at_s for at_s, _ in rows]
        parts = [[values[part] / 1e9 for _, values in rows] for part in COLOURS]
        panel.stackplot(times, parts, colors=list(COLOURS.values()),
                        labels=[LABELS[part] for part in COLOURS])
        panel.axhline(limit_gb, color='#a33', linestyle='--', linewidth=1)
        panel.set(title=name, ylabel='GB', xlim=(0, times[-1] + 5), ylim=(0, limit_gb * 1.12))
        for at_s, mark in samples.marks:
            panel.axvline(at_s, color='#888', linewidth=0.6)
            panel.text(at_s, limit_gb * 1.03, f' {mark}', fontsize=8)
    axes[0][0].legend(loc='lower right', fontsize=8)
    axes[-1][0].set_xlabel('seconds')
    figure.savefig(path, metadata={'Date': None} if path.suffix == '.svg' else None, dpi=110)
    pyplot.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--folder', type=Path, required=True, help='for the checkpoints')
    parser.add_argument('--limit-gb', type=float, default=7.4, help='[7.4]')
    parser.add_argument('--layouts', nargs='+', choices=LAYOUTS, default=list(LAYOUTS),
                        help='[both]')
    parser.add_argument('--windows', nargs='+', type=int, default=[8192],
                        help='of the decoder, tokens [8192]')
    parser.add_argument('--seconds', type=float, default=3, help='of speech [3]')
    parser.add_argument('--plot', type=Path, help='picture to draw, of the first window')
    arguments = parser.parse_args()
    print(f'{processor()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the '
          f'start; Python {platform.python_version()}; limit {arguments.limit_gb:g} GB\n\n'
          '| checkpoint, window | weights | anonymous: peak of loading | loaded | peak of working '
          '| after cleanup | page cache: peak | limit met | configure | first word |\n'
          '|---|---|---|---|---|---|---|---|---|---|', flush=True)
    local_ros()
    runs = {}
    for layout in arguments.layouts:
        folder = arguments.folder / layout
        if not (folder / 'consolidated.safetensors').is_file():
            write_large_checkpoint(folder, real_params(), LAYOUTS[layout])
        for window in arguments.windows:
            samples, row = measure(folder, window, arguments)
            runs.setdefault(layout, samples)
            cache = max(row['loading']['cache'], row['working']['cache'])
            sizes = [row['weights'], row['loading']['anon'], row['loaded'],
                     row['working']['anon'], row['after'], cache]
            print(f'| {layout}, {window} | ' + ' | '.join(f'{size / 1e9:.2f} GB' for size in sizes)
                  + f' | {row["full"]} times | {row["configure_s"]:.0f} s | {row["word_s"]:.0f} s '
                  f'|\n<!-- {row["words"]} -->', flush=True)
    if arguments.plot:
        draw(arguments.plot, runs, arguments.limit_gb)


if __name__ == '__main__':
    main()
