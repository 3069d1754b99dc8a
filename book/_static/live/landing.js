// The landing page: a clip, its code frame by frame, and the training clips with the nearest codes. Stands still until asked
// to move where the reader has asked for less motion.
(() => {
  const { classes, labels, near, frames, width } = SORA_LANDING, SIDE = Sora.SIDE, PER_SECOND = 8, REST = 8;
  const root = document.getElementById("landing"), button = document.getElementById("landing-pause");
  const [clip, code, ...others] = root.querySelectorAll("canvas"), names = root.querySelectorAll("[data-class]");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let films, codes, query = 0, t = frames - 1, timer = null;

  function picture(canvas, frame) {
    const image = new ImageData(SIDE, SIDE);
    for (let i = 0; i < SIDE * SIDE; i++) image.data.set([frame[3 * i], frame[3 * i + 1], frame[3 * i + 2], 255], 4 * i);
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  /** The code so far: one column a frame, blue below zero, orange above. */
  function columns(until) {
    const pen = code.getContext("2d"), wide = code.width / frames, high = code.height / width;
    pen.clearRect(0, 0, code.width, code.height);
    for (let time = 0; time <= until; time++) {
      for (let unit = 0; unit < width; unit++) {
        const value = codes[(query * frames + time) * width + unit] / 64;
        pen.fillStyle = value < 0 ? `rgba(0, 114, 178, ${Math.min(1, -value)})` : `rgba(230, 159, 0, ${Math.min(1, value)})`;
        pen.fillRect(time * wide, unit * high, wide - 1, high);
      }
    }
  }

  function show() {
    const now = Math.min(t, frames - 1);
    picture(clip, films[query][now]);
    columns(now);
    others.forEach((canvas, i) => picture(canvas, films[labels.length + query * others.length + i][now]));
    names[0].textContent = classes[labels[query]];
    others.forEach((_, i) => (names[i + 1].textContent = classes[near[query * others.length + i]]));
  }

  function tick() {
    t += 1;
    if (t === frames + REST) [t, query] = [0, (query + 1) % labels.length];
    show();
  }

  function move(on) {
    clearInterval(timer);
    timer = on ? setInterval(tick, 1000 / PER_SECOND) : null;
    button.textContent = on ? "Pause" : "Play";
    root.dataset.moving = on ? "yes" : "no";
  }

  button.addEventListener("click", () => move(timer === null));
  still.addEventListener("change", () => move(!still.matches));
  Promise.all([Sora.clips(SORA_LANDING.clips, frames), Sora.unpack(SORA_LANDING.codes)]).then(([shown, numbers]) => {
    [films, codes] = [shown, new Int8Array(numbers.buffer)];
    show();
    button.hidden = false;
    move(!still.matches);
  });
})();
