// The audit log: live tail, and completion in the search box.
"use strict";

const MOST_ROWS = 500;

function liveTail(button) {
  const rows = document.getElementById("log-rows");
  const words = button.querySelector("span");
  let source = null;
  let waiting = [];
  let seen = ""; // the cursor of the newest event that came

  function show(html) {
    const holder = document.createElement("template");
    holder.innerHTML = html; // rendered and escaped by the server, by the same template as the page
    const row = holder.content.querySelector("tr");
    if (!row || rows.querySelector(`tr[data-id="${CSS.escape(row.dataset.id)}"]`)) return;
    row.classList.add("fresh");
    window.immuproxy.showTimes(holder.content);
    rows.prepend(row);
    document.getElementById("log").hidden = false;
    document.getElementById("nothing")?.remove();
    while (rows.rows.length > MOST_ROWS) rows.lastElementChild.remove();
  }

  function stop() {
    source.close();
    source = null;
    button.setAttribute("aria-pressed", "false");
    words.textContent = "Live";
  }

  function start() {
    const address = new URL(button.dataset.source, location.href); // goes on where the page ends
    if (seen) address.searchParams.set("after", seen);
    source = new EventSource(address);
    source.addEventListener("row", (event) => {
      seen = event.lastEventId;
      if (document.hidden) { waiting.push(event.data); waiting = waiting.slice(-MOST_ROWS); return; }
      show(event.data);
    });
    source.onopen = () => { words.textContent = "Live: pause"; };
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) { words.textContent = "Live: reconnecting"; return; }
      stop(); // refused: the browser does not try again
      words.textContent = "Live: not now, try again";
    };
    button.setAttribute("aria-pressed", "true");
    words.textContent = "Live: connecting";
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) { waiting.forEach(show); waiting = []; }
  });
  button.addEventListener("click", () => (source ? stop() : start()));
}

function completion(box) {
  const list = document.createElement("ul");
  list.className = "helps";
  list.id = "q-helps";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Suggestions");
  list.hidden = true;
  box.after(list);
  Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-controls": "q-helps", "aria-expanded": "false" })
    .forEach(([name, value]) => box.setAttribute(name, value));
  let found = null;
  let chosen = -1;
  let asked = 0;

  function hide() {
    list.hidden = true;
    chosen = -1;
    box.setAttribute("aria-expanded", "false");
    box.removeAttribute("aria-activedescendant");
  }

  function mark(index) {
    chosen = index;
    [...list.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === index)));
    if (index >= 0) {
      box.setAttribute("aria-activedescendant", list.children[index].id);
      list.children[index].scrollIntoView({ block: "nearest" });
    }
  }

  function take(index) {
    const { start, suggestions, value } = found;
    const end = found.end + box.value.length - value.length; // who types fast is ahead of the answer
    const text = suggestions[index].text;
    const space = text.endsWith(":") ? "" : " ";
    box.value = box.value.slice(0, start) + text + space + box.value.slice(end).replace(/^ /, "");
    const at = start + text.length + space.length;
    box.setSelectionRange(at, at);
    hide();
    if (!space) ask();
  }

  function show(before) {
    list.replaceChildren(...found.suggestions.map((suggestion, at) => {
      const item = document.createElement("li");
      item.id = `q-help-${at}`;
      item.setAttribute("role", "option");
      const text = document.createElement("code");
      text.textContent = suggestion.text;
      const about = document.createElement("span");
      about.className = "quiet";
      about.textContent = suggestion.about;
      item.append(text, about);
      item.addEventListener("mousedown", (event) => { event.preventDefault(); take(at); });
      return item;
    }));
    list.hidden = !found.suggestions.length;
    box.setAttribute("aria-expanded", String(!list.hidden));
    mark(found.suggestions.findIndex((suggestion) => suggestion.text === before)); // what was chosen stays chosen
  }

  async function ask() {
    const mine = ++asked;
    const value = box.value;
    const query = new URLSearchParams({ q: value, at: box.selectionStart });
    const answer = await fetch(`/api/v1/complete?${query}`).catch(() => null);
    const told = answer && answer.ok ? await answer.json() : null;
    if (mine !== asked || !told || document.activeElement !== box) return;
    const before = chosen >= 0 ? found.suggestions[chosen].text : null;
    found = { ...told, value };
    show(before);
  }

  box.addEventListener("input", ask);
  box.addEventListener("blur", hide);
  box.addEventListener("keydown", (event) => {
    if (list.hidden) {
      if (event.key === "ArrowDown") { event.preventDefault(); ask(); }
      return;
    }
    const count = list.children.length;
    if (event.key === "ArrowDown") { event.preventDefault(); mark((chosen + 1) % count); }
    else if (event.key === "ArrowUp") { event.preventDefault(); mark(chosen <= 0 ? count - 1 : chosen - 1); }
    else if (event.key === "Escape") { event.preventDefault(); hide(); }
    else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) { event.preventDefault(); take(chosen); }
  });
}

const button = document.getElementById("live");
if (button) liveTail(button);
completion(document.getElementById("q"));
