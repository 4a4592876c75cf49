"use strict";
// The page: sections of pictures and tables, made of the JSON above it. All
// that comes from there is put in as text.
(() => {
  let page = JSON.parse(document.getElementById("data").textContent);

  // Opened in a hidden frame by an earlier state of itself: hand over the data.
  if (window.name === "losskit-data" && window.parent !== window) {
    window.parent.postMessage({ losskit: page }, "*");
    return;
  }

  // ------------------------------------------------------------- the switches

  // Kept behind the # of the address, so that they outlive a reload. In the
  // frame of a notebook, which has no address, in the storage of the session.
  const state = { log: false, smooth: 0, theme: "", off: new Set(), open: {} };

  const isFramed = location.protocol === "about:";
  const place = `losskit ${page.keptAs}`;

  function readState() {
    try {
      const kept = JSON.parse(isFramed
        ? sessionStorage.getItem(place)
        : decodeURIComponent(location.hash.slice(1)));
      state.log = Boolean(kept.log);
      state.smooth = Math.min(0.95, Math.max(0, Number(kept.smooth) || 0));
      state.theme = ["light", "dark"].includes(kept.theme) ? kept.theme : "";
      state.off = new Set(Array.isArray(kept.off) ? kept.off : []);
      state.open = Object(kept.open);
    } catch { /* none, or not ours */ }
  }

  function keepState() {
    const kept = JSON.stringify({ ...state, off: [...state.off] });
    try {
      if (isFramed) sessionStorage.setItem(place, kept);
      else history.replaceState(null, "", "#" + encodeURIComponent(kept));
    } catch { /* a frame that may store nothing */ }
  }

  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
  const byId = (id) => document.getElementById(id);

  function applyTheme() {
    const theme = state.theme || (systemIsDark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
  }

  // -------------------------------------------------------------- small things

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "className") node.className = value;
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  // A name in a direction of its own.
  const named = (text) => make("bdi", {}, text);

  const colourOf = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const strokeOf = (line) =>
    line.colour < 0
      ? colourOf("--ink")
      : page.palette[line.colour % page.palette.length];

  // How often the colours have come round: later rounds have marks.
  const roundOf = (line) =>
    Math.max(0, Math.floor(line.colour / page.palette.length));

  function short(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "string") return value;
    if (value === 0) return "0";
    const size = Math.abs(value);
    return size >= 1e5 || size < 1e-3
      ? value.toExponential(3)
      : String(Number(value.toPrecision(5)));
  }

  // Exponential mean, whose first values are not drawn towards zero.
  function smoothed(values) {
    if (!state.smooth) return values;
    let mean = 0;
    let weight = 0;
    return values.map((value) => {
      if (typeof value !== "number") return value;
      mean = state.smooth * mean + (1 - state.smooth) * value;
      weight = state.smooth * weight + (1 - state.smooth);
      return mean / weight;
    });
  }

  // What uPlot takes: a gap where a value is not finite, none where there is
  // no value, as of a validation in every other epoch.
  const drawable = (values) =>
    values.map((v) => (v === null ? undefined : typeof v === "string" ? null : v));

  // -------------------------------------------------------------- the pictures

  const HEIGHT = 280;
  const pictures = [];
  const sync = uPlot.sync("epochs");

  function pictureNode(part) {
    const node = make("figure", { className: "part picture", style: "margin:0" });
    const title = make("h3", {}, named(part.title));
    const unit = make("div", { className: "unit" }, named(part.unit));
    const chart = make("div", {
      className: "chart",
      tabindex: "0",
      role: "group",
      "aria-roledescription": "chart",
      "aria-label": `${part.title}, ${part.unit}, over the epochs. The arrow ` +
        "keys move from epoch to epoch; a table of the numbers follows.",
    });
    const epoch = make("div", { className: "epoch" });
    const legend = make("div", {
      className: "legend", role: "group", "aria-label": "Terms",
    });
    const picture = { part, chart, epoch, entries: [], plot: null, live: false };
    const labels = [...new Set(part.lines.map((line) => line.label))];
    for (const label of labels) legend.append(entryNode(picture, label));
    node.append(title, unit, chart, epoch, legend, numbersNode(part));
    chart.addEventListener("keydown", (event) => moveByKey(picture, event));
    chart.addEventListener("blur", () => { picture.live = false; });
    pictures.push(picture);
    new ResizeObserver(() => {
      const width = chart.clientWidth;
      if (picture.plot && width && width !== picture.plot.width)
        picture.plot.setSize({ width, height: HEIGHT });
    }).observe(chart);
    return node;
  }

  function entryNode(picture, label) {
    const lines = picture.part.lines.filter((line) => line.label === label);
    const box = make("input", { type: "checkbox" });
    const swatch = make("canvas", { width: 26, height: 12, "aria-hidden": "true" });
    const name = make("span", { className: "name", title: label }, named(label));
    const value = make("output", { className: "value" });
    const entry = make("label", {}, box, swatch, name, value);
    box.checked = !state.off.has(label);
    box.addEventListener("change", () => {
      if (box.checked) state.off.delete(label);
      else state.off.add(label);
      keepState();
      refresh();
    });
    const focus = (on) => {
      if (!picture.plot) return;
      const first = on ? picture.seriesOf.get(lines[0]) : null;
      picture.plot.setSeries(first ?? null, { focus: on });
    };
    entry.addEventListener("pointerenter", () => focus(true));
    entry.addEventListener("pointerleave", () => focus(false));
    picture.entries.push({ label, lines, box, entry, value, swatch });
    return entry;
  }

  function drawSwatch({ swatch, lines }) {
    const canvas = swatch.getContext("2d");
    const line = lines[0];
    canvas.clearRect(0, 0, 26, 12);
    canvas.fillStyle = canvas.strokeStyle = strokeOf(line);
    if (line.high && !state.log) {
      canvas.fillRect(0, 0, 26, 12);
      if (roundOf(line)) {
        canvas.fillStyle = stripes(canvas, strokeOf(line), roundOf(line));
        canvas.clearRect(0, 0, 26, 12);
        canvas.fillRect(0, 0, 26, 12);
      }
      return;
    }
    canvas.lineWidth = 2.5;
    canvas.beginPath();
    canvas.moveTo(0, 6);
    canvas.lineTo(26, 6);
    canvas.stroke();
    if (roundOf(line)) canvas.fillRect(10, 3, 6, 6);
  }

  function stripes(canvas, colour, round) {
    const tile = make("canvas", { width: 8, height: 8 });
    const inside = tile.getContext("2d");
    inside.fillStyle = colour;
    inside.fillRect(0, 0, 8, 8);
    inside.fillStyle = colourOf("--paper");
    if (round % 2) inside.fillRect(0, 0, 8, 3);
    else inside.fillRect(0, 0, 3, 8);
    return canvas.createPattern(tile, "repeat");
  }

  function draw(picture) {
    const { part, chart } = picture;
    if (picture.plot) picture.plot.destroy();
    const ink = colourOf("--ink");
    const x = part.x.length ? part.x : [0];
    const data = [x];
    const series = [{ label: "epoch" }];
    const bands = [];
    picture.seriesOf = new Map();
    for (const line of part.lines) {
      const shown = !state.off.has(line.label);
      const stroke = strokeOf(line);
      const area = line.high && !state.log;
      const values = smoothed(area ? line.high : line.y);
      data.push(drawable(values));
      picture.seriesOf.set(line, series.length);
      series.push({
        show: shown,
        stroke,
        width: area ? 0 : line.colour < 0 ? 2 : 1.75,
        dash: line.dashed ? [6, 4] : undefined,
        points: {
          show: x.length === 1 || (roundOf(line) > 0 && !area),
          size: 4 + 2 * roundOf(line),
          fill: stroke,
        },
      });
      if (!area) continue;
      data.push(drawable(smoothed(line.low)));
      const round = roundOf(line);
      bands.push({
        series: [series.length - 1, series.length],
        fill: round ? (u) => stripes(u.ctx, stroke, round) : stroke + "cc",
      });
      series.push({ show: shown, width: 0, stroke, points: { show: false } });
    }
    const axis = {
      stroke: ink,
      grid: { stroke: colourOf("--rule"), width: 1 },
      ticks: { stroke: colourOf("--rule"), width: 1 },
      font: "12px system-ui, sans-serif",
    };
    const y = !state.log
      ? part.range
        ? { range: (u, low, high) => padded(part.range) }
        : { range: (u, low, high) => padded([low, high]) }
      : part.linear === null
        ? { distr: 3 }
        : { distr: 4, asinh: part.linear };
    picture.plot = new uPlot(
      {
        width: Math.max(200, chart.clientWidth),
        height: HEIGHT,
        scales: {
          x: {
            time: false,
            range: (u, low, high) =>
              low === high ? [low - 0.5, high + 0.5] : [low, high],
          },
          y,
        },
        axes: [
          {
            ...axis,
            label: "epoch",
            labelSize: 20,
            labelFont: axis.font,
            incrs: [1, 2, 5].flatMap((n) => [1, 10, 100, 1e3, 1e4, 1e5].map((k) => n * k)).sort((a, b) => a - b),
          },
          {
            ...axis,
            size: 62,
            values: (u, ticks) => ticks.map((t) => (t === null ? "" : short(t))),
          },
        ],
        series,
        bands,
        legend: { show: false },
        cursor: { sync: { key: sync.key, scales: ["x", null] }, drag: { x: false, y: false } },
        focus: { alpha: 0.25 },
        hooks: {
          setCursor: [(u) => readOut(picture, u.cursor.idx)],
          draw: [(u) => markNotFinite(u, part)],
        },
      },
      data.map((values, i) => (x.length === 1 && i ? values.slice(0, 1) : values)),
      chart,
    );
    for (const entry of picture.entries) {
      entry.box.checked = !state.off.has(entry.label);
      entry.entry.classList.toggle("off", !entry.box.checked);
      drawSwatch(entry);
    }
    readOut(picture, null);
  }

  function padded([low, high]) {
    if (low === null || high === null) return [0, 1];
    if (low === high) return low ? [Math.min(0, 2 * low), Math.max(0, 2 * low)] : [-1, 1];
    const room = 0.05 * (high - low);
    return [low === 0 ? 0 : low - room, high + room];
  }

  // A cross at the upper edge for each epoch whose value is not finite.
  function markNotFinite(u, part) {
    const { ctx } = u;
    ctx.save();
    ctx.lineWidth = 2;
    part.lines.forEach((line, place) => {
      if (state.off.has(line.label)) return;
      ctx.strokeStyle = strokeOf(line);
      line.y.forEach((value, i) => {
        if (typeof value !== "string") return;
        const at = u.valToPos(part.x[i], "x", true);
        const top = u.bbox.top + 8 + 10 * (place % 10);
        ctx.beginPath();
        ctx.moveTo(at - 4, top - 4);
        ctx.lineTo(at + 4, top + 4);
        ctx.moveTo(at + 4, top - 4);
        ctx.lineTo(at - 4, top + 4);
        ctx.stroke();
      });
    });
    ctx.restore();
  }

  function readOut(picture, at) {
    const { part } = picture;
    const last = part.x.length - 1;
    const index = at ?? last;
    picture.index = index;
    for (const { lines, value } of picture.entries) {
      value.textContent = lines
        .map((line) => short(line.y[index]))
        .filter((text) => text !== "")
        .join(" · ");
    }
    const dashed = part.lines.some((line) => line.dashed);
    picture.epoch.textContent =
      `epoch ${part.x[index]}` +
      (at === null || at === undefined ? ", the last" : "") +
      (dashed ? "; training · validation (dashed)" : "");
    if (picture.live) {
      picture.epoch.setAttribute("aria-live", "polite");
      picture.epoch.textContent += picture.entries
        .map(({ label, value }) => `; ${label} ${value.textContent}`)
        .slice(0, 8).join("");
    } else picture.epoch.removeAttribute("aria-live");
  }

  function moveByKey(picture, event) {
    const last = picture.part.x.length - 1;
    const to = {
      ArrowLeft: Math.max(0, picture.index - 1),
      ArrowRight: Math.min(last, picture.index + 1),
      Home: 0,
      End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    picture.live = true;
    const left = picture.plot.valToPos(picture.part.x[to], "x");
    picture.plot.setCursor({ left, top: 10 });
  }

  // ---------------------------------------------------------------- the tables

  function numbersNode(part) {
    const details = make("details", {}, make("summary", {}, "Table of the numbers"));
    details.addEventListener("toggle", () => {
      if (!details.open || details.querySelector("table")) return;
      const head = ["epoch", ...part.lines.map((line) =>
        line.dashed ? `${line.label}, validation` : line.label)];
      const rows = part.x.map((epoch, i) => [
        String(epoch), ...part.lines.map((line) => line.y[i]),
      ]);
      details.append(tableNode({ head, rows, exact: true, title: part.title }));
    });
    return details;
  }

  function tableNode({ head, rows, bars, diverging, exact, title }) {
    const body = make("tbody");
    const largest = bars === undefined ? 1 : Math.max(...rows.map((row) => Number(row[bars]) || 0), 0);
    for (const row of rows) {
      const line = make("tr");
      row.forEach((value, column) => {
        const words = typeof value === "string" && column > 0 && !/^[-+]?(\d|NaN|Inf)/.test(value);
        const text = value === null ? "" : typeof value === "string" || exact ? String(value) : short(value);
        const cell = column ? make("td", words ? { className: "text" } : {}) : make("th", { scope: "row" });
        if (column && !words) cell.append(text);
        else cell.append(make("div", { className: "cell" }, named(text)));
        if (column === bars && largest > 0) {
          const width = `width:${(6 * Number(value)) / largest}em`;
          cell.append(make("span", { className: "bar", style: width, "aria-hidden": "true" }));
        }
        if (diverging && column && typeof value === "number") shade(cell, value);
        line.append(cell);
      });
      body.append(line);
    }
    const cells = head.map((text) =>
      make("th", { scope: "col" }, make("div", { className: "cell" }, named(text))));
    const table = make("table", { "aria-label": title }, make("thead", {}, make("tr", {}, ...cells)), body);
    return make("div", { className: "scroll", tabindex: "0", role: "region", "aria-label": title }, table);
  }

  // Blue for a common direction, vermilion for a conflict; the sign says so too.
  function shade(cell, value) {
    const [r, g, b] = value < 0 ? [213, 94, 0] : [0, 114, 178];
    cell.style.background = `rgba(${r},${g},${b},${0.55 * Math.min(1, Math.abs(value))})`;
  }

  // -------------------------------------------------------------- the sections

  function build() {
    const main = byId("sections");
    for (const picture of pictures) if (picture.plot) picture.plot.destroy();
    pictures.length = 0;
    main.replaceChildren();
    for (const section of page.sections) main.append(sectionNode(section));
  }

  function sectionNode(section) {
    const details = make("details", {}, make("summary", {}, make("h2", {}, named(section.title))));
    let filled = false;
    const fill = () => {
      if (filled) return;
      filled = true;
      const parts = make("div", { className: "parts" });
      details.append(parts);
      const before = pictures.length;
      for (const part of section.parts) {
        if (part.type === "picture") parts.append(pictureNode(part));
        else {
          const note = part.note ? [make("p", { className: "note" }, named(part.note))] : [];
          parts.append(make("div", { className: "part table" },
            make("h3", {}, named(part.title)), ...note, tableNode(part)));
        }
      }
      queueMicrotask(() => pictures.slice(before).forEach(draw));
    };
    details.open = state.open[section.title] ?? section.open;
    if (details.open) fill();
    details.addEventListener("toggle", () => {
      if (details.open) fill();
      if (details.open !== (state.open[section.title] ?? section.open)) {
        state.open[section.title] = details.open;
        keepState();
      }
    });
    return make("section", {}, details);
  }

  function refresh() {
    applyTheme();
    byId("log").checked = state.log;
    byId("smooth").value = state.smooth;
    byId("smooth-value").textContent = state.smooth;
    byId("theme").value = state.theme;
    pictures.filter(({ chart }) => chart.clientWidth).forEach(draw);
  }

  function say() {
    byId("status").textContent = page.live === null
      ? `Written ${page.written.replace("T", " ").slice(0, 19)}`
      : `Training goes on; last written ${page.written.replace("T", " ").slice(0, 19)}`;
  }

  // ------------------------------------------------------------------ live runs

  let frame = null;

  function ask() {
    if (page.live === null) return;
    if (frame) frame.remove();
    frame = make("iframe", { name: "losskit-data", hidden: "", title: "newer data" });
    const address = location.href.split(/[?#]/)[0];
    frame.src = `${address}?data=${Date.now()}`;
    document.body.append(frame);
    setTimeout(ask, 1000 * page.live);
  }

  window.addEventListener("message", (event) => {
    if (!frame || event.source !== frame.contentWindow || !event.data?.losskit) return;
    const newer = event.data.losskit;
    if (newer.written === page.written) return;
    const focused = document.activeElement === document.body;
    page = newer;
    const { scrollX, scrollY } = window;
    const height = byId("sections").offsetHeight;
    byId("sections").style.minHeight = `${height}px`;
    build();
    refresh();
    say();
    queueMicrotask(() => {
      byId("sections").style.minHeight = "";
      if (!focused) window.scrollTo(scrollX, scrollY);
    });
  });

  // ---------------------------------------------------------------------- start

  readState();
  byId("log").addEventListener("change", (event) => {
    state.log = event.target.checked; keepState(); refresh();
  });
  byId("smooth").addEventListener("input", (event) => {
    state.smooth = Number(event.target.value); keepState(); refresh();
  });
  byId("theme").addEventListener("change", (event) => {
    state.theme = event.target.value; keepState(); refresh();
  });
  byId("all-on").addEventListener("click", () => {
    state.off.clear(); keepState(); refresh();
  });
  byId("switches").addEventListener("submit", (event) => event.preventDefault());
  systemIsDark.addEventListener("change", refresh);
  applyTheme();
  build();
  refresh();
  say();
  if (page.live !== null && !isFramed) setTimeout(ask, 1000 * page.live);
})();
