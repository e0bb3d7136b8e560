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

"""HAProxy and nginx with the shipped files, and another machine, all on this one."""

from contextlib import contextmanager, suppress
import os
from pathlib import Path
import shutil
import socket
import subprocess
from tempfile import TemporaryDirectory
import time
from urllib.request import urlopen

CONFIG = Path(__file__).resolve().parents[1] / 'config' / 'fleet'
START_S = 10.0


def program(name):
    """Return where a program is, which need not be on the path of who is not root; or None."""
    return shutil.which(name) or shutil.which(name, path='/usr/sbin:/usr/local/sbin')


def free_port():
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@contextmanager
def haproxy(addresses, prefix=()):
    """
    Run HAProxy in front of two servers; yield its own address.

    :param addresses: HOST:PORT of each
    :param prefix: words before the command
    """
    bind = f'127.0.0.1:{free_port()}'
    names = {f'VOXTRAL_SERVER_{n}': address for n, address in enumerate(addresses, 1)}
    command = [*prefix, program('haproxy'), '-db', '-f', CONFIG / 'haproxy.cfg']
    with _running(command, bind, {**os.environ, 'VOXTRAL_BIND': bind, **names}):
        yield bind


@contextmanager
def nginx(addresses, prefix=()):
    """Run nginx in front of two servers; yield its own address."""
    bind = f'127.0.0.1:{free_port()}'
    text = (CONFIG / 'nginx.conf').read_text(encoding='utf-8')
    text = text.replace('listen 8000', f'listen {bind}')
    for n, address in enumerate(addresses, 11):
        text = text.replace(f'10.0.0.{n}:8000', address)
    with TemporaryDirectory() as folder:
        folders = ''.join(f'{kind}_temp_path {folder}/{kind};\n' for kind in (
            'client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
        path = Path(folder) / 'whole.conf'
        path.write_text(
            f'daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;\n'
            f'events {{}}\nhttp {{ access_log off;\n{folders}{text}}}\n', encoding='utf-8')
        with _running([*prefix, program('nginx'), '-e', f'{folder}/log', '-p', folder,
                       '-c', path], bind):
            yield bind


BALANCERS = {'haproxy': haproxy, 'nginx': nginx}


class Machine:
    """A network of its own with one address, which can vanish; only for root."""

    HERE, ADDRESS = '10.74.74.1', '10.74.74.2'

    def __init__(self):
        self._name = f'voxtral{os.getpid()}'
        self.prefix = 'ip', 'netns', 'exec', self._name
        self._link = link = f'vx{os.getpid()}'
        for command in (f'netns add {self._name}',
                        f'link add {link} type veth peer name eth0 netns {self._name}',
                        f'address add {self.HERE}/30 dev {link}', f'link set {link} up',
                        f'-n {self._name} address add {self.ADDRESS}/30 dev eth0',
                        f'-n {self._name} link set eth0 up'):
            self._ip(command)

    def vanish(self):
        """Answer nothing any more, and say so to nobody, as without power."""
        self._ip(f'-n {self._name} route add blackhole {self.HERE}')

    def close(self):
        """Take the network away, and the link with it."""
        self._ip(f'link delete {self._link}')  # at once, unlike what is in a namespace
        self._ip(f'netns delete {self._name}')

    @staticmethod
    def _ip(command):
        subprocess.run(['ip', *command.split()], check=True)


@contextmanager
def _running(command, bind, environment=None):
    process = subprocess.Popen([str(word) for word in command], env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        end = time.monotonic() + START_S
        while not _answers(bind):
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                raise RuntimeError(f'{command[0]} does not serve: {process.stdout.read()}')
            time.sleep(0.02)
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _answers(bind):
    with suppress(OSError), urlopen(f'http://{bind}/healthz', timeout=START_S):
        return True
    return False
