// Filters, search and pages over items that lie in chunks beside this page. Everything shown is set as text, never as HTML.
// What is chosen stands in the address after `#`, so that a view can be passed on.
"use strict";
const seethink = (() => {
  const PAGE = 20;
  const chunks = new Map(), waiting = new Map();
  let rows = [], chunkSize = 1, page = 0, current = "", drawing = 0;

  const element = (name, text, className) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };
  const control = id => document.getElementById(id);
  const value = id => (control(id) ? control(id).value : "");
  const buttons = [...document.querySelectorAll(".flag")];
  const isPressed = button => button.getAttribute("aria-pressed") === "true";
  const pressed = () => buttons.filter(isPressed).map(b => b.dataset.flag);

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

  // Every word of the search stands somewhere in id, question, answers, reasons or rungs.
  const chosen = () => {
    const kind = value("kind"), part = value("part"), flags = pressed();
    const words = value("find").toLowerCase().split(/\s+/).filter(Boolean);
    return rows.filter(r => (!kind || r.kind === kind) && (!part || r.part === part)
      && flags.every(f => r.flags.includes(f)) && words.every(w => r.text.includes(w)));
  };

  const attemptNode = attempt => {
    const box = element("div", undefined, "attempt");
    const head = element("h2", attempt.label);
    if (attempt.state) {
      const look = {right: "ok", wrong: "bad"}[attempt.state] || "";
      head.append(element("span", attempt.state.replace("_", " "), `chip ${look}`));
    }
    attempt.marks.forEach(mark => head.append(element("span", mark, "chip")));
    const said = Object.entries(attempt.details).filter(([, text]) => text !== attempt.state && text !== "stop");
    const details = said.map(([key, text]) => `${key.replace("_", " ")} ${text}`);
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
    card.tabIndex = -1;
    card.dataset.id = item.id;
    card.addEventListener("focusin", () => stand(item.id));
    item.images.forEach(source => {
      if (!source) { left.append(element("p", "picture not found", "missing")); return; }
      const image = element("img");
      image.src = source;
      image.alt = "Picture of the question";
      left.append(image);
    });
    const row = (name, text) => { if (text) list.append(element("dt", name), element("dd", text)); };
    row([item.kind, item.part, item.id].filter(Boolean).join(", "), item.question || "(in the picture)");
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

  const note = () => { // the choice into the address
    const found = new URLSearchParams();
    ["kind", "part", "find"].forEach(id => value(id) && found.set(id, value(id)));
    if (pressed().length) found.set("flags", pressed().join(","));
    if (page) found.set("page", page + 1);
    if (current) found.set("item", current);
    if (found.toString() !== location.hash.slice(1)) history.replaceState(null, "", `#${found}`);
  };
  const recall = () => { // and back
    const found = new URLSearchParams(location.hash.slice(1)), flags = (found.get("flags") || "").split(",");
    ["kind", "part", "find"].forEach(id => { if (control(id)) control(id).value = found.get(id) || ""; });
    buttons.forEach(b => b.setAttribute("aria-pressed", String(flags.includes(b.dataset.flag))));
    page = Math.max(0, (parseInt(found.get("page"), 10) || 1) - 1);
    current = found.get("item") || "";
    const at = current ? chosen().findIndex(r => r.id === current) : -1;
    if (at >= 0) page = Math.floor(at / PAGE);
  };

  const draw = async (focus = "") => {
    const turn = ++drawing, found = chosen(), pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const visible = found.slice(page * PAGE, (page + 1) * PAGE);
    control("shown").textContent = `${found.length} of ${rows.length}, page ${page + 1} of ${pages}`;
    control("previous").disabled = page === 0;
    control("next").disabled = page === pages - 1;
    if (!visible.some(r => r.id === current)) current = "";
    note();
    const loaded = await Promise.all(visible.map(r => load(Math.floor(r.at / chunkSize))));
    if (turn !== drawing) return; // another filter was chosen meanwhile
    const cards = visible.map((r, i) => itemNode(loaded[i][r.at % chunkSize]));
    control("items").replaceChildren(...(cards.length ? cards : [element("p", "Nothing matches these filters.", "empty")]));
    if (focus) reach(focus === "last" ? cards.at(-1) : focus === "first" ? cards[0] : cards.find(c => c.dataset.id === focus));
    document.body.dataset.drawn = String(turn);
  };
  const stand = id => { if (id && current !== id) { current = id; note(); } };
  const reach = card => {
    if (!card) return;
    card.focus({preventScroll: true});
    stand(card.dataset.id);
    const bar = document.querySelector(".bar");
    const over = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
    window.scrollTo({top: card.getBoundingClientRect().top + window.scrollY - over - 12, behavior: "instant"});
  };
  const restart = () => { page = 0; current = ""; draw(); };
  const turnTo = (next, focus) => { page = next; draw(focus); if (!focus) reach(control("items")); };
  const step = by => {
    const cards = [...document.querySelectorAll("#items .item")], at = cards.findIndex(c => c.dataset.id === current);
    const to = at < 0 ? (by > 0 ? 0 : cards.length - 1) : at + by;
    if (cards[to]) reach(cards[to]);
    else if (by > 0 && !control("next").disabled) turnTo(page + 1, "first");
    else if (by < 0 && !control("previous").disabled) turnTo(page - 1, "last");
  };

  buttons.forEach(button => button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(!isPressed(button)));
    restart();
  }));
  ["kind", "part"].forEach(id => control(id) && control(id).addEventListener("change", restart));
  control("find").addEventListener("input", restart);
  control("previous").addEventListener("click", () => turnTo(page - 1));
  control("next").addEventListener("click", () => turnTo(page + 1));
  const keys = {
    "/": () => control("find").focus(), j: () => step(1), k: () => step(-1),
    n: () => control("next").disabled || turnTo(page + 1), p: () => control("previous").disabled || turnTo(page - 1),
  };
  document.addEventListener("keydown", event => {
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (event.key === "Escape" && typing) { // back to the rows; a browser would empty the field, but not the choice
      event.preventDefault();
      event.target.blur();
      return;
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
  window.addEventListener("hashchange", () => { recall(); draw(current); });

  return {
    index: (size, items) => { chunkSize = size; rows = items.map((r, at) => ({...r, at})); recall(); draw(current); },
    chunk: (number, items) => {
      chunks.set(number, items);
      (waiting.get(number) || []).forEach(resolve => resolve(items));
      waiting.delete(number);
    },
  };
})();
