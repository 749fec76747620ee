/* How this site ranks what Sphinx's search finds: what a page is for, before where a word stands; the guide before lessons before the
   reference. `SYNONYMS` comes from synonyms.toml: for each page the words that people use for it. */

const stems = (text) => splitQuery(text.toLowerCase()).map((word) => new Stemmer().stemWord(word.replace(/is(e[ds]?|ing|ations?)$/, "iz$1")));
const tierOf = (page) => page.startsWith("guide/") ? 4 : /^\d\d_/.test(page) ? 3 : page.startsWith("api/") ? 1 : page.startsWith("library/") ? 0 : 2;

/* The phrases of each page: its title, the parts of it, and its synonyms. */
function wishes(index) {
  const all = new Map();
  index.docnames.forEach((page, file) => {
    const given = SYNONYMS[page] ?? [];
    if (given.length || tierOf(page) >= 2) all.set(file, [index.titles[file], ...index.titles[file].split(/[:,(]/), ...given].map(stems));
  });
  return all;
}

/* How well the words of a query and of a phrase agree, 0 to 1: F1 of the words, each with the weight of its rarity. */
function agreement(query, phrase, weigh) {
  const sum = (words) => [...words].reduce((total, word) => total + weigh(word), 0);
  const asked = new Set(query), said = new Set(phrase);
  const both = sum([...asked].filter((word) => said.has(word)));
  return 2 * both / (sum(asked) + sum(said));
}

function wishResults(index, query) {
  const pages = wishes(index), seen = new Map();
  for (const phrases of pages.values()) for (const word of new Set(phrases.flat())) seen.set(word, (seen.get(word) ?? 0) + 1);
  const weigh = (word) => stopwords.has(word) || !seen.has(word) ? 0.5 : Math.log((2 + pages.size) / (1 + seen.get(word)));
  const found = [];
  for (const [file, phrases] of pages) {
    const words = new Set(phrases.flat());
    const phrase = Math.max(...phrases.map((said) => agreement(query, said, weigh)));
    const whole = query.every((word) => words.has(word) || stopwords.has(word)) ? 0.6 + 0.1 * phrase : 0;
    const best = Math.max(whole, phrase);
    if (best >= 0.35) found.push([index.docnames[file], index.titles[file], "", null, 1000 * best, index.filenames[file], "wish"]);
  }
  return found;
}

/* A function's own name first, then wishes, then headings, then what is perhaps wished, then words in the text. */
function rank([page, title, , , score, , kind], query) {
  const named = kind === "object" && title.split(".").pop().toLowerCase() === query.toLowerCase() && /[_.]|[a-z][A-Z]/.test(query);
  const group = named ? 4000 : kind === "wish" ? (score >= 500 ? 2500 : 1500) : kind === "title" || kind === "index" ? 2000 : 1000;
  return group + (kind === "wish" ? score + tierOf(page) : 100 * tierOf(page) + score);
}

/* Each page once, with its best result; names of the library all. */
function oncePerPage(results) {
  const seen = new Set();
  return results.filter(([page, title, anchor, , , , kind]) => {
    const key = kind === "object" ? page + anchor : page;
    return !seen.has(key) && seen.add(key);
  });
}

const sphinxSearch = Search._performSearch;
Search._performSearch = (query, ...rest) => {
  const asked = query.trim().replace(/\(\)$/, "");
  const found = [...sphinxSearch(query, ...rest), ...wishResults(Search._index, stems(asked))];
  found.forEach((result) => result[4] = rank(result, asked));
  return oncePerPage(found.sort((a, b) => b[4] - a[4])).reverse();  // Sphinx shows the last one first
};

/* An excerpt: how a guide page begins; of other pages the paragraph that has most of the words, from a beginning of a sentence. Never what
   stands on every page. */
const SKIPPED = ".headerlink, script, style, .ways-in, .stamp, .toctree-wrapper, .cell_output, figcaption, pre";
Search.makeSearchSummary = (html, keywords, anchor) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  const article = page.querySelector("article.bd-article");
  const part = (anchor && page.getElementById(anchor.slice(1))) || article;
  if (!part) return null;
  part.querySelectorAll(SKIPPED).forEach((skipped) => skipped.remove());
  const blocks = [...part.querySelectorAll("p, li, td")].map((block) => block.textContent.replace(/\s+/g, " ").trim()).filter((text) => text.length > 30);
  const hits = (text) => [...keywords].filter((word) => text.toLowerCase().includes(word.toLowerCase())).length;
  const first = blocks[0] ?? "";
  const guide = page.querySelector("link[rel=canonical]")?.href.includes("/guide/");
  const best = guide ? first : blocks.reduce((a, b) => hits(b) > hits(a) ? b : a, first);
  const sentences = best.split(/(?<=[.!?:;]) (?=\S)/);
  const from = best.length > 240 ? sentences.slice(Math.max(0, sentences.findIndex((text) => hits(text)))).join(" ") : best;
  const summary = document.createElement("p");
  summary.classList.add("context");
  summary.textContent = from.length > 240 ? `${from.slice(0, 240).replace(/\s\S*$/, "")} …` : from;
  return from ? summary : null;
};
