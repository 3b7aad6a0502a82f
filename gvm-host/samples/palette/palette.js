// Colours. In: the text of a colour, or two colours. Out: its red, green and blue, or the colours between them.

export function parse(text) {
  const parts = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(text);
  if (!parts) {
    throw `${text} is not a colour: write #rrggbb`;
  }
  const [red, green, blue] = parts.slice(1).map((part) => parseInt(part, 16));
  return { red, green, blue };
}

export function blend(from, to, steps) {
  const at = (a, b, step) => Math.round(a + ((b - a) * step) / Math.max(steps - 1, 1));
  return Array.from({ length: steps }, (_, step) => ({
    red: at(from.red, to.red, step),
    green: at(from.green, to.green, step),
    blue: at(from.blue, to.blue, step),
  }));
}
