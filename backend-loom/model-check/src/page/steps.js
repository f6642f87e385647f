"use strict";
// Steps through an execution: marks the step, draws the tables as they are then, shows its source.
(() => {
  const find = (id) => document.getElementById(id);
  const { cpus, before, lines, sources } = JSON.parse(find("execution").textContent);
  const deciding = lines.map((line, index) => (line.decides ? index : -1)).filter((it) => it >= 0);
  let all = deciding.length === 0;
  let at = 0;

  const element = (tag, kind, text) => {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // The tables after some steps, and what the last one has changed.
  const tablesAfter = (last) => {
    const frames = new Map();
    const runs = new Map();
    const changed = new Set();
    const frame = (name) => {
      if (!frames.has(name)) frames.set(name, { entries: new Map(), life: null });
      return frames.get(name);
    };
    const apply = (change, isLast) => {
      const [kind, it] = Object.entries(change)[0];
      if (kind === "entry") {
        frame(it.node).entries.set(it.index, it);
        if (isLast) changed.add(`${it.node}[${it.index}]`);
      } else if (kind === "runs") {
        runs.set(it.cpu, it.root);
        if (isLast) changed.add(it.root);
      } else {
        const name = it.node ?? it.frame;
        const field = { lock: ["lock", it.by], references: ["references", it.count],
          life: ["life", it.state], contents: ["contents", it.value] }[kind];
        frame(name)[field[0]] = field[1];
        if (isLast) changed.add(name);
      }
    };
    before.forEach((change) => apply(change, false));
    lines.slice(0, last + 1).forEach((line, index) =>
      line.changes.forEach((change) => apply(change, index === last)));
    return { frames, runs, changed };
  };

  const drawFrame = (name, tables, seen) => {
    const it = tables.frames.get(name) ?? { entries: new Map(), life: null };
    const box = element("div", it.entries.size > 0 ? "node" : "frame");
    const title = element("div");
    const isFreed = it.life === "freed";
    title.append(element("span", `name${isFreed ? " freed" : ""}${tables.changed.has(name) ? " changed" : ""}`, name));
    const badge = (text, isBad) => title.append(element("span", `badge${isBad ? " bad" : ""}`, text));
    if (name.startsWith("S")) badge("the words of an address space");
    for (const [cpu, root] of tables.runs) if (root === name) badge(`CPU ${cpu} runs on it`);
    if (it.lock !== undefined && it.lock !== null) badge(`locked by CPU ${it.lock}`);
    if (it.references > 1) badge(`${it.references} references`);
    if (it.contents !== undefined) badge(`holds ${it.contents}`);
    const lives = { detached: "taken out", stray: "stray", retired: "waits for a grace period", freed: "freed" };
    if (lives[it.life]) badge(lives[it.life], true);
    box.append(title);
    if (seen.has(name)) return box;
    seen.add(name);
    for (const [index, entry] of [...it.entries].sort((a, b) => a[0] - b[0])) {
      const row = element("div", tables.changed.has(`${name}[${index}]`) ? "changed" : "");
      row.append(`[${index}] ${entry.value ?? "absent"}`);
      box.append(row);
      if (entry.target) box.append(drawFrame(entry.target, tables, seen));
    }
    return box;
  };

  const drawTables = () => {
    const tables = tablesAfter(at);
    const targets = new Set();
    for (const it of tables.frames.values()) for (const entry of it.entries.values()) if (entry.target) targets.add(entry.target);
    const seen = new Set();
    const tree = find("tree");
    tree.replaceChildren();
    const names = [...tables.frames.keys()].sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
    for (const name of names) {
      if (!targets.has(name) && (tables.frames.get(name).entries.size > 0 || tables.frames.get(name).life)) {
        tree.append(drawFrame(name, tables, seen));
      }
    }
  };

  const drawSource = () => {
    const place = lines[at].at;
    const source = sources[place];
    find("place").textContent = place;
    const shown = find("source");
    shown.replaceChildren();
    if (!source) {
      shown.textContent = "the source is not in this checkout";
      return;
    }
    source.lines.forEach((text, index) => {
      const number = source.first + index;
      shown.append(element("div", number === source.here ? "here" : "", `${String(number).padStart(4)}  ${text}`));
    });
  };

  const draw = () => {
    document.querySelectorAll(".at").forEach((it) => it.classList.remove("at"));
    document.querySelectorAll(`[data-step="${at}"]`).forEach((it) => it.classList.add("at"));
    const line = lines[at];
    find("step").textContent = `step ${at + 1} of ${lines.length}, ${line.cpu < cpus ? `CPU ${line.cpu}` : "after the race"}: ${line.text || line.state}`;
    drawTables();
    drawSource();
  };

  const go = (to) => { at = Math.max(0, Math.min(lines.length - 1, to)); draw(); };
  const move = (by) => {
    const steps = all ? lines.map((_, index) => index) : deciding;
    const next = by > 0 ? steps.find((step) => step > at) : steps.findLast((step) => step < at);
    if (next !== undefined) go(next);
  };
  const ends = (first) => {
    const steps = all ? [0, lines.length - 1] : deciding;
    go(first ? steps[0] : steps[steps.length - 1]);
  };

  document.querySelectorAll("[data-step]").forEach((it) =>
    it.addEventListener("click", () => go(Number(it.dataset.step))));
  find("first").addEventListener("click", () => ends(true));
  find("back").addEventListener("click", () => move(-1));
  find("on").addEventListener("click", () => move(1));
  find("last").addEventListener("click", () => ends(false));
  find("all").checked = all;
  find("all").addEventListener("change", (event) => { all = event.target.checked; });
  document.addEventListener("keydown", (event) => {
    const keys = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), Home: () => ends(true), End: () => ends(false) };
    if (keys[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) {
      keys[event.key]();
      event.preventDefault();
    }
  });
  document.querySelectorAll(".needs-script").forEach((it) => it.classList.remove("needs-script"));
  if (lines.length > 0) ends(false);
})();
