// The live page: audio of the microphone or a file to /v1/realtime, words onto the screen.

const RATE = 16000;
const BLOCK = 1280; // samples, 80 ms
const UNSURE = 0.5;
const $ = (id) => document.getElementById(id);

// ---- the connection ----

class Realtime {
  constructor(onEvent, onState) {
    this.onEvent = onEvent;
    this.onState = onState;
    this.token = sessionStorage.getItem('token') ?? '';
    this.retry = 500;
  }

  open() {
    const url = new URL('v1/realtime', location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    const protocols = ['realtime'];
    if (this.token) protocols.push(`openai-insecure-api-key.${this.token}`);
    this.socket = new WebSocket(url, protocols);
    this.socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    this.socket.onclose = () => this.closed();
  }

  receive(event) {
    if (event.type === 'session.created') {
      this.retry = 500;
      this.onState('connected');
    }
    if (event.type === 'transcription.done') {
      this.running = false;
      this.onDone?.();
    }
    this.onEvent(event);
  }

  async closed() {
    const health = await fetch('healthz').then((reply) => reply.json()).catch(() => null);
    if (health?.token_needed && !this.ready) return this.onState('token');
    this.ready = this.running = false;
    this.onDone?.();
    this.onState(health === null ? 'no server' : health.status === 'ok' ? 'connecting' : `server ${health.status}`);
    setTimeout(() => this.open(), this.retry);
    this.retry = Math.min(2 * this.retry, 4000);
  }

  get isOpen() { return this.socket?.readyState === WebSocket.OPEN; }

  send(type, fields = {}) {
    if (this.isOpen) this.socket.send(JSON.stringify({ type, ...fields }));
  }

  // The server takes a new sample rate only between two generations.
  finished() { return new Promise((resolve) => { this.running ? this.onDone = resolve : resolve(); }); }

  append(pcm) {
    this.running = true;
    const bytes = new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength);
    this.send('input_audio_buffer.append', { audio: btoa(String.fromCharCode(...bytes)) });
  }
}

// ---- where audio comes from ----

class Microphone {
  async start(onBlock) {
    if (!navigator.mediaDevices) {
      throw new Error('Browsers give the microphone to secure pages only: open this page as '
        + 'http://localhost, or start the server with --tls-cert and --tls-key.');
    }
    this.stream = await navigator.mediaDevices.getUserMedia(
      { audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true } });
    try {
      await this.record(new AudioContext({ sampleRate: RATE }), onBlock);
    } catch (error) { // Firefox does not resample a microphone: then the server does
      if (error.name !== 'NotSupportedError') throw error;
      await this.record(new AudioContext(), onBlock);
    }
    return this.context.sampleRate;
  }

  async record(context, onBlock) {
    this.context?.close();
    this.context = context;
    await context.audioWorklet.addModule('recorder.js');
    const recorder = new AudioWorkletNode(context, 'recorder', { numberOfOutputs: 0 });
    recorder.port.onmessage = ({ data }) => onBlock(data.pcm, data.level);
    context.createMediaStreamSource(this.stream).connect(recorder);
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close();
  }
}

class Recording {
  constructor(file) { this.file = file; }

  async start(onBlock, onEnd) {
    const context = new OfflineAudioContext(1, 1, RATE);
    const audio = await context.decodeAudioData(await this.file.arrayBuffer()); // at 16 kHz
    const channels = Array.from({ length: audio.numberOfChannels }, (_, n) => audio.getChannelData(n));
    const began = performance.now();
    let next = 0;
    this.timer = setInterval(() => { // at its own pace
      const due = Math.min(audio.length, (performance.now() - began) / 1000 * RATE);
      while (next < due) {
        const length = Math.min(BLOCK, audio.length - next);
        const pcm = new Int16Array(length);
        let power = 0;
        for (let n = 0; n < length; n++) {
          let sample = 0;
          for (const channel of channels) sample += channel[next + n] / channels.length;
          power += sample * sample;
          pcm[n] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
        }
        onBlock(pcm, 10 * Math.log10(power / length + 1e-10));
        next += length;
      }
      if (next >= audio.length) onEnd();
    }, 40);
    return RATE;
  }

  stop() { clearInterval(this.timer); }
}

// ---- the page ----

let source = null;
let sent = 0; // seconds of this generation
let sentAt = []; // [seconds sent, wall clock] of the last minute
const realtime = new Realtime(onEvent, onState);

function onState(state) {
  $('state').textContent = state === 'token' ? 'token needed' : state;
  $('state').className = state === 'connected' ? 'ok' : state === 'connecting' ? '' : 'down';
  $('login').hidden = state !== 'token';
  if (state === 'connected') realtime.ready = true;
  else if (source) stop(); // what was said stays on the page
}

