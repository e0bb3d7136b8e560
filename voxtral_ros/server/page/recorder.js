// AudioWorklet: mixes the channels, and gathers blocks of 80 ms as PCM16 with the level of each.
class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.length = Math.round(0.08 * sampleRate);
    this.block = new Int16Array(this.length);
    this.filled = 0;
    this.power = 0;
  }

  process([channels]) {
    if (!channels.length) return true;
    for (let n = 0; n < channels[0].length; n++) {
      let sample = 0;
      for (const channel of channels) sample += channel[n] / channels.length;
      this.power += sample * sample;
      this.block[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
      if (this.filled === this.length) this.send();
    }
    return true;
  }

  send() {
    const level = 10 * Math.log10(this.power / this.block.length + 1e-10);
    this.port.postMessage({ pcm: this.block, level }, [this.block.buffer]);
    this.block = new Int16Array(this.length);
    this.filled = this.power = 0;
  }
}

registerProcessor('recorder', Recorder);
