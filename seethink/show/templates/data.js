// Rows of a data run as cards. Everything shown is set as text, never as HTML. What is chosen stands in the address after `#`,
// so that a view can be passed on and the back button works; a link to a number of the funnel is a plain link.
"use strict";
const seethink = data => {
  const PAGE = 12, KEYS = ["source", "step", "reason", "at", "item", "find", "look", "page"];
  const control = id => document.getElementById(id);
  const element = (name, text, className) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };
  const number = n => n.toLocaleString("en").replaceAll(",", "\u202f");
  const words = name => name.replaceAll("_", " ");
  const looks = [...document.querySelectorAll("[data-look]")];
  let state = {}, current = "";

  // Which rows a choice means: [source, step, reason] of a row against the state.
  const kept = reason => reason === "sft" || reason === "rl", waits = reason => reason === "waiting";
  const meant = ([source, step, reason]) => {
    if (state.source !== undefined && source !== state.source) return false;
    if (state.reason !== undefined && reason !== state.reason) return false;
    if (state.step === undefined) return true;
    const there = data.steps.indexOf(step), asked = data.steps.indexOf(state.step);
    if (state.at === "in") return there >= asked;
    if (state.at === "out") return there > asked || (there === asked && kept(reason));
    return there === asked;
  };
  const pieces = c => (c.trace ? [...c.trace.think, ...c.trace.answer].map(p => p[0]) : []);
  data.cards.forEach(c => {
    c.text = [c.id, c.source, c.kind, c.question, ...(c.gold || []), c.caption, c.detail, c.said, ...pieces(c)].join("\n").toLowerCase();
  });
  const found = () => {
    const sought = (state.find || "").toLowerCase().split(/\s+/).filter(Boolean);
    return data.cards.filter(c => meant([c.source, c.step, c.reason]) && (state.item === undefined || c.id === state.item)
      && sought.every(w => c.text.includes(w)));
  };
  const inWords = () => {
    const parts = [];
    if (state.item !== undefined) parts.push(`row ${state.item}`);
    if (state.source !== undefined) parts.push(state.source || "no source named");
    if (state.step !== undefined && state.at === "in") parts.push(`came to ${state.step}`);
    else if (state.step !== undefined && state.at === "out") parts.push(`went on from ${state.step}`);
    else if (state.step !== undefined && !kept(state.reason)) parts.push(`${waits(state.reason) ? "from" : "dropped at"} ${state.step}`);
    if (state.reason !== undefined) parts.push(kept(state.reason) ? `to ${state.reason.toUpperCase()}` : words(state.reason));
    return parts.join(", ");
  };

  // The six stages.
  const stage = (name, ...nodes) => {
    const box = element("div", undefined, `stage ${name}`);
    box.append(element("h4", name), ...nodes.filter(Boolean));
    return box;
  };
  const line = (text, className) => element("p", text, className);
  const term = (list, name, text) => { if (text) list.append(element("dt", name), element("dd", text)); };
  const said = (c, step) => (c.step === step && c.said ? [line("it wrote", "muted"), element("p", c.said, "trace")] : []);
  const metadata = c => {
    const nodes = (c.images || []).map(name => {
      if (!data.pictures[name]) return line("picture cannot be read", "missing");
      const image = element("img"), button = element("button", undefined, "picture");
      image.src = data.pictures[name];
      image.alt = `Picture of ${c.id}`;
      image.loading = "lazy";
      button.type = "button";
      button.title = "larger or smaller";
      button.addEventListener("click", () => button.classList.toggle("large"));
      button.append(image);
      return button;
    });
    if (c.question === undefined) return stage("metadata", line("not shown: the source is gone", "missing"));
    if (!c.images.length) nodes.push(line("no picture", "muted"));
    const list = element("dl");
    term(list, "question", c.question || "(in the picture)");
    term(list, "options", c.options.join("\n"));
    term(list, c.kind + (c.gold.length > 1 ? ", any of" : ""), c.gold.join("\n"));
    term(list, "the source says", c.context);
    term(list, "licence", c.licence);
    return stage("metadata", ...nodes, list);
  };
  const caption = c => {
    if (c.caption === undefined) return absent(c, "caption");
    const by = c.captioned ? line(c.captioned, "muted") : null;
    return stage("caption", by, c.caption ? line(c.caption, "written") : line("empty", "missing"), ...lost(c, "caption"));
  };
  const text = (parts, without) => {
    const box = element("p", undefined, "trace");
    parts.filter(([, mark]) => !without || !mark.includes(without)).forEach(([piece, mark]) => {
      if (without || !mark) { box.append(piece); return; }
      const name = mark.includes("ins") ? "ins" : mark === "del" ? "del" : "mark";
      const node = element(name);
      node.append(name === "ins" && mark.includes("cue") ? element("mark", piece) : piece);
      box.append(node);
    });
    return box;
  };
  const more = c => (c.trace.more ? line(`${number(c.trace.more)} more characters`, "missing") : null);
  const distill = c => {
    if (!c.trace) return absent(c, "distill");
    const by = [c.model, c.tokens ? `${number(c.tokens)} tokens` : ""].filter(Boolean).join(", ");
    return stage("distill", by ? line(by, "muted") : null, text(c.trace.think, "ins"), line("answer", "muted"),
      text(c.trace.answer, "ins"), more(c));
  };
  const rewrite = c => {
    if (!c.trace || c.trace.moved === undefined) return absent(c, "rewrite");
    const changed = [...c.trace.think, ["", ""], ...c.trace.answer].map(([, mark]) => mark.includes("ins") || mark === "del");
    const changes = changed.filter((now, at) => now && !changed[at - 1]).length;
    const moved = c.trace.moved ? `length moved by ${c.trace.moved} words` : "same length";
    const note = changes ? `${changes} change${changes > 1 ? "s" : ""}, ${moved}` : "nothing changed";
    const coarse = c.trace.coarse ? line("a stretch too long to compare word by word is shown as a whole", "missing") : null;
    return stage("rewrite", ...lost(c, "rewrite"), line(note, "muted"), coarse, text(c.trace.think), line("answer", "muted"),
      text(c.trace.answer), more(c));
  };
  const verify = c => {
    if (!c.verdict) return absent(c, "verify");
    const [ok, by, reason] = c.verdict, word = ok === null ? "undecided" : ok ? "yes" : "no";
    return stage("verify", element("span", word, `chip ${ok === null ? "" : ok ? "ok" : "bad"}`), line(`by ${by}`, "muted"),
      reason ? line(reason, "written") : null, ...(ok === false ? [] : lost(c, "verify")));
  };
  const split = c => {
    if (c.step !== "split") return absent(c, "split");
    const nodes = kept(c.reason) ? [element("span", c.reason.toUpperCase(), `chip ${c.reason}`)] : lost(c, "split");
    const cues = Object.entries(c.cues || {});
    if (c.cues) nodes.push(line(cues.length ? "cues" : "no cue", "muted"));
    if (cues.length) nodes.push(line(cues.map(([cue, n]) => (n > 1 ? `${cue} × ${n}` : cue)).join("\n"), "written"));
    else if (kept(c.reason) && !c.trace) nodes.push(line("no trace: this source goes to RL only", "muted"));
    return stage("split", ...nodes);
  };
  const lost = (c, step) => (c.step !== step || kept(c.reason) ? [] : [element("span", words(c.reason), waits(c.reason) ? "chip" : "chip bad"),
    c.detail ? line(c.detail, "written") : null, ...said(c, step)].filter(Boolean));
  const absent = (c, step) => {
    const here = data.steps.indexOf(step), end = data.steps.indexOf(c.step);
    if (c.step === step && !kept(c.reason)) return stage(step, ...lost(c, step));
    return stage(step, line(here > end ? "not reached" : c.outcome ? "nothing to do" : "not recorded", "missing"));
  };

  const draw = c => {
    const box = element("article", undefined, "card"), head = element("h3"), link = element("a", c.id);
    box.tabIndex = -1;
    box.dataset.id = c.id;
    box.addEventListener("focusin", () => { current = c.id; });
    link.href = `#${new URLSearchParams({item: c.id})}`;
    const look = kept(c.reason) ? c.reason : waits(c.reason) ? "" : "bad";
    head.append(link, element("span", c.source, "muted"),
      element("span", kept(c.reason) ? c.reason.toUpperCase() : `${c.step}: ${words(c.reason)}`, `chip ${look}`));
    const whole = element("button", "whole texts", "whole");
    whole.type = "button";
    whole.addEventListener("click", () => whole.setAttribute("aria-pressed", String(box.classList.toggle("tall"))));
    head.append(whole);
    const stages = element("div", undefined, "stages");
    const first = metadata(c);
    if (c.step === "metadata") first.append(...lost(c, "metadata"));
    stages.append(first, caption(c), distill(c), rewrite(c), verify(c), split(c));
    box.append(head, stages);
    return box;
  };

  const address = change => {
    const next = new URLSearchParams();
    Object.entries({...state, ...change}).forEach(([key, value]) => { if (value !== undefined && value !== "") next.set(key, value); });
    return next.size ? `#${next}` : "#rows=all";
  };
  const show = () => {
    const rows = found(), pages = Math.max(1, Math.ceil(rows.length / PAGE));
    const page = Math.min(Math.max(parseInt(state.page, 10) || 1, 1), pages);
    const whole = data.ends.filter(meant).reduce((sum, end) => sum + end[3], 0);
    const narrowed = state.find || state.item !== undefined;
    const text = narrowed ? `${number(rows.length)} found` : `${number(rows.length)} of ${number(whole)} shown`;
    control("shown").textContent = pages > 1 ? `${text}, page ${page} of ${pages}` : text;
    control("what").textContent = inWords();
    control("everything").hidden = !inWords() && !narrowed;
    control("previous").disabled = page === 1;
    control("next").disabled = page === pages;
    control("find").value = state.find || "";
    looks.forEach(b => b.setAttribute("aria-pressed", String(b.dataset.look === (state.look || ""))));
    document.body.dataset.look = state.look || "";
    const cards = rows.slice((page - 1) * PAGE, page * PAGE).map(draw);
    const rest = !narrowed && whole > rows.length && page === pages
      ? [line("The others are in traces.jsonl and drops.parquet of the run’s folder.", "muted")] : [];
    const none = line(whole && !narrowed ? "None of these rows is on this page." : "No row is meant by this.", "muted");
    control("cards").replaceChildren(...(cards.length ? cards : [none]), ...rest);
    state.page = page > 1 ? String(page) : undefined;
  };
  const read = () => { // whether the address chooses rows, and is no place on the page
    const given = new URLSearchParams(location.hash.slice(1));
    const chooses = location.hash.includes("=");
    if (chooses || !location.hash) state = Object.fromEntries(KEYS.filter(key => given.has(key)).map(key => [key, given.get(key)]));
    return chooses;
  };
  const reach = node => {
    node.focus({preventScroll: true});
    current = node.dataset.id; // also where the window itself has no focus
    window.scrollTo({top: node.getBoundingClientRect().top + window.scrollY - over() - 10, behavior: "instant"});
  };
  const over = () => { const bar = document.querySelector(".bar"); return getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0; };
  const go = change => { location.hash = address(change); };
  const step = by => {
    const cards = [...document.querySelectorAll(".card")], at = cards.findIndex(c => c.dataset.id === current);
    const to = at < 0 ? (by > 0 ? 0 : cards.length - 1) : at + by;
    if (cards[to]) reach(cards[to]);
  };
  const turn = by => { const button = control(by > 0 ? "next" : "previous"); if (!button.disabled) go({page: (parseInt(state.page, 10) || 1) + by}); };

  control("find").addEventListener("input", event => {
    history.replaceState(null, "", address({find: event.target.value, page: undefined}));
    read();
    show();
  });
  control("previous").addEventListener("click", () => turn(-1));
  control("next").addEventListener("click", () => turn(1));
  looks.forEach(b => b.addEventListener("click", () => go({look: b.dataset.look})));
  const keys = {"/": () => control("find").focus(), j: () => step(1), k: () => step(-1), n: () => turn(1), p: () => turn(-1)};
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
  const turned = () => { // to what the address says: rows are scrolled to, places the browser finds itself
    const chooses = read();
    if (!chooses && location.hash) return;
    show();
    if (chooses) window.scrollTo({top: control("rows").getBoundingClientRect().top + window.scrollY, behavior: "instant"});
  };
  window.addEventListener("hashchange", turned);
  read();
  show();
  if (location.hash.includes("=")) turned();
};
