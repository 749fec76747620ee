// Verdicts stay in this page until they are saved as a file; nothing is sent anywhere.
for (const root of document.querySelectorAll('.label-review')) {
  if (root.dataset.started) continue;
  root.dataset.started = 'yes';
  const find = what => root.querySelector(what);
  const suspects = JSON.parse(find('script[type="application/json"]').textContent);
  const verdicts = suspects.map(() => '');
  const buttons = [...root.querySelectorAll('button[data-verdict]')];
  let at = 0;
  let saved = true;
  const show = () => {
    const { image, picture, label, given, prob } = suspects[at];
    const decided = verdicts.filter(Boolean).length;
    find('img').src = picture;
    find('img').alt = image;
    find('.place').textContent = `${at + 1} of ${suspects.length}, ${decided} decided`;
    find('.question').textContent =
      `${image}: is “${label}” in the picture? The table says ${given ? 'present' : 'absent'}; the model gives it ${prob}.`;
    buttons.forEach(button => button.setAttribute('aria-pressed', button.dataset.verdict === verdicts[at]));
    find('.previous').disabled = at === 0;
    find('.next').disabled = at === suspects.length - 1;
  };
  const move = step => {
    at = Math.min(Math.max(at + step, 0), suspects.length - 1);
    show();
  };
  const decide = verdict => {
    verdicts[at] = verdict;
    saved = false;
    move(1);
  };
  const cell = text => `"${String(text).replaceAll('"', '""')}"`;
  const save = () => {
    const lines = suspects.map(({ row, image, label, given }, i) => [row, image, label, given, verdicts[i]].map(cell).join(','));
    const text = ['row,image,label,given,verdict', ...lines.filter((_, i) => verdicts[i])].join('\n') + '\n';
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([text], { type: 'text/csv' }));
    link.download = 'verdicts.csv';
    link.click();
    saved = true;
  };
  buttons.forEach(button => button.addEventListener('click', () => decide(button.dataset.verdict)));
  find('.previous').addEventListener('click', () => move(-1));
  find('.next').addEventListener('click', () => move(1));
  find('.save').addEventListener('click', save);
  root.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const button = buttons.find(one => one.dataset.verdict[0] === event.key.toLowerCase());
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (button) decide(button.dataset.verdict);
    else if (step) move(step);
    else if (event.key.toLowerCase() === 's') save();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  window.addEventListener('beforeunload', event => {
    if (!saved) event.preventDefault();
  });
  show();
}
