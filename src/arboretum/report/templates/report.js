"use strict";
const exhibits = [...document.querySelectorAll("details.exhibit")];
const outputs = [...document.querySelectorAll("pre.output")].map((node) => ({ node, text: node.textContent }));
const hits = document.getElementById("hits");

function mark({ node, text }, needle) {
  node.textContent = "";
  let from = 0, found = 0;
  const lower = text.toLowerCase();
  for (let at = needle ? lower.indexOf(needle) : -1; at >= 0; at = lower.indexOf(needle, from)) {
    node.append(text.slice(from, at));
    const hit = document.createElement("mark");
    hit.textContent = text.slice(at, at + needle.length);
    node.append(hit);
    from = at + needle.length;
    found += 1;
  }
  node.append(text.slice(from));
  return found;
}

document.getElementById("search").addEventListener("input", (event) => {
  const needle = event.target.value.toLowerCase();
  const counts = new Map(outputs.map((output) => [output.node, mark(output, needle)]));
  let total = 0;
  for (const exhibit of exhibits) {
    const own = [...exhibit.querySelectorAll("pre.output")].reduce((sum, node) => sum + counts.get(node), 0);
    exhibit.classList.toggle("hidden", needle !== "" && own === 0);
    if (needle && own) exhibit.open = true;
    total += own;
  }
  hits.textContent = needle ? `${total} found` : "";
});

document.getElementById("unfold").addEventListener("click", (event) => {
  const open = exhibits.some((exhibit) => !exhibit.open);
  exhibits.forEach((exhibit) => { exhibit.open = open; });
  event.target.textContent = open ? "Fold all" : "Unfold all";
});

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", reveal);
reveal();
