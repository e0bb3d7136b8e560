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

"""The pages of the documentation, and what in them is code, a link, a heading or a table."""

from pathlib import Path
import re

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(str(path.relative_to(ROOT)) for pattern in (
    '*.md', 'docs/*.md', 'bench/results/*.md', 'training/**/*.md', 'examples/*.md',
    'models/*/*.md') for path in ROOT.glob(pattern))

_FENCE = re.compile(r' *(```|~~~)')
_SPAN = re.compile(r'(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)', re.DOTALL)
_HEADING = re.compile(r' {0,3}(#{1,6}) +(.*?)(?: +#+)? *')
_LINK = re.compile(r'\]\(\s*<?([^()\s<>]*(?:\([^()\s]*\)[^()\s<>]*)*)>?(?:\s+"[^"]*")?\s*\)')
_REFERENCE = re.compile(r'^ {0,3}\[[^\]]+\]:\s*(\S+)', re.MULTILINE)
_HTML = re.compile(r'<(?:a|img|source|picture|video)\b[^>]*?\b(?:href|src|srcset)="([^"\s]+)')
_TARGET = re.compile(r'<a\b[^>]*?\b(?:id|name)="([^"]+)"')


def read(page):
    return (ROOT / page).read_text(encoding='utf-8')


def split(text):
    """Return the blocks of code of a page, and its text without them, as many lines as before."""
    blocks, lines, fence, after_blank = [], [], None, True
    for line in text.split('\n'):
        mark = _FENCE.match(line)
        if fence:
            if mark and line.strip() == fence:
                fence = None
            else:
                blocks[-1].append(line)
        elif mark:
            fence = mark[1]
            blocks.append([])
        elif line.startswith('    ') and after_blank:
            if not lines or lines[-1] is not None:
                blocks.append([])
            blocks[-1].append(line)
            lines.append(None)
            continue
        else:
            lines.append(line)
            after_blank = not line.strip()
            continue
        lines.append(None)
        after_blank = True
    return ['\n'.join(block) for block in blocks], '\n'.join(line or '' for line in lines)


def spans(text):
    """Return what stands between backquotes, each in one line."""
    paragraphs = re.split(r'\n\s*\n|\n(?=\s*[|#*-])', split(text)[1])
    return [' '.join(match[2].split()) for paragraph in paragraphs
            for match in _SPAN.finditer(paragraph)]


def without_spans(text):
    """Return the text of a page without code."""
    return _SPAN.sub(lambda match: 'x' * len(match[0]) if '\n' not in match[0] else match[0],
                     split(text)[1])


def links(text):
    """Return the targets of all links and pictures of a page."""
    text = without_spans(text)
    return [*_LINK.findall(text), *_REFERENCE.findall(text), *_HTML.findall(text)]


def anchor(heading):
    """Return what GitHub makes of a heading, before it counts equal ones."""
    text = re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', heading)
    text = re.sub(r'[`*]|<[^>]+>', '', text).strip().lower()
    return re.sub(r'[^\w\- ]', '', text).replace(' ', '-')


def sections(text):
    """Yield level, anchor and text of every part of a page that has a heading."""
    plain = split(text)[1].split('\n')
    lines, seen, found = text.split('\n'), {}, []
    for number, line in enumerate(plain):
        heading = _HEADING.fullmatch(line)
        if heading:
            name = anchor(heading[2])
            n_before = seen[name] = seen.get(name, -1) + 1
            found.append((number, len(heading[1]), f'{name}-{n_before}' if n_before else name))
    for start, level, name in found:
        end = next((number for number, other, _ in found if number > start and other <= level),
                   len(lines))
        yield level, name, '\n'.join(lines[start:end])


def anchors(text):
    """Return all that a link into a page may name."""
    return {name for _, name, _ in sections(text)} | set(_TARGET.findall(text))


def snippets(text):
    """Return every piece of code in which a command may stand, in one line, without comments."""
    blocks, _ = split(text)
    lines = [line for block in blocks
             for line in re.sub(r'\\\n\s*', ' ', block).split('\n')]
    return [' '.join(re.sub(r'(^|\s)#\s.*', '', line).split()) for line in lines] + spans(text)


def rows(text):
    """Return the rows of the tables of a page, without their heads."""
    found, in_table = [], False
    for line in split(text)[1].split('\n'):
        if not line.lstrip().startswith('|'):
            in_table = False
        elif re.fullmatch(r'[\s|:-]+', line):
            in_table = True
        elif in_table:
            found.append(line.strip())
    return found
