// Readings under the pointer in charts, and one sound at a time.
for (const svg of document.querySelectorAll('.chart svg')) {
  const [x0, x1, from, to] = svg.dataset.frame.split(' ').map(Number);
  const cursor = svg.querySelector('.cursor');
  const keys = [...svg.parentElement.querySelectorAll('.key b')];
  const resting = keys.map(key => key.textContent);
  const lines = [...svg.querySelectorAll('.curve')].map(
    line => line.dataset.values.split(' ').map(pair => pair.split(',').map(Number)));
  const show = value => 'percent' in svg.dataset ? `${+(100 * value).toPrecision(3)} %` : `${+value.toPrecision(3)}`;
  const restore = () => {
    cursor.setAttribute('hidden', '');
    keys.forEach((key, i) => { key.textContent = resting[i]; });
  };
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    if (at < x0 || at > x1) return restore();
    const step = from + (at - x0) / (x1 - x0) * (to - from);
    cursor.removeAttribute('hidden');
    cursor.setAttribute('x1', at);
    cursor.setAttribute('x2', at);
    lines.forEach((line, i) => {
      const near = line.reduce((a, b) => Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a);
      keys[i].textContent = `${show(near[1])} at ${Math.round(near[0])}`;
    });
  });
  svg.addEventListener('pointerleave', restore);
}
document.addEventListener('play', event => {
  for (const sound of document.querySelectorAll('audio, video')) if (sound !== event.target) sound.pause();
}, true);
