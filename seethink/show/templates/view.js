// Filters and pages over items that lie in chunks beside this page. Everything shown is set as text, never as HTML.
"use strict";
const seethink = (() => {
  const PAGE = 20;
  const chunks = new Map(), waiting = new Map();
  let rows = [], chunkSize = 1, page = 0, drawing = 0;

  const element = (name, text, className) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };
  const control = id => document.getElementById(id);
  const value = id => (control(id) ? control(id).value : "");
  const pressed = () => [...document.querySelectorAll('.flag[aria-pressed="true"]')].map(b => b.dataset.flag);

  // A chunk is a script that calls seethink.chunk: that also works for pages opened from the disk.
  const load = number => {
    if (chunks.has(number)) return Promise.resolve(chunks.get(number));
    return new Promise((resolve, reject) => {
      const queue = waiting.get(number) || [];
      waiting.set(number, [...queue, resolve]);
      if (queue.length) return;
      const script = element("script");
      script.src = `items-${number}.js`;
      script.onerror = () => reject(new Error(`items-${number}.js is missing`));
      document.head.append(script);
    });
  };

  const chosen = () => {
    const kind = value("kind"), part = value("part"), id = value("find").trim().toLowerCase(), flags = pressed();
    return rows.filter(r => (!kind || r.kind === kind) && (!part || r.part === part)
      && (!id || r.id.toLowerCase().includes(id)) && flags.every(f => r.flags.includes(f)));
  };

  const attemptNode = attempt => {
    const box = element("div", undefined, "attempt");
    const head = element("h2", attempt.label);
    const verdict = attempt.ok === null ? (attempt.graded ? "undecided" : "") : attempt.ok ? "right" : "wrong";
    if (verdict) head.append(element("span", verdict, `chip ${{right: "ok", wrong: "bad"}[verdict] || ""}`));
    attempt.marks.forEach(mark => head.append(element("span", mark, "chip")));
    const details = Object.entries(attempt.details).map(([key, text]) => `${key} ${text}`);
    if (attempt.answer !== null) details.unshift(`answer ${attempt.answer}`);
    const trace = element("p", undefined, "trace");
    attempt.pieces.forEach(([text, classes]) => {
      if (!classes) { trace.append(text); return; }
      const names = classes.split(" ");
      trace.append(element(names.includes("mark") ? "mark" : "span", text, names.filter(n => n !== "mark").join(" ")));
    });
    box.append(head);
    if (details.length) box.append(element("p", details.join("  ·  "), "details"));
    box.append(trace);
    return box;
  };

  const itemNode = item => {
    const card = element("article", undefined, "item"), left = element("div"), list = element("dl");
    item.images.forEach(source => {
      if (!source) { left.append(element("p", "picture not found", "missing")); return; }
      const image = element("img");
      image.src = source;
      image.alt = "Picture of the question";
      left.append(image);
    });
    const row = (name, text) => { if (text) list.append(element("dt", name), element("dd", text)); };
    row([item.kind, item.part, item.id].filter(Boolean).join(", "), item.question);
    row("options", item.options.join("\n"));
    row("gold", item.gold);
    row("source", item.source);
    row("flags", item.flags.join(", "));
    left.append(list);
    const attempts = element("div", undefined, "attempts");
    item.attempts.forEach(attempt => attempts.append(attemptNode(attempt)));
    if (!item.attempts.length) attempts.append(element("p", "No trace: this sample waits to be answered.", "empty"));
    card.append(left, attempts);
    return card;
  };

  const draw = async () => {
    const turn = ++drawing, found = chosen(), pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const visible = found.slice(page * PAGE, (page + 1) * PAGE);
    control("shown").textContent = `${found.length} of ${rows.length}, page ${page + 1} of ${pages}`;
    control("previous").disabled = page === 0;
    control("next").disabled = page === pages - 1;
    const loaded = await Promise.all(visible.map(r => load(Math.floor(r.at / chunkSize))));
    if (turn !== drawing) return; // another filter was chosen meanwhile
    const cards = visible.map((r, i) => itemNode(loaded[i][r.at % chunkSize]));
    control("items").replaceChildren(...(cards.length ? cards : [element("p", "Nothing matches these filters.", "empty")]));
    document.body.dataset.drawn = String(turn);
  };
  const restart = () => { page = 0; draw(); };
  const turnTo = next => { page = next; draw(); window.scrollTo(0, 0); };

  document.querySelectorAll(".flag").forEach(button => button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") === "true" ? "false" : "true");
    restart();
  }));
  ["kind", "part"].forEach(id => control(id) && control(id).addEventListener("change", restart));
  control("find").addEventListener("input", restart);
  control("previous").addEventListener("click", () => turnTo(page - 1));
  control("next").addEventListener("click", () => turnTo(page + 1));

  return {
    index: (size, items) => { chunkSize = size; rows = items.map((r, at) => ({...r, at})); draw(); },
    chunk: (number, items) => {
      chunks.set(number, items);
      (waiting.get(number) || []).forEach(resolve => resolve(items));
      waiting.delete(number);
    },
  };
})();