function onEvent(event) {
  switch (event.type) {
    case 'transcription.delta':
      if (event.delta) showDelta(event);
      break;
    case 'transcription.segment':
      showSegment(event);
      break;
    case 'transcription.done':
      $('partial').textContent = '';
      break;
    case 'input_audio_buffer.speech_started':
    case 'input_audio_buffer.speech_stopped':
      showSpeech(event.type.endsWith('started'));
      break;
    case 'error':
      showError(event.error);
      break;
  }
}

function showDelta(event) {
  const partial = $('partial');
  partial.textContent = `${partial.textContent}${event.delta}`.trimStart();
  const word = event.words?.at(-1);
  if (word) showLag(word.end_s);
  scroll();
}

// How long ago the end of a word was sent: the delay of the model and all that comes on top.
function showLag(end) {
  const then = sentAt.find(([seconds]) => seconds >= end);
  if (!then) return;
  const lag = (performance.now() - then[1]) / 1000;
  $('lag').value = lag;
  $('lag-text').textContent = `${lag.toFixed(2)} s`;
}

function showSegment(segment) {
  const item = document.createElement('li');
  const time = document.createElement('time');
  time.textContent = clock(segment.start_s);
  const text = document.createElement('span');
  for (const word of segment.words) {
    const part = document.createElement('span');
    part.textContent = word.text;
    part.title = `${word.end_s.toFixed(2)} s, ${Math.round(100 * word.confidence)} %`;
    if (word.confidence < UNSURE) part.className = 'unsure';
    text.append(part, ' ');
  }
  item.append(time, text);
  $('finals').append(item);
  $('partial').textContent = '';
  $('copy').disabled = $('clear').disabled = false;
  scroll();
}

function showSpeech(active) {
  $('speech').classList.toggle('on', active);
  $('speech').setAttribute('aria-label', active ? 'speech' : 'no speech');
}

function showError(message) {
  $('error').textContent = message;
  $('error').hidden = !message;
}

function scroll() {
  $('hint').hidden = true;
  $('transcript').scrollTop = $('transcript').scrollHeight;
}

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;
}

async function start(next) {
  stop();
  showError('');
  if (!realtime.isOpen) return showError('Not connected to the server.');
  source = next;
  sent = 0;
  sentAt = [];
  $('microphone').setAttribute('aria-pressed', String(next instanceof Microphone));
  $('microphone').textContent = next instanceof Microphone ? 'Stop' : 'Microphone';
  $('delay').disabled = true;
  try {
    await realtime.finished();
    let rate = 0; // blocks that come before it is known are not missed: it takes a few ms
    const listen = (pcm, level) => rate && source === next && onBlock(pcm, level, rate);
    rate = await next.start(listen, () => source === next && stop());
    realtime.send('session.update', {
      delay_ms: Number($('delay').value), words: true, utterances: true, sample_rate: rate });
    sendPhrases(); // by themselves: if they are refused, the rest is in force
  } catch (error) {
    showError(error.name === 'EncodingError' ? 'The browser cannot read this file.' : error.message);
    if (source === next) stop();
  }
}

// Without any, those of the server count, if it has some.
function sendPhrases() {
  const phrases = $('phrases').value.split(',').map((text) => text.trim()).filter(Boolean);
  realtime.send('session.update', { phrases: phrases.length ? phrases : null });
}

function stop() {
  if (!source) return;
  source.stop();
  source = null;
  if (realtime.running) realtime.send('input_audio_buffer.commit');
  $('microphone').setAttribute('aria-pressed', 'false');
  $('microphone').textContent = 'Microphone';
  $('delay').disabled = false;
  $('level').value = -60;
  $('level-text').textContent = 'silent';
  showSpeech(false);
}

function onBlock(pcm, level, rate) {
  realtime.append(pcm);
  sent += pcm.length / rate;
  sentAt.push([sent, performance.now()]);
  if (sentAt.length > 750) sentAt.shift();
  $('level').value = level;
  $('level-text').textContent = level > -60 ? `${level.toFixed(0)} dB` : 'silent';
  $('time').textContent = clock(sent);
}

$('microphone').onclick = () => (source instanceof Microphone ? stop() : start(new Microphone()));
$('file').onchange = ({ target }) => {
  if (target.files.length) start(new Recording(target.files[0]));
  target.value = '';
};
$('phrases').onchange = () => {
  showError('');
  if (source) sendPhrases();
};
$('copy').onclick = () => navigator.clipboard?.writeText(
  [...document.querySelectorAll('#finals li > span')].map((text) => text.textContent.trim()).join('\n'));
$('clear').onclick = () => {
  $('finals').replaceChildren();
  $('copy').disabled = $('clear').disabled = true;
};
$('login').onsubmit = (submit) => {
  submit.preventDefault();
  realtime.token = $('token').value;
  sessionStorage.setItem('token', realtime.token);
  realtime.open();
};

fetch('healthz').then((reply) => reply.json()).then((health) => {
  $('model').textContent = health.model;
}).catch(() => {});
realtime.open();
