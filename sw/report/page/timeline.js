"use strict";
// Draws the engines' commands and the buffers of the activation memory over one time axis.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const canvas = document.getElementById("timeline");
  const tip = document.getElementById("tip");
  const range = document.getElementById("range");
  const context = canvas.getContext("2d");

  // Fields of a bar, and of a box.
  const [ENGINE, LANE, START, END, LAYER, COMMAND, TEXT] = [0, 1, 2, 3, 4, 5, 6];
  const [ADDRESS, WORDS, , , , NAME] = [0, 1, 2, 3, 4, 5];

  const LEFT = 64, RIGHT = 8, AXIS = 22, LANE_HEIGHT = 20, GAP = 9, MEMORY = 210;
  const lanes = data.engines.map((_, engine) => 1 + data.bars.reduce(
    (most, bar) => bar[ENGINE] === engine ? Math.max(most, bar[LANE]) : most, -1));
  const tops = [];
  let height = AXIS;
  for (const count of lanes) {
    tops.push(height);
    if (count) height += count * LANE_HEIGHT + GAP;
  }
  const memoryTop = height + 4;
  height = memoryTop + MEMORY + 4;

  // The memory is drawn as far as it is used.
  const used = data.boxes.reduce((most, box) => Math.max(most, box[ADDRESS] + box[WORDS]), 1);
  const kibibytes = (words) => (words * data.wordBytes / 1024).toFixed(1).replace(".0", "");

  let from = 0, to = data.cycles, width = 0, chosen = -1, frame = 0;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const x = (cycle) => LEFT + (cycle - from) / (to - from) * (width - LEFT - RIGHT);
  const cycleAt = (px) => from + (px - LEFT) / (width - LEFT - RIGHT) * (to - from);
  const y = (word) => memoryTop + word / used * MEMORY;
  const number = (value) => Math.round(value).toLocaleString("en-US");

  const shown = (layer) => chosen < 0 || chosen === layer;

  function fill(layer, saturation, lightness) {
    const hue = layer * 137.508 % 360;
    return `hsl(${hue} ${saturation} ${lightness} / ${shown(layer) ? 1 : .15})`;
  }

  function rectangle(left, top, right, bottom, label, style, ink) {
    const start = Math.max(left, LEFT), end = Math.min(right, width - RIGHT);
    context.fillStyle = style;
    context.fillRect(start, top, Math.max(end - start, .7), bottom - top);
    if (end - start > 34 && bottom - top > 11) {
      context.save();
      context.beginPath();
      context.rect(start, top, end - start, bottom - top);
      context.clip();
      context.fillStyle = ink;
      context.fillText(label, start + 5, (top + bottom) / 2);
      context.restore();
    }
  }

  function axis(line, faint) {
    const rough = (to - from) / Math.max(2, (width - LEFT) / 110);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max(1, [1, 2, 5, 10].find((factor) => factor * power >= rough) * power);
    context.textAlign = "center";
    for (let cycle = Math.ceil(from / step) * step; cycle <= to; cycle += step) {
      context.fillStyle = line;
      context.fillRect(Math.round(x(cycle)), AXIS - 4, 1, height - AXIS);
      context.fillStyle = faint;
      const text = number(cycle), half = context.measureText(text).width / 2 + 2;
      context.fillText(text, Math.min(Math.max(x(cycle), half), width - half), 9);
    }
    context.textAlign = "left";
  }

  function draw() {
    frame = 0;
    width = canvas.clientWidth;
    const scale = window.devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.font = "11.5px system-ui, sans-serif";
    context.textBaseline = "middle";
    const [line, faint, soft, saturation, lightness] =
      ["--line", "--faint", "--soft", "--saturation", "--lightness"].map(colour);
    axis(line, faint);

    data.engines.forEach((name, engine) => {
      if (!lanes[engine]) return;
      context.fillStyle = faint;
      context.fillText(name, 2, tops[engine] + LANE_HEIGHT / 2);
      context.fillStyle = soft;
      context.globalAlpha = .6;
      context.fillRect(LEFT, tops[engine], width - LEFT - RIGHT, lanes[engine] * LANE_HEIGHT);
      context.globalAlpha = 1;
    });
    for (const bar of data.bars) {
      if (bar[END] < from || bar[START] > to) continue;
      const top = tops[bar[ENGINE]] + bar[LANE] * LANE_HEIGHT + 1;
      rectangle(x(bar[START]), top, x(bar[END]) - .4, top + LANE_HEIGHT - 2,
                data.labels[bar[LAYER]], fill(bar[LAYER], saturation, lightness), shown(bar[LAYER]) ? "#fff" : faint);
    }

    context.fillStyle = faint;
    context.fillText("activation", 2, memoryTop + 8);
    context.fillText("memory", 2, memoryTop + 22);
    context.fillText(kibibytes(used), 2, memoryTop + 40);
    context.fillText(`of ${kibibytes(data.words)}`, 2, memoryTop + 54);
    context.fillText("KiB", 2, memoryTop + 68);
    context.fillStyle = soft;
    context.globalAlpha = .6;
    context.fillRect(LEFT, memoryTop, width - LEFT - RIGHT, MEMORY);
    context.globalAlpha = 1;
    for (const box of data.boxes) {
      if (box[END] < from || box[START] > to) continue;
      const [top, bottom] = [y(box[ADDRESS]), y(box[ADDRESS] + box[WORDS])];
      rectangle(x(box[START]), top, x(box[END]) - .4, Math.max(bottom - .6, top + .8), box[NAME],
                fill(box[LAYER], saturation, lightness), shown(box[LAYER]) ? "#fff" : faint);
    }
    for (const part of data.parts.slice(1)) {
      context.fillStyle = faint;
      context.fillRect(Math.round(x(part)), AXIS - 4, 1, height - AXIS);
    }
    range.textContent = `cycles ${number(from)} to ${number(to)}`;
  }

  function redraw() {
    if (!frame) frame = requestAnimationFrame(draw);
  }

  function show(start, end) {
    const span = Math.min(Math.max(end - start, Math.min(20, data.cycles)), data.cycles);
    from = Math.min(Math.max(start, 0), data.cycles - span);
    to = from + span;
    redraw();
  }

  function zoom(factor, around) {
    const centre = around === undefined ? (from + to) / 2 : around;
    show(centre - (centre - from) * factor, centre + (to - centre) * factor);
  }

  function find(px, py) {
    const cycle = cycleAt(px), slack = (to - from) / width * 2;
    const meets = (each) => each[START] - slack <= cycle && cycle <= each[END] + slack;
    const distance = (each) => Math.max(each[START] - cycle, cycle - each[END], 0);
    let found = null;
    const keep = (each, kind) => {
      if (!found || distance(each) < distance(found.each)) found = {each, kind};
    };
    if (px < LEFT) return null;
    if (py >= memoryTop) {
      const word = (py - memoryTop) / MEMORY * used;
      for (const box of data.boxes) {
        if (box[ADDRESS] <= word && word < box[ADDRESS] + box[WORDS] && meets(box)) keep(box, "box");
      }
      return found;
    }
    for (const bar of data.bars) {
      const top = tops[bar[ENGINE]] + bar[LANE] * LANE_HEIGHT;
      if (top <= py && py < top + LANE_HEIGHT && meets(bar)) keep(bar, "bar");
    }
    return found;
  }

  function describe({each, kind}) {
    const time = `cycles ${number(each[START])} to ${number(each[END])}: ` +
      `${number(each[END] - each[START])}`;
    if (kind === "bar") {
      const layer = data.layers[each[LAYER]];
      return `${each[TEXT].startsWith(layer) ? "" : `${layer}\n`}${each[TEXT]}\n` +
        `${data.engines[each[ENGINE]]} command ${each[COMMAND]}\n${time}`;
    }
    const bytes = each[WORDS] * data.wordBytes;
    return `${each[NAME]}\nwords ${number(each[ADDRESS])} to ` +
      `${number(each[ADDRESS] + each[WORDS] - 1)}: ${number(bytes)} bytes\n${time}`;
  }

  function hover(event) {
    const box = canvas.getBoundingClientRect();
    const found = find(event.clientX - box.left, event.clientY - box.top);
    tip.hidden = !found;
    if (!found) return;
    tip.textContent = describe(found);
    const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 18;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = below + tip.offsetHeight < window.innerHeight
      ? `${below}px` : `${event.clientY - tip.offsetHeight - 12}px`;
  }

  function choose(layer) {
    chosen = layer === chosen ? -1 : layer;
    for (const each of document.querySelectorAll("[data-layer]")) {
      each.classList.toggle("chosen", data.layers.indexOf(each.dataset.layer) === chosen &&
                            chosen >= 0);
    }
    redraw();
  }

  // Moves what is shown to where the chosen layer is, if nothing of it can be seen.
  function reveal() {
    const bars = data.bars.filter((bar) => bar[LAYER] === chosen);
    if (!bars.length || bars.some((bar) => bar[END] >= from && bar[START] <= to)) return;
    const middle = bars[Math.floor(bars.length / 2)][START];
    show(middle - (to - from) / 2, middle + (to - from) / 2);
  }

  canvas.addEventListener("wheel", (event) => {
    // Fully zoomed out, the wheel scrolls the page on.
    if (event.deltaY > 0 && to - from >= data.cycles) return;
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      const move = event.deltaX / width * (to - from);
      show(from + move, to + move);
    } else {
      zoom(Math.exp(event.deltaY * .0018), cycleAt(event.clientX - box.left));
    }
  }, {passive: false});

  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = {x: event.clientX, from, to, moved: false};
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) return hover(event);
    const move = (drag.x - event.clientX) / (width - LEFT - RIGHT) * (drag.to - drag.from);
    drag.moved = drag.moved || Math.abs(drag.x - event.clientX) > 3;
    tip.hidden = true;
    if (drag.moved) show(drag.from + move, drag.to + move);
  });
  canvas.addEventListener("pointerup", (event) => {
    const moved = drag && drag.moved;
    drag = null;
    if (moved) return;
    const box = canvas.getBoundingClientRect();
    const found = find(event.clientX - box.left, event.clientY - box.top);
    if (found || chosen >= 0) choose(found ? found.each[LAYER] : chosen);
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("dblclick", () => show(0, data.cycles));
  canvas.addEventListener("keydown", (event) => {
    const step = (to - from) / 5;
    if (event.key === "ArrowLeft") show(from - step, to - step);
    else if (event.key === "ArrowRight") show(from + step, to + step);
    else if (event.key === "+") zoom(.5);
    else if (event.key === "-") zoom(2);
    else return;
    event.preventDefault();
  });
  for (const button of document.querySelectorAll("[data-zoom]")) {
    const factor = Number(button.dataset.zoom);
    button.addEventListener("click", () => factor ? zoom(factor) : show(0, data.cycles));
  }
  for (const each of document.querySelectorAll("[data-layer]")) {
    each.addEventListener("click", () => {
      choose(data.layers.indexOf(each.dataset.layer));
      reveal();
    });
  }
  new ResizeObserver(redraw).observe(canvas.parentElement);
  for (const query of ["print", "(prefers-color-scheme: dark)"]) {
    window.matchMedia(query).addEventListener("change", draw);
  }
  window.addEventListener("beforeprint", draw);
  draw();
})();
