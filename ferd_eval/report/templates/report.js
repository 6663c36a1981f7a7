"use strict";
// Numbers that are read come printed from the report; this script only draws, sorts and selects.
(() => {
  const runs = JSON.parse(document.getElementById("data").textContent).runs;
  const runSelect = document.getElementById("run");
  const attackSelect = document.getElementById("attack");
  const articles = [...document.querySelectorAll("article")];
  const tip = document.getElementById("tip");
  const SQUARE_ROOT = 0.5;

  document.documentElement.classList.add("js");

  function fillAttacks() {
    const run = runs[runSelect.value];
    const before = attackSelect.value;
    const options = Object.keys(run.attacks).map((id) => new Option(id, id));
    attackSelect.replaceChildren(...options);
    attackSelect.value = before in run.attacks ? before : run.shown;
  }

  function show() {
    const index = Number(runSelect.value);
    articles.forEach((article, i) => { article.hidden = i !== index; });
    const run = runs[index];
    const article = articles[index];
    const id = attackSelect.value;
    for (const span of article.querySelectorAll(".attack")) span.textContent = id;
    showBars(article, run, run.attacks[id]);
    showScatter(article, run, id);
    drawMaps();
  }

  function showBars(article, run, attack) {
    const list = article.querySelector(".bars");
    const items = [...list.children];
    for (const item of items) {
      const i = Number(item.dataset.i);
      const empty = attack.accuracy[i] === null;
      item.classList.toggle("empty", empty);
      item.classList.toggle("suspect", attack.worst[i] === true);
      item.querySelector("u").hidden = attack.clean[i] === null;
      if (empty) {
        item.querySelector(".value").textContent = "no images";
        item.removeAttribute("title");
        continue;
      }
      const [accuracy, low, high] = attack.text[i];
      const style = item.querySelector(".track").style;
      style.setProperty("--v", attack.accuracy[i]);
      style.setProperty("--lo", attack.low[i]);
      style.setProperty("--hi", attack.high[i]);
      style.setProperty("--c", attack.clean[i]);
      item.querySelector(".value").textContent = accuracy;
      item.title = `${run.classes[i]}: ${accuracy} % (95 % interval ${low} to ${high}), ${attack.n[i]} images${attack.worst[i] ? ", could be the worst class" : ""}`;
    }
    article.querySelector(".suspects").hidden = !attack.worst.includes(true);
    const key = (item) => attack.accuracy[item.dataset.i] ?? Infinity;
    items.sort((a, b) => key(a) - key(b) || a.dataset.i - b.dataset.i);
    list.append(...items);
  }

  function showScatter(article, run, id) {
    const attack = run.attacks[id];
    const all = [...article.querySelectorAll(".dot")];
    for (const dot of all) dot.hidden = attack.clean[dot.dataset.i] === null;
    const dots = all.filter((dot) => !dot.hidden);
    if (!dots.length) return;
    for (const dot of dots) {
      const i = dot.dataset.i;
      dot.style.setProperty("--x", attack.clean[i]);
      dot.style.setProperty("--y", attack.accuracy[i]);
      dot.title = `${run.classes[i]}: clean ${attack.text[i][3]} %, under ${id} ${attack.text[i][0]} %`;
    }
    dots.sort((a, b) => attack.accuracy[a.dataset.i] - attack.accuracy[b.dataset.i]);
    const most = dots.length > 24 ? 8 : dots.length;
    dots.forEach((dot, rank) => dot.classList.toggle("named", rank < most));
    placeLabels(dots);
  }

  // Greedy: each label takes the first side where it meets no dot, no other label and no edge.
  function placeLabels(dots) {
    const frame = dots[0].parentElement.getBoundingClientRect();
    const taken = dots.map((dot) => dot.getBoundingClientRect());
    const meets = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    dots.forEach((dot, own) => {
      if (!dot.classList.contains("named")) return;
      for (const side of ["right", "left", "up", "down", "none"]) {
        dot.dataset.side = side;
        const box = dot.firstElementChild.getBoundingClientRect();
        const inside = box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom;
        if (side !== "none" && inside && !taken.some((other, i) => i !== own && meets(box, other))) {
          taken.push(box);
          return;
        }
      }
    });
  }

  // Heat maps ---------------------------------------------------------------------------------
  const drawn = new Map();

  function drawMaps() {
    const run = runs[runSelect.value];
    const article = articles[runSelect.value];
    const id = attackSelect.value;
    const clean = id === "clean" ? undefined : run.confusions.clean;
    const under = run.confusions[id];
    const stronger = clean && clean.peak > under.peak ? clean : under;
    const [before, after] = [".map.clean", ".map.attacked"].map((name) => article.querySelector(name));
    before.hidden = !clean;
    after.hidden = false;
    if (clean) drawMap(before, run.classes, clean, stronger.peak);
    drawMap(after, run.classes, under, stronger.peak);
    const scales = [...article.querySelectorAll(".scale")];
    label(scales[0], stronger.peakText);
    const successes = Object.entries(run.successes);
    if (!successes.length) return;
    const highest = successes.map(([, of]) => of).reduce((a, b) => (a.peak >= b.peak ? a : b));
    const figures = [...article.querySelectorAll(".map.success")];
    figures.forEach((figure) => { figure.hidden = false; });
    for (const figure of figures) {
      drawMap(figure, run.classes, run.successes[figure.dataset.attack], highest.peak);
    }
    label(scales[1], highest.peakText);
  }

  function label(scale, text) {
    scale.hidden = false;
    scale.querySelector(".peak").textContent = text;
  }

  function drawMap(figure, classes, of, peak) {
    const canvas = figure.querySelector("canvas");
    const K = classes.length;
    const counts = new Int32Array(K * K);
    for (let c = 0; c < of.cells.length; c += 3) counts[of.cells[c] * K + of.cells[c + 1]] = of.cells[c + 2];
    const pairs = Array.isArray(of.outOf[0]);
    const outOf = (i, j) => (pairs ? of.outOf[i][j] : of.outOf[i]);

    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const ramp = [0, 1, 2, 3].map((i) => parse(colour(`--ramp-${i}`)));
    const width = figure.clientWidth;
    const context = canvas.getContext("2d");
    const size = K <= 20 ? 12 : 10;
    const font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
    context.font = font;
    const step = K <= 20 ? 1 : Math.ceil(K / 25);
    const limit = Math.min(110, width * 0.28);
    const names = classes.map((name, i) => (i % step ? "" : shorten(context, name, limit)));
    const margin = Math.ceil(Math.max(...names.map((name) => context.measureText(name).width))) + 8;
    const cell = (width - margin - 1) / K;
    const height = margin + cell * K + 1;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
    context.scale(ratio, ratio);
    context.font = font;
    context.textBaseline = "middle";
    const gap = cell > 8 ? 1 : 0;
    const edge = (i) => Math.round((margin + i * cell) * ratio) / ratio; // no seams between cells
    context.fillStyle = colour("--ramp-0");
    context.fillRect(margin, margin, cell * K, cell * K);
    for (let i = 0; i < K; i += 1) {
      for (let j = 0; j < K; j += 1) {
        const n = outOf(i, j);
        const grey = i === j || (pairs && n === 0);
        const count = counts[i * K + j];
        if (!grey && count === 0 && gap === 0) continue;
        const t = grey || !n || !peak ? 0 : Math.min(1, count / n / peak) ** SQUARE_ROOT;
        context.fillStyle = grey ? colour("--grey") : mix(ramp, t);
        const x = edge(j), y = edge(i);
        context.fillRect(x, y, edge(j + 1) - x - gap, edge(i + 1) - y - gap);
        const text = String(count);
        if (context.measureText(text).width < cell - 2 && cell > 14 && n && (count || i === j) && !(pairs && grey)) {
          context.fillStyle = colour(t > 0.55 ? "--on-deep" : "--on-pale");
          context.textAlign = "center";
          context.fillText(text, x + (cell - gap) / 2, y + cell / 2);
        }
      }
    }
    context.strokeStyle = colour("--line");
    context.strokeRect(margin + 0.5, margin + 0.5, cell * K, cell * K);
    context.fillStyle = colour("--soft");
    names.forEach((name, i) => {
      if (!name) return;
      const middle = margin + (i + 0.5) * cell;
      context.textAlign = "right";
      context.fillText(name, margin - 5, middle);
      context.save();
      context.translate(middle, margin - 5);
      context.rotate(-Math.PI / 2);
      context.textAlign = "left";
      context.fillText(name, 0, 0);
      context.restore();
    });
    drawn.set(canvas, { K, margin, cell, counts, outOf, classes, pairs });
  }

  function shorten(context, name, limit) {
    if (context.measureText(name).width <= limit) return name;
    let end = name.length;
    while (end > 1 && context.measureText(`${name.slice(0, end)}…`).width > limit) end -= 1;
    return `${name.slice(0, end)}…`;
  }

  function parse(hex) {
    const full = hex.length === 4 ? hex.replace(/[0-9a-f]/gi, "$&$&") : hex;
    return [1, 3, 5].map((at) => parseInt(full.slice(at, at + 2), 16));
  }

  function mix(ramp, t) {
    const at = t * (ramp.length - 1);
    const low = Math.min(Math.floor(at), ramp.length - 2);
    const part = ramp[low].map((value, c) => Math.round(value + (ramp[low + 1][c] - value) * (at - low)));
    return `rgb(${part.join(" ")})`;
  }

  function pointAt(event) {
    const map = drawn.get(event.target);
    if (!map) { tip.hidden = true; return; }
    const box = event.target.getBoundingClientRect();
    const j = Math.floor((event.clientX - box.left - map.margin) / map.cell);
    const i = Math.floor((event.clientY - box.top - map.margin) / map.cell);
    tip.hidden = i < 0 || j < 0 || i >= map.K || j >= map.K;
    if (tip.hidden) return;
    const from = map.classes[i], to = map.classes[j];
    const count = map.counts[i * map.K + j], n = map.outOf(i, j);
    tip.textContent = map.pairs
      ? `${from}, aimed at ${to}: reached in ${count} of ${n}`
      : `${from} ${i === j ? "recognised" : `taken for ${to}`}: ${count} of ${n}`;
    tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 12)}px`;
  }

  runSelect.addEventListener("change", () => { fillAttacks(); show(); });
  attackSelect.addEventListener("change", show);
  document.addEventListener("pointermove", pointAt);
  document.addEventListener("pointerdown", pointAt);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  let width = innerWidth;
  window.addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; show(); } });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMaps);
  matchMedia("print").addEventListener("change", drawMaps);
  fillAttacks();
  show();
})();
