// The page "The model in the page": what the reader drags, drops or films goes through the network frame by frame.
(() => {
  const { SIDE } = Sora, { HOME, COLOR } = SoraBoard;
  const PER_SECOND = { board: 12, film: 8 };  // frames; the training clips have eight a second, walked through at varied speed
  const LONGEST = 24, FIRST = 3;  // frames after which a clip begins anew, and before which nothing is said
  const WORDS = { NotAllowedError: "the browser or you did not allow it", NotFoundError: "no camera was found", NotReadableError: "another program is using the camera" };
  const $ = (name) => document.getElementById(`live-${name}`);
  const canvas = $("board"), pen = canvas.getContext("2d"), stream = new Sora.Stream();
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));

  let at = { ...HOME }, glyphs = [], glyph = null, drawing = null, source = 0, chain = Promise.resolve(), samples = null, next = 0;

  // ------------------------------------------------------------------------------------------- what is shown

  const rows = SORA_MODEL.classes.map((name) => {
    const row = document.createElement("li");
    row.innerHTML = `<span class="live-name">${name}</span><span class="live-track" aria-hidden="true"><span></span></span><span class="live-share">–</span>`;
    $("bars").append(row);
    return { row, bar: row.querySelector(".live-track > span"), share: row.querySelector(".live-share") };
  });

  const best = (chances) => chances.indexOf(Math.max(...chances));
  const percent = (share) => `${Math.round(100 * share)} %`;

  function showAnswer(chances, ms) {
    const first = stream.frames >= FIRST ? best(chances) : -1;
    rows.forEach(({ row, bar, share }, i) => {
      bar.style.transform = `scaleX(${chances[i]})`;
      share.textContent = percent(chances[i]);
      row.classList.toggle("live-best", i === first);
    });
    if (first >= 0) $("answer").textContent = `${SORA_MODEL.classes[first]}, ${percent(chances[first])}`;
    $("count").textContent = `frame ${stream.frames} of this clip, in ${ms.toFixed(1)} ms`;
  }

  const strip = $("strip"), ink = strip.getContext("2d"), units = (strip.height - SIDE - 4);

  /** One column of the strip: the frame above, the state below it, blue where negative and orange where positive. */
  function showState(frame, state) {
    const column = (stream.frames - 1) * SIDE;
    if (column === 0) ink.clearRect(0, 0, strip.width, strip.height);
    ink.putImageData(imageOf(frame, SIDE), column, 0);
    const each = units / state.length;
    state.forEach((value, i) => {
      ink.fillStyle = value < 0 ? `rgba(0, 114, 178, ${Math.min(1, -value)})` : `rgba(230, 159, 0, ${Math.min(1, value)})`;
      ink.fillRect(column, SIDE + 4 + i * each, SIDE - 1, each);
    });
  }

  function imageOf(frame, size) {
    const image = new ImageData(size, size);
    for (let i = 0; i < size * size; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = frame[3 * i + c];
      image.data[4 * i + 3] = 255;
    }
    return image;
  }

  const seen = $("seen").getContext("2d"), status = (text) => ($("status").textContent = text);
  const small = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE }), eye = small.getContext("2d", { willReadFrequently: true });

  /** A small frame on the large board. */
  function enlarge(frame) {
    eye.putImageData(imageOf(frame, SIDE), 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
  }

  // ------------------------------------------------------------------------------------------- into the network

  /** Queue one frame; `owner` is the source it came from, whose frames are dropped once another has begun. */
  function feed(frame, owner = source) {
    chain = chain.then(async () => {
      if (owner !== source) return;
      if (stream.frames === LONGEST) stream.restart();
      const { probabilities, state, ms } = await stream.push(frame);
      if (owner !== source) return;
      seen.putImageData(imageOf(frame, SIDE), 0, 0);
      showState(frame, state);
      showAnswer(Array.from(probabilities), ms);
    }).catch((error) => status(`The network did not load in this browser (${error.message}). It needs WebAssembly and DecompressionStream: any browser of 2023 or later.`));
    return chain;
  }

  function load() {
    if (window.live.loading) return;
    window.live.loading = Sora.ready();
    status("Loading the network …");
    window.live.loading.then(() => status("The network is here. Move something."), () => feed(new Uint8Array(3 * SIDE * SIDE)));
  }

  /** Something new begins: what ran before stops, and the network forgets. */
  function begin() {
    load();
    source += 1;
    control = null;
    chain = chain.then(() => {
      stream.restart();
      [$("answer").textContent, $("count").textContent] = ["…", "a new clip"];
      for (const { row } of rows) row.classList.remove("live-best");
    });
    $("stop").hidden = true;
    if (drawing) {  // given up for something else
      [drawing, $("done").hidden, $("shape").value, glyph] = [null, true, 3, glyphs[3]];
    }
    return source;
  }

  // ------------------------------------------------------------------------------------------- the board

  let ticking = null, dirty = false, last = 0, control = null, reading = null;

  function paint() {
    const image = imageOf(SoraBoard.draw(glyph, at, canvas.width), canvas.width);
    pen.putImageData(image, 0, 0);
  }

  const shot = () => SoraBoard.draw(glyph, at, SIDE);

  /** A movement begins with another control, with a new press, or after a second of rest; its first frame is before the move. */
  function touch(what, pressed = false) {
    const now = performance.now();
    if (pressed || what !== control || now - last > 1000) {
      begin();
      feed(shot());
      dirty = false;
    }
    control = what;
    last = now;
  }

  function moved(change) {
    Object.assign(at, change);
    for (const name of ["side", "angle", "opacity", "apart"]) $(name).value = at[name];
    last = performance.now();
    dirty = true;
    paint();
    ticking ??= setInterval(tick, 1000 / PER_SECOND.board);
  }

  /** Take a frame where something has changed: a rest of the hand is no frame. */
  function tick() {
    if (dirty) {
      feed(shot());
      dirty = false;
    } else if (performance.now() - last > 700) {
      ticking = clearInterval(ticking) ?? null;
      say();
    }
  }

  /** Tell a screen reader once, when the hand rests. */
  function say() {
    clearTimeout(reading);
    reading = setTimeout(() => chain.then(() => stream.frames >= FIRST && status(`After ${stream.frames} frames the network says: ${$("answer").textContent}.`)), 50);
  }

  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  };

  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (drawing) return;
    canvas.setPointerCapture(event.pointerId);
    touch("drag", true);
    paint();
    const { x, y } = place(event);
    held = { x: x - at.x, y: y - at.y };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    const { x, y } = place(event);
    moved({ x: clamp(x - held.x, -0.4, 1.4), y: clamp(y - held.y, -0.4, 1.4) });
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (held = null));

  const KEYS = {
    ArrowLeft: () => ({ x: clamp(at.x - 0.05, -0.4, 1.4) }),
    ArrowRight: () => ({ x: clamp(at.x + 0.05, -0.4, 1.4) }),
    ArrowUp: () => ({ y: clamp(at.y - 0.05, -0.4, 1.4) }),
    ArrowDown: () => ({ y: clamp(at.y + 0.05, -0.4, 1.4) }),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    touch(event.key);
    moved(KEYS[event.key]());
  });

  for (const name of ["side", "angle", "opacity", "apart"]) {
    const slider = $(name);
    slider.addEventListener("pointerdown", () => (control = null));
    slider.addEventListener("input", () => {
      const value = Number(slider.value);
      touch(name);
      moved({ [name]: value });
    });
  }

  $("home").addEventListener("click", () => {
    begin();
    at = { ...HOME };
    moved({});
    dirty = false;
    status("The digit is back in the middle.");
  });

  // ------------------------------------------------------------------------------------------- a shape of one's own

  let mark = null;
  const stroke = (from, to) => {
    for (const brush of [drawing, pen]) {
      Object.assign(brush, { lineWidth: 17, lineCap: "round", lineJoin: "round", strokeStyle: `rgb(${COLOR.map((c) => 255 * c)})` });
      brush.beginPath();
      brush.moveTo(from.x * canvas.width, from.y * canvas.height);
      brush.lineTo(to.x * canvas.width, to.y * canvas.height);
      brush.stroke();
    }
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!drawing) return;
    canvas.setPointerCapture(event.pointerId);
    stroke((mark = place(event)), mark);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drawing && mark) stroke(mark, (mark = place(event)));
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (mark = null));

  $("shape").addEventListener("change", () => {
    const { value } = $("shape");
    begin();
    $("shape").value = value;
    if (value === "own") {
      $("done").hidden = false;
      drawing = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height }).getContext("2d");
      pen.fillRect(0, 0, canvas.width, canvas.height);
      status("Draw a shape on the board, then press “Done”.");
      return;
    }
    glyph = glyphs[value];
    moved({});
    dirty = false;
  });
  $("done").addEventListener("click", () => {
    const own = SoraBoard.glyphOf(drawing.canvas);
    if (!own) return status("There is nothing on the board yet: draw a shape first.");
    drawing = null;
    glyph = own.glyph;
    $("done").hidden = true;
    at = { ...HOME, x: own.x, y: own.y, side: clamp(own.side, 0.25, 0.95) };
    moved({});
    dirty = false;
    status("Now drag your shape.");
  });

  // ------------------------------------------------------------------------------------------- clips and films

  const sample = async () => (samples ??= await Sora.clips(SORA_MODEL.samples, 16));
  const tell = (label) => status(`The clip is ${SORA_MODEL.classes[label]}; the network says ${$("answer").textContent}.`);

  $("sample").addEventListener("click", async () => {
    const owner = begin(), clip = next++ % SORA_MODEL.labels.length;
    $("stop").hidden = false;
    stepping = null;
    for (const frame of (await sample())[clip]) {
      if (owner !== source) return;
      enlarge(frame);
      await Promise.all([feed(frame, owner), wait(1000 / PER_SECOND.film)]);
    }
    if (owner === source) finish(() => tell(SORA_MODEL.labels[clip]));
  });

  let stepping = null;
  $("step").addEventListener("click", async () => {
    if (!stepping || stepping.owner !== source || stepping.t === 16) stepping = { owner: begin(), clip: next++ % SORA_MODEL.labels.length, t: 0 };
    const step = stepping, frame = (await sample())[step.clip][step.t++];
    enlarge(frame);
    await feed(frame, step.owner);
    if (step.t === 16) tell(SORA_MODEL.labels[step.clip]);
  });

  $("stop").addEventListener("click", () => {
    source += 1;  // the answer so far stays
    control = null;
    $("stop").hidden = true;
    paint();
    status("Stopped.");
  });

  function finish(after) {
    $("stop").hidden = true;
    after();
  }

  /** The central square of a picture as the network takes it; the board shows the same square. */
  function look(picture, width, height, mirrored = false) {
    const side = Math.min(width, height), cut = [(width - side) / 2, (height - side) / 2, side, side];
    for (const [brush, size] of [[pen, canvas.width], [eye, SIDE]]) {
      brush.imageSmoothingEnabled = true;
      brush.imageSmoothingQuality = "high";
      brush.setTransform(mirrored ? -1 : 1, 0, 0, 1, mirrored ? size : 0, 0);
      brush.drawImage(picture, ...cut, 0, 0, size, size);
      brush.setTransform(1, 0, 0, 1, 0, 0);
    }
    const data = eye.getImageData(0, 0, SIDE, SIDE).data;
    return Uint8Array.from({ length: 3 * SIDE * SIDE }, (_, i) => data[4 * Math.floor(i / 3) + (i % 3)]);
  }

  const event = (target, names) => new Promise((done) => names.forEach((name) => target.addEventListener(name, () => done(name), { once: true })));

  /** Sixteen frames spread over a short film, as a recipe reads it; of a longer one eight a second. */
  const moments = (seconds) => {
    const count = Math.max(16, Math.floor(seconds * PER_SECOND.film));
    return Array.from({ length: count }, (_, i) => ((i + 0.5) * seconds) / count);
  };

  async function play(file) {
    const owner = begin(), video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto" });
    const address = URL.createObjectURL(file);
    const end = (text) => {
      URL.revokeObjectURL(address);
      if (owner === source) finish(() => status(text));
    };
    video.src = address;
    status(`Reading ${file.name} …`);
    if ((await event(video, ["loadeddata", "error"])) === "error" || !video.videoWidth) {
      return end(`This browser cannot decode ${file.name}. A film in H.264, as “ffmpeg -i in -c:v libx264 -pix_fmt yuv420p out.mp4” writes it, plays nearly everywhere.`);
    }
    if (!Number.isFinite(video.duration)) return end(`${file.name} does not say how long it is; “ffmpeg -i in -c copy out.mp4” writes that down.`);
    $("stop").hidden = false;
    for (const moment of moments(video.duration)) {
      video.currentTime = moment;
      if ((await event(video, ["seeked", "error"])) === "error") return end(`${file.name} is damaged after ${video.currentTime.toFixed(1)} s.`);
      if (owner !== source) return end("");
      await Promise.all([feed(look(video, video.videoWidth, video.videoHeight), owner), wait(1000 / PER_SECOND.film)]);
    }
    end(`${file.name}: at its end the network says ${$("answer").textContent}.`);
  }

  $("file").addEventListener("change", () => $("file").files[0] && play($("file").files[0]).then(() => ($("file").value = "")));
  $("root").addEventListener("dragover", (drag) => drag.preventDefault());
  $("root").addEventListener("drop", (drop) => {
    drop.preventDefault();
    if (drop.dataTransfer.files[0]) play(drop.dataTransfer.files[0]);
  });

  async function film() {
    const owner = begin(), video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240 }, audio: false });
    } catch (error) {
      return owner === source && status(`No picture from a camera: ${WORDS[error.name] ?? error.message}.`);
    }
    await video.play();
    $("stop").hidden = owner !== source;
    if (owner === source) status("The picture is mirrored, goes nowhere but into the network on this page, and a new clip begins every 24 frames.");
    while (owner === source) {
      await Promise.all([feed(look(video, video.videoWidth, video.videoHeight, true), owner), wait(1000 / PER_SECOND.film)]);
    }
    for (const track of video.srcObject.getTracks()) track.stop();
  }

  if (navigator.mediaDevices?.getUserMedia) $("camera").addEventListener("click", film);
  else {
    $("camera").hidden = true;
    $("no-camera").hidden = false;
  }

  // ------------------------------------------------------------------------------------------- begin

  window.live = { run: Sora.run, settled: () => chain, loading: null };
  for (const name of ["pointerenter", "focusin"]) $("root").addEventListener(name, load);
  Sora.unpack(SORA_MODEL.glyphs).then((data) => {
    const size = SoraBoard.GLYPH ** 2;
    glyphs = Array.from({ length: 10 }, (_, i) => data.subarray(i * size, (i + 1) * size));
    glyph = glyphs[$("shape").value];
    paint();
    $("root").dataset.drawn = "yes";
  });
})();
