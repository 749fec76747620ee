// What a threshold scores is looked up, and a label is on in the first `until` positions of the slider. Only the total cost is computed here.
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
  const slider = find('input[type=range]');
  const costs = find('.costs');
  const [alarms, misses] = ['false alarms', 'misses'].map(name => data.columns.indexOf(name));
  const showCosts = at => {
    const [alarm, miss] = [...costs.querySelectorAll('input')].map(input => Math.max(0, Number(input.value)));
    const totals = data.scores.map(row => alarm * row[alarms] + miss * row[misses]);
    const best = totals.indexOf(Math.min(...totals));
    const round = x => Number(x.toPrecision(6));
    find('.total').textContent = `total cost ${round(totals[at])}; lowest ${round(totals[best])}, at threshold ${data.thresholds[best]}`;
  };
  const show = () => {
    const at = Number(slider.value);
    find('output').textContent = data.thresholds[at];
    slider.setAttribute('aria-valuetext', data.thresholds[at]);
    showCosts(at);
    find('.at').setAttribute('x1', at);
    find('.at').setAttribute('x2', at);
    root.querySelectorAll('dd').forEach((dd, j) => { dd.textContent = data.scores[at][j]; });
    root.querySelectorAll('ul').forEach((ul, i) => {
      const items = data.pictures[i].labels.map(([label, prob, until, is]) =>
        at < until ? item(label, prob, is ? 'hit' : 'false alarm') : is ? item(label, prob, 'miss') : null);
      ul.replaceChildren(...items.filter(Boolean));
    });
  };
  root.addEventListener('input', show);
  costs.hidden = false;
  show();
}
