/* Search results quote their pages, and those that have the words as they were typed come first. */
"use strict";

const asked = (new URLSearchParams(location.search).get("q") ?? "").trim().toLowerCase();
const plain = (text) => text.toLowerCase().replaceAll("_", " ");
const MOST = 10; // a page that says it often is not better than one whose title says it

fetch = async (url) => ({ text: async () => TEXTS[url.replace(/^\.\//, "")] });
Search.htmlToText = (text) => {
  const start = Math.max(plain(text).indexOf(plain(asked)) - 60, 0);
  return ` ${text}`.slice(start).replace(/^\S*\s/, "");
};

Scorer.score = ([name, , , , score]) => {
  const times = plain(TEXTS[`${name}.html`] ?? "").split(plain(asked)).length - 1;
  return score + Math.min(times, MOST);
};
