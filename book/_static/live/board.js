// A digit over black, drawn as the motion set draws it: data/motion_render.py's coverage and paint, pixel for pixel.
window.SoraBoard = (() => {
  const GLYPH = 40, COLOR = [1, 0.93, 0.8];
  const HOME = { x: 0.5, y: 0.5, side: 0.55, angle: 0, opacity: 1, apart: 0 };

  /** Opacity of the glyph between its points; outside it is nothing. */
  function between(glyph, v, u) {
    if (v < 0 || u < 0 || v > GLYPH - 1 || u > GLYPH - 1) return 0;
    const i = Math.min(Math.floor(v), GLYPH - 2), j = Math.min(Math.floor(u), GLYPH - 2), a = v - i, b = u - j, k = i * GLYPH + j;
    return (1 - a) * ((1 - b) * glyph[k] + b * glyph[k + 1]) + a * ((1 - b) * glyph[k + GLYPH] + b * glyph[k + GLYPH + 1]);
  }

  /** Bytes (size, size, 3) of the glyph at a place, size, angle (degrees, counter-clockwise), opacity; two copies where it is split. */
  function draw(glyph, at, size) {
    const angle = (at.angle * Math.PI) / 180, cos = Math.cos(angle), sin = Math.sin(angle);
    const places = at.apart > 0 ? [at.x - at.apart / 2, at.x + at.apart / 2] : [at.x];
    const frame = new Uint8ClampedArray(3 * size * size);
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++) {
        let most = 0;
        for (const x of places) {
          const dy = (row + 0.5) / size - at.y, dx = (column + 0.5) / size - x;
          const v = ((cos * dy + sin * dx) / at.side + 0.5) * GLYPH - 0.5, u = ((cos * dx - sin * dy) / at.side + 0.5) * GLYPH - 0.5;
          most = Math.max(most, between(glyph, v, u));
        }
        for (let c = 0; c < 3; c++) frame[3 * (row * size + column) + c] = Math.round(most * at.opacity * COLOR[c]);
      }
    }
    return frame;
  }

  /** What was drawn on a canvas as a glyph, and where it stood; null where there is nothing. */
  function glyphOf(canvas) {
    const { width, height } = canvas, data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    let [left, top, right, bottom] = [width, height, 0, 0];
    for (let i = 0; i < width * height; i++) {
      if (data[4 * i + 3] < 64) continue;
      const x = i % width, y = Math.floor(i / width);
      [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x + 1), Math.max(bottom, y + 1)];
    }
    if (right <= left) return null;
    const side = Math.max(right - left, bottom - top) * 1.25, x = (left + right) / 2, y = (top + bottom) / 2;
    const small = Object.assign(document.createElement("canvas"), { width: GLYPH, height: GLYPH }), pen = small.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(canvas, x - side / 2, y - side / 2, side, side, 0, 0, GLYPH, GLYPH);
    const shrunk = pen.getImageData(0, 0, GLYPH, GLYPH).data;
    return { glyph: Uint8Array.from({ length: GLYPH * GLYPH }, (_, i) => shrunk[4 * i + 3]), x: x / width, y: y / height, side: side / width };
  }

  return { COLOR, GLYPH, HOME, draw, glyphOf };
})();
