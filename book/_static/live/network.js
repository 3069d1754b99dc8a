// The network of the page: loads the runtime when first asked, runs the exported file frame by frame, and keeps its state.
// Needs model.js. A page opened from disk may load scripts and nothing else, so every file here is one.
window.Sora = (() => {
  const base = new URL(".", document.currentScript.src);
  const SIDE = 32, PIXELS = SIDE * SIDE;

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  /** Undo scripts/live_page.py's packing: base64 of gzip. */
  async function unpack(text) {
    const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /** Clips from the differences of their frames: bytes (clip, time, height, width, colour). */
  async function clips(text, frames) {
    const data = await unpack(text), frame = 3 * PIXELS;
    for (let i = 0; i < data.length; i++) if (Math.floor(i / frame) % frames) data[i] += data[i - frame];
    return Array.from({ length: data.length / (frames * frame) }, (_, clip) =>
      Array.from({ length: frames }, (_, t) => data.subarray((clip * frames + t) * frame, (clip * frames + t + 1) * frame)));
  }

  const script = (path) => new Promise((done, failed) => {
    const tag = Object.assign(document.createElement("script"), { src: new URL(path, base), onload: done });
    tag.onerror = () => failed(new Error(`The file ${path} is not there.`));
    document.head.append(tag);
  });

  async function load() {
    await Promise.all(["runtime.js", "wasm.js"].map((name) => script(`../vendor/onnxruntime/${name}`)));
    const address = URL.createObjectURL(new Blob([await unpack(SORA_RUNTIME)], { type: "text/javascript" }));
    const ort = await import(address);
    URL.revokeObjectURL(address);
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = (await unpack(SORA_WASM)).buffer;
    const session = await ort.InferenceSession.create(await unpack(SORA_MODEL.onnx), { executionProviders: ["wasm"] });
    delete window.SORA_WASM;
    return { ort, session };
  }

  let loading;
  /** The runtime and the network, loaded once. */
  const ready = () => (loading ??= load());

  /** Frames go in, probabilities come out; what the network remembers stays here. */
  class Stream {
    constructor() {
      this.restart();
    }

    restart() {
      this.frames = 0;
      this.state = null;
    }

    start(ort) {
      return Object.fromEntries(Object.entries(SORA_MODEL.state).map(([name, { shape, lowest }]) => {
        const size = shape.reduce((a, b) => a * b, 1);
        return [name, new ort.Tensor("float32", new Float32Array(size).fill(lowest ? -Infinity : 0), shape)];
      }));
    }

    /** One more frame, bytes (height, width, colour). */
    async push(frame) {
      const { ort, session } = await ready();
      const x = new Float32Array(3 * PIXELS);
      for (let c = 0; c < 3; c++) for (let i = 0; i < PIXELS; i++) x[c * PIXELS + i] = frame[3 * i + c] / 255;
      const before = performance.now();
      const out = await session.run({ frame: new ort.Tensor("float32", x, [1, 3, SIDE, SIDE]), ...(this.state ?? this.start(ort)) });
      this.state = Object.fromEntries(Object.keys(SORA_MODEL.state).map((name) => [name, out[`${name}_next`]]));
      this.frames += 1;
      return { probabilities: out.probabilities.data, state: this.state.gru.data, ms: performance.now() - before };
    }
  }

  /** Probabilities after every frame of one clip. */
  async function run(frames) {
    const stream = new Stream(), answers = [];
    for (const frame of frames) answers.push(Array.from((await stream.push(frame)).probabilities));
    return answers;
  }

  return { SIDE, Stream, clips, ready, run, unpack };
})();
