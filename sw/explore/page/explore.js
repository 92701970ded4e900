"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const plot = document.getElementById("plot");
  const tip = document.getElementById("tip");
  const selects = {across: document.getElementById("across"), up: document.getElementById("up")};
  const names = Object.keys(data.units);
  const box = {left: 84, right: 840, top: 16, bottom: 376};
  let chosen = 0;

  for (const [axis, select] of Object.entries(selects)) {
    for (const name of names) {
      select.add(new Option(data.units[name], name, false, name === data[axis]));
    }
    select.addEventListener("change", draw);
  }

  function add(parent, kind, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  function show(value) {
    const size = Math.abs(value);
    return size >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
  }

  // 1, 2 or 5 times a power of ten: few enough to be read.
  function ticks(low, high) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
      for (const step of [1, 2, 5]) {
        const value = step * 10 ** power;
        if (value >= low && value <= high) found.push(value);
      }
    }
    return found;
  }

  function scale(values, from, to) {
    const low = Math.min(...values) / 1.15, high = Math.max(...values) * 1.15;
    const span = Math.log(high / low) || 1;
    const place = (value) => from + Math.log(value / low) / span * (to - from);
    return {place, marks: ticks(low, high)};
  }

  function draw() {
    const across = selects.across.value, up = selects.up.value;
    plot.replaceChildren();
    // What was sure to be beaten has no energy.
    const tried = data.tried.filter((each) => each[across] !== null && each[up] !== null);
    const of = (name) => [...data.points.map((point) => point.objectives[name]),
      ...tried.map((each) => each[name]), ...(data.base ? [data.base[name]] : [])];
    const x = scale(of(across), box.left, box.right), y = scale(of(up), box.bottom, box.top);
    for (const value of x.marks) {
      add(plot, "line", {class: "grid", x1: x.place(value), x2: x.place(value), y1: box.top, y2: box.bottom});
      add(plot, "text", {x: x.place(value), y: box.bottom + 17, "text-anchor": "middle"}, show(value));
    }
    for (const value of y.marks) {
      add(plot, "line", {class: "grid", x1: box.left, x2: box.right, y1: y.place(value), y2: y.place(value)});
      add(plot, "text", {x: box.left - 7, y: y.place(value) + 4, "text-anchor": "end"}, show(value));
    }
    add(plot, "text", {x: (box.left + box.right) / 2, y: box.bottom + 42, "text-anchor": "middle"}, data.units[across]);
    add(plot, "text", {transform: `translate(16 ${(box.top + box.bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, data.units[up]);
    for (const each of tried) {
      add(plot, "circle", {class: "tried", cx: x.place(each[across]), cy: y.place(each[up]), r: 2.6});
    }
    const line = [...data.points].sort((a, b) => a.objectives[across] - b.objectives[across]);
    add(plot, "polyline", {class: "front", points: line.map((point) =>
      `${x.place(point.objectives[across])},${y.place(point.objectives[up])}`).join(" ")});
    if (data.base) {
      const cx = x.place(data.base[across]), cy = y.place(data.base[up]);
      add(plot, "path", {class: "base", d: `M${cx - 6} ${cy - 6}l12 12m0 -12l-12 12`});
    }
    data.points.forEach((point, number) => {
      const circle = add(plot, "circle", {class: number === chosen ? "point chosen" : "point",
        cx: x.place(point.objectives[across]), cy: y.place(point.objectives[up]), r: 7});
      add(circle, "title", {}, point.name);
      circle.addEventListener("click", () => choose(number));
      circle.addEventListener("pointermove", (event) => hover(event, point));
      circle.addEventListener("pointerleave", () => { tip.hidden = true; });
    });
  }

  function hover(event, point) {
    tip.textContent = [point.name, ...names.map((name) =>
      `${show(point.objectives[name])} ${data.units[name]}`)].join("\n");
    tip.hidden = false;
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
  }

  function cell(row, text, kind = "td", number = true) {
    const element = document.createElement(kind);
    element.textContent = text;
    if (number) element.className = "n";
    row.append(element);
  }

  function choose(number) {
    chosen = number;
    const point = data.points[number];
    document.getElementById("chosen-name").textContent = point.name;
    document.getElementById("chosen-use").textContent =
      `${point.name}.toml beside this page is this configuration: weft run MODEL --config ${point.name}.toml`;
    const table = document.getElementById("chosen-networks");
    table.replaceChildren();
    const head = table.createTHead().insertRow();
    for (const [index, name] of ["Network", "Cycles, first frame", "Cycles, further frames",
      "Frames per second", "Latency, ms", "Energy, µJ", "Bytes of external memory"].entries()) {
      cell(head, name, "th", index > 0);
    }
    const body = table.createTBody();
    for (const network of point.networks) {
      const row = body.insertRow();
      cell(row, network.name, "td", false);
      for (const value of [network.first, network.further, network.fps, network.latency_ms,
        network.energy_uj, network.memory_bytes]) cell(row, show(value));
    }
    const fields = document.getElementById("chosen-fields");
    fields.replaceChildren();
    for (const [name, value] of Object.entries(point.config)) {
      const line = document.createElement("div");
      const term = document.createElement("dt"), about = document.createElement("dd");
      term.textContent = name;
      if (data.fields.includes(name)) about.style.fontWeight = 600;
      about.textContent = typeof value === "number" ? value.toLocaleString("en") : String(value);
      line.append(term, about);
      fields.append(line);
    }
    for (const row of document.querySelectorAll("tr[data-point]")) {
      row.classList.toggle("chosen", Number(row.dataset.point) === number);
    }
    draw();
  }

  for (const row of document.querySelectorAll("tr[data-point]")) {
    row.addEventListener("click", () => choose(Number(row.dataset.point)));
    row.addEventListener("keydown", (event) => {
      if (event.key === "Enter") choose(Number(row.dataset.point));
    });
  }
  choose(0);
})();
