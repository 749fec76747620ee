// Works nothing out: what a threshold scores is looked up, and a label is on in the first `until` positions of the slider.
for (const root of document.querySelectorAll('.threshold-explorer')) {
  if (root.explored) continue;
  root.explored = true;
  const find = what => root.querySelector(what);
  const data = JSON.parse(find('script[type="application/json"]').textContent);
  const item = (label, prob, state) => {
    const li = document.createElement('li');
    li.className = state.replace(' ', '-');
    li.title = state;
    li.textContent = `${data.marks[state]} ${label} ${prob}`;
    return li;
  };
  const show = () => {
    const at = Number(find('input').value);
    find('output').textContent = data.thresholds[at];
    find('input').setAttribute('aria-valuetext', data.thresholds[at]);
    find('.at').setAttribute('x1', at);
    find('.at').setAttribute('x2', at);
    root.querySelectorAll('dd').forEach((dd, j) => { dd.textContent = data.scores[at][j]; });
    root.querySelectorAll('ul').forEach((ul, i) => {
      const items = data.pictures[i].labels.map(([label, prob, until, is]) =>
        at < until ? item(label, prob, is ? 'hit' : 'false alarm') : is ? item(label, prob, 'miss') : null);
      ul.replaceChildren(...items.filter(Boolean));
    });
  };
  find('input').addEventListener('input', show);
  show();
}
